// Package chart holds the Helm chart to what it promises, with Helm itself: it is linted, rendered with several sets of values, and
// every object that comes out is decoded strictly into its type, so that a misspelt field is found before a cluster drops it. It
// has no code of its own besides the tests; it is in this module because Helm is.
package chart
