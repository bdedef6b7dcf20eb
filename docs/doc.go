// Package docs carries those pages that programs read too: what reasons.md says of a Reason is what kubectl fairlead says. So
// that the two cannot differ there is one text.
package docs
