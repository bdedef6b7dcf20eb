// Package control is the conversation between the fairlab command line and a lab's
// supervisor: JSON over HTTP on the Unix socket in the lab's state directory. The
// types and the client are here; package supervisor is the server.
//
//	GET  /v1/progress               the steps of `up`, one JSON Step per line, until ready or failed
//	GET  /v1/members                []Member, cheap
//	GET  /v1/status                 Status, asks every component for its health
//	POST /v1/nodes/NODE/poweroff    and poweron
//	POST /v1/links/NODE/cut         and heal
//	POST /v1/apiserver/stop[?force] and start
//
// An answer other than 200 carries the error as plain text.
package control
