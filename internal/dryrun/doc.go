// Package dryrun says what manifests would do before they are applied. [Lint] judges them as the webhook would, and by rules
// across objects that no webhook may enforce, since the other half may come a second later. [Diff] says which Service would
// keep, lose or get which address, and which advertisements cover it.
//
// Nothing is decided here: the verdicts are those of the Validate functions, of package admission, of the conversions of
// internal/kube and of the allocator, on objects in memory ([kube.Objects]). They come from files, over those of a cluster or
// alone. What is in a cluster only (links, sessions, membership) is not looked at.
package dryrun
