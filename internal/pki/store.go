package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
)

// The entries of the Secret. The first two hold one item per authority, the oldest first.
const (
	AuthorityCerts = "ca.crt"
	AuthorityKeys  = "ca.key"
	ServingCert    = "tls.crt"
	ServingKey     = "tls.key"
)

const (
	certType = "CERTIFICATE"
	keyType  = "EC PRIVATE KEY"
)

// Pair is a certificate with its private key.
type Pair struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
}

// Store is what the Secret holds. It is never written to once made.
type Store struct {
	Authorities []Pair // the oldest first
	Serving     Pair   // zero if there is none
}

// Parse reads a Secret's data. What cannot be read, and a certificate without its key, is left out as if it were not there.
func Parse(data map[string][]byte) Store {
	var s Store
	s.Authorities = pairs(data[AuthorityCerts], data[AuthorityKeys])
	s.Authorities = slices.DeleteFunc(s.Authorities, func(p Pair) bool { return !p.Cert.IsCA })
	slices.SortStableFunc(s.Authorities, func(a, b Pair) int { return a.Cert.NotBefore.Compare(b.Cert.NotBefore) })
	if serving := pairs(data[ServingCert], data[ServingKey]); len(serving) > 0 {
		s.Serving = serving[0]
	}
	return s
}

// pairs matches certificates with keys by their public keys.
func pairs(certs, keys []byte) []Pair {
	var parsed []*ecdsa.PrivateKey
	for _, der := range blocks(keys, keyType) {
		if key, err := x509.ParseECPrivateKey(der); err == nil {
			parsed = append(parsed, key)
		}
	}
	var out []Pair
	for _, der := range blocks(certs, certType) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			continue
		}
		i := slices.IndexFunc(parsed, func(k *ecdsa.PrivateKey) bool { return k.PublicKey.Equal(cert.PublicKey) })
		if i >= 0 {
			out = append(out, Pair{cert, parsed[i]})
		}
	}
	return out
}

func blocks(text []byte, kind string) [][]byte {
	var out [][]byte
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return out
		}
		if block.Type == kind {
			out = append(out, block.Bytes)
		}
	}
}

// Encode returns the Secret's data: the inverse of [Parse].
func (s Store) Encode() map[string][]byte {
	data := map[string][]byte{}
	add := func(certEntry, keyEntry string, p Pair) {
		key, err := x509.MarshalECPrivateKey(p.Key)
		if err != nil {
			panic("pki: encoding a key of a standard curve: " + err.Error())
		}
		data[certEntry] = append(data[certEntry], pem.EncodeToMemory(&pem.Block{Type: certType, Bytes: p.Cert.Raw})...)
		data[keyEntry] = append(data[keyEntry], pem.EncodeToMemory(&pem.Block{Type: keyType, Bytes: key})...)
	}
	for _, a := range s.Authorities {
		add(AuthorityCerts, AuthorityKeys, a)
	}
	if s.Serving.Cert != nil {
		add(ServingCert, ServingKey, s.Serving)
	}
	return data
}

// Bundle returns the certificates of all authorities, which clients are to trust.
func (s Store) Bundle() []byte { return bytes.Clone(s.Encode()[AuthorityCerts]) }

// Certificate returns what a TLS server presents. It must not be called on a store without a serving certificate.
func (s Store) Certificate() *tls.Certificate {
	return &tls.Certificate{Certificate: [][]byte{s.Serving.Cert.Raw}, PrivateKey: s.Serving.Key, Leaf: s.Serving.Cert}
}
