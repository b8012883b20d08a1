// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// writePair writes a self-signed certificate for hosts, and its key.
func writePair(t *testing.T, dir string, hosts ...string) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	for _, host := range hosts {
		if a, err := netip.ParseAddr(host); err == nil {
			template.IPAddresses = append(template.IPAddresses, a.AsSlice())
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// shown is the certificate that a server shows, and whether roots vouch for it.
func shown(t *testing.T, endpoint string, roots []byte) (*x509.Certificate, error) {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(roots)
	conn, err := tls.Dial("tcp", strings.TrimPrefix(endpoint, "https://"), &tls.Config{RootCAs: pool})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// With --tls the API answers on HTTPS to who trusts our CA, which stands
// beside the record, and survives the server.
func TestServerOwnCertificate(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(t.TempDir(), "run")
	record := filepath.Join(run, "server.json")
	c, stop := startServer(t, "--data", dir, "--listen", "0.0.0.0:0", "--tls", "--tls-name", "api.example.com", "--tls-name", "203.0.113.7", "--record", record)
	if !strings.HasPrefix(c.Endpoint, "https://127.0.0.1:") {
		t.Fatalf("the recorded endpoint is %s", c.Endpoint)
	}
	ca, err := os.ReadFile(filepath.Join(run, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(run, "ca.pem")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("the CA's certificate is %v, %v", info.Mode(), err)
	}
	client := &cloudapi.Client{Endpoint: c.Endpoint, SecretID: c.SecretID, SecretKey: c.SecretKey, Region: c.Region}
	describe := func() error { return client.Do(t.Context(), "vpc", "2017-03-12", "DescribeSecurityGroups", nil, nil) }
	if err := describe(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without our CA: %v", err)
	}
	if err := client.Trust([]byte("junk")); err == nil {
		t.Error("junk was trusted")
	}
	if err := client.Trust(ca); err != nil {
		t.Fatal(err)
	}
	if err := describe(); err != nil {
		t.Error(err)
	}
	leaf, err := shown(t, c.Endpoint, ca)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "::1", "api.example.com", "203.0.113.7"} {
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
	}
	if leaf.VerifyHostname("::") == nil {
		t.Error("the certificate names the address that stands for all")
	}
	old := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", strings.TrimPrefix(c.Endpoint, "https://"), old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is spoken")
	}
	if answer, err := http.Get("http" + strings.TrimPrefix(c.Endpoint, "https") + "/healthz"); err == nil {
		answer.Body.Close()
		if answer.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP on the TLS address answers %d", answer.StatusCode)
		}
	}
	if code, said := stop(); code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}

	var out, errs bytes.Buffer
	if code := runMain(t, &out, &errs, "ca", "--data", dir); code != 0 || out.String() != string(ca) {
		t.Errorf("exit %d, %s%s", code, out.String(), errs.String())
	}
	errs.Reset()
	if code := runMain(t, io.Discard, &errs, "ca", "--data", t.TempDir()); code != exitError || !strings.Contains(errs.String(), "no server has run in") {
		t.Errorf("an empty folder: exit %d, %s", code, errs.String())
	}
	again, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0", "--tls", "--record", record)
	if _, err := shown(t, again.Endpoint, ca); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	stop()
}

func runMain(t *testing.T, out, errs io.Writer, args ...string) int {
	t.Helper()
	return run(t.Context(), args, out, errs)
}

