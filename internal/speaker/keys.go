package speaker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

// Keys follows the keys that the speakers share. A Secret that is wrong never takes a key away: the last good ones hold.
type Keys struct {
	memory  *Memory
	ask     func(context.Context) ([]keyring.Key, error)
	log     *slog.Logger
	held    atomic.Int64
	refused prometheus.Counter
	told    string // the last complaint, so that it is not repeated

	replaced []keyring.Key // what was held when a Secret with none of it came
	until    time.Time     // so long they are accepted too
}

const (
	keysAgain  = 30 * time.Second // between two looks at the Secret; keyring.MinWait builds on it
	keysSoon   = time.Second      // between attempts while there is no key
	keysRetry  = 5 * time.Second  // after a failed look: a rotation may have gone on meanwhile
	askTimeout = 5 * time.Second  // of one attempt
	keysStay   = 2 * time.Minute  // how long replaced keys are accepted: by then every speaker has read the new Secret
)

// NewKeys returns a follower of what ask returns: the keys in the Secret, the one to use first. An error of it that wraps
// keyring.ErrEntry says that something in the Secret is wrong.
func NewKeys(m *Memory, ask func(context.Context) ([]keyring.Key, error), log *slog.Logger, r prometheus.Registerer) *Keys {
	k := &Keys{memory: m, ask: ask, log: log, refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "fairlead_gossip_keys_refused_total", Help: "Times the Secret with the speakers' keys was read and something in it was no key."})}
	r.MustRegister(k.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "fairlead_gossip_keys", Help: "Keys of the speakers that this one accepts: 1, or 2 while the key is being rotated."},
		func() float64 { return float64(k.held.Load()) }))
	return k
}

// First waits for the keys as long as ctx allows, and says what it waits for. Where keys are remembered from an earlier
// process it waits a second for fresh ones.
func (k *Keys) First(ctx context.Context) ([]keyring.Key, error) {
	start := time.Now()
	for {
		old := k.memory.keys()
		asking, cancel := patience(ctx, len(old) > 0)
		keys, err := k.read(asking)
		cancel()
		switch {
		case err == nil:
		case len(old) > 0 && (errors.Is(err, keyring.ErrEntry) || time.Since(start) >= askPatience):
			k.complain("working with the gossip keys of an earlier moment", err)
			keys = old
		case len(keys) > 0:
			k.complain("gossip keys not all read", err)
		}
		if len(keys) > 0 {
			k.keep(keys)
			return keys, nil
		}
		k.complain("waiting for the gossip key", err)
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the gossip key: %w; last answer: %w", context.Cause(ctx), err)
		case <-time.After(keysSoon):
		}
	}
}

// Run looks again every 30 s on average, after a failure every 5 s, until ctx is done, and calls changed with keys that are new.
func (k *Keys) Run(ctx context.Context, changed func([]keyring.Key)) error {
	pause := keysRetry // the keys at the start may be remembered ones
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause*3/4 + rand.N(pause/2)): // not all speakers at once
		}
		keys, err := k.read(ctx)
		if pause = keysAgain; err != nil {
			pause = keysRetry
		}
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			k.complain("gossip keys not read, the last ones hold", err)
			continue
		}
		k.told = ""
		keys = k.withReplaced(keys, time.Now())
		if !slices.Equal(keys, k.memory.keys()) {
			k.keep(keys)
			k.log.Info("gossip keys changed", "first", keys[0].String(), "held", len(keys))
			changed(keys)
		}
	}
}

// withReplaced returns keys and, where the Secret was made anew, behind them those that it replaced: speakers that have not read it
// yet hold nothing else, and this one sends with what all hold.
func (k *Keys) withReplaced(keys []keyring.Key, now time.Time) []keyring.Key {
	held := k.memory.keys()
	if !slices.ContainsFunc(keys, func(one keyring.Key) bool { return slices.Contains(held, one) }) {
		k.replaced, k.until = held, now.Add(keysStay)
	}
	out := slices.Clone(keys)
	for _, old := range k.replaced {
		if now.Before(k.until) && old.Distinct(out...) {
			out = append(out, old)
		}
	}
	return out
}

func (k *Keys) read(ctx context.Context) ([]keyring.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	keys, err := k.ask(ctx)
	if errors.Is(err, keyring.ErrEntry) {
		k.refused.Inc()
	}
	return keys, err
}

func (k *Keys) keep(keys []keyring.Key) {
	k.held.Store(int64(len(keys)))
	k.memory.setKeys(keys)
}

// complain logs err unless it did so the last time.
func (k *Keys) complain(message string, err error) {
	if s := fmt.Sprint(message, err); s != k.told {
		k.told = s
		k.log.Warn(message, "err", err)
	}
}
