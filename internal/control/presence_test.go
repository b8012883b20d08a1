// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/store"
)

// A listener for clients is known by every name it was asked for and by no
// other, to whoever trusts the CA; its certificate is renewed in time.
func TestListenerTLS(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	c, err := New(Options{Store: store.NewMemory(), DataDir: dir, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.ListenerTLS([]string{"203.0.113.5", "api.example.com", "fe80::1%eth0"})
	if err != nil {
		t.Fatal(err)
	}
	if config.MinVersion != tls.VersionTLS12 {
		t.Errorf("oldest version %x", config.MinVersion)
	}
	shown := func() *x509.Certificate {
		t.Helper()
		cert, err := config.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return cert.Leaf
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(c.CACertificate()) {
		t.Fatal("the CA's certificate is not PEM")
	}
	first := shown()
	for host, want := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "203.0.113.5": true, "api.example.com": true, "fe80::1": true,
		"203.0.113.6": false, "other.example.com": false, "sallyport": false,
	} {
		if _, err := first.Verify(x509.VerifyOptions{Roots: pool, DNSName: host}); (err == nil) != want {
			t.Errorf("%s: %v, want %v", host, err, want)
		}
	}
	if again := shown(); again != first {
		t.Error("made anew for every handshake")
	}
	now = now.Add(serverLife - serverRenewal + time.Hour)
	if next := shown(); next == first || !next.NotAfter.After(first.NotAfter) {
		t.Error("not renewed")
	}
	if _, err := c.ListenerTLS([]string{"bücher.example"}); err == nil {
		t.Error("a name that no certificate can hold was taken")
	}
}

// The CA's certificate is given out without its key.
func TestReadCACertificate(t *testing.T) {
	dir := t.TempDir()
	c, err := New(Options{Store: store.NewMemory(), DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadCACertificate(dir)
	if err != nil || !bytes.Equal(got, c.CACertificate()) || strings.Contains(string(got), "PRIVATE") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := ReadCACertificate(t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, authorityFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCACertificate(dir); err == nil || !strings.Contains(err.Error(), "holds no certificate") {
		t.Errorf("a damaged file: %v", err)
	}
}
