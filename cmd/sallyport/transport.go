// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/control"
)

// A transport says how the API's listener speaks: plain HTTP, HTTPS with a
// certificate of our own CA, or HTTPS with certificate files of the operator.
type transport struct {
	own       bool     // our CA makes the certificate
	names     []string // more names for it
	cert, key string   // certificate files instead
	insecure  bool     // plain HTTP wherever it listens
}

// ownFlags adds the flags of a transport that `up` has too.
func (t *transport) ownFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&t.own, "tls", false, "serve HTTPS with a certificate of our own CA, the one that 'sallyport ca' prints")
	f.StringArrayVar(&t.names, "tls-name", nil, "further DNS name or address by which clients reach the server, for that certificate; may be repeated")
	f.BoolVar(&t.insecure, "insecure-http", false, "serve plain HTTP although --listen can be reached from other machines")
}

func (t *transport) flags(cmd *cobra.Command) {
	t.ownFlags(cmd)
	cmd.Flags().StringVar(&t.cert, "tls-cert", "", "serve HTTPS with the certificate (and its chain) in this PEM file")
	cmd.Flags().StringVar(&t.key, "tls-key", "", "PEM file with the key of --tls-cert")
}

// hostName is what a certificate can name: a DNS name, with * for one label.
var hostName = regexp.MustCompile(`^(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?$`)

// check finds flags that do not go together.
func (t *transport) check() error {
	switch {
	case (t.cert == "") != (t.key == ""):
		return errors.New("--tls-cert and --tls-key go together")
	case t.own && t.cert != "":
		return errors.New("--tls makes a certificate of our own CA, --tls-cert brings one: use one of the two")
	case len(t.names) > 0 && !t.own:
		return errors.New("--tls-name goes with --tls")
	case t.insecure && t.secure():
		return errors.New("--insecure-http and TLS exclude each other: one address speaks one of the two")
	}
	for _, name := range t.names {
		if _, err := netip.ParseAddr(name); err != nil && (len(name) > 253 || !hostName.MatchString(name)) {
			return fmt.Errorf("--tls-name %q is neither a DNS name nor an address", name)
		}
	}
	return nil
}

func (t *transport) secure() bool { return t.own || t.cert != "" }

func (t *transport) scheme() string {
	if t.secure() {
		return "https"
	}
	return "http"
}

// permits refuses to speak plain HTTP with other machines unasked: requests
// are signed but not secret, and answers are neither.
func (t *transport) permits(at net.Addr) error {
	tcp, ok := at.(*net.TCPAddr)
	if !ok || tcp.IP.IsLoopback() || t.secure() || t.insecure {
		return nil
	}
	return fmt.Errorf("other machines can reach %v: serve HTTPS there with --tls, listen on 127.0.0.1, or insist with --insecure-http", at)
}

// args are the flags that make another command's transport this one.
func (t *transport) args() []string {
	var args []string
	if t.own {
		args = append(args, "--tls")
	}
	for _, name := range t.names {
		args = append(args, "--tls-name", name)
	}
	if t.insecure {
		args = append(args, "--insecure-http")
	}
	return args
}

// endpoint is the URL at which this machine reaches a listener at address,
// which is HOST:PORT.
func (t *transport) endpoint(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return t.scheme() + "://" + address
	}
	if everywhere(host) {
		host = "127.0.0.1" // "::" takes IPv4 too
	}
	return t.scheme() + "://" + net.JoinHostPort(host, port)
}

// everywhere reports whether a listener at host takes every address.
func everywhere(host string) bool {
	a, err := netip.ParseAddr(cmp.Or(host, "::"))
	return err == nil && a.IsUnspecified()
}

// files opens the operator's certificate files; nil when there are none.
func (t *transport) files(log *slog.Logger) (*certFiles, error) {
	if t.cert == "" {
		return nil, nil
	}
	f := &certFiles{cert: t.cert, key: t.key, log: log}
	if err := f.read(); err != nil {
		return nil, fmt.Errorf("--tls-cert: %w", err)
	}
	return f, nil
}

// config is the listener's TLS configuration; nil for plain HTTP.
func (t *transport) config(files *certFiles, c *control.Control, address string) (*tls.Config, error) {
	switch {
	case files != nil:
		return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: files.certificate}, nil
	case !t.own:
		return nil, nil
	}
	hosts := t.names
	if host, _, err := net.SplitHostPort(address); err == nil && host != "localhost" && !everywhere(host) {
		hosts = append([]string{host}, hosts...)
	}
	return c.ListenerTLS(hosts)
}

// certFiles are a certificate and a key in files, read again when they change.
type certFiles struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	seen    [2]fileMark // of what was read last, usable or not
	current *tls.Certificate
}

// A fileMark tells one content of a file from another without reading it.
type fileMark struct {
	at   time.Time
	size int64
}

func (f *certFiles) marks() (m [2]fileMark) {
	for i, path := range []string{f.cert, f.key} {
		if info, err := os.Stat(path); err == nil {
			m[i] = fileMark{info.ModTime(), info.Size()}
		}
	}
	return m
}

// read takes what the files hold now. On an error it keeps what it had.
func (f *certFiles) read() error {
	f.seen = f.marks()
	pair, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return err
	}
	f.current = &pair
	return nil
}

// certificate looks at the files' marks in every handshake. A pair that does
// not fit, as in the middle of a renewal, leaves the old one in use.
func (f *certFiles) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.marks() != f.seen {
		if err := f.read(); err != nil {
			f.log.Warn("the changed certificate files cannot be used; the old certificate stays", "error", err)
		} else {
			f.log.Info("took the changed certificate files", "until", f.current.Leaf.NotAfter)
		}
	}
	return f.current, nil
}

// endpoint is the URL by which the certificate can be verified: that of the
// listener if the certificate names its host, else one of a name it has.
func (f *certFiles) endpoint(listener string) string {
	address := strings.TrimPrefix(listener, "https://")
	host, port, err := net.SplitHostPort(address)
	if err != nil || f.current.Leaf == nil {
		return listener
	}
	for _, name := range append([]string{host, "localhost"}, names(f.current.Leaf)...) {
		if f.current.Leaf.VerifyHostname(name) == nil {
			return "https://" + net.JoinHostPort(name, port)
		}
	}
	return listener
}

func names(cert *x509.Certificate) []string {
	all := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
