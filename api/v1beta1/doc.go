// Package v1beta1 is the API group fairlead.dev/v1beta1: the kinds IPAddressPool, L2Advertisement, BGPPeer,
// BGPAdvertisement, BFDProfile and Community, with the field names and the meaning that MetalLB gave them, so that its manifests
// work after a change of apiVersion and namespace, and SpeakerStatus, in which each speaker reports.
//
// The rules about a single object are written twice, each for the place where it helps most: as schema and CEL markers, so
// that the API server refuses a bad object at once, and as the pure functions Validate, such as
// [IPAddressPool.Validate], which know a little more (their documentation lists what) and guard against objects that were
// stored before a rule existed. One test table holds both to the same verdicts. Rules that compare several objects, such
// as two pools that overlap, are internal/kube's.
//
// Deepcopy functions and CRDs are generated: run `go generate ./api/...` after a change here. Everybody may import this
// package; it imports apimachinery only.
//
// +kubebuilder:object:generate=true
// +groupName=fairlead.dev
package v1beta1
