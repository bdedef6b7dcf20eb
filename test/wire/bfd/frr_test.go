//go:build wire

package bfd

import (
	"encoding/json"
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

// frr is zebra and bfdd on a host.
type frr struct {
	host *host
	dir  string
	bfdd *router.Process
}

// frrPeer is what `show bfd peers json` says of a session. Intervals are milliseconds.
type frrPeer struct {
	Peer             string `json:"peer"`
	Status           string `json:"status"`
	Diagnostic       string `json:"diagnostic"`
	RemoteDiagnostic string `json:"remote-diagnostic"`
	Multiplier       int    `json:"detect-multiplier"`
	Rx               int    `json:"receive-interval"`
	Tx               int    `json:"transmit-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
	RemoteRx         int    `json:"remote-receive-interval"`
	RemoteTx         int    `json:"remote-transmit-interval"`
}

func startFRR(h *host, peer udp.Peer) *frr {
	h.t.Helper()
	f := &frr{host: h, dir: short(h.t)}
	must(h.t, "chown", "frr:frr", f.dir) // the daemons give up root
	session, ttl := fmt.Sprintf("peer %s local-address %s interface eth0", peer.Local, peer.Remote), ""
	if peer.Multihop {
		session, ttl = fmt.Sprintf("peer %s multihop local-address %s", peer.Local, peer.Remote), "  minimum-ttl 254\n"
	}
	f.daemon("zebra", "")
	until(h.t, "zebra listening", func() bool { return f.show("zebra", "show version") != "" })
	f.bfdd = f.daemon("bfdd", "bfd\n "+session+"\n  detect-multiplier 3\n  receive-interval 50\n  transmit-interval 60\n"+ttl, "--bfdctl", f.dir+"/bfdd.sock")
	return f
}

func (f *frr) daemon(name, config string, args ...string) *router.Process {
	f.host.t.Helper()
	return f.host.Daemon(append([]string{"/usr/lib/frr/" + name, "-f", write(f.host.t, f.dir, name+".conf", config), "-i", f.dir + "/" + name + ".pid",
		"-z", f.dir + "/zserv.api", "--vty_socket", f.dir, "--log", "stdout"}, args...)...)
}

func (f *frr) show(daemon, command string) string {
	out, err := exec.Command("vtysh", "--vty_socket", f.dir, "-d", daemon, "-c", command).Output()
	if err != nil {
		return ""
	}
	return string(out)
}

func (f *frr) peer() frrPeer {
	var list []frrPeer
	if err := json.Unmarshal([]byte(f.show("bfdd", "show bfd peers json")), &list); err != nil || len(list) != 1 {
		return frrPeer{}
	}
	return list[0]
}

// TestFRR: single hop and multihop, IPv4 and IPv6, through every way in which a session ends.
func TestFRR(t *testing.T) {
	for _, c := range []struct {
		name string
		peer udp.Peer
	}{
		{"IPv4", udp.Peer{Local: us4, Remote: near4, Interface: "v0"}},
		{"IPv6", udp.Peer{Local: us6, Remote: near6, Interface: "v0"}},
		{"IPv4 multihop", udp.Peer{Local: us4, Remote: far4, Multihop: true}},
		{"IPv6 multihop", udp.Peer{Local: us6, Remote: far6, Multihop: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := topology(t, c.peer)
			f := startFRR(h, c.peer)
			conf := udp.Config{Config: bfd.Config{DesiredMinTx: 70 * ms, RequiredMinRx: 80 * ms, Multiplier: 4}}
			g := start(t, udp.Options{}, map[udp.Peer]udp.Config{c.peer: conf})
			frrAgrees(t, f, g, c.peer)

			now := time.Now()
			check(t, f.bfdd.Process.Signal(syscall.SIGSTOP))
			report(t, "bfdd stopped", g.next(c.peer, bfd.Down, now), now, bfd.CauseDetectionExpired)
			now = time.Now()
			check(t, f.bfdd.Process.Signal(syscall.SIGCONT))
			g.next(c.peer, bfd.Up, now)
			until(t, "bfdd up again", func() bool { return f.peer().Status == "up" })

			now = time.Now()
			cut(t, h, true)
			report(t, "link cut", g.next(c.peer, bfd.Down, now), now, bfd.CauseDetectionExpired)
			until(t, "bfdd noticing", func() bool {
				p := f.peer()
				return p.Status == "down" && p.Diagnostic == "control detection time expired"
			})
			cut(t, h, false)
			g.next(c.peer, bfd.Up, now)
			until(t, "bfdd up again", func() bool { return f.peer().Status == "up" })

			g.stop()
			until(t, "bfdd told AdminDown", func() bool {
				p := f.peer()
				return p.Status == "down" && strings.Contains(p.RemoteDiagnostic, "administratively down")
			})
			t.Logf("after our graceful stop bfdd says %+v", f.peer())
		})
	}
}

func topology(t *testing.T, p udp.Peer) *host {
	t.Helper()
	if p.Multihop {
		return routed(t)
	}
	return link(t)
}

// frrAgrees waits until both ends are up and compares what each says about the other.
func frrAgrees(t *testing.T, f *frr, g *group, p udp.Peer) {
	t.Helper()
	g.next(p, bfd.Up, time.Time{})
	until(t, "bfdd up", func() bool { s := f.peer(); return s.Status == "up" && s.RemoteTx == 70 })
	got := f.peer()
	want := frrPeer{Peer: p.Local.String(), Status: "up", Diagnostic: got.Diagnostic, RemoteDiagnostic: "ok", Multiplier: 3, Rx: 50, Tx: 60,
		RemoteMultiplier: 4, RemoteRx: 80, RemoteTx: 70}
	if got != want {
		t.Errorf("bfdd says %+v, want %+v", got, want)
	}
	until(t, "we know bfdd's intervals", func() bool {
		s := g.Sessions()[p]
		return s.RemoteMinTx == 60*ms && s.RemoteMinRx == 50*ms && s.RemoteMultiplier == 3 && s.TxInterval == 70*ms && s.DetectionTime == 240*ms
	})
}

// report prints how long something took to be noticed and checks the cause.
func report(t *testing.T, what string, e bfd.Event, since time.Time, want bfd.Cause) {
	t.Helper()
	t.Logf("%s: %s after %s", what, e.Cause, e.At.Sub(since).Round(ms/10))
	if e.Cause != want {
		t.Errorf("%s: %s, want %s", what, e.Cause, want)
	}
	if took := e.At.Sub(since); took > 5*time.Second {
		t.Errorf("%s: noticed after %s", what, took)
	}
}
