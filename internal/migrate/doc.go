// Package migrate turns the objects of a MetalLB installation into Fairlead's: the kinds of the group metallb.io in every
// version that MetalLB ever served, the ConfigMap from before there were any, and what Services ask for.
//
// [Migrate] is a pure function. Everything that goes in comes out: as an object of ours, or in a [Note] that says what became
// of it. The specification of an object is decoded strictly into our type and validated as the webhook would, so that a field
// is taken, changed with a note, or refused by its name, and an object with a refused field is not written at all: a selector
// that got lost would make it broader than it was.
//
// Whether Services keep their addresses is internal/dryrun's to tell, from what comes out here.
package migrate
