package healthnodeport

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// A socket that could not be opened is tried again after bindAgain: whoever holds the port may let it go.
const bindAgain = 2 * time.Second

// Limits of one connection: a health check is a line and an answer.
const (
	readTimeout    = 5 * time.Second
	idleTimeout    = time.Minute
	maxHeaderBytes = 8 << 10
)

// ServerOptions configures [Servers].
type ServerOptions struct {
	Healthy func() bool // whether the datapath keeps up with the API server (H10); asked for every answer, from many goroutines
	// Failed is told once when a socket cannot be opened, until it could or another one is wanted. It must not block.
	Failed func(Key, lb.Refusal)
	Log    *slog.Logger
}

func (o ServerOptions) validate() error {
	if o.Healthy == nil || o.Failed == nil || o.Log == nil {
		return errors.New("healthnodeport: Healthy, Failed and Log are needed")
	}
	return nil
}

// Servers answers at health check node ports. Its methods are safe for concurrent use.
type Servers struct {
	o    ServerOptions
	news chan struct{} // holds one token when want has changed

	mu    sync.RWMutex
	want  map[Key]Check
	ended []Key // sockets that the kernel has taken from us
}

// NewServers returns Servers that listen nowhere yet.
func NewServers(o ServerOptions) (*Servers, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Servers{o: o, news: make(chan struct{}, 1)}, nil
}

// Set replaces the whole set of sockets and what they answer. Answers change at once, sockets are opened and closed by [Servers.Run].
// The caller must not write to want any more.
func (s *Servers) Set(want map[Key]Check) {
	s.mu.Lock()
	same := len(want) == len(s.want)
	for key := range want {
		if _, had := s.want[key]; !had {
			same = false
			break
		}
	}
	s.want = want
	s.mu.Unlock()
	if !same {
		s.wake()
	}
}

// Run opens and closes sockets until ctx is done, then closes all.
func (s *Servers) Run(ctx context.Context) error {
	open, failed := map[Key]*http.Server{}, map[Key]lb.Refusal{}
	var serving sync.WaitGroup
	defer serving.Wait()
	defer s.closeAllBut(open, nil)
	for {
		var again <-chan time.Time
		if failed = s.reconcile(open, failed, &serving); len(failed) > 0 {
			again = time.After(bindAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.news:
		case <-again:
		}
	}
}

// reconcile closes before it opens: a port may have moved from one Service to another. It returns which sockets it could not open, and
// tells of those that had not failed before.
func (s *Servers) reconcile(open map[Key]*http.Server, before map[Key]lb.Refusal, serving *sync.WaitGroup) (failed map[Key]lb.Refusal) {
	s.mu.Lock()
	want, ended := s.want, s.ended
	s.ended = nil
	s.mu.Unlock()
	for _, key := range ended {
		delete(open, key)
	}
	s.closeAllBut(open, want)
	failed = map[Key]lb.Refusal{}
	for key := range want {
		if open[key] != nil {
			continue
		}
		l, err := listen(key.Addr)
		if err != nil {
			failed[key] = refusal(key, err)
			if before[key] != failed[key] {
				s.o.Log.Error("health check node port not opened", "service", key.Service, "addr", key.Addr, "reason", failed[key].Reason, "err", err)
				s.o.Failed(key, failed[key])
			}
			continue
		}
		srv := &http.Server{Handler: s.handler(key), ReadTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
			ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug)} // what strangers send is no news
		open[key] = srv
		serving.Go(func() { s.serve(key, srv, l) })
		s.o.Log.Info("health check node port opened", "service", key.Service, "addr", key.Addr)
	}
	return failed
}

// serve answers until the server is closed. If its socket fails, another one is opened.
func (s *Servers) serve(key Key, srv *http.Server, l net.Listener) {
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		return
	}
	s.o.Log.Error("health check node port lost", "service", key.Service, "addr", key.Addr, "err", err)
	s.mu.Lock()
	s.ended = append(s.ended, key)
	s.mu.Unlock()
	s.wake()
}

func (s *Servers) wake() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *Servers) closeAllBut(open map[Key]*http.Server, want map[Key]Check) {
	for key, srv := range open {
		if _, wanted := want[key]; !wanted {
			_ = srv.Close() // also what it has accepted
			delete(open, key)
			s.o.Log.Info("health check node port closed", "service", key.Service, "addr", key.Addr)
		}
	}
}

// listen binds the address for its own family only, so that the sockets of both families of a port do not meet.
func listen(addr netip.AddrPort) (net.Listener, error) {
	network := "tcp4"
	if lb.FamilyOf(addr.Addr()) == lb.IPv6 {
		network = "tcp6"
	}
	l, err := net.Listen(network, addr.String())
	if err != nil {
		return nil, fmt.Errorf("listening for health checks: %w", err)
	}
	return l, nil
}

func refusal(key Key, err error) lb.Refusal {
	r := lb.Refusal{Reason: lb.FailedToStartServiceHealthcheck,
		Message: fmt.Sprintf("spec.healthCheckNodePort is %d, but %v", key.Addr.Port(), err)}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		r.Message += fmt.Sprintf("; probably kube-proxy still runs on this node, which Fairlead replaces in datapath.mode full: remove it, or find who else"+
			" listens there (ss -ltnp sport = :%d)", key.Addr.Port())
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		r.Message += fmt.Sprintf("; the node does not have the address %s", key.Addr.Addr())
	case errors.Is(err, syscall.EACCES):
		r.Message += "; ports below 1024 need the capability NET_BIND_SERVICE"
	}
	return r
}

// handler looks the check up for every request: it changes more often than the socket.
func (s *Servers) handler(key Key) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s.mu.RLock()
		check := s.want[key] // a socket that is about to close answers 503
		s.mu.RUnlock()
		r := Answer(key.Service, check, s.o.Healthy())
		maps.Copy(w.Header(), r.Header)
		w.WriteHeader(r.Status)
		_, _ = w.Write([]byte(r.Body)) // the client has gone
	})
}
