package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// errNoAnswer says that the kernel did not tell what became of a transaction.
var errNoAnswer = errors.New("no answer from nftables")

// refusal is the kernel's no to one message of a transaction, numbered from 1.
type refusal struct {
	message uint32
	unix.Errno
}

func (r refusal) Error() string { return fmt.Sprintf("message %d: %v", r.message, r.Errno) }

func (r refusal) Is(target error) bool { return target == errRefused || r.Errno.Is(target) }

func (r refusal) Unwrap() error { return r.Errno }

// openSocket opens nftables in the network namespace of the calling thread.
func openSocket() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("opening nftables: %w", err)
	}
	return os.NewFile(uintptr(fd), "nftables"), nil
}

// send carries a batch out. The kernel handles it before the system call returns, so that its answers are there already and nothing has
// to be waited for.
func send(fd int, packet []byte) error {
	for option, size := range map[int]int{unix.SO_SNDBUFFORCE: len(packet) + 64<<10, unix.SO_RCVBUFFORCE: 1 << 20} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, size); err != nil {
			return fmt.Errorf("enlarging buffer for nftables: %w", err)
		}
	}
	if err := unix.Sendto(fd, packet, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("sending to nftables: %w", err)
	}
	return answers(fd)
}

// answers reads what the kernel says about a batch: nil if it acknowledges the last message and complains about none.
func answers(fd int) error {
	buf, acknowledged := make([]byte, 64<<10), false
	for {
		n, _, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return fmt.Errorf("hearing from nftables: %w", err)
		}
		for rest := buf[:n]; len(rest) >= unix.NLMSG_HDRLEN+4; {
			size := int(binary.NativeEndian.Uint32(rest))
			if size < unix.NLMSG_HDRLEN || size > len(rest) {
				break
			}
			if binary.NativeEndian.Uint16(rest[4:]) == unix.NLMSG_ERROR {
				if code := int32(binary.NativeEndian.Uint32(rest[unix.NLMSG_HDRLEN:])); code != 0 {
					return refusal{binary.NativeEndian.Uint32(rest[8:]), unix.Errno(-code)}
				}
				acknowledged = true
			}
			rest = rest[min(len(rest), (size+3)&^3):]
		}
	}
	if !acknowledged {
		return errNoAnswer
	}
	return nil
}
