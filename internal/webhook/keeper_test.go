package webhook

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/pki"
)

const (
	dnsName = "fairlead-webhook.fairlead-system.svc"
	day     = 24 * time.Hour
)

// apiServer holds a Secret and a configuration, each with a version. Every call takes a while, so that replicas interleave;
// in the bubble of a test they never run at once, so no lock is needed.
type apiServer struct {
	dice         *rand.Rand
	secret       map[string][]byte // nil = there is none
	secretRev    int
	bundle       []byte
	configRev    int // 0 = there is none
	down         error
	secretWrites int
	bundleWrites int
	conflicts    int
	warnings     []string
}

func newAPIServer(seed uint64) *apiServer {
	return &apiServer{dice: rand.New(rand.NewPCG(seed, 0)), configRev: 1}
}

func (a *apiServer) call() error {
	time.Sleep(time.Duration(a.dice.IntN(20)) * time.Millisecond)
	return a.down
}

func (a *apiServer) conflict() error {
	a.conflicts++
	return apierrors.NewConflict(schema.GroupResource{}, "x", errors.New("somebody was faster"))
}

func (a *apiServer) Config(context.Context) (kube.WebhookConfig, error) {
	if err := a.call(); err != nil {
		return kube.WebhookConfig{}, err
	}
	if a.configRev == 0 {
		return kube.WebhookConfig{}, errors.New("there is no configuration")
	}
	return kube.WebhookConfig{Version: strconv.Itoa(a.configRev), Bundles: [][]byte{a.bundle}}, nil
}

func (a *apiServer) WriteBundle(_ context.Context, c kube.WebhookConfig, bundle []byte) error {
	if err := a.call(); err != nil {
		return err
	}
	if c.Version != strconv.Itoa(a.configRev) {
		return a.conflict()
	}
	a.bundle = bundle
	a.configRev++
	a.bundleWrites++
	return nil
}

func (a *apiServer) Secret(context.Context) (map[string][]byte, string, error) {
	if err := a.call(); err != nil || a.secret == nil {
		return nil, "", err
	}
	return maps.Clone(a.secret), strconv.Itoa(a.secretRev), nil
}

func (a *apiServer) WriteSecret(_ context.Context, version string, _, data map[string][]byte) error {
	if err := a.call(); err != nil {
		return err
	}
	if version == "" && a.secret != nil || version != "" && (a.secret == nil || version != strconv.Itoa(a.secretRev)) {
		return a.conflict()
	}
	a.secret = maps.Clone(data)
	a.secretRev++
	a.secretWrites++
	return nil
}

func (a *apiServer) Warn(_ context.Context, message string) { a.warnings = append(a.warnings, message) }

// replica starts a keeper; the returned function stops it and waits for its end.
func replica(t *testing.T, a *apiServer, interval time.Duration) (*Webhook, func()) {
	t.Helper()
	w, err := New(nil, a, Options{DNSName: dnsName, Interval: interval, Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Start(ctx) }()
	return w, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the end gives %v", err)
		}
	}
}

// trusted returns an error unless the API server would believe the replica now.
func (a *apiServer) trusted(w *Webhook) error {
	c, err := w.Certificate()
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(a.bundle)
	_, err = c.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: dnsName, CurrentTime: time.Now()})
	return err
}

func (a *apiServer) mustTrust(t *testing.T, when string, replicas ...*Webhook) {
	t.Helper()
	for i, w := range replicas {
		if err := a.trusted(w); err != nil {
			t.Fatalf("%s: replica %d: %v", when, i, err)
		}
	}
}

// Over two years, in which the first authority ends, every replica is trusted at every moment, and little is written.
func TestYears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPIServer(1)
		one, stopOne := replica(t, a, day)
		two, stopTwo := replica(t, a, day)
		defer stopTwo()
		defer stopOne()
		time.Sleep(time.Second)
		for start := time.Now(); time.Since(start) < 2*365*day+30*day; time.Sleep(5*day + 7*time.Minute) {
			a.mustTrust(t, "after "+time.Since(start).String(), one, two)
		}
		if a.secretWrites > 20 || a.bundleWrites > 10 {
			t.Errorf("%d writes of the Secret and %d of the bundle in two years", a.secretWrites, a.bundleWrites)
		}
		c, err := one.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		if got := samples(t, one)["fairlead_webhook_certificate_expiry_seconds "]; got != float64(c.Leaf.NotAfter.Unix()) {
			t.Errorf("the metric says %v, the certificate %v", got, c.Leaf.NotAfter.Unix())
		}
		t.Logf("%d writes of the Secret, %d of the bundle, %d conflicts", a.secretWrites, a.bundleWrites, a.conflicts)
	})
}

