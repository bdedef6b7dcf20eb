package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Holding says what became of connections that are held open, by what the other side answered at first: a pod's name.
type Holding struct {
	Unopened int            `json:"unopened"` // never came about
	Kept     map[string]int `json:"kept"`     // name -> how many answer, with that name still
	Lost     map[string]int `json:"lost"`     // name -> how many did not
	Errors   map[string]int `json:"errors,omitempty"`
}

// Held are connections that are held open, each for one HTTP request after the other. Its methods are safe for concurrent use.
type Held struct {
	request  string
	timeout  time.Duration
	conns    []*heldConn
	unopened map[string]int
}

// heldConn is one of them; the mutex is held for the length of a request.
type heldConn struct {
	net.Conn
	mu    sync.Mutex
	from  *bufio.Reader
	first string
	err   error // what ended it
}

// opening is how many connections Hold opens at a time.
const opening = 20

// Hold opens n connections to target and fetches path over each.
func Hold(ctx context.Context, target netip.AddrPort, path string, n int, timeout time.Duration) *Held {
	h := &Held{request: "GET " + path + " HTTP/1.1\r\nHost: " + target.String() + "\r\n\r\n", timeout: timeout, unopened: map[string]int{}}
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, opening)
	for range n {
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			c, err := h.open(ctx, target)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.unopened[root(err)]++
				return
			}
			h.conns = append(h.conns, c)
		})
	}
	wg.Wait()
	return h
}

func (h *Held) open(ctx context.Context, target netip.AddrPort) (*heldConn, error) {
	conn, err := (&net.Dialer{Timeout: h.timeout}).DialContext(ctx, "tcp", target.String())
	if err != nil {
		return nil, err
	}
	c := &heldConn{Conn: conn, from: bufio.NewReader(conn)}
	if c.first, err = c.exchange(h.request, h.timeout); err != nil {
		conn.Close()
	}
	return c, err
}

// Use fetches over one connection after the other, one each interval, until the context ends. One that still waits is left out.
func (h *Held) Use(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for i := 0; len(h.conns) > 0; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c := h.conns[i%len(h.conns)]; c.mu.TryLock() {
			go func() {
				defer c.mu.Unlock()
				c.ask(h.request, h.timeout)
			}()
		}
	}
}

// Check fetches over all connections at once and reports.
func (h *Held) Check() Holding {
	r := Holding{Kept: map[string]int{}, Lost: map[string]int{}, Errors: map[string]int{}}
	for why, n := range h.unopened {
		r.Unopened += n
		r.Errors[why] += n
	}
	var wg sync.WaitGroup
	for _, c := range h.conns {
		wg.Go(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ask(h.request, h.timeout)
		})
	}
	wg.Wait()
	for _, c := range h.conns {
		if c.err == nil {
			r.Kept[c.first]++
			continue
		}
		r.Lost[c.first]++
		r.Errors[root(c.err)]++
	}
	return r
}

// ask notes what ends the connection; of one that has ended it asks nothing. The mutex is held.
func (c *heldConn) ask(request string, timeout time.Duration) {
	if c.err != nil {
		return
	}
	var got string
	if got, c.err = c.exchange(request, timeout); c.err == nil && got != c.first {
		c.err = errors.New("another one answers")
	}
	if c.err != nil {
		c.Close()
	}
}

func (c *heldConn) exchange(request string, timeout time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	return answer(http.ReadResponse(c.from, nil))
}
