// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// serverCertificate is one that signs itself, for a name, and its key.
func serverCertificate(t *testing.T, name string) (chain, key string) {
	t.Helper()
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &signer.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(signer)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}

// https shakes hands through both gates: the client that gate 1 admits trusts
// the certificate and is served by a target that sees its address; the other
// meets silence before any handshake. The listener's redirect comes from HTTP.
func (s *stage) https(t *testing.T) {
	const name = "tls.example.com"
	do := func(service, action string, in map[string]any, out any) {
		t.Helper()
		if err := s.Do(t.Context(), service, action, in, out); err != nil {
			t.Fatal(err)
		}
	}
	allow := policies(s.Edge, Accept("TCP", "443", client1+"/32"))
	first := Accept("TCP", "443", client1+"/32")
	first["PolicyIndex"] = 0
	do("vpc", "CreateSecurityGroupPolicies", policies(s.Edge, first), nil)
	chain, key := serverCertificate(t, name)
	var certificate struct{ CertificateId string }
	do("ssl", "UploadCertificate", map[string]any{"CertificatePublicKey": chain, "CertificatePrivateKey": key, "Alias": name}, &certificate)
	var listeners struct{ ListenerIds []string }
	do("clb", "CreateListener", map[string]any{"LoadBalancerId": s.Balancer, "Ports": []int{443}, "Protocol": "HTTPS",
		"Certificate": map[string]any{"SSLMode": "UNIDIRECTIONAL", "CertId": certificate.CertificateId}}, &listeners)
	listener := map[string]any{"LoadBalancerId": s.Balancer, "ListenerId": listeners.ListenerIds[0]}
	var rules struct{ LocationIds []string }
	do("clb", "CreateRule", map[string]any{"LoadBalancerId": s.Balancer, "ListenerId": listeners.ListenerIds[0], "Rules": []any{map[string]any{"Domain": name, "Url": "/"}}}, &rules)
	do("clb", "RegisterTargets", map[string]any{"LoadBalancerId": s.Balancer, "ListenerId": listeners.ListenerIds[0], "LocationId": rules.LocationIds[0],
		"Targets": []any{map[string]any{"InstanceId": s.Instances[0], "Port": s.HTTPTarget}}}, nil)
	do("clb", "AutoRewrite", listener, nil)
	t.Cleanup(func() { s.noHTTPS(t, allow, listeners.ListenerIds[0], certificate.CertificateId) })
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}

	at := netip.AddrPortFrom(s.VIP, 443).String()
	var other sync.WaitGroup
	other.Go(func() { silent(t, "client-2", at) })
	defer other.Wait()
	conn, err := lab.Dial("client-1", "tcp4", at, limit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(chain))
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: name})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(secure, bufio.NewReader(secure), "/https"); err != nil || got.Peer.String() != client1 {
		t.Errorf("the target saw %+v: %v", got, err)
	}
	if where := s.sentTo(t, name); where != "https://"+name+"/old?x=1" {
		t.Errorf("HTTP sends to %q", where)
	}
}

// sentTo is where HTTP:80 redirects a host's requests.
func (s *stage) sentTo(t *testing.T, host string) string {
	t.Helper()
	conn, err := lab.Dial("client-1", "tcp4", s.http(), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	if _, err := conn.Write([]byte(strings.ReplaceAll("GET /old?x=1 HTTP/1.1\nHost: "+host+"\n\n", "\n", "\r\n"))); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.Header.Get("Location")
}

// noHTTPS leaves the example as it was.
func (s *stage) noHTTPS(t *testing.T, allow map[string]any, listener, certificate string) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	var rewrites struct {
		RewriteSet []struct {
			ListenerId, LocationId string
			RewriteTarget          struct{ TargetLocationId string }
		}
	}
	err := s.Do(ctx, "clb", "DescribeRewrite", map[string]any{"LoadBalancerId": s.Balancer}, &rewrites)
	for _, r := range rewrites.RewriteSet {
		if err == nil {
			err = s.Do(ctx, "clb", "DeleteRewrite", map[string]any{"LoadBalancerId": s.Balancer, "SourceListenerId": r.ListenerId, "TargetListenerId": listener,
				"RewriteInfos": []any{map[string]any{"SourceLocationId": r.LocationId, "TargetLocationId": r.RewriteTarget.TargetLocationId}}}, nil)
		}
		if err == nil {
			err = s.Do(ctx, "clb", "DeleteRule", map[string]any{"LoadBalancerId": s.Balancer, "ListenerId": r.ListenerId, "LocationIds": []string{r.LocationId}}, nil)
		}
	}
	for _, step := range []struct {
		service, action string
		in              map[string]any
	}{
		{"clb", "DeleteListener", map[string]any{"LoadBalancerId": s.Balancer, "ListenerId": listener}},
		{"ssl", "DeleteCertificate", map[string]any{"CertificateId": certificate}},
		{"vpc", "DeleteSecurityGroupPolicies", allow},
	} {
		if err == nil {
			err = s.Do(ctx, step.service, step.action, step.in, nil)
		}
	}
	if err == nil {
		err = s.Settle(ctx)
	}
	if err != nil {
		t.Error(err)
	}
}
