package healthnodeport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// asking is how many questions may be out at a time.
const asking = 64

// Prober asks at health check node ports of this node, as a load balancer outside would, and keeps the answers. Its methods are
// safe for concurrent use.
type Prober struct {
	addr    netip.Addr
	changed func()
	client  *http.Client
	wake    chan struct{} // holds one token when a port may be due earlier than before

	mu       sync.Mutex
	schedule *schedule
	answers  map[lb.ServiceKey]lb.HealthCheck // replaced, not written to; nil = to be gathered anew
}

// NewProber returns a Prober that asks at addr, an address of this node that forwarders listen on: the node's own, because some are told
// to leave the loopback out. It calls changed, which must not block, when the answers have changed.
func NewProber(addr netip.Addr, changed func()) *Prober {
	return &Prober{addr: addr, changed: changed, wake: make(chan struct{}, 1), schedule: newSchedule(), client: &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: maxHeaderBytes, // never by a proxy
			DialContext: (&net.Dialer{Timeout: patience}).DialContext},
	}}
}

// Set replaces the ports to ask at, by Service.
func (p *Prober) Set(ports map[lb.ServiceKey]uint16) {
	p.mu.Lock()
	if p.schedule.set(ports, time.Now()) {
		p.answers = nil
	}
	p.mu.Unlock()
	p.hasten()
}

// Answers returns what is known of the ports that were last set. The caller must not write to it.
func (p *Prober) Answers() map[lb.ServiceKey]lb.HealthCheck {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == nil {
		p.answers = p.schedule.answers()
	}
	return p.answers
}

// Run asks until ctx is done.
func (p *Prober) Run(ctx context.Context) error {
	var questions sync.WaitGroup
	defer questions.Wait()
	slots := make(chan struct{}, asking)
	for ctx.Err() == nil {
		p.mu.Lock()
		t, wait := p.schedule.next(time.Now())
		p.mu.Unlock()
		if t == nil {
			p.rest(ctx, wait)
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case slots <- struct{}{}:
		}
		questions.Go(func() {
			defer func() { <-slots }()
			p.ask(ctx, t)
		})
		time.Sleep(pace)
	}
	return nil
}

// rest waits until a port is due, or may be; 0 = only until it may be.
func (p *Prober) rest(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		due = time.After(wait)
	}
	select {
	case <-ctx.Done():
	case <-p.wake:
	case <-due:
	}
}

func (p *Prober) hasten() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Prober) ask(ctx context.Context, t *target) {
	o := p.question(ctx, t.port)
	if ctx.Err() != nil {
		return // the end; what looks like silence is our own
	}
	p.mu.Lock()
	changed := p.schedule.learn(t, o, time.Now())
	if changed {
		p.answers = nil
	}
	p.mu.Unlock()
	p.hasten()
	if changed {
		p.changed()
	}
}

// question asks once. The path is that which clouds use; a forwarder answers at any.
func (p *Prober) question(ctx context.Context, port uint16) outcome {
	url := fmt.Sprintf("http://%s/healthz", netip.AddrPortFrom(p.addr, port))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		panic("healthnodeport: " + err.Error()) // the address was valid at the start
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return outcome{err: plain(err)}
	}
	_ = resp.Body.Close() // the status is all that matters
	return outcome{status: resp.StatusCode}
}

// plain shortens the usual errors to what people look for.
func plain(err error) error {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("no answer within %v", patience)
	}
	return err
}
