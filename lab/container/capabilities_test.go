package container

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func bits(caps ...int) uint64 {
	var set uint64
	for _, c := range caps {
		set |= 1 << c
	}
	return set
}

func TestBounding(t *testing.T) {
	def := bits(unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_FSETID, unix.CAP_KILL, unix.CAP_SETGID, unix.CAP_SETUID,
		unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_NET_RAW, unix.CAP_SYS_CHROOT, unix.CAP_MKNOD, unix.CAP_AUDIT_WRITE, unix.CAP_SETFCAP)
	for _, tc := range []struct {
		name       string
		privileged bool
		add, drop  string
		want       uint64
	}{
		{name: "default", want: def},
		{name: "add", add: "NET_ADMIN", want: def | bits(unix.CAP_NET_ADMIN)},
		{name: "drop", drop: "NET_RAW", want: def &^ bits(unix.CAP_NET_RAW)},
		{name: "drop all but", add: "NET_ADMIN NET_RAW", drop: "ALL", want: bits(unix.CAP_NET_ADMIN, unix.CAP_NET_RAW)},
		{name: "add all but", add: "ALL", drop: "SYS_ADMIN", want: all &^ bits(unix.CAP_SYS_ADMIN)},
		{name: "prefix and case", add: "CAP_net_admin", drop: "all", want: bits(unix.CAP_NET_ADMIN)},
		{name: "privileged", privileged: true, drop: "ALL", want: all},
		{name: "highest", add: "CHECKPOINT_RESTORE", drop: "ALL", want: bits(unix.CAP_CHECKPOINT_RESTORE)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Bounding(tc.privileged, strings.Fields(tc.add), strings.Fields(tc.drop))
			if err != nil || got != tc.want {
				t.Errorf("got %x, %v, want %x", got, err, tc.want)
			}
		})
	}
	if _, err := Bounding(false, []string{"NET_ADMNI"}, nil); err == nil || !strings.Contains(err.Error(), `"NET_ADMNI"`) {
		t.Errorf("unknown name: %v", err)
	}
}

func TestAmbient(t *testing.T) {
	for _, tc := range []struct {
		add  string
		want uint64
	}{{"", 0}, {"NET_RAW", bits(unix.CAP_NET_RAW)}, {"ALL", all}} {
		if got, err := Ambient(strings.Fields(tc.add)); err != nil || got != tc.want {
			t.Errorf("%q: %x, %v", tc.add, got, err)
		}
	}
}
