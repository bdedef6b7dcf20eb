package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lab/pki"
)

func TestIssue(t *testing.T) {
	now := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	ca, err := pki.NewAuthority("cluster", now)
	if err != nil {
		t.Fatal(err)
	}
	other, err := pki.NewAuthority("other", now)
	if err != nil {
		t.Fatal(err)
	}
	server := pki.Leaf{CommonName: "kube-apiserver", DNSNames: []string{"kubernetes"}, IPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}}
	client := pki.Leaf{CommonName: "system:node:node-1", Organization: "system:nodes"}
	tests := []struct {
		name   string
		signer *pki.Authority
		leaf   pki.Leaf
		verify x509.VerifyOptions
		ok     bool
	}{
		{"server by name", ca, server, x509.VerifyOptions{DNSName: "kubernetes", CurrentTime: now}, true},
		{"server by address", ca, server, x509.VerifyOptions{DNSName: "10.96.0.1", CurrentTime: now}, true},
		{"clock behind", ca, server, x509.VerifyOptions{CurrentTime: now.Add(-time.Hour)}, true},
		{"foreign name", ca, server, x509.VerifyOptions{DNSName: "example.org", CurrentTime: now}, false},
		{"server as client", ca, server, x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: now}, false},
		{"client", ca, client, x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: now}, true},
		{"client as server", ca, client, x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, CurrentTime: now}, false},
		{"foreign authority", other, client, x509.VerifyOptions{KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, CurrentTime: now}, false},
		{"expired", ca, server, x509.VerifyOptions{CurrentTime: now.AddDate(2, 0, 0)}, false},
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.Cert) {
		t.Fatal("authority is not PEM")
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pair, err := tt.signer.Issue(tt.leaf)
			if err != nil {
				t.Fatal(err)
			}
			loaded, err := tls.X509KeyPair(pair.Cert, pair.Key)
			if err != nil {
				t.Fatalf("certificate and key do not match: %v", err)
			}
			tt.verify.Roots = roots
			if _, err := loaded.Leaf.Verify(tt.verify); (err == nil) != tt.ok {
				t.Errorf("Verify = %v, want ok = %v", err, tt.ok)
			}
			if got := loaded.Leaf.Subject.CommonName; got != tt.leaf.CommonName {
				t.Errorf("common name = %q, want %q", got, tt.leaf.CommonName)
			}
		})
	}
}

func TestNewSigningKey(t *testing.T) {
	pair, err := pki.NewSigningKey()
	if err != nil {
		t.Fatal(err)
	}
	if len(pair.Cert) == 0 || len(pair.Key) == 0 {
		t.Errorf("NewSigningKey() = %d bytes public, %d private, want both", len(pair.Cert), len(pair.Key))
	}
}
