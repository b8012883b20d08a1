// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/wire"
)

// identityFile holds certificate, key and the CA's certificate in PEM.
const identityFile = "identity.pem"

// enrolLimit bounds one try to enrol.
const enrolLimit = 10 * time.Second

// An identity is what a node needs to attach.
type identity struct {
	certificate tls.Certificate
	authority   *x509.Certificate
}

// identity reads the node's certificate, or enrols for one. It enrols again
// when the token belongs to another CA than the kept certificate: the node was
// moved to another cluster, or the cluster was made anew. It waits for a
// server that is away; a refusal is an error.
func (n *Node) identity(ctx context.Context) (*identity, error) {
	path := filepath.Join(n.o.DataDir, identityFile)
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var kept *identity
	if err == nil {
		if kept, err = parseIdentity(raw); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if name := kept.certificate.Leaf.Subject.CommonName; name != string(n.o.Name) {
			return nil, fmt.Errorf("%s belongs to node %q, not to %q", path, name, n.o.Name)
		}
	}
	token, err := n.token()
	switch {
	case kept != nil && (err != nil || token.Authority == wire.AuthorityHash(kept.authority.Raw)):
		return kept, nil // a token that is gone by now is no fault
	case err != nil:
		return nil, err
	}
	retry := newBackoff()
	for {
		id, err := n.enrol(ctx, token, path)
		if err == nil || final(err) || ctx.Err() != nil {
			return id, err
		}
		n.log.Warn("not enrolled yet", "error", err)
		retry.wait(ctx)
	}
}

func (n *Node) token() (wire.Token, error) {
	if n.o.TokenFile == "" {
		return wire.Token{}, errors.New("the node has no certificate yet and needs a join token")
	}
	raw, err := os.ReadFile(n.o.TokenFile)
	if err != nil {
		return wire.Token{}, fmt.Errorf("join token: %w", err)
	}
	return wire.ParseToken(string(raw))
}

// errStranger is a server that is not the one the token speaks of.
var errStranger = errors.New("the server is not the one that made the join token: its CA differs")

// final reports whether trying again cannot help.
func final(err error) bool {
	switch status.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.Unauthenticated, codes.Unimplemented, codes.FailedPrecondition:
		return true
	}
	return errors.Is(err, errStranger)
}

// enrol trades the token for a certificate and keeps it.
func (n *Node) enrol(ctx context.Context, token wire.Token, path string) (*identity, error) {
	id, raw, err := enrol(ctx, n.o.Server, token, n.o.Address, n.o.Others)
	if err != nil {
		return nil, err
	}
	if name := id.certificate.Leaf.Subject.CommonName; name != string(n.o.Name) {
		return nil, status.Errorf(codes.InvalidArgument, "the join token is for node %q, not for %q", name, n.o.Name)
	}
	n.log.Info("enrolled", "server", n.o.Server)
	return id, writeFile(path, raw)
}

// enrol trades a token for an identity; raw is its form on disk. The server is
// known by the hash in the token before anything secret is said.
func enrol(ctx context.Context, server string, token wire.Token, address netip.Addr, others []netip.Addr) (id *identity, raw []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, enrolLimit)
	defer cancel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, err
	}
	stranger := false
	conn, err := dial(server, &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The usual check needs a CA we do not have yet: ours compares the
		// CA's hash with the token's and then checks the chain.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			err := verifyByHash(s, token.Authority)
			stranger = stranger || errors.Is(err, errStranger)
			return err
		},
	})
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	token.Server = "" // for whoever joins, not for the server
	reply, err := wire.NewControlClient(conn).Enroll(ctx, &wire.EnrollRequest{
		Protocol: wire.Protocol, Token: token.String(), Request: request, Address: address.String(), Others: texts(others)})
	conn.Close() // ends the handshakes that write stranger
	if stranger {
		return nil, nil, errStranger
	}
	if err != nil {
		return nil, nil, err
	}
	if raw, err = encodeIdentity(key, reply); err != nil {
		return nil, nil, err
	}
	id, err = parseIdentity(raw)
	return id, raw, err
}

func texts(all []netip.Addr) []string {
	var out []string
	for _, a := range all {
		out = append(out, a.String())
	}
	return out
}

// verifyByHash accepts a server whose chain ends in the CA of that hash and
// whose certificate is a server's.
func verifyByHash(s tls.ConnectionState, hash string) error {
	pool := x509.NewCertPool()
	found := false
	for _, cert := range s.PeerCertificates[1:] {
		if wire.AuthorityHash(cert.Raw) == hash {
			pool.AddCert(cert)
			found = true
		}
	}
	if !found {
		return errStranger
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, DNSName: wire.ServerName})
	return err
}

func encodeIdentity(key *ecdsa.PrivateKey, reply *wire.EnrollReply) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, b := range []*pem.Block{
		{Type: "CERTIFICATE", Bytes: reply.Certificate},
		{Type: "PRIVATE KEY", Bytes: secret},
		{Type: "CERTIFICATE", Bytes: reply.Authority},
	} {
		if err := pem.Encode(&out, b); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}

func parseIdentity(raw []byte) (*identity, error) {
	cert, rest := pem.Decode(raw)
	key, rest := pem.Decode(rest)
	authority, _ := pem.Decode(rest)
	if cert == nil || key == nil || authority == nil {
		return nil, errors.New("not a certificate, a key and a CA in PEM")
	}
	pair, err := tls.X509KeyPair(pem.EncodeToMemory(cert), pem.EncodeToMemory(key))
	if err != nil {
		return nil, err
	}
	ca, err := x509.ParseCertificate(authority.Bytes)
	if err != nil {
		return nil, err
	}
	return &identity{certificate: pair, authority: ca}, nil
}

// tlsConfig shows our certificate and trusts the kept CA alone.
func (id *identity) tlsConfig() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(id.authority)
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{id.certificate},
		RootCAs:      pool,
		ServerName:   wire.ServerName,
	}
}
