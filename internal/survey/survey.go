package survey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	timeout = 3 * time.Second // for each answer: a speaker on a node without power gives none

	// maxAnswer bounds an answer. A row about an address or a server is some 300 bytes: this is for more than 100,000 of them.
	maxAnswer = 32 << 20
)

// Get reads what a speaker serves at a path, which may have a query.
type Get func(ctx context.Context, s explain.Speaker, path string) ([]byte, error)

// Ask asks all speakers of f for what is at paths, those of package view, atOnce of them at a time, and puts their answers into f. A
// speaker that does not answer all of it within three seconds has an Error afterwards.
func Ask(ctx context.Context, f *explain.Facts, get Get, atOnce int, paths ...string) {
	nodes := slices.Sorted(maps.Keys(f.Speakers))
	answers := make([]explain.Speaker, len(nodes)) // of each its own goroutine; the map is written when they have ended
	var g errgroup.Group
	g.SetLimit(atOnce)
	for i, node := range nodes {
		g.Go(func() error {
			answers[i] = askOne(ctx, f.Speakers[node], get, paths)
			return nil
		})
	}
	_ = g.Wait() // what went wrong is in the answers
	for i, node := range nodes {
		f.Speakers[node] = answers[i]
	}
}

func askOne(ctx context.Context, s explain.Speaker, get Get, paths []string) explain.Speaker {
	s.Error = ""
	for _, path := range paths {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		text, err := get(ctx, s, path)
		cancel()
		if err == nil {
			err = read(text, path, &s)
		}
		if err != nil {
			s.Error = err.Error()
			return s
		}
	}
	return s
}

func read(text []byte, path string, s *explain.Speaker) error {
	var into any = &s.Decisions
	if strings.HasPrefix(path, view.DatapathPath) {
		into = &s.Datapath
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("reading the answer of pod %s: %w", s.Pod, err)
	}
	return nil
}

// DatapathOf is the path at which a speaker tells of the servers of one Service.
func DatapathOf(key lb.ServiceKey) string {
	return view.DatapathPath + "?" + url.Values{view.ServiceParam: {key.String()}}.Encode()
}

// Direct asks the pods at their own addresses.
func Direct(c *http.Client, port int) Get {
	return func(ctx context.Context, s explain.Speaker, path string) ([]byte, error) {
		if !s.Addr.IsValid() {
			return nil, fmt.Errorf("asking pod %s: it has no address yet", s.Pod)
		}
		at := "http://" + net.JoinHostPort(s.Addr.String(), strconv.Itoa(port)) + path
		text, err := fetch(ctx, c, at, maxAnswer)
		if err != nil {
			return nil, fmt.Errorf("asking pod %s: %w", s.Pod, err)
		}
		return text, nil
	}
}

func fetch(ctx context.Context, c *http.Client, at string, limit int) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New("it answers " + answer.Status)
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, int64(limit)+1))
	if err == nil && len(text) > limit {
		err = fmt.Errorf("its answer is longer than %d bytes", limit)
	}
	return text, err
}
