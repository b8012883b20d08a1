// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strings"
	"testing"
)

// A file that lacks a certificate is told in the words of files, and of nothing
// that does not exist yet.
func TestFilesLackCertificates(t *testing.T) {
	for file, want := range map[string]string{
		`{Protocol: HTTPS, Port: 8443, SniSwitch: 1, Rules: [{Domain: a.example.com, Url: /}]}`: "LoadBalancers.0.Listeners.0.Rules.0.Certificate: with SniSwitch 1 each domain shows its own, and a.example.com has none yet; name one by its alias or id",
		`{Protocol: HTTPS, Port: 8443, Rules: [{Domain: a.example.com, Url: /}]}`:               "LoadBalancers.0.Listeners.0.Certificate: an HTTPS listener shows one; name one by its alias or id, or set SniSwitch to 1",
	} {
		b := newBench(t)
		params, err := load(t, map[string]string{"a.yaml": "LoadBalancers:\n- LoadBalancerName: shop\n  Listeners:\n  - " + file + "\n"}).JSON(true, false, false)
		if err != nil {
			t.Fatal(err)
		}
		b.refused("ApplyConfiguration", string(params), "MissingParameter", want)
	}
}

// The default domain of a listener that the plan makes is no change of its own.
func TestDefaultDomainOfANewListener(t *testing.T) {
	b := newBench(t)
	const file = `LoadBalancers:
- LoadBalancerName: shop
  Listeners:
  - {Protocol: HTTP, Port: 80, Rules: [{Domain: a.example.com, Url: /}, {Domain: b.example.com, Url: /, DefaultServer: true}]}
`
	for _, step := range b.apply(map[string]string{"a.yaml": file}, false, false) {
		if strings.Contains(step, "DefaultServer") {
			t.Errorf("the plan says %s", step)
		}
	}
	turned := strings.NewReplacer("a.example.com, Url: /", "a.example.com, Url: /, DefaultServer: true", ", DefaultServer: true}]", "}]").Replace(file)
	if got := b.apply(map[string]string{"a.yaml": turned}, false, false); len(got) != 1 || !strings.Contains(got[0], "DefaultServer") {
		t.Errorf("of a listener that is there: %q", got)
	}
}
