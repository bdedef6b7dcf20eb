//go:build wire

package bgp

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/liveness"
	"github.com/fairlead-lb/fairlead/announce/bgp/process"
	"github.com/fairlead-lb/fairlead/test/router"
)

// watching is a pod whose speaker's end has BFD, and one graceful neighbour.
type watching struct {
	t    *testing.T
	pod  *pod
	peer bgp.Peer
	*liveness.Watch
	stop func()
}

func watched(t *testing.T, b *bgp.BFD) *watching {
	t.Helper()
	w := &watching{t: t, pod: startPod(t, 0), peer: graceful()}
	w.pod.end() // its own speaker's end
	w.peer.BFD = b
	w.begin()
	return w
}

// begin begins a speaker's end; w.stop ends it.
func (w *watching) begin() {
	w.t.Helper()
	log := slog.New(slog.NewTextHandler(logs{w.t}, nil))
	c, err := process.NewClient(process.ClientOptions{Path: w.pod.path, Log: log, Changed: func() {}})
	router.Check(w.t, err)
	w.Watch, err = liveness.New(liveness.Options{Sessions: c, Log: log, Registerer: prometheus.NewRegistry(), Changed: func() {}})
	router.Check(w.t, err)
	w.Set(complete(w.peer))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	watch := w.Watch
	go func() { ended <- watch.Run(ctx) }()
	w.stop = sync.OnceFunc(func() { cancel(); router.Check(w.t, <-ended) })
	w.t.Cleanup(w.stop)
}

func (w *watching) session() bgp.Session {
	for _, s := range w.Report().Sessions {
		return s
	}
	return bgp.Session{}
}

func (w *watching) up(name string) {
	w.t.Helper()
	router.Until(w.t, name+" established", func() bool { s := w.session(); return s.State == bgp.Established && s.Pending == 0 })
}

func (w *watching) bfd(want string) {
	w.t.Helper()
	router.Until(w.t, "BFD "+want, func() bool { return w.session().BFD == want })
}

func output(args ...string) (string, error) {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("running %v: %w: %s", args, err, out)
	}
	return string(out), nil
}
