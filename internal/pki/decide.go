package pki

import (
	"slices"
	"time"
)

const day = 24 * time.Hour

// How long certificates live. Each is replaced when a third of its life is left.
const (
	authorityLife = 730 * day
	servingLife   = 90 * day
)

const (
	settle   = day       // how long an authority is published before it signs, where there is another that can
	backdate = time.Hour // validity begins so much before the certificate is made, for clocks that are slow
)

// Plan says what is to be done to a store; the zero Plan means that all is well.
type Plan struct {
	Prune        bool // authorities are not valid now
	NewAuthority bool // the newest authority is missing or near its end
	NewServing   bool // the serving certificate is missing, near its end, for another name, or of an authority that does not sign now
}

// Decide says what has to change in have so that dnsName can be served, now and until the next look, which should come
// within a day.
func Decide(have Store, dnsName string, now time.Time) Plan {
	keep := validAt(have.Authorities, now)
	p := Plan{Prune: len(keep) < len(have.Authorities)}
	if len(keep) == 0 {
		p.NewAuthority, p.NewServing = true, true
		return p
	}
	p.NewAuthority = due(keep[len(keep)-1], now)
	p.NewServing = !serves(have.Serving, signer(keep, now), dnsName, now)
	return p
}

func validAt(all []Pair, now time.Time) []Pair {
	return slices.DeleteFunc(slices.Clone(all), func(p Pair) bool { return !p.validAt(now) })
}

func (p Pair) validAt(now time.Time) bool {
	return !now.Before(p.Cert.NotBefore) && now.Before(p.Cert.NotAfter)
}

// due reports whether less than a third of the pair's life is left.
func due(p Pair, now time.Time) bool {
	return p.Cert.NotAfter.Sub(now) < p.Cert.NotAfter.Sub(p.Cert.NotBefore)/3
}

// signer returns the newest of the valid authorities that has been published for long enough, else the oldest.
func signer(valid []Pair, now time.Time) Pair {
	for _, a := range slices.Backward(valid) {
		if now.Sub(a.Cert.NotBefore) >= backdate+settle {
			return a
		}
	}
	return valid[0]
}

func serves(p, by Pair, dnsName string, now time.Time) bool {
	return p.Cert != nil && p.validAt(now) && !due(p, now) && p.Cert.VerifyHostname(dnsName) == nil && p.Cert.CheckSignatureFrom(by.Cert) == nil
}
