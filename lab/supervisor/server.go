package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/controlplane"
	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// serve answers requests on the control socket until ctx ends.
func (s *supervisor) serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{Handler: s.routes(), BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving control socket: %w", err)
	}
	return nil
}

func (s *supervisor) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/progress", s.serveProgress)
	mux.HandleFunc("GET /v1/members", func(w http.ResponseWriter, _ *http.Request) { s.answer(w, s.members()) })
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, r *http.Request) { s.answer(w, s.status(r.Context())) })
	mux.HandleFunc("POST /v1/nodes/{node}/poweroff", s.onNode(s.powerOff))
	mux.HandleFunc("POST /v1/nodes/{node}/poweron", s.onNode(s.powerOn))
	mux.HandleFunc("POST /v1/links/{node}/cut", s.onNode(func(node string) error { return s.setLANLink(node, false) }))
	mux.HandleFunc("POST /v1/links/{node}/heal", s.onNode(func(node string) error { return s.setLANLink(node, true) }))
	mux.HandleFunc("POST /v1/apiserver/stop", s.action(s.stopAPIServer))
	mux.HandleFunc("POST /v1/apiserver/start", s.action(s.startAPIServerAgain))
	return mux
}

func (s *supervisor) serveProgress(w http.ResponseWriter, r *http.Request) {
	encoder := json.NewEncoder(w)
	err := s.progress.follow(r.Context(), func(step control.Step) error {
		if err := encoder.Encode(step); err != nil {
			return err
		}
		return http.NewResponseController(w).Flush()
	})
	if err != nil {
		s.Log.Debug("follower of the progress left", "err", err)
	}
}

// onNode makes a handler of something that is done to a node.
func (s *supervisor) onNode(do func(node string) error) http.HandlerFunc {
	return s.action(func(r *http.Request) error {
		node := r.PathValue("node")
		if !strings.HasPrefix(node, topology.NodePrefix) {
			return fmt.Errorf("%q is not a node; nodes are called %s and so on", node, topology.NodeName(1))
		}
		return do(node)
	})
}

// action makes a handler of something that is done to a lab that is up.
func (s *supervisor) action(do func(r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		err := errors.New("the lab is not up yet")
		if s.progress.hasEnded() {
			err = do(r)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	}
}

func (s *supervisor) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		s.Log.Debug("answer not delivered", "err", err)
	}
}

func (s *supervisor) stopAPIServer(r *http.Request) error {
	d, err := s.apiServer()
	if err != nil {
		return err
	}
	signal := syscall.SIGTERM
	if r.URL.Query().Has("force") {
		signal = syscall.SIGKILL
	}
	return d.Stop(r.Context(), signal)
}

func (s *supervisor) startAPIServerAgain(r *http.Request) error {
	d, err := s.apiServer()
	if err != nil {
		return err
	}
	if err := d.Start(r.Context()); err != nil {
		return err
	}
	return s.awaitAPIServer(r.Context())
}

func (s *supervisor) apiServer() (*daemon.Daemon, error) {
	d, started := s.component(controlplane.APIServer)
	if !started {
		return nil, errors.New("the lab never came as far as an API server")
	}
	return d, nil
}
