// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	authorityFile  = "ca.pem"
	authorityLife  = 20 * 365 * 24 * time.Hour
	nodeLife       = 10 * 365 * 24 * time.Hour // no renewal: a node is shut out by removing its record, not by expiry
	serverLife     = 90 * 24 * time.Hour
	serverRenewal  = 30 * 24 * time.Hour
	clockTolerance = time.Hour // certificates begin this much earlier than now
)

// An authority is the cluster's own small CA. Its key and certificate are one
// file in the data directory, mode 0600.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	now  func() time.Time

	server presence // of the node listener
}

// openAuthority reads the CA from dir, or makes one there.
func openAuthority(dir string, now func() time.Time) (*authority, error) {
	path := filepath.Join(dir, authorityFile)
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return makeAuthority(path, now)
	case err != nil:
		return nil, err
	}
	a, err := parseAuthority(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	a.now = now
	return a, nil
}

func makeAuthority(path string, now func() time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "sallyport CA"},
		NotBefore:             now().Add(-clockTolerance),
		NotAfter:              now().Add(authorityLife),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	raw, err := encodeAuthority(key, der)
	if err != nil {
		return nil, err
	}
	if err := writeFile(path, raw); err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{key: key, cert: cert, now: now}, nil
}

func encodeAuthority(key *ecdsa.PrivateKey, der []byte) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func parseAuthority(raw []byte) (*authority, error) {
	first, rest := pem.Decode(raw)
	second, _ := pem.Decode(rest)
	if first == nil || second == nil {
		return nil, errors.New("not a certificate and a key in PEM")
	}
	cert, err := x509.ParseCertificate(first.Bytes)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the key does not belong to the certificate")
	}
	return &authority{key: key, cert: cert}, nil
}

// An identity is who a node is, as its certificate says.
type identity struct {
	Name     lb.NodeID
	Role     lb.NodeRole
	Instance lb.InstanceID // "" on a gateway
}

// uri is the identity in a certificate: sallyport://ROLE/NAME?instance=ID.
func (id identity) uri() *url.URL {
	return &url.URL{Scheme: "sallyport", Host: string(id.Role), Path: "/" + string(id.Name),
		RawQuery: url.Values{"instance": {string(id.Instance)}}.Encode()}
}

// identityOf reads the identity out of a verified certificate.
func identityOf(cert *x509.Certificate) (identity, error) {
	for _, u := range cert.URIs {
		if u.Scheme == "sallyport" && len(u.Path) > 1 {
			return identity{Name: lb.NodeID(u.Path[1:]), Role: lb.NodeRole(u.Host),
				Instance: lb.InstanceID(u.Query().Get("instance"))}, nil
		}
	}
	return identity{}, errors.New("the certificate names no node")
}

// issueNode signs a node's certificate. Of the request only the public key is
// used, after its own signature proved that the node holds the private one.
func (a *authority) issueNode(request []byte, id identity) ([]byte, error) {
	csr, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("signing request: %w", err)
	}
	return a.issue(csr.PublicKey, &x509.Certificate{
		Subject:     pkix.Name{CommonName: string(id.Name)},
		URIs:        []*url.URL{id.uri()},
		NotAfter:    a.now().Add(nodeLife),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (a *authority) issue(public any, template *x509.Certificate) ([]byte, error) {
	serial, err := serialNumber()
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = a.now().Add(-clockTolerance)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	return x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
}

// tlsConfig is the node listener's: our certificate, and a client certificate
// that is checked when given. Attach demands one, Enroll cannot.
func (a *authority) tlsConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		ClientCAs:      pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.serverCertificate() },
	}
}

// serverCertificate is the node listener's.
func (a *authority) serverCertificate() (*tls.Certificate, error) {
	return a.server.certificate(a, []string{wire.ServerName}, nil)
}

func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// writeFile puts a secret in place: 0600, synced, whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
