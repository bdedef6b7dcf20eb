package bed

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Status is what a speaker says of itself at /debug/decisions, as far as the bed looks at it.
type Status struct {
	Ready   bool `json:"ready"`
	Members []struct {
		Node     lb.NodeName `json:"node"`
		Ready    bool        `json:"ready"`
		Draining bool        `json:"draining"`
	} `json:"members"`
	Decisions []struct {
		VIP      netip.Addr  `json:"vip"`
		Announce bool        `json:"announce"`
		Owner    lb.NodeName `json:"owner"`
	} `json:"decisions"`
}

// Status asks the speaker of node i, beside the network.
func (l *LAN) Status(i int) (s Status, err error) {
	text, err := page(i, "/debug/decisions")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, fmt.Errorf("reading the status of node %d: %w", i, err)
	}
	return s, nil
}

// Metrics returns the metrics of node i's speaker as Prometheus would read them.
func (l *LAN) Metrics(i int) string {
	l.t.Helper()
	text, err := page(i, "/metrics")
	l.check(err)
	return string(text)
}

// page returns a page that the speaker of node i serves.
func page(i int, path string) ([]byte, error) {
	client := http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", statusSocket(i))
		}}}
	resp, err := client.Get("http://speaker" + path)
	if err != nil {
		return nil, fmt.Errorf("asking the speaker of node %d: %w", i, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("reading %s of node %d: %w", path, i, err)
	}
	return text, nil
}

// Settled waits until the given speakers know each other as ready and agree on the one owner of each address, who announces
// it, and returns the owners.
func (l *LAN) Settled(limit time.Duration, numbers ...int) map[netip.Addr]int {
	l.t.Helper()
	var owners map[netip.Addr]int
	var why string
	pause := 50*time.Millisecond + time.Duration(len(l.nodes[numbers[0]].o.addresses()))*100*time.Microsecond // asking about thousands of addresses costs
	_, ok := poll(limit, pause, func() bool {
		owners, why = l.agreed(numbers)
		return why == ""
	})
	if !ok {
		l.t.Fatalf("after %s speakers %v do not agree: %s", limit, numbers, why)
	}
	return owners
}

// agreed returns the owners, or why the speakers do not agree yet.
func (l *LAN) agreed(numbers []int) (map[netip.Addr]int, string) {
	announcers := map[netip.Addr]int{}
	var first map[netip.Addr]lb.NodeName
	want := 0
	for _, i := range numbers {
		s, err := l.Status(i)
		if err != nil {
			return nil, err.Error()
		}
		if n := s.readyMembers(); !s.Ready || n != len(numbers) {
			return nil, fmt.Sprintf("node %d is ready: %v, and knows %d of %d that are", i, s.Ready, n, len(numbers))
		}
		view := map[netip.Addr]lb.NodeName{}
		for _, d := range s.Decisions {
			view[d.VIP] = d.Owner
			if d.Announce {
				if other := announcers[d.VIP]; other != 0 {
					return nil, fmt.Sprintf("nodes %d and %d announce %s", other, i, d.VIP)
				}
				announcers[d.VIP] = i
			}
		}
		if first == nil {
			first, want = view, len(l.nodes[i].o.addresses())
		} else if !maps.Equal(first, view) {
			return nil, fmt.Sprintf("nodes %d and %d name different owners", numbers[0], i)
		}
	}
	for addr, i := range announcers {
		if first[addr] != NodeName(i) {
			return nil, fmt.Sprintf("node %d announces %s of %s", i, addr, first[addr])
		}
	}
	if len(announcers) != want {
		return nil, fmt.Sprintf("%d of %d addresses are announced", len(announcers), want)
	}
	return announcers, ""
}

func (s Status) readyMembers() (n int) {
	for _, m := range s.Members {
		if m.Ready && !m.Draining {
			n++
		}
	}
	return n
}
