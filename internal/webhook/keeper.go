package webhook

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/pki"
)

const (
	afterClash = 100 * time.Millisecond // until the next look if another replica wrote first
	callLimit  = 10 * time.Second       // for one look, so that an API server that hangs does not stop the clock
)

// Store is where the certificates live; kube.WebhookStore is the real one.
type Store interface {
	Config(ctx context.Context) (kube.WebhookConfig, error)
	WriteBundle(ctx context.Context, c kube.WebhookConfig, bundle []byte) error
	Secret(ctx context.Context) (data map[string][]byte, version string, err error)
	WriteSecret(ctx context.Context, version string, old, data map[string][]byte) error
	Warn(ctx context.Context, message string)
}

// Keeper keeps the certificates in Secret, configuration and memory up to date.
type Keeper struct {
	store   Store
	opts    Options
	expiry  prometheus.Gauge
	current atomic.Pointer[tls.Certificate]
	trouble string // what the last look failed with, "" if it did not
}

// Certificate returns the certificate to present, an error while there is none.
func (k *Keeper) Certificate() (*tls.Certificate, error) {
	if c := k.current.Load(); c != nil {
		return c, nil
	}
	return nil, errors.New("the webhook has no certificate yet")
}

// NeedLeaderElection says no: every replica keeps the certificates.
func (*Keeper) NeedLeaderElection() bool { return false }

// Start looks after the certificates until ctx ends.
func (k *Keeper) Start(ctx context.Context) error {
	for {
		err := k.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		pause := k.opts.Interval
		if kube.IsConflict(err) {
			pause = afterClash
		} else {
			k.report(ctx, err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// look compares and mends. The Secret comes first: a certificate can be served although there is no configuration yet.
func (k *Keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	config, configErr := k.store.Config(ctx)
	certificates, err := k.certificates(ctx, time.Now())
	if err != nil {
		return errors.Join(err, configErr)
	}
	if configErr == nil && !config.Trusts(certificates.Bundle()) {
		configErr = k.store.WriteBundle(ctx, config, certificates.Bundle())
		if configErr == nil {
			k.opts.Log.Info("webhook authorities published", "authorities", len(certificates.Authorities))
		}
	}
	k.serve(certificates)
	return configErr
}

// certificates reads the Secret and renews in it what is due.
func (k *Keeper) certificates(ctx context.Context, now time.Time) (pki.Store, error) {
	data, version, err := k.store.Secret(ctx)
	if err != nil {
		return pki.Store{}, err
	}
	have := pki.Parse(data)
	plan := pki.Decide(have, k.opts.DNSName, now)
	want, err := pki.Renew(have, plan, k.opts.DNSName, now, rand.Reader)
	if err != nil {
		return pki.Store{}, fmt.Errorf("renewing the webhook's certificates: %w", err)
	}
	encoded := want.Encode()
	if maps.EqualFunc(data, encoded, bytes.Equal) { // what cannot be read in the Secret is a difference too
		return want, nil
	}
	if err := k.store.WriteSecret(ctx, version, data, encoded); err != nil {
		return pki.Store{}, err
	}
	k.opts.Log.Info("webhook certificates renewed", "authority", plan.NewAuthority, "serving", plan.NewServing)
	return want, nil
}

func (k *Keeper) serve(s pki.Store) {
	if have := k.current.Load(); have == nil || !have.Leaf.Equal(s.Serving.Cert) {
		k.current.Store(s.Certificate())
		k.expiry.Set(float64(s.Serving.Cert.NotAfter.Unix()))
		k.opts.Log.Info("webhook certificate served", "until", s.Serving.Cert.NotAfter)
	}
}

// report tells a trouble once, and once that it is over.
func (k *Keeper) report(ctx context.Context, err error) {
	switch {
	case err == nil && k.trouble != "":
		k.opts.Log.Info("webhook ready again")
		k.trouble = ""
	case err != nil && err.Error() != k.trouble:
		k.opts.Log.Warn("webhook not ready, pools are not checked", "err", err)
		k.store.Warn(ctx, fmt.Sprintf("pools are not checked: %v", err))
		k.trouble = err.Error()
	}
}
