// Package admission decides whether a change of one of Fairlead's objects may go through, and what whoever
// makes it should be warned of. It holds the rules that cross objects; what an object says about itself is refused by its
// own Validate, and mostly by the API server's schema before that.
//
// [Decide] is a pure function of the change and of [Facts]. Its principles:
//
//   - A change that makes nothing worse passes. Only addresses that the change adds to a pool are held against others; a
//     mistake that was there before is a warning at most, and a change that leaves the spec alone is not looked at.
//   - Services keep their addresses whatever happens to their pool, so editing a pool under them is allowed, with a warning
//     that lists them. Deleting one is refused unless it is annotated [ForceDelete]. A namespace that is being deleted must
//     come to its end, so there the deletion passes with the warning.
//   - A BFDProfile or a Community that others name cannot be deleted before they let go: a peer would not be watched any more, or
//     a path would lose the community that keeps it where it belongs.
//   - Objects outside of Fairlead's namespace are in nobody's way: they get a warning that nobody reads them.
//
// It is best effort by design: the API server goes on without it, and two changes at once may each pass alone. What slips
// through shows as a condition of the pool (Overlapping, Ready), and harms no address in use. Pod addresses are known as far
// as Node.spec.podCIDRs tells them; networks with address management of their own are not seen.
//
// internal/webhook calls it with the facts that internal/kube reads.
package admission
