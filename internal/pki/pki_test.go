package pki

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

const name = "fairlead-webhook.fairlead-system.svc"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// after returns the store that looks each step from the start until then make of an empty one.
func after(t *testing.T, d, step time.Duration) Store {
	t.Helper()
	var s Store
	for at := time.Duration(0); at <= d; at += step {
		s = look(t, s, start.Add(at))
	}
	return s
}

func look(t *testing.T, s Store, now time.Time) Store {
	t.Helper()
	out, err := Renew(s, Decide(s, name, now), name, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDecide(t *testing.T) {
	fresh := after(t, 0, day)
	foreign := after(t, 0, day)
	year2 := after(t, 500*day, day) // the second authority was made on day 487
	for label, c := range map[string]struct {
		have Store
		name string
		now  time.Time
		want Plan
	}{
		"nothing":               {Store{}, name, start, Plan{NewAuthority: true, NewServing: true}},
		"fresh":                 {fresh, name, start, Plan{}},
		"no serving":            {Store{Authorities: fresh.Authorities}, name, start, Plan{NewServing: true}},
		"serving of a stranger": {Store{Authorities: fresh.Authorities, Serving: foreign.Serving}, name, start, Plan{NewServing: true}},
		"no authority":          {Store{Serving: fresh.Serving}, name, start, Plan{NewAuthority: true, NewServing: true}},
		"other name":            {fresh, "other.fairlead-system.svc", start, Plan{NewServing: true}},
		"serving in its prime":  {fresh, name, start.Add(59 * day), Plan{}},
		"serving due":           {fresh, name, start.Add(60 * day), Plan{NewServing: true}},
		"serving over":          {fresh, name, start.Add(91 * day), Plan{NewServing: true}},
		"authority due":         {Store{Authorities: fresh.Authorities}, name, start.Add(487 * day), Plan{NewAuthority: true, NewServing: true}},
		"authority over":        {fresh, name, start.Add(731 * day), Plan{Prune: true, NewAuthority: true, NewServing: true}},
		"two authorities":       {year2, name, start.Add(500 * day), Plan{}},
		"the older over":        {year2, name, start.Add(730 * day), Plan{Prune: true, NewServing: true}},
		"clock an hour slow":    {fresh, name, start.Add(-time.Hour), Plan{}},
		"clock a day slow":      {fresh, name, start.Add(-day), Plan{Prune: true, NewAuthority: true, NewServing: true}},
		"clock ten years ahead": {fresh, name, start.Add(3650 * day), Plan{Prune: true, NewAuthority: true, NewServing: true}},
	} {
		t.Run(label, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Decide(c.have, c.name, c.now)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			done, err := Renew(c.have, Decide(c.have, c.name, c.now), c.name, c.now, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if again := Decide(done, c.name, c.now); again != (Plan{}) {
				t.Errorf("what was renewed has to be renewed again: %+v", again)
			}
		})
	}
}

// A successor is published a day before it signs, and the old authority stays published until it ends.
func TestSuccessionOverlaps(t *testing.T) {
	s := after(t, 487*day, day)
	if len(s.Authorities) != 2 {
		t.Fatalf("%d authorities on day 487, want 2", len(s.Authorities))
	}
	if err := s.Serving.Cert.CheckSignatureFrom(s.Authorities[0].Cert); err != nil {
		t.Errorf("on its first day the successor signs already: %v", err)
	}
	s = look(t, s, start.Add(488*day))
	if err := s.Serving.Cert.CheckSignatureFrom(s.Authorities[1].Cert); err != nil {
		t.Errorf("a day later it does not sign: %v", err)
	}
	if len(s.Authorities) != 2 {
		t.Errorf("%d authorities on day 488, want 2", len(s.Authorities))
	}
}

// At every look the certificate served since the last one is trusted by who knows the bundle of the last one and of this.
func TestAlwaysTrusted(t *testing.T) {
	var s Store
	for _, step := range []time.Duration{day, 3 * day, 20 * day} {
		s = Store{}
		for at := time.Duration(0); at < 6*365*day; at += step {
			now := start.Add(at)
			next := look(t, s, now)
			if at > 0 {
				verify(t, s, next, now)
				if step <= day {
					verify(t, next, s, now)
				}
			}
			if len(next.Authorities) > 2 {
				t.Fatalf("%d authorities after %v", len(next.Authorities), at)
			}
			s = next
		}
	}
}

// verify fails the test unless a client with the bundle of one store trusts what another serves.
func verify(t *testing.T, trusts, serves Store, now time.Time) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(trusts.Bundle())
	if _, err := serves.Certificate().Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: now}); err != nil {
		t.Fatalf("%v after the start: %v", now.Sub(start), err)
	}
}

