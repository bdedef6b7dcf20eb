// Package config holds what a user may choose about a lab: the options of
// `fairlab up`, their limits, and how two choices differ. It is pure. The command
// line fills a Lab, the supervisor carries it out, and the state directory keeps
// it so that a second `up` can tell whether it asks for the same lab.
package config
