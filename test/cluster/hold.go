package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-lb/fairlead/test/probe"
)

// Held are connections that the client holds open. Its methods are not safe for concurrent use.
type Held struct {
	cmd     *exec.Cmd
	input   io.WriteCloser
	reports *json.Decoder
	errs    bytes.Buffer
}

// Hold opens n connections from the client to http://target/hostname, which [Held.Close] ends, and uses one after the other, one
// each interval. A request is lost after ten seconds, stretched by [Slow].
func (l *Lab) Hold(ctx context.Context, target netip.AddrPort, n int, interval time.Duration) (*Held, probe.Holding, error) {
	h := &Held{cmd: l.probeCommand(ctx, "hold", target.String(), "-open", strconv.Itoa(n), "-interval", interval.String(), "-timeout", (10 * time.Second * Slow()).String())}
	h.cmd.Stderr = &h.errs
	var err error
	if h.input, err = h.cmd.StdinPipe(); err != nil {
		return nil, probe.Holding{}, err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return nil, probe.Holding{}, err
	}
	h.reports = json.NewDecoder(out)
	if err := h.cmd.Start(); err != nil {
		return nil, probe.Holding{}, fmt.Errorf("starting %s: %w", strings.Join(h.cmd.Args, " "), err)
	}
	r, err := h.report()
	return h, r, err
}

// Check uses all connections at once and reports which of them go on.
func (h *Held) Check() (probe.Holding, error) {
	if _, err := io.WriteString(h.input, "\n"); err != nil {
		return probe.Holding{}, fmt.Errorf("asking probe for its connections: %w: %s", err, h.errs.String())
	}
	return h.report()
}

func (h *Held) report() (r probe.Holding, err error) {
	if err := h.reports.Decode(&r); err != nil {
		return r, fmt.Errorf("reading what probe says of its connections: %w: %s", err, h.errs.String())
	}
	return r, nil
}

// Close ends the connections.
func (h *Held) Close() error {
	_ = h.input.Close() // Wait says what became of the program
	return h.cmd.Wait()
}
