package keyring

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func secret(b byte) []byte { return append(bytes.Repeat([]byte{1, 2, 3}, 10), 0, b) }

func key(t *testing.T, b byte) Key {
	t.Helper()
	k, err := New(secret(b))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	a, b, c := key(t, 1), key(t, 2), key(t, 3)
	short := secret(9)[:31]
	for name, tc := range map[string]struct {
		data map[string][]byte
		want []Key
		err  string
	}{
		"one":              {map[string][]byte{EntryKey: secret(1)}, []Key{a}, ""},
		"base64":           {map[string][]byte{EntryKey: []byte(base64.StdEncoding.EncodeToString(secret(1)) + "\n")}, []Key{a}, ""},
		"installing":       {map[string][]byte{EntryKey: secret(1), EntryNext: secret(2)}, []Key{a, b}, ""},
		"retiring":         {map[string][]byte{EntryKey: secret(2), EntryPrevious: secret(1)}, []Key{b, a}, ""},
		"all three":        {map[string][]byte{EntryKey: secret(1), EntryNext: secret(2), EntryPrevious: secret(3)}, []Key{a, b, c}, ""},
		"the same twice":   {map[string][]byte{EntryKey: secret(1), EntryNext: secret(1), EntryPrevious: secret(1)}, []Key{a}, ""},
		"others' entries":  {map[string][]byte{EntryKey: secret(1), "note": []byte("hello")}, []Key{a}, ""},
		"empty":            {nil, nil, `entry "key"`},
		"short":            {map[string][]byte{EntryKey: short}, nil, "31 bytes"},
		"all zero":         {map[string][]byte{EntryKey: make([]byte, Size)}, nil, "equal bytes"},
		"next is short":    {map[string][]byte{EntryKey: secret(1), EntryNext: short}, []Key{a}, `entry "next"`},
		"previous is none": {map[string][]byte{EntryKey: secret(1), EntryNext: secret(2), EntryPrevious: {}}, []Key{a, b}, `entry "previous"`},
	} {
		got, err := Parse(tc.data)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		if (tc.err != "") != (err != nil) || err != nil && (!errors.Is(err, ErrEntry) || !strings.Contains(err.Error(), tc.err)) {
			t.Errorf("%s: error %v, want %q", name, err, tc.err)
		}
	}
}

func TestKeysDoNotLeak(t *testing.T) {
	k := key(t, 1)
	j, err := json.Marshal(struct{ K Key }{k})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s", k, k, k), fmt.Sprintf("%+v %#v", []Key{k}, struct{ K Key }{k}), string(j)} {
		if strings.Contains(s, "1, 2, 3") || strings.Contains(s, "1 2 3") || strings.Contains(s, "0x1") || !strings.Contains(s, k.String()) {
			t.Errorf("printed as %s", s)
		}
	}
}

func TestDerivedKeysAreTheirOwn(t *testing.T) {
	a, b := key(t, 1), key(t, 2)
	if a.Heartbeat() == b.Heartbeat() || a.Heartbeat() == a.Secret || a.ID == b.ID {
		t.Error("derived keys are not distinct")
	}
	// HKDF-SHA256 without salt, computed independently with Python's hmac module.
	if got := fmt.Sprintf("%x", a.Heartbeat()); got != "7233e0f93035be12a005e586f1e98912edc32f2a5f8da34e9b20513ddaa32039" {
		t.Errorf("heartbeat key %s", got)
	}
	if got := fmt.Sprintf("%x", a.Tunnel()); got != "1d1d795acfdd580147a6d20ebdc14bf72404b9956718d0248420ed7636edc99a" {
		t.Errorf("tunnel key %s", got)
	}
	same := b
	same.ID = a.ID ^ 0xff00
	if a.Distinct(b, same) || !a.Distinct() {
		t.Error("keys whose IDs end alike count as distinct, or a single one does not")
	}
}

