package healthnodeport

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

var (
	start   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	refused = outcome{err: errors.New("connection refused")}
)

// forwarder plays schedules against a forwarder that answers as outcome says, in virtual time.
type forwarder struct {
	s       *schedule
	now     time.Time
	asked   map[lb.ServiceKey]int
	outcome func(lb.ServiceKey) outcome
}

func newForwarder(n int) *forwarder {
	f := &forwarder{s: newSchedule(), now: start, asked: map[lb.ServiceKey]int{}, outcome: func(lb.ServiceKey) outcome { return outcome{status: 200} }}
	ports := map[lb.ServiceKey]uint16{}
	for i := range n {
		ports[lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("web-%d", i)}] = uint16(30000 + i)
	}
	f.s.set(ports, f.now)
	return f
}

// pass asks for d, one question per pace, and returns how many there were.
func (f *forwarder) pass(d time.Duration) (questions int) {
	for end := f.now.Add(d); f.now.Before(end); f.now = f.now.Add(pace) {
		if t, _ := f.s.next(f.now); t != nil {
			questions++
			f.asked[t.service]++
			f.s.learn(t, f.outcome(t.service), f.now)
		}
	}
	return questions
}

func (f *forwarder) count(ok bool) (n int) {
	for _, c := range f.s.answers() {
		if c.OK == ok {
			n++
		}
	}
	return n
}

func (f *forwarder) say(o outcome) { f.outcome = func(lb.ServiceKey) outcome { return o } }

func TestScheduleIsQuickUntilTheAnswerIsGood(t *testing.T) {
	f := newForwarder(1)
	f.say(outcome{status: 503})
	f.pass(time.Second)
	if f.count(false) != 1 {
		t.Errorf("answers %v, want one no", f.s.answers())
	}
	f.say(outcome{status: 200})
	f.pass(steady)
	if f.count(true) != 1 {
		t.Errorf("answers %v, want one yes", f.s.answers())
	}
	if n := f.pass(time.Minute); n < 28 || n > 31 {
		t.Errorf("%d questions in a quiet minute, want one every %v", n, steady)
	}
	f.say(outcome{status: 503}) // is noticed within steady
	f.pass(steady + pace)
	if got := f.s.answers()[lb.ServiceKey{Namespace: "default", Name: "web-0"}]; got.OK || got.Why != "answers 503 Service Unavailable" {
		t.Errorf("answer %+v, want a no that says 503", got)
	}
	if n := f.pass(time.Minute); n > 35 {
		t.Errorf("%d questions in a minute of no, want it to back off", n)
	}
}

func TestScheduleBearsARestart(t *testing.T) {
	f := newForwarder(3)
	f.pass(10 * time.Second)
	f.say(refused)
	f.pass(tolerance)
	if f.count(true) != 3 {
		t.Errorf("answers %v after a silence of %v, want all as before", f.s.answers(), tolerance)
	}
	f.say(outcome{status: 200})
	f.pass(time.Second)
	f.say(refused)
	f.pass(tolerance + steady + quick)
	if f.count(false) != 3 {
		t.Errorf("answers %v after a longer silence, want three no", f.s.answers())
	}
	for _, c := range f.s.answers() {
		if c.Why != "does not answer: connection refused" {
			t.Errorf("why %q", c.Why)
		}
	}
}

func TestScheduleOfSilenceIsUnknownAtFirst(t *testing.T) {
	f := newForwarder(1)
	f.say(refused)
	f.pass(tolerance)
	if got := f.s.answers(); len(got) != 0 {
		t.Errorf("answers %v, want none", got)
	}
	f.pass(2 * quick)
	if f.count(false) != 1 {
		t.Errorf("answers %v, want a no", f.s.answers())
	}
}

func TestScheduleOfTenThousand(t *testing.T) {
	const n = 10_000
	f := newForwarder(n)
	f.pass(n * pace)
	if f.count(true) != n {
		t.Fatalf("%d of %d known after %v", f.count(true), n, n*pace)
	}
	for range 20 { // two rounds
		if q := f.pass(10 * time.Second); q < n/25 || q > n/6 {
			t.Errorf("%d questions in 10 s, want about %d, evenly", q, n/10)
		}
	}
	// It dies: the first that is silent has all asked, and again when it is back.
	f.say(refused)
	f.pass(30 * time.Second)
	if f.count(false) != n {
		t.Errorf("30 s after the forwarder died only %d of %d are a no", f.count(false), n)
	}
	f.say(outcome{status: 200})
	f.pass(30 * time.Second)
	if f.count(true) != n {
		t.Errorf("30 s after it came back only %d of %d are a yes", f.count(true), n)
	}
}

func TestScheduleForgets(t *testing.T) {
	f := newForwarder(2)
	f.pass(time.Second)
	one := lb.ServiceKey{Namespace: "default", Name: "web-1"}
	t1, _ := f.s.next(f.now.Add(time.Hour)) // one of the two is being asked
	if !f.s.set(map[lb.ServiceKey]uint16{one: 31000}, f.now) {
		t.Error("nothing was forgotten")
	}
	if got := f.s.answers(); len(got) != 0 {
		t.Errorf("answers %v of ports that are not asked any more", got)
	}
	if f.s.learn(t1, refused, f.now) {
		t.Error("an answer about a forgotten port counts")
	}
	if f.pass(quick); f.count(true) != 1 || len(f.s.queue) != 1 {
		t.Errorf("answers %v, queue of %d; want the new port only", f.s.answers(), len(f.s.queue))
	}
}

// asksAt runs a Prober against one handler and returns its answer once there is one.
func asksAt(t *testing.T, h http.HandlerFunc) lb.HealthCheck {
	t.Helper()
	srv := httptest.NewServer(h)
	defer srv.Close()
	return answerAt(t, netip.MustParseAddrPort(srv.Listener.Addr().String()))
}

func answerAt(t *testing.T, at netip.AddrPort) lb.HealthCheck {
	t.Helper()
	changed := make(chan struct{}, 16)
	p := NewProber(at.Addr(), func() { changed <- struct{}{} })
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- p.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	p.Set(map[lb.ServiceKey]uint16{web: at.Port()})
	<-changed
	return p.Answers()[web]
}

func TestProberAsksAsACloudDoes(t *testing.T) {
	var asked atomic.Value
	got := asksAt(t, func(w http.ResponseWriter, r *http.Request) { asked.Store(r.Method + " " + r.URL.Path) })
	if !got.OK || asked.Load() != "GET /healthz" {
		t.Errorf("got %+v, asked %q", got, asked.Load())
	}
}

func TestProberTakesOnly200(t *testing.T) {
	for _, status := range []int{204, 302, 404, 503} {
		got := asksAt(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		if got.OK || !strings.Contains(got.Why, fmt.Sprint(status)) {
			t.Errorf("status %d: %+v", status, got)
		}
	}
}

// Prober and Servers agree about what H3 says.
func TestProberAsksServers(t *testing.T) {
	s, healthy, _ := started(t)
	at := free(t, "127.0.0.1")
	s.Set(map[Key]Check{{web, at}: {1}})
	becomes(t, at, 200)
	if got := answerAt(t, at); !got.OK {
		t.Errorf("got %+v", got)
	}
	healthy.Store(false)
	if got := answerAt(t, at); got.OK || got.Why != "answers 503 Service Unavailable" {
		t.Errorf("got %+v", got)
	}
}

func TestProberOfAPortThatNobodyHas(t *testing.T) {
	if got := answerAt(t, free(t, "127.0.0.1")); got.OK || got.Why != "does not answer: connection refused" {
		t.Errorf("got %+v", got)
	}
}
