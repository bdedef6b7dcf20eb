// Package router says how the lab's router runs a routing daemon: which programs of
// which Debian package, with which configuration. It is pure; the supervisor writes
// the files and the router's init runs the daemons.
//
// The router is AS 64513 and accepts BGP sessions from every address of the LAN
// segment in AS 64512. FRR and BIRD install what they learn, over equal paths;
// GoBGP only learns, because it has no kernel of its own without zebra.
package router