func TestRotationSteps(t *testing.T) {
	p := Policy{InstallWait: 5 * time.Minute, RetireWait: time.Hour}
	aged := p
	aged.Every = 24 * time.Hour
	now := time.Unix(1_000_000, 0)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	one := map[string][]byte{EntryKey: secret(1)}
	installing := map[string][]byte{EntryKey: secret(1), EntryNext: secret(2)}
	retiring := map[string][]byte{EntryKey: secret(2), EntryPrevious: secret(1)}
	all := map[string][]byte{EntryKey: secret(1), EntryNext: secret(2), EntryPrevious: secret(3)}
	for name, tc := range map[string]struct {
		r    Rotation
		p    Policy
		step Step
		want Rotation
	}{
		"nothing to do":         {Rotation{one, false, ago(time.Hour)}, p, Wait, Rotation{one, false, ago(time.Hour)}},
		"asked for":             {Rotation{one, true, ago(time.Hour)}, p, Install, Rotation{installing, false, now}},
		"young enough":          {Rotation{one, false, ago(time.Hour)}, aged, Wait, Rotation{one, false, ago(time.Hour)}},
		"too old":               {Rotation{one, false, ago(25 * time.Hour)}, aged, Install, Rotation{installing, false, now}},
		"installing":            {Rotation{installing, false, ago(time.Minute)}, p, Wait, Rotation{installing, false, ago(time.Minute)}},
		"installed":             {Rotation{installing, false, ago(5 * time.Minute)}, p, Promote, Rotation{retiring, false, now}},
		"retiring":              {Rotation{retiring, false, ago(59 * time.Minute)}, p, Wait, Rotation{retiring, false, ago(59 * time.Minute)}},
		"asked again meanwhile": {Rotation{retiring, true, ago(time.Minute)}, p, Wait, Rotation{retiring, true, ago(time.Minute)}},
		"retired":               {Rotation{retiring, true, ago(time.Hour)}, p, Retire, Rotation{map[string][]byte{EntryKey: secret(2)}, true, now}},
		"by hand":               {Rotation{installing, false, time.Time{}}, p, Date, Rotation{installing, false, now}},
		"clock was ahead":       {Rotation{retiring, false, now.Add(time.Hour)}, p, Date, Rotation{retiring, false, now}},
		"by hand, all entries":  {Rotation{all, false, ago(time.Minute)}, p, Wait, Rotation{all, false, ago(time.Minute)}},
		"of all, the old first": {Rotation{all, false, ago(time.Hour)}, p, Retire, Rotation{installing, false, now}},
	} {
		step, got, err := tc.r.Next(tc.p, now, key(t, 2))
		if err != nil || step != tc.step {
			t.Errorf("%s: step %q, %v; want %q", name, step, err, tc.step)
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	if step, got, err := (Rotation{Data: map[string][]byte{EntryKey: secret(1), EntryNext: []byte("oops")}, Requested: true, Since: ago(time.Hour)}).Next(p, now, key(t, 2)); err == nil || step != Wait || !got.Requested {
		t.Errorf("a wrong entry: %q, %+v, %v", step, got, err)
	}
}

func TestPolicyIsChecked(t *testing.T) {
	if p, err := (Policy{}).Validate(); err != nil || p != (Policy{0, DefaultInstallWait, DefaultRetireWait}) {
		t.Errorf("defaults: %+v, %v", p, err)
	}
	for _, bad := range []Policy{{InstallWait: time.Second}, {RetireWait: time.Second}, {Every: -1}, {Every: time.Hour}} {
		if _, err := bad.Validate(); err == nil {
			t.Errorf("%+v is accepted", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(secret(1), secret(2), []byte(base64.StdEncoding.EncodeToString(secret(1))))
	f.Add([]byte{}, []byte("="), secret(3)[:16])
	f.Fuzz(func(t *testing.T, a, b, c []byte) {
		keys, err := Parse(map[string][]byte{EntryKey: a, EntryNext: b, EntryPrevious: c})
		if err == nil && len(keys) == 0 {
			t.Error("neither a key nor an error")
		}
		for _, k := range keys {
			if again, err := New(k.Secret[:]); err != nil || again != k {
				t.Errorf("%v became %v: %v", k, again, err)
			}
		}
	})
}
