// Package fabric builds what package topology plans, with netlink: the switch (the
// lab's own network namespace with a bridge per segment), the cables from it to the
// members' namespaces, and the members' addresses and routes. The supervisor calls
// it; nothing here touches the machine's network namespace, as long as the caller
// is not in it.
package fabric
