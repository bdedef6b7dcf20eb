// Command generate writes the pages of docs that are made from the code: reasons.md from the comments in package lb,
// reference.md from the CRDs and from the chart's values.schema.json and values.yaml. `go generate ./api/...` runs it, and its
// test fails where a page is not what it would write.
package main
