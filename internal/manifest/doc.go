// Package manifest reads Kubernetes objects out of text, as people keep it in files: YAML or JSON, several documents, Lists.
// It loses nothing on the way: a key that occurs twice is an error, and [Object.Decode] names every field that the type has
// not. [Render] writes objects back without what only the API server fills in.
//
// It is pure. cmd/kubectl-fairlead opens the files.
package manifest
