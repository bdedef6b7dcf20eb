package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"slices"
	"time"
)

// Renew returns have with what plan asks for done at the time now; random is crypto/rand.Reader but in tests.
func Renew(have Store, plan Plan, dnsName string, now time.Time, random io.Reader) (Store, error) {
	out := Store{Authorities: validAt(have.Authorities, now), Serving: have.Serving}
	if plan.NewAuthority {
		authority, err := newAuthority(now, random)
		if err != nil {
			return Store{}, fmt.Errorf("making an authority: %w", err)
		}
		out.Authorities = append(out.Authorities, authority)
	}
	if plan.NewServing {
		var err error
		if out.Serving, err = newServing(signer(out.Authorities, now), dnsName, now, random); err != nil {
			return Store{}, fmt.Errorf("making a certificate for %s: %w", dnsName, err)
		}
	}
	return out, nil
}

func newAuthority(now time.Time, random io.Reader) (Pair, error) {
	return issue(&x509.Certificate{
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign,
	}, Pair{}, random)
}

// newServing ends with its authority at the latest.
func newServing(by Pair, dnsName string, now time.Time, random io.Reader) (Pair, error) {
	return issue(&x509.Certificate{
		NotBefore: slices.MaxFunc([]time.Time{now.Add(-backdate), by.Cert.NotBefore}, time.Time.Compare),
		NotAfter:  slices.MinFunc([]time.Time{now.Add(servingLife), by.Cert.NotAfter}, time.Time.Compare),
		DNSNames:  []string{dnsName}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, by, random)
}

// issue makes a key and has it certified by the authority, or by itself if that is zero.
func issue(template *x509.Certificate, by Pair, random io.Reader) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), random)
	if err != nil {
		return Pair{}, fmt.Errorf("generating a key: %w", err)
	}
	serial := make([]byte, 16)
	if _, err := io.ReadFull(random, serial); err != nil {
		return Pair{}, fmt.Errorf("generating a serial number: %w", err)
	}
	serial[0] &= 0x7f // positive, at most 20 bytes (RFC 5280 §4.1.2.2)
	template.SerialNumber = new(big.Int).SetBytes(serial)
	template.Subject = pkix.Name{CommonName: fmt.Sprintf("fairlead-webhook-%x", serial[:4])} // two authorities must not share a name
	parent, signKey := template, crypto.Signer(key)
	if by.Cert != nil {
		parent, signKey = by.Cert, by.Key
	}
	der, err := x509.CreateCertificate(random, template, parent, key.Public(), signKey)
	if err != nil {
		return Pair{}, fmt.Errorf("signing: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Pair{}, fmt.Errorf("reading what was signed: %w", err)
	}
	return Pair{cert, key}, nil
}
