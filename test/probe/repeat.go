package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Report sums up a series of attempts.
type Report struct {
	Attempts   int            `json:"attempts"`
	OK         int            `json:"ok"`
	Failed     int            `json:"failed"`
	Refused    int            `json:"refused"`  // of Failed: answered by RST or ICMP port unreachable
	TimedOut   int            `json:"timedOut"` // of Failed: no answer
	LongestGap float64        `json:"longestGapMs"`
	FailedFor  float64        `json:"failedForMs"` // from the beginning of the first attempt that failed to that of the last one
	Answers    map[string]int `json:"answers"`     // body -> how often
	Errors     map[string]int `json:"errors,omitempty"`
}

// Clients returns the client addresses, without ports, that agnhost's /clientip answered, sorted and each once.
func (r Report) Clients() []string {
	var out []string
	for answer := range r.Answers {
		if ap, err := netip.ParseAddrPort(answer); err == nil {
			out = append(out, ap.Addr().Unmap().String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Attempt makes one new connection and returns what the other side said.
type Attempt func(ctx context.Context) (string, error)

// HTTP returns an attempt that fetches path over a new TCP connection; any status but 200 is a failure.
func HTTP(target netip.AddrPort, path string) Attempt {
	return func(ctx context.Context) (string, error) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target.String()+path, nil)
		if err != nil {
			return "", err
		}
		return answer(client.Do(req))
	}
}

// answer reads what the other side said; any status but 200 is a failure.
func answer(resp *http.Response, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return strings.TrimSpace(string(body)), err
}

// TCP returns an attempt that opens a connection, reads what the server says first, one line, and resets the connection: the
// client keeps no state of it.
func TCP(target netip.AddrPort) Attempt {
	return func(ctx context.Context) (string, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", target.String())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		deadline, _ := ctx.Deadline()
		if err := errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.SetDeadline(deadline)); err != nil {
			return "", err
		}
		line, err := bufio.NewReader(conn).ReadString('\n')
		return strings.TrimSpace(line), err
	}
}

// UDP returns an attempt that sends message from a new port and waits for one datagram.
func UDP(target netip.AddrPort, message string) Attempt {
	return func(ctx context.Context) (string, error) { return exchange(ctx, &net.Dialer{}, target, message) }
}

// exchange sends one datagram and waits for one.
func exchange(ctx context.Context, d *net.Dialer, target netip.AddrPort, message string) (string, error) {
	conn, err := d.DialContext(ctx, "udp", target.String())
	if err != nil {
		return "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, message); err != nil {
		return "", err
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	return strings.TrimSpace(string(buf[:n])), err
}

// Flow returns an attempt like [UDP]'s that always sends from the same port, as one of a long-lived flow does: what the network remembers
// about it decides where it goes. Attempts take turns.
func Flow(target netip.AddrPort, message string, port uint16) Attempt {
	var mu sync.Mutex
	return func(ctx context.Context) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		return exchange(ctx, &net.Dialer{LocalAddr: &net.UDPAddr{Port: int(port)}}, target, message)
	}
}

// Repeat starts an attempt every interval, whether or not earlier ones have ended, for the given length of time or until the context
// ends. The last ones have their timeout too: who ends a series does not make it fail. The longest gap is the longest time in which no
// attempt ended well, the beginning and the end of the series included.
func Repeat(ctx context.Context, try Attempt, interval, timeout, length time.Duration) Report {
	r := Report{Answers: map[string]int{}, Errors: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	last := start
	var failures []time.Time
	gap := func(now time.Time) {
		r.LongestGap = max(r.LongestGap, float64(now.Sub(last).Microseconds())/1000)
		last = now
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for ctx.Err() == nil && time.Since(start) < length {
		r.Attempts++
		began := time.Now()
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
			defer cancel()
			answer, err := try(ctx)
			now := time.Now()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.fail(err)
				failures = append(failures, began)
				return
			}
			r.OK++
			r.Answers[answer]++
			gap(now)
		})
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	end := time.Now()
	wg.Wait()
	if end.After(last) {
		gap(end)
	}
	if len(failures) > 0 {
		span := slices.MaxFunc(failures, time.Time.Compare).Sub(slices.MinFunc(failures, time.Time.Compare))
		r.FailedFor = float64(span.Microseconds()) / 1000
	}
	return r
}

func (r *Report) fail(err error) {
	r.Failed++
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		r.Refused++
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		r.TimedOut++
	}
	r.Errors[root(err)]++
}

// root is the last part of an error's message, without the addresses that would make each different.
func root(err error) string {
	text := err.Error()
	return strings.TrimSpace(text[strings.LastIndex(text, ": ")+1:])
}