func TestClockJumps(t *testing.T) {
	s := after(t, 0, day)
	for _, at := range []time.Duration{3650 * day, 0, 3650 * day, -3650 * day, time.Hour, 700 * day, 729*day + 12*time.Hour, 731 * day} {
		now := start.Add(at)
		s = look(t, s, now)
		verify(t, s, s, now)
		if len(s.Authorities) > 2 {
			t.Errorf("%d authorities after the jump to %v", len(s.Authorities), at)
		}
	}
}

func TestParseEncode(t *testing.T) {
	s := after(t, 490*day, day)
	data := s.Encode()
	if diff := cmp.Diff(data, Parse(data).Encode()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := Parse(data); len(got.Authorities) != 2 || Decide(got, name, start.Add(490*day)) != (Plan{}) {
		t.Errorf("what was parsed is to be renewed: %+v", Decide(got, name, start.Add(490*day)))
	}
	other := after(t, 0, day).Encode()
	for label, c := range map[string]struct {
		entry string
		value []byte
		want  Plan
	}{
		"no key of the authorities":    {AuthorityKeys, nil, Plan{NewAuthority: true, NewServing: true}},
		"other key of the authorities": {AuthorityKeys, other[AuthorityKeys], Plan{NewAuthority: true, NewServing: true}},
		"authorities are nonsense":     {AuthorityCerts, []byte("nonsense"), Plan{NewAuthority: true, NewServing: true}},
		"authority is no authority":    {AuthorityCerts, data[ServingCert], Plan{NewAuthority: true, NewServing: true}},
		"serving key damaged":          {ServingKey, bytes.Replace(data[ServingKey], []byte("M"), []byte("N"), 1), Plan{NewServing: true}},
		"serving of a stranger":        {ServingCert, other[ServingCert], Plan{NewServing: true}},
		"text around it":               {ServingCert, append([]byte("hello\n"), data[ServingCert]...), Plan{}},
	} {
		t.Run(label, func(t *testing.T) {
			damaged := s.Encode()
			damaged[c.entry] = c.value
			if diff := cmp.Diff(c.want, Decide(Parse(damaged), name, start.Add(490*day))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestRenewWithoutDice(t *testing.T) {
	broken := errors.New("no entropy")
	_, err := Renew(Store{}, Plan{NewAuthority: true, NewServing: true}, name, start, io.Reader(iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want the reader's error", err)
	}
}

func FuzzParse(f *testing.F) {
	s, err := Renew(Store{}, Plan{NewAuthority: true, NewServing: true}, name, start, rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	d := s.Encode()
	f.Add(d[AuthorityCerts], d[AuthorityKeys], d[ServingCert], d[ServingKey])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), []byte{}, []byte("x"), []byte(nil))
	f.Add(d[ServingCert], d[ServingKey], d[AuthorityCerts], d[AuthorityKeys])
	f.Fuzz(func(t *testing.T, a, b, c, e []byte) {
		have := Parse(map[string][]byte{AuthorityCerts: a, AuthorityKeys: b, ServingCert: c, ServingKey: e})
		Decide(have, name, start)
		if diff := cmp.Diff(have.Encode(), Parse(have.Encode()).Encode()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	})
}
