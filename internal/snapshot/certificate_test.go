// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// securely is demo with two HTTPS listeners: one certificate for all domains,
// and one for each. A third certificate is shown by nobody.
func securely() *lb.State {
	state := demo()
	for _, id := range []lb.CertificateID{"cert-a", "cert-b", "cert-c"} {
		state.Certificates.Put(id, &lb.Certificate{ID: id, Chain: "chain of " + string(id), Sealed: []byte("sealed")})
	}
	state.Listeners.Put("lbl-4", &lb.Listener{ID: "lbl-4", Num: 33, Balancer: "lb-1", Protocol: lb.ListenHTTPS, Port: 443, Certificate: "cert-b",
		Rules: []lb.Rule{{ID: "loc-4", Domain: "www.example.com", URL: "/"}}})
	state.Listeners.Put("lbl-5", &lb.Listener{ID: "lbl-5", Num: 34, Balancer: "lb-1", Protocol: lb.ListenHTTPS, Port: 8443, SNI: true,
		Rules: []lb.Rule{{ID: "loc-5", Domain: "a.example.com", URL: "/", Certificate: "cert-a"}, {ID: "loc-6", Domain: "b.example.com", URL: "/", Certificate: "cert-b"}}})
	return state
}

func openKey(c *lb.Certificate) (string, error) { return "key of " + string(c.ID), nil }

// A gateway gets the certificates that its listeners show, each once, with
// their keys; a host gets none.
func TestCertificatesGoToGateways(t *testing.T) {
	state := securely()
	s := assemble(t, state, "gateway-1")
	if err := s.Unseal(state, openKey); err != nil {
		t.Fatal(err)
	}
	want := []Certificate{{"cert-a", "chain of cert-a", "key of cert-a"}, {"cert-b", "chain of cert-b", "key of cert-b"}}
	if !reflect.DeepEqual(s.Certificates, want) {
		t.Errorf("the gateway has %v", s.Certificates)
	}
	manifest, blobs, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Decode(manifest, blobs); err != nil || !reflect.DeepEqual(back.Certificates, want) {
		t.Errorf("decoded %v: %v", back, err)
	}
	if host := assemble(t, state, "ins-1"); len(host.Certificates) != 0 {
		t.Errorf("a host has %v", host.Certificates)
	}
	for _, text := range []string{fmt.Sprint(s.Certificates), fmt.Sprintf("%+v", s.Certificates), fmt.Sprintf("%#v", s.Certificates)} {
		if strings.Contains(text, "key of") {
			t.Errorf("printed with its key: %s", text)
		}
	}
	if err := s.Unseal(state, func(*lb.Certificate) (string, error) { return "", errors.New("another key file") }); err == nil || !strings.Contains(err.Error(), "cert-a: another key file") {
		t.Errorf("unsealed: %v", err)
	}
}

func TestCertificatesThatAreMissing(t *testing.T) {
	state := securely()
	state.Certificates.Delete("cert-a")
	if _, err := Assemble(state, "gateway-1", testKeys, policy.Compile); err == nil || !strings.Contains(err.Error(), "cert-a") {
		t.Errorf("assembled: %v", err)
	}
	for what, tc := range map[string]struct {
		spoil func(*Snapshot)
		want  string
	}{
		"a host's":           {func(s *Snapshot) { s.Role, s.Listeners, s.Fronts = lb.RoleHost, nil, nil }, "a host with certificates"},
		"not here":           {func(s *Snapshot) { s.Certificates = s.Certificates[1:] }, "shows certificate cert-a, which is not here"},
		"out of order":       {func(s *Snapshot) { s.Certificates[0], s.Certificates[1] = s.Certificates[1], s.Certificates[0] }, `certificate "cert-a" after "cert-b"`},
		"without a chain":    {func(s *Snapshot) { s.Certificates[0].Chain = "" }, "without a chain"},
		"plain, and shown":   {func(s *Snapshot) { s.Listeners[len(s.Listeners)-1].TLS = false }, "without TLS"},
		"TLS without layer7": {func(s *Snapshot) { s.Listeners[0].TLS = true }, "TLS at layer 4"},
	} {
		s := assemble(t, securely(), "gateway-1")
		if tc.spoil(s); s.Validate() == nil || !strings.Contains(s.Validate().Error(), tc.want) {
			t.Errorf("%s: %v, want %s", what, s.Validate(), tc.want)
		}
	}
}
