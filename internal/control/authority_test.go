// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// The CA is made once, kept for root alone, and a damaged one is refused
// rather than replaced: replacing it would lock every node out.
func TestAuthorityKept(t *testing.T) {
	dir := t.TempDir()
	first, err := openAuthority(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openAuthority(dir, time.Now)
	if err != nil || !bytes.Equal(first.cert.Raw, again.cert.Raw) {
		t.Fatalf("another CA after opening again, or %v", err)
	}
	path := filepath.Join(dir, authorityFile)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other, err := openAuthority(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	mixed, err := encodeAuthority(other.key, first.cert.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{"cut": raw[:len(raw)/2], "empty": {}, "another's key": mixed} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openAuthority(dir, time.Now); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// The server's certificate is renewed in time, and nodes' say who they are.
func TestCertificates(t *testing.T) {
	now := time.Now()
	a, err := openAuthority(t.TempDir(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	first, err := a.serverCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: wire.ServerName}); err != nil {
		t.Error(err)
	}
	now = now.Add(serverLife - serverRenewal - time.Hour)
	if same, err := a.serverCertificate(); err != nil || same != first {
		t.Errorf("renewed too early, or %v", err)
	}
	now = now.Add(2 * time.Hour)
	if next, err := a.serverCertificate(); err != nil || next == first {
		t.Errorf("not renewed, or %v", err)
	}
	for _, id := range []identity{{"gateway-1", lb.RoleGateway, ""}, {"ins-aaaaaaaa", lb.RoleHost, "ins-aaaaaaaa"}} {
		r := &region{t: t, Control: &Control{authority: a}}
		cert, err := x509.ParseCertificate(r.certificate(t, id).Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := identityOf(cert); err != nil || got != id {
			t.Errorf("%+v reads back as %+v, %v", id, got, err)
		}
	}
	if _, err := identityOf(first.Leaf); err == nil {
		t.Error("the server's certificate names a node")
	}
	if _, err := a.issueNode([]byte("junk"), identity{}); err == nil {
		t.Error("junk was signed")
	}
}
