// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
)

// A presence is how one listener shows who it is: a certificate of our CA,
// kept in memory and made again before it expires. The zero presence has none
// yet.
type presence struct {
	mu   sync.Mutex
	cert *tls.Certificate
}

// certificate is the listener's certificate with the CA's behind it, so that a
// joining node can compare the hash in its token. Every call on one presence
// gives the same names.
func (p *presence) certificate(a *authority, names []string, addresses []net.IP) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cert != nil && p.cert.Leaf.NotAfter.After(a.now().Add(serverRenewal)) {
		return p.cert, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := a.issue(key.Public(), &x509.Certificate{
		Subject:     pkix.Name{CommonName: names[0]},
		DNSNames:    names,
		IPAddresses: addresses,
		NotAfter:    a.now().Add(serverLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	p.cert = &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key, Leaf: leaf}
	return p.cert, nil
}

// ListenerTLS is the configuration of a listener for clients (TLS 1.2 and
// newer) with a certificate of our CA for localhost, its addresses and hosts,
// each a DNS name or an address. The certificate is renewed by itself. It
// fails when no certificate can be made for the hosts.
func (c *Control) ListenerTLS(hosts []string) (*tls.Config, error) {
	names := []string{"localhost"}
	addresses := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, host := range hosts {
		if a, err := netip.ParseAddr(host); err == nil {
			addresses = append(addresses, a.WithZone("").AsSlice())
		} else {
			names = append(names, host)
		}
	}
	p := &presence{}
	if _, err := p.certificate(c.authority, names, addresses); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return p.certificate(c.authority, names, addresses)
		},
	}, nil
}

// CACertificate is the certificate of our CA in PEM: what clients of a
// ListenerTLS must trust.
func (c *Control) CACertificate() []byte { return certificatePEM(c.authority.cert.Raw) }

// ReadCACertificate reads the CA's certificate, in PEM and without its key,
// from the data directory of a Control, which may be running or not.
func ReadCACertificate(dir string) ([]byte, error) {
	path := filepath.Join(dir, authorityFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: %w", path, errors.New("holds no certificate"))
	}
	return certificatePEM(block.Bytes), nil
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
