// Package probe sends and receives the probes of package tunnel: a raw socket of each address family, with the tunnel's protocol. The
// sockets exist only while there are peers of the family, since the kernel copies every tunnelled packet to them before their filter drops it.
package probe
