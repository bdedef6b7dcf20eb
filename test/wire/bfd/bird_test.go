//go:build wire

package bfd

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/bfd"
	"github.com/fairlead-lb/fairlead/bfd/udp"
	"github.com/fairlead-lb/fairlead/test/router"
)

// bird is BIRD on a host.
type bird struct {
	dir string
	cmd *router.Process
}

func startBIRD(h *host, peer udp.Peer, kind bfd.AuthType) *bird {
	h.t.Helper()
	b := &bird{dir: short(h.t)}
	words := map[bfd.AuthType]string{bfd.SimplePassword: "simple", bfd.KeyedMD5: "keyed md5", bfd.MeticulousKeyedMD5: "meticulous keyed md5",
		bfd.KeyedSHA1: "keyed sha1", bfd.MeticulousKeyedSHA1: "meticulous keyed sha1"}
	auth := ""
	if kind != bfd.AuthNone {
		auth = fmt.Sprintf(` authentication %s; password "secret" { id 5; }; password "second" { id 6; };`, words[kind])
	}
	where, hop := `interface "eth0"`, `dev "eth0"`
	if peer.Multihop {
		where, hop = "multihop", fmt.Sprintf("local %s multihop yes", peer.Remote)
	}
	config := fmt.Sprintf("log stderr all;\nrouter id 192.0.2.2;\nprotocol device {}\nprotocol kernel { ipv4 { import none; export none; }; }\n"+
		"protocol bfd { debug all; %s { min rx interval 50 ms; min tx interval 60 ms; multiplier 3; %s }; neighbor %s %s; }\n", where, auth, peer.Local, hop)
	b.cmd = h.Daemon("/usr/sbin/bird", "-f", "-c", write(h.t, b.dir, "bird.conf", config), "-s", b.dir+"/bird.ctl", "-P", b.dir+"/bird.pid")
	return b
}

// session returns state, interval and timeout of the only session as birdc prints them.
func (b *bird) session() [3]string {
	out, err := exec.Command("birdc", "-s", b.dir+"/bird.ctl", "show", "bfd", "sessions").Output()
	if err != nil {
		return [3]string{}
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	f := strings.Fields(lines[len(lines)-1])
	if len(f) != 6 {
		return [3]string{}
	}
	return [3]string{f[2], f[4], f[5]}
}

// TestBIRD: the same as with FRR, and with every kind of authentication.
func TestBIRD(t *testing.T) {
	v4 := udp.Peer{Local: us4, Remote: near4, Interface: "v0"}
	for _, c := range []struct {
		name string
		peer udp.Peer
		kind bfd.AuthType
	}{
		{"IPv4", v4, bfd.AuthNone},
		{"IPv6", udp.Peer{Local: us6, Remote: near6, Interface: "v0"}, bfd.MeticulousKeyedSHA1},
		{"IPv4 multihop", udp.Peer{Local: us4, Remote: far4, Multihop: true}, bfd.AuthNone},
		{"IPv6 multihop", udp.Peer{Local: us6, Remote: far6, Multihop: true}, bfd.KeyedSHA1},
		{"simple password", v4, bfd.SimplePassword},
		{"keyed MD5", v4, bfd.KeyedMD5},
		{"meticulous keyed MD5", v4, bfd.MeticulousKeyedMD5},
		{"keyed SHA1", v4, bfd.KeyedSHA1},
		{"meticulous keyed SHA1", v4, bfd.MeticulousKeyedSHA1},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := topology(t, c.peer)
			b := startBIRD(h, c.peer, c.kind)
			conf := udp.Config{Config: bfd.Config{DesiredMinTx: 70 * ms, RequiredMinRx: 80 * ms, Multiplier: 4}, MinTTL: 60} // BIRD sends multihop with 64
			if c.kind != bfd.AuthNone {                                                                                      // both know both keys, and each signs with another
				conf.Auth = bfd.Keyring{Type: c.kind, Keys: []bfd.Key{{ID: 6, Secret: "second"}, {ID: 5, Secret: "secret"}}}
			}
			g := start(t, udp.Options{}, map[udp.Peer]udp.Config{c.peer: conf})
			g.next(c.peer, bfd.Up, time.Time{})
			// BIRD sends every max(60, our 80) ms and calls us down after our 4 x max(its 50, our 70) ms.
			until(t, "birdc shows what was agreed upon", func() bool { return b.session() == [3]string{"Up", "0.080", "0.280"} })
			until(t, "we know BIRD's intervals", func() bool {
				s := g.Sessions()[c.peer]
				return s.RemoteMinTx == 60*ms && s.RemoteMinRx == 50*ms && s.TxInterval == 70*ms && s.DetectionTime == 240*ms
			})
			now := time.Now()
			check(t, b.cmd.Process.Signal(syscall.SIGSTOP))
			report(t, "bird stopped", g.next(c.peer, bfd.Down, now), now, bfd.CauseDetectionExpired)
			now = time.Now()
			check(t, b.cmd.Process.Signal(syscall.SIGCONT))
			g.next(c.peer, bfd.Up, now)
			until(t, "bird up again", func() bool { return b.session()[0] == "Up" })

			now = time.Now()
			cut(t, h, true)
			report(t, "link cut", g.next(c.peer, bfd.Down, now), now, bfd.CauseDetectionExpired)
			until(t, "bird noticing", func() bool { return b.session()[0] == "Down" })
			cut(t, h, false)
			g.next(c.peer, bfd.Up, now)
			until(t, "bird up again", func() bool { return b.session()[0] == "Up" })

			g.stop()
			until(t, "bird told AdminDown", func() bool {
				_, after, _ := strings.Cut(b.cmd.Output(), "[AdminDown")
				return strings.Contains(after, "changed state from Up to Down")
			})
		})
	}
}

// TestBIRDWithAnotherKey: a session with a wrong secret does not come up.
func TestBIRDWithAnotherKey(t *testing.T) {
	p := udp.Peer{Local: us4, Remote: near4, Interface: "v0"}
	b := startBIRD(link(t), p, bfd.MeticulousKeyedSHA1)
	conf := udp.Config{Config: bfd.Config{DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms, Multiplier: 3,
		Auth: bfd.Keyring{Type: bfd.MeticulousKeyedSHA1, Keys: []bfd.Key{{ID: 5, Secret: "guessed"}}}}}
	g := start(t, udp.Options{}, map[udp.Peer]udp.Config{p: conf})
	until(t, "bird running", func() bool { return b.session()[0] != "" })
	time.Sleep(3 * time.Second)
	if s := g.Sessions()[p]; s.State != bfd.Down || s.RemoteDiscriminator != 0 || b.session()[0] != "Down" {
		t.Errorf("we are %s and have heard %#x, bird is %s", s.State, s.RemoteDiscriminator, b.session()[0])
	}
}
