// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// selfSigned is a certificate for one name, as a snapshot has it.
func selfSigned(t *testing.T, id lb.CertificateID, name string) snapshot.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Certificate{ID: id, Chain: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})),
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))}
}

// secure makes the rig's listener speak TLS with these certificates, the first
// for all domains.
func (r *rig) secure(certificates ...snapshot.Certificate) {
	r.snap.Listeners[0].TLS, r.snap.Listeners[0].Certificate = true, certificates[0].ID
	r.snap.Certificates = certificates
}

// meet shakes hands as somebody who asks for a name, and gives the name of the
// certificate shown.
func (r *rig) meet(name string, config *tls.Config) (*tls.Conn, string, error) {
	config.ServerName, config.InsecureSkipVerify = name, true // the test looks at the certificate itself
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", r.at.String(), config)
	if err != nil {
		return nil, "", err
	}
	r.t.Cleanup(func() { conn.Close() })
	return conn, conn.ConnectionState().PeerCertificates[0].Subject.CommonName, nil
}

// ask sends one request on a connection.
func ask(t *testing.T, conn net.Conn, host, path string) (status int, body string) {
	t.Helper()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func tellScheme(w http.ResponseWriter, r *http.Request) {
	fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("X-Forwarded-For"), " ", r.Host)
}

// A client's request arrives as it would at an HTTP listener, but says https.
func TestTLSEndsHere(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.secure(selfSigned(t, "cert-1", "www.example.com"))
	r.apply()
	conn, shown, err := r.meet("www.example.com", &tls.Config{NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || shown != "www.example.com" || conn.ConnectionState().NegotiatedProtocol != "http/1.1" {
		t.Fatalf("%v, shown %q: %+v", err, shown, conn)
	}
	for range 2 { // the connection is kept
		if status, body := ask(t, conn, "www.example.com", "/"); status != 200 || body != "https 127.0.0.1 www.example.com" {
			t.Errorf("%d %q", status, body)
		}
	}
	// The strict reader stands inside.
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 400 {
		t.Errorf("two hosts: %v %v", res, err)
	}
}

func TestTLSRefusesWhatIsOld(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.secure(selfSigned(t, "cert-1", "www.example.com"))
	r.apply()
	if _, _, err := r.meet("www.example.com", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil || !strings.Contains(err.Error(), "protocol version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	if _, _, err := r.meet("www.example.com", &tls.Config{MaxVersion: tls.VersionTLS12}); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	// Plain HTTP is not answered.
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: www.example.com\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if came, _ := io.ReadAll(conn); strings.HasPrefix(string(came), "HTTP/") {
		t.Errorf("plain HTTP was answered: %q", came)
	}
}

// Where the listener shows none, each domain shows its own, an unknown name
// gets the default domain's.
func TestTLSByName(t *testing.T) {
	r := newRig(t, Limits{})
	target := r.target(tellScheme)
	r.rule("a.example.com", "/", target)
	r.rule("*.example.org", "/", target)
	r.secure(selfSigned(t, "cert-1", "a.example.com"), selfSigned(t, "cert-2", "wild"))
	r.snap.Listeners[0].Certificate = ""
	r.snap.Listeners[0].Rules[0].Certificate, r.snap.Listeners[0].Rules[1].Certificate = "cert-1", "cert-2"
	r.apply()
	for name, want := range map[string]string{"a.example.com": "a.example.com", "b.example.org": "wild", "B.Example.ORG": "wild", "elsewhere.example.net": "a.example.com", "": "a.example.com"} {
		if _, shown, err := r.meet(name, &tls.Config{}); err != nil || shown != want {
			t.Errorf("%q is shown %q, want %q: %v", name, shown, want, err)
		}
	}
	r.snap.Listeners[0].Rules = nil
	r.apply()
	if _, shown, err := r.meet("a.example.com", &tls.Config{}); err == nil {
		t.Errorf("no rules, and yet shown %q", shown)
	}
}

// A new certificate is shown from the next handshake on; a connection that is
// open goes on, over the commit.
func TestTLSCertificateIsSwappedLive(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.secure(selfSigned(t, "cert-1", "old"))
	r.apply()
	open, shown, err := r.meet("www.example.com", &tls.Config{})
	if err != nil || shown != "old" {
		t.Fatal(shown, err)
	}
	ask(t, open, "www.example.com", "/")
	r.secure(selfSigned(t, "cert-2", "new"))
	r.apply()
	if _, shown, err := r.meet("www.example.com", &tls.Config{}); err != nil || shown != "new" {
		t.Errorf("shown %q: %v", shown, err)
	}
	if status, body := ask(t, open, "www.example.com", "/"); status != 200 || !strings.HasPrefix(body, "https") {
		t.Errorf("the open connection got %d %q", status, body)
	}
}

// A connection that began plain is never answered by a listener inside TLS.
func TestPlainConnectionDoesNotOutliveTLS(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.apply()
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if status, body := ask(t, conn, "www.example.com", "/"); status != 200 || !strings.HasPrefix(body, "http ") {
		t.Fatal(status, body)
	}
	r.secure(selfSigned(t, "cert-1", "www.example.com"))
	r.apply()
	if status, _ := ask(t, conn, "www.example.com", "/"); status != 503 {
		t.Errorf("answered %d", status)
	}
}

// A certificate that is none stops the stage, and the former view serves on.
func TestTLSKeyThatDoesNotFit(t *testing.T) {
	r := newRig(t, Limits{})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.secure(selfSigned(t, "cert-1", "www.example.com"))
	r.apply()
	next := *r.snap
	next.Revision = 99
	other := selfSigned(t, "cert-2", "other")
	next.Certificates = []snapshot.Certificate{{ID: "cert-1", Chain: other.Chain, Key: r.snap.Certificates[0].Key}}
	if err := r.proxy.Stage(context.Background(), &next); err == nil || !strings.Contains(err.Error(), "cert-1") || strings.Contains(err.Error(), "PRIVATE") {
		t.Errorf("staged: %v", err)
	}
	if _, shown, err := r.meet("www.example.com", &tls.Config{}); err != nil || shown != "www.example.com" {
		t.Errorf("shown %q: %v", shown, err)
	}
}

// Who never shakes hands is sent away after the time for a head.
func TestTLSHandshakeHasATimeLimit(t *testing.T) {
	r := newRig(t, Limits{Head: 50 * time.Millisecond})
	r.rule("www.example.com", "/", r.target(tellScheme))
	r.secure(selfSigned(t, "cert-1", "www.example.com"))
	r.apply()
	conn, err := net.Dial("tcp", r.at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(conn); err != nil {
		t.Errorf("not sent away: %v", err)
	}
}
