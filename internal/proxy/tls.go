// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A shown is a certificate of a snapshot, ready for handshakes.
type shown struct {
	of   snapshot.Certificate
	pair *tls.Certificate
}

// certificates are those of s by id. What previous has parsed already is taken
// from it.
func certificates(s *snapshot.Snapshot, previous *view) (map[lb.CertificateID]shown, error) {
	all := make(map[lb.CertificateID]shown, len(s.Certificates))
	for _, c := range s.Certificates {
		if previous != nil {
			if old, ok := previous.shown[c.ID]; ok && old.of == c {
				all[c.ID] = old
				continue
			}
		}
		pair, err := tls.X509KeyPair([]byte(c.Chain), []byte(c.Key))
		if err != nil {
			return nil, fmt.Errorf("proxy: certificate %s: %w", c.ID, err)
		}
		all[c.ID] = shown{c, &pair}
	}
	return all, nil
}

// errNoCertificate ends a handshake for a name that no certificate is for.
var errNoCertificate = errors.New("no certificate for that name")

// handshakes is how TLS is spoken at one address. Every handshake reads the
// view then in force, so that a new certificate is shown from the next one on,
// and open connections stay as they are. HTTP/2 is not offered: requests are
// judged by the strict reader, which reads HTTP/1.1.
func (p *Proxy) handshakes(at netip.AddrPort) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			routes := p.current.Load().routes[at]
			if routes == nil || !routes.tls {
				return nil, errNoCertificate
			}
			if pair := routes.shows(hello.ServerName); pair != nil {
				return pair, nil
			}
			return nil, errNoCertificate
		},
	}
}

// shows is the listener's certificate, or that of the domain which a client
// asks for by name; nil when there is none.
func (r *routes) shows(name string) *tls.Certificate {
	if r.certificate != nil {
		return r.certificate
	}
	d := r.domain(name)
	if d == nil {
		return nil
	}
	return d.certificate
}

// certify gives routes what they show.
func (r *routes) certify(l snapshot.Listener, all map[lb.CertificateID]shown) {
	r.tls, r.certificate = l.TLS, all[l.Certificate].pair
	for _, rule := range l.Rules {
		if pair := all[rule.Certificate].pair; pair != nil {
			r.domainOf(rule.Domain).certificate = pair
		}
	}
}

// secure is a client's connection as the address speaks at this moment: inside
// TLS or plain. The handshake comes with the first read, under its time limit.
func (p *Proxy) secure(at netip.AddrPort, conn net.Conn, config *tls.Config) (net.Conn, bool) {
	if routes := p.current.Load().routes[at]; routes == nil || !routes.tls {
		return conn, false
	}
	return tls.Server(stallConn{conn, p.limits.Stall}, config), true
}
