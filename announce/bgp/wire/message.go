package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sizes in bytes (RFC 4271 section 4.1). The extended message length of RFC 8654 is not negotiated.
const (
	headerSize = 19
	MaxMessage = 4096
)

// Type is a kind of message (RFC 4271 section 4.1, RFC 2918).
type Type uint8

// The kinds of messages.
const (
	TypeOpen         Type = 1
	TypeUpdate       Type = 2
	TypeNotification Type = 3
	TypeKeepalive    Type = 4
	TypeRouteRefresh Type = 5
)

// least is the least length of a message with its header.
var least = map[Type]int{TypeOpen: 29, TypeUpdate: 23, TypeNotification: 21, TypeKeepalive: 19, TypeRouteRefresh: 23}

// Read reads one message and returns its body, which is valid until buf, of MaxMessage bytes, is used again. An error is a
// [Notification] where the peer has to be told of it, else the reader's.
func Read(r io.Reader, buf []byte) (Type, []byte, error) {
	header := buf[:headerSize]
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	if slices.ContainsFunc(header[:16], func(b byte) bool { return b != 0xff }) {
		return 0, nil, Notification{Code: HeaderError, Subcode: 1}
	}
	kind, size := Type(header[18]), int(binary.BigEndian.Uint16(header[16:]))
	floor, known := least[kind]
	switch {
	case !known:
		return 0, nil, Notification{Code: HeaderError, Subcode: 3, Data: []byte{header[18]}}
	case size < floor || size > MaxMessage || kind == TypeKeepalive && size != headerSize:
		return 0, nil, Notification{Code: HeaderError, Subcode: 2, Data: slices.Clone(header[16:18])}
	}
	body := buf[headerSize:size]
	_, err := io.ReadFull(r, body)
	if err == io.EOF && len(body) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return kind, body, err
}

// message returns a message of which only the body is given.
func message(kind Type, body ...byte) []byte {
	out := slices.Repeat([]byte{0xff}, 16)
	out = binary.BigEndian.AppendUint16(out, uint16(headerSize+len(body)))
	return append(append(out, byte(kind)), body...)
}

// Cut returns the whole messages at the beginning of a stream of ours that fit into size bytes, at least one, and their number.
func Cut(stream []byte, size int) (part []byte, n int) {
	end := 0
	for end < len(stream) {
		next := end + int(binary.BigEndian.Uint16(stream[end+16:]))
		if n > 0 && next > size {
			break
		}
		end = next
		n++
	}
	return stream[:end], n
}

// Keepalive returns a KEEPALIVE.
func Keepalive() []byte { return message(TypeKeepalive) }

// Code is the error code of a NOTIFICATION (RFC 4271 section 4.5).
type Code uint8

// The error codes.
const (
	HeaderError Code = 1
	OpenError   Code = 2
	UpdateError Code = 3
	HoldExpired Code = 4
	StateError  Code = 5
	Cease       Code = 6
	RefreshErr  Code = 7
)

// Subcodes that are looked at or sent.
const (
	BadPeerAS      = 2 // of OpenError
	BadIdentifier  = 3
	BadHoldTime    = 6
	MalformedList  = 1 // of UpdateError
	OptionalError  = 9
	InvalidNetwork = 10
	MaxPrefixes    = 1 // of Cease (RFC 4486, RFC 9384)
	Shutdown       = 2
	Deconfigured   = 3
	OtherConfig    = 6
	CollisionCease = 7
	OutOfResources = 8
	BFDDown        = 10
)

// codes and subcodes are the words of RFC 4271, 4486, 5492, 6608, 7313, 8538, 9234 and 9384.
var (
	codes = map[Code]string{HeaderError: "Message Header Error", OpenError: "OPEN Message Error", UpdateError: "UPDATE Message Error",
		HoldExpired: "Hold Timer Expired", StateError: "Finite State Machine Error", Cease: "Cease", RefreshErr: "ROUTE-REFRESH Message Error"}
	subcodes = map[Code][]string{
		HeaderError: {1: "Connection Not Synchronized", 2: "Bad Message Length", 3: "Bad Message Type"},
		OpenError: {1: "Unsupported Version Number", 2: "Bad Peer AS", 3: "Bad BGP Identifier", 4: "Unsupported Optional Parameter",
			5: "Authentication Failure", 6: "Unacceptable Hold Time", 7: "Unsupported Capability", 11: "Role Mismatch"},
		UpdateError: {1: "Malformed Attribute List", 2: "Unrecognized Well-known Attribute", 3: "Missing Well-known Attribute", 4: "Attribute Flags Error",
			5: "Attribute Length Error", 6: "Invalid ORIGIN Attribute", 8: "Invalid NEXT_HOP Attribute", 9: "Optional Attribute Error",
			10: "Invalid Network Field", 11: "Malformed AS_PATH"},
		StateError: {1: "Unexpected Message in OpenSent State", 2: "Unexpected Message in OpenConfirm State", 3: "Unexpected Message in Established State"},
		Cease: {1: "Maximum Number of Prefixes Reached", 2: "Administrative Shutdown", 3: "Peer De-configured", 4: "Administrative Reset",
			5: "Connection Rejected", 6: "Other Configuration Change", 7: "Connection Collision Resolution", 8: "Out of Resources", 9: "Hard Reset", 10: "BFD Down"},
		RefreshErr: {1: "Invalid Message Length"},
	}
)

// Notification is a NOTIFICATION: why one end closes the session. It is an error.
type Notification struct {
	Code    Code
	Subcode uint8
	Data    []byte
}

// Error returns the words and numbers, e.g. "Cease / Administrative Shutdown (6/2)", and the operator's message of RFC 9003 where
// there is one.
func (n Notification) Error() string {
	word := codes[n.Code]
	if word == "" {
		word = "unknown error"
	}
	if list := subcodes[n.Code]; int(n.Subcode) < len(list) && list[n.Subcode] != "" {
		word += " / " + list[n.Subcode]
	}
	word = fmt.Sprintf("%s (%d/%d)", word, n.Code, n.Subcode)
	if said := n.communication(); said != "" {
		word += fmt.Sprintf(": %q", said)
	}
	return word
}

// communication returns what the operator said, of printable characters only.
func (n Notification) communication() string {
	if n.Code != Cease || n.Subcode != Shutdown && n.Subcode != 4 || len(n.Data) < 2 || int(n.Data[0]) > len(n.Data)-1 {
		return ""
	}
	said := n.Data[1 : 1+n.Data[0]]
	if !utf8.Valid(said) {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, string(said))
}

// Has reports whether the notification has the code and subcode.
func (n Notification) Has(code Code, subcode uint8) bool {
	return n.Code == code && n.Subcode == subcode
}

// Bytes returns the message.
func (n Notification) Bytes() []byte {
	data := n.Data[:min(len(n.Data), MaxMessage-headerSize-2)]
	return message(TypeNotification, append([]byte{byte(n.Code), n.Subcode}, data...)...)
}

// ParseNotification takes the body of a NOTIFICATION of at least two bytes, as [Read] ensures.
func ParseNotification(body []byte) Notification {
	return Notification{Code: Code(body[0]), Subcode: body[1], Data: slices.Clone(body[2:])}
}
