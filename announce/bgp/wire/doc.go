// Package wire is BGP-4's messages (RFC 4271) as far as a speaker needs them that tells its peers its own prefixes and installs
// nothing: OPEN with its capabilities, UPDATE, NOTIFICATION with its words, and what came in counted. It alone imports GoBGP, of
// which it uses the codec: for everything that we send, and to read the peer's OPEN. It has no sockets and no clock. The caller
// is package session.
//
// GoBGP's server is not used. It answers a peer's bytes without a recover, so that one message that it cannot digest (its
// advisories of 2026 are of that kind, and are mended in v4 only) ends the sessions with all peers; it waits 1 to 2 s
// before its first connection and 5 s after each end of a session, while we promise a session within a second of a
// crash; it tells nobody why a connection could not be made; and it knows no "BFD Down" (RFC 9384). What it would bring
// instead, routes' import and selection, is what must not happen here.
//
// UPDATEs that come in are read by [ParseUpdate] just so far that their prefixes can be counted. Attributes other than those
// that hold prefixes are skipped unread, so none of them can be malformed to us, which is what RFC 7606 asks for: the session
// ends only where the prefixes themselves cannot be found.
package wire
