// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// redirecting is demo with a rule on 8080 to which the first one redirects.
func redirecting(rewrite lb.Rewrite) *lb.State {
	state := demo()
	http := *state.Listeners.Get("lbl-1")
	http.Rules = append([]lb.Rule{}, http.Rules...)
	http.Rules[0].Rewrite = &rewrite
	state.Listeners.Put("lbl-1", &http)
	state.Listeners.Put("lbl-4", &lb.Listener{ID: "lbl-4", Num: 33, Balancer: "lb-1", Protocol: lb.ListenHTTP, Port: 8080,
		Rules: []lb.Rule{{ID: "loc-4", Domain: "new.example.com", URL: "/new"}}})
	return state
}

// A rule that redirects has no targets on any node, so nothing is probed.
func TestAssembleRedirect(t *testing.T) {
	state := redirecting(lb.Rewrite{Listener: "lbl-4", Location: "loc-4", Code: 301})
	s := assemble(t, state, "gateway-1")
	rule := s.Listeners[1].Rules[0]
	if len(rule.Targets) != 0 || *rule.Redirect != (Redirect{Code: 301, Scheme: "http", Host: "new.example.com", Port: 8080, URL: "/new"}) {
		t.Errorf("%+v", rule)
	}
	if host := assemble(t, state, "ins-2"); len(host.Targets) != 0 {
		t.Errorf("the host of an unasked target has %+v", host.Targets)
	}
	manifest, blobs, err := Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	back, err := Decode(manifest, blobs)
	if err != nil || *back.Listeners[1].Rules[0].Redirect != *rule.Redirect {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestAssembleRefusesDanglingRedirects(t *testing.T) {
	for says, rewrite := range map[string]lb.Rewrite{
		"to listener lbl-9, which lb-1 has not": {Listener: "lbl-9", Location: "loc-4", Code: 302},
		"to listener lbl-2, which lb-1 has not": {Listener: "lbl-2", Location: "loc-4", Code: 302},
		"to rule loc-9, which lbl-4 has not":    {Listener: "lbl-4", Location: "loc-9", Code: 302},
	} {
		s, err := Assemble(redirecting(rewrite), "gateway-1", testKeys, policy.Compile)
		if s != nil || err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}

func TestRedirectValidate(t *testing.T) {
	good := Redirect{Code: 302, Scheme: "https", Host: "www.example.com", Port: 8443, URL: "/x"}
	if err := good.validate(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(*Redirect){
		"200":         func(r *Redirect) { r.Code = 200 },
		`"ftp"`:       func(r *Redirect) { r.Scheme = "ftp" },
		`"*.example"`: func(r *Redirect) { r.Host = "*.example" },
		`"a b"`:       func(r *Redirect) { r.Host = "a b" },
		`"x"`:         func(r *Redirect) { r.URL = "x" },
	} {
		r := good
		change(&r)
		if err := r.validate(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
}