// Certificate files are taken again when they change, and only when they fit.
func TestServerCertificateFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := writePair(t, dir, "api.example.com", "localhost")
	run := t.TempDir()
	if err := os.WriteFile(filepath.Join(run, "ca.pem"), []byte("of an earlier server"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, stop := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--record", filepath.Join(run, "server.json"))
	if !strings.HasPrefix(c.Endpoint, "https://localhost:") {
		t.Errorf("the recorded endpoint is %s, which the certificate does not name", c.Endpoint)
	}
	if _, err := os.Stat(filepath.Join(run, "ca.pem")); !os.IsNotExist(err) {
		t.Errorf("another CA's certificate stands beside the record: %v", err)
	}
	roots := func() []byte {
		t.Helper()
		raw, err := os.ReadFile(cert)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	before := roots()
	if _, err := shown(t, c.Endpoint, before); err != nil {
		t.Fatal(err)
	}
	writePair(t, dir, "localhost")
	after := roots()
	if _, err := shown(t, c.Endpoint, after); err != nil {
		t.Errorf("the renewed certificate is not shown: %v", err)
	}
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := shown(t, c.Endpoint, after); err != nil {
		t.Errorf("a pair that does not fit took the good one away: %v", err)
	}
	_, said := stop()
	if strings.Count(said, "cannot be used") != 1 || strings.Count(said, "took the changed") != 1 {
		t.Errorf("the log says %s", said)
	}
}

// What a listener may speak depends on who can reach it.
func TestTransportPermits(t *testing.T) {
	at := func(text string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(text)) }
	for _, c := range []struct {
		name string
		t    transport
		at   net.Addr
		want bool
	}{
		{"loopback", transport{}, at("127.0.0.1:80"), true},
		{"another loopback", transport{}, at("127.9.9.9:80"), true},
		{"loopback, IPv6", transport{}, at("[::1]:80"), true},
		{"everywhere", transport{}, at("0.0.0.0:80"), false},
		{"everywhere, IPv6", transport{}, at("[::]:80"), false},
		{"one address", transport{}, at("192.0.2.1:80"), false},
		{"insisted", transport{insecure: true}, at("192.0.2.1:80"), true},
		{"own certificate", transport{own: true}, at("192.0.2.1:80"), true},
		{"files", transport{cert: "c", key: "k"}, at("192.0.2.1:80"), true},
		{"a socket file", transport{}, &net.UnixAddr{Name: "/run/x"}, true},
	} {
		if err := c.t.permits(c.at); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestTransportEndpoint(t *testing.T) {
	for _, c := range []struct {
		t             transport
		address, want string
	}{
		{transport{}, "127.0.0.1:7780", "http://127.0.0.1:7780"},
		{transport{own: true}, "127.0.0.1:7780", "https://127.0.0.1:7780"},
		{transport{own: true}, "0.0.0.0:7780", "https://127.0.0.1:7780"},
		{transport{own: true}, "[::]:7780", "https://127.0.0.1:7780"},
		{transport{insecure: true}, ":7780", "http://127.0.0.1:7780"},
		{transport{cert: "c"}, "api.example.com:443", "https://api.example.com:443"},
	} {
		if got := c.t.endpoint(c.address); got != c.want {
			t.Errorf("%+v at %s: %s, want %s", c.t, c.address, got, c.want)
		}
	}
}

// Flags that make no sense, and addresses that plain HTTP may not use, are
// refused in one sentence before anything is made.
func TestServerRefusesTransport(t *testing.T) {
	dir := t.TempDir()
	cert, key := writePair(t, dir, "localhost")
	other := t.TempDir()
	_, foreign := writePair(t, other, "localhost")
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"half a pair", []string{"--tls-cert", cert}, exitUsage, "go together"},
		{"two certificates", []string{"--tls", "--tls-cert", cert, "--tls-key", key}, exitUsage, "one of the two"},
		{"a name for nothing", []string{"--tls-name", "x"}, exitUsage, "goes with --tls"},
		{"both", []string{"--tls", "--insecure-http"}, exitUsage, "exclude each other"},
		{"no name", []string{"--tls", "--tls-name", "a b"}, exitUsage, `"a b" is neither`},
		{"no file", []string{"--tls-cert", cert, "--tls-key", filepath.Join(dir, "none")}, exitError, "no such file"},
		{"another's key", []string{"--tls-cert", cert, "--tls-key", foreign}, exitError, "does not match"},
		{"plain HTTP for everybody", []string{"--listen", "0.0.0.0:0"}, exitError, "insist with --insecure-http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := filepath.Join(t.TempDir(), "data")
			var errs bytes.Buffer
			args := append([]string{"server", "--listen", "127.0.0.1:0", "--node-listen", "127.0.0.1:0", "--record", "", "--data", data}, c.args...)
			if code := runMain(t, io.Discard, &errs, args...); code != c.code || !strings.Contains(errs.String(), c.want) || strings.Count(errs.String(), "\n") != 1 {
				t.Errorf("exit %d, want %d; said %q, want %q", code, c.code, errs.String(), c.want)
			}
			if _, err := os.Stat(data); !os.IsNotExist(err) {
				t.Errorf("the data folder was made: %v", err)
			}
		})
	}
}

// $SALLYPORT_CA makes a command trust a server it names.
func TestCommandTrustsCA(t *testing.T) {
	dir := t.TempDir()
	run := filepath.Join(t.TempDir(), "run")
	c, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0", "--tls", "--record", filepath.Join(run, "server.json"))
	defer stop()
	call := func() (int, string) {
		var errs bytes.Buffer
		code := runMain(t, io.Discard, &errs, "call", "clb", "DescribeLoadBalancers", "--endpoint", c.Endpoint, "--secret-id", c.SecretID, "--secret-key", c.SecretKey)
		return code, errs.String()
	}
	t.Setenv("SALLYPORT_CA", filepath.Join(run, "ca.pem"))
	if code, said := call(); code != 0 {
		t.Errorf("exit %d: %s", code, said)
	}
	t.Setenv("SALLYPORT_CA", filepath.Join(run, "none.pem"))
	if code, said := call(); code != exitError || !strings.Contains(said, "SALLYPORT_CA") {
		t.Errorf("no such file: exit %d: %s", code, said)
	}
	t.Setenv("SALLYPORT_CA", filepath.Join(run, "server.json"))
	if code, said := call(); code != exitError || !strings.Contains(said, "holds no certificate") {
		t.Errorf("no certificate: exit %d: %s", code, said)
	}
	foreign, _ := writePair(t, t.TempDir(), "localhost")
	t.Setenv("SALLYPORT_CA", foreign)
	if code, said := call(); code != exitError || !strings.Contains(said, "unknown authority") {
		t.Errorf("another CA: exit %d: %s", code, said)
	}
}

// The endpoint that is written down is one that the certificate names.
func TestCertFilesEndpoint(t *testing.T) {
	for _, c := range []struct {
		hosts []string
		want  string
	}{
		{[]string{"127.0.0.1", "api.example.com"}, "https://127.0.0.1:7780"},
		{[]string{"localhost"}, "https://localhost:7780"},
		{[]string{"api.example.com"}, "https://api.example.com:7780"},
		{[]string{"203.0.113.7"}, "https://203.0.113.7:7780"},
	} {
		cert, key := writePair(t, t.TempDir(), c.hosts...)
		f, err := (&transport{cert: cert, key: key}).files(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if got := f.endpoint("https://127.0.0.1:7780"); got != c.want {
			t.Errorf("%v: %s, want %s", c.hosts, got, c.want)
		}
	}
}

// Without a folder the CA is that of the server whose record is on this machine.
func TestReadCA(t *testing.T) {
	record := filepath.Join(t.TempDir(), "server.json")
	refused := func(want string) {
		t.Helper()
		if _, err := readCA("", record); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused("no server runs on this machine")
	if err := os.WriteFile(record, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("certificate files")
	if err := os.WriteFile(caBeside(record), []byte("pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := readCA("", record); err != nil || string(got) != "pem" {
		t.Errorf("%s, %v", got, err)
	}
}