// Replicas that start at once agree on one Secret, however their calls interleave.
func TestReplicasRace(t *testing.T) {
	conflicts := 0
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			a := newAPIServer(seed)
			var all []*Webhook
			for range 3 {
				w, stop := replica(t, a, 10*time.Second)
				defer stop()
				all = append(all, w)
			}
			time.Sleep(2 * time.Second)
			a.mustTrust(t, "seed "+strconv.FormatUint(seed, 10), all...)
			if a.secretWrites != 1 || a.bundleWrites != 1 {
				t.Errorf("seed %d: %d writes of the Secret, %d of the bundle, want one of each", seed, a.secretWrites, a.bundleWrites)
			}
			conflicts += a.conflicts
		})
	}
	if conflicts == 0 {
		t.Error("the replicas never met")
	}
}

func TestHealing(t *testing.T) {
	foreign := func() map[string][]byte {
		s, err := pki.Renew(pki.Store{}, pki.Plan{NewAuthority: true, NewServing: true}, "other", time.Now(), rand.NewChaCha8([32]byte{1}))
		if err != nil {
			t.Fatal(err)
		}
		return s.Encode()
	}
	for name, harm := range map[string]func(*apiServer){
		"Secret deleted":    func(a *apiServer) { a.secret = nil },
		"Secret emptied":    func(a *apiServer) { a.secret = map[string][]byte{}; a.secretRev++ },
		"Secret replaced":   func(a *apiServer) { a.secret = foreign(); a.secretRev++ },
		"key gone":          func(a *apiServer) { delete(a.secret, pki.ServingKey); a.secretRev++ },
		"authority damaged": func(a *apiServer) { a.secret[pki.AuthorityCerts] = []byte("x"); a.secretRev++ },
		"unknown entry":     func(a *apiServer) { a.secret["x"] = []byte("y"); a.secretRev++ },
		"bundle emptied":    func(a *apiServer) { a.bundle = nil; a.configRev++ },
		"bundle replaced":   func(a *apiServer) { a.bundle = foreign()[pki.AuthorityCerts]; a.configRev++ },
		"both gone":         func(a *apiServer) { a.secret, a.bundle = nil, nil; a.configRev++ },
		"new configuration": func(a *apiServer) { a.bundle, a.configRev = nil, 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPIServer(7)
				one, stopOne := replica(t, a, 10*time.Second)
				two, stopTwo := replica(t, a, 10*time.Second)
				defer stopTwo()
				defer stopOne()
				time.Sleep(35 * time.Second)
				harm(a)
				time.Sleep(21 * time.Second) // one replica mends, and the other sees it at its next look
				a.mustTrust(t, "after the harm", one, two)
				if len(a.secret) != 4 {
					t.Errorf("the Secret has %d entries, want 4", len(a.secret))
				}
				writes := a.secretWrites + a.bundleWrites
				time.Sleep(time.Minute)
				if now := a.secretWrites + a.bundleWrites; now != writes {
					t.Errorf("%d more writes after it was mended", now-writes)
				}
			})
		})
	}
}

// While the API server is away the last certificate is served on; the trouble is told once.
func TestAPIServerAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPIServer(3)
		a.down = errors.New("connection refused")
		w, stop := replica(t, a, 12*time.Hour)
		defer stop()
		time.Sleep(3 * day)
		if _, err := w.Certificate(); err == nil {
			t.Error("there is a certificate out of nowhere")
		}
		a.down = nil
		time.Sleep(day)
		a.mustTrust(t, "API server is there", w)
		a.down = errors.New("connection refused")
		time.Sleep(80 * day)
		a.mustTrust(t, "API server away for 80 days", w)
		time.Sleep(3 * 365 * day)
		a.down = nil
		time.Sleep(day)
		a.mustTrust(t, "API server back after years", w)
		if len(a.warnings) != 2 {
			t.Errorf("warned %q, want twice", a.warnings)
		}
	})
}

// Without a configuration the certificate is there all the same, and the bundle follows when there is one.
func TestNoConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPIServer(4)
		a.configRev = 0
		w, stop := replica(t, a, 10*time.Second)
		defer stop()
		time.Sleep(35 * time.Second)
		if _, err := w.Certificate(); err != nil {
			t.Error(err)
		}
		if len(a.warnings) != 1 {
			t.Errorf("warned %q, want once", a.warnings)
		}
		a.configRev = 1
		time.Sleep(11 * time.Second)
		a.mustTrust(t, "configuration made", w)
	})
}
