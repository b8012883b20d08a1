// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
)

// A rewriteSite is a site with a second HTTP listener on 8080, and rules by
// short names: $a www.example.com/old and $any *.wild.example at 80, $b
// new.example.com/new, $c www.example.com/ and $wild *.wild.example/ at 8080.
type rewriteSite struct {
	*site
	ids *strings.Replacer
	alt string
}

func newRewriteSite(t *testing.T) *rewriteSite {
	t.Helper()
	s := &rewriteSite{site: newSite(t)}
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.site.q(`{"LoadBalancerId":"$lb","Ports":[8080],"Protocol":"HTTP"}`), &made)
	s.alt = made.ListenerIds[0]
	rule := func(listener, domain, url string) string {
		var made struct{ LocationIds []string }
		s.must("CreateRule", s.site.q(`{"LoadBalancerId":"$lb","ListenerId":"`+listener+`","Rules":[{"Domain":"`+domain+`","Url":"`+url+`"}]}`), &made)
		return made.LocationIds[0]
	}
	s.ids = strings.NewReplacer("$alt", s.alt, "$any", rule(s.http, "*.wild.example", "/"), "$a", rule(s.http, "www.example.com", "/old"),
		"$b", rule(s.alt, "new.example.com", "/new"), "$c", rule(s.alt, "www.example.com", "/"), "$wild", rule(s.alt, "*.wild.example", "/"))
	return s
}

func (s *rewriteSite) q(params string) string { return s.site.q(s.ids.Replace(params)) }

const front = `{"LoadBalancerId":"$lb","SourceListenerId":"$http","TargetListenerId":"$alt","RewriteInfos":`

// redirects are what the proxy gets, by listener's port and rule.
func (s *rewriteSite) redirects() map[string]snapshot.Redirect {
	s.Helper()
	s.seed(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-1", Num: 1, Role: lb.RoleGateway}) })
	snap, err := snapshot.Assemble(s.Store.State(), "gateway-1", func(uint32, uint32) [2]uint64 { return [2]uint64{1, 2} }, policy.Compile)
	if err != nil {
		s.Fatal(err)
	}
	if err := snap.Validate(); err != nil {
		s.Fatal(err)
	}
	all := map[string]snapshot.Redirect{}
	for _, l := range snap.Listeners {
		for _, r := range l.Rules {
			if r.Redirect != nil {
				all[r.Domain+r.URL] = *r.Redirect
			}
		}
	}
	return all
}

func TestManualRewrite(t *testing.T) {
	s := newRewriteSite(t)
	s.must("ManualRewrite", s.q(front+`[{"SourceLocationId":"$a","TargetLocationId":"$b"},
		{"SourceLocationId":"$any","TargetLocationId":"$wild","RewriteCode":301,"TakeUrl":true,"SourceDomain":"*.wild.example"}]}`), nil)
	want := map[string]snapshot.Redirect{
		"www.example.com/old": {Code: 302, Scheme: "http", Host: "new.example.com", Port: 8080, URL: "/new"},
		"*.wild.example/":     {Code: 301, Scheme: "http", Port: 8080},
	}
	got := s.redirects()
	for rule, redirect := range want {
		if got[rule] != redirect || len(got) != len(want) {
			t.Errorf("%s: %+v, want %+v (of %d)", rule, got[rule], redirect, len(got))
		}
	}
	var shown describeRewriteOut
	s.must("DescribeRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerIds":["$http"],"SourceLocationIds":["$any"]}`), &shown)
	if r := shown.RewriteSet; len(r) != 1 || r[0].RewriteTarget.TargetListenerId != s.alt || r[0].RewriteTarget.RewriteCode != 301 || !r[0].RewriteTarget.TakeUrl || r[0].RewriteTarget.RewriteType != "Manual" {
		t.Errorf("%+v", r)
	}
	for _, other := range []string{`"SourceListenerIds":["$alt"]`, `"SourceLocationIds":["$b"]`} {
		if s.must("DescribeRewrite", s.q(`{"LoadBalancerId":"$lb",`+other+`}`), &shown); len(shown.RewriteSet) != 0 {
			t.Errorf("%s: %+v", other, shown)
		}
	}
	s.must("ModifyDomain", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$alt","Domain":"new.example.com","NewDomain":"newer.example.com"}`), nil)
	if got := s.redirects()["www.example.com/old"].Host; got != "newer.example.com" {
		t.Errorf("redirects to %s after the domain was renamed", got)
	}
	s.must("DeleteRewrite", s.q(front+`[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`), nil)
	if got := s.redirects(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	s.must("DeleteLoadBalancerListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$http","$alt"]}`), nil)
}

// A listener on the scheme's own port needs none in the Location.
func TestRewriteToPort80(t *testing.T) {
	s := newRewriteSite(t)
	s.must("ManualRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"$alt","TargetListenerId":"$http","RewriteInfos":[{"SourceLocationId":"$b","TargetLocationId":"$rule"}]}`), nil)
	if got, want := s.redirects()["new.example.com/new"], (snapshot.Redirect{Code: 302, Scheme: "http", Host: "www.example.com", URL: "/"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestRewriteRefusals(t *testing.T) {
	s := newRewriteSite(t)
	s.must("ManualRewrite", s.q(front+`[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`), nil)
	pair := func(source, target string) string {
		return `{"LoadBalancerId":"$lb","SourceListenerId":"` + source + `","TargetListenerId":"` + target + `","RewriteInfos":`
	}
	for _, tc := range []refusal{
		{"ManualRewrite", front + `[]}`, "MissingParameter", "RewriteInfos: no redirect"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$a","TargetLocationId":"$c"}]}`, "InvalidParameter.RewriteAlreadyExist", "redirects to"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"$c"},{"SourceLocationId":"$rule","TargetLocationId":"$b"}]}`, "InvalidParameter.RewriteAlreadyExist", "RewriteInfos.1"},
		{"ManualRewrite", front + `[{"SourceLocationId":"loc-nonesuch","TargetLocationId":"$c"}]}`, "InvalidParameter.LocationNotFound", "loc-nonesuch"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"loc-nonesuch"}]}`, "InvalidParameter.LocationNotFound", "loc-nonesuch"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"$c","RewriteCode":301,"SourceDomain":"www.example.com"}]}`, "MissingParameter", "RewriteInfos.0.TakeUrl: it goes with RewriteCode"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"$c","RewriteCode":301,"TakeUrl":true}]}`, "MissingParameter", "RewriteInfos.0.SourceDomain: it goes with RewriteCode; give www.example.com"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"$c","SourceDomain":"other.example.com"}]}`, "InvalidParameterValue", "SourceDomain: rule"},
		{"ManualRewrite", front + `[{"SourceLocationId":"$rule","TargetLocationId":"$wild"}]}`, "InvalidParameterValue", "domain *.wild.example, which is no host"},
		{"ManualRewrite", pair("$alt", "$http") + `[{"SourceLocationId":"$b","TargetLocationId":"$rule"}]}`, "InvalidParameterValue", "chains are not allowed"},
		{"ManualRewrite", pair("$alt", "$http") + `[{"SourceLocationId":"$c","TargetLocationId":"$a"}]}`, "InvalidParameterValue", "chains are not allowed; redirect to the last rule"},
		{"ManualRewrite", pair("$http", "$http") + `[{"SourceLocationId":"$rule","TargetLocationId":"$rule"}]}`, "InvalidParameterValue", "to itself"},
		{"ManualRewrite", pair("$http", "$http") + `[{"SourceLocationId":"$any","TargetLocationId":"$any"}]}`, "InvalidParameterValue", "to itself"},
		{"ManualRewrite", pair("$tcp", "$alt") + `[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.ProtocolCheckFailed", "TCP listener"},
		{"ManualRewrite", pair("$http", "$tcp") + `[{"SourceLocationId":"$rule","TargetLocationId":"$b"}]}`, "InvalidParameter.ProtocolCheckFailed", "TCP listener"},
		{"ManualRewrite", pair("lbl-nonesuch", "$alt") + `[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.ListenerIdNotFound", "lbl-nonesuch"},
		{"ManualRewrite", `{"LoadBalancerId":"lb-nonesuch","SourceListenerId":"$http","TargetListenerId":"$alt","RewriteInfos":[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"DeleteRewrite", pair("$http", "$tcp") + `[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.ProtocolCheckFailed", "TargetListenerId: "},
		{"DeleteRewrite", front + `[]}`, "MissingParameter", "RewriteInfos"},
		{"DeleteRewrite", front + `[{"SourceLocationId":"$a","TargetLocationId":"$b"},{"SourceLocationId":"$a","TargetLocationId":"$c"}]}`, "InvalidParameter.SomeRewriteNotFound", "RewriteInfos.1"},
		{"DeleteRewrite", pair("lbl-nonesuch", "$alt") + `[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.ListenerIdNotFound", "lbl-nonesuch"},
		{"DeleteRewrite", `{"LoadBalancerId":"lb-nonesuch","SourceListenerId":"$http","TargetListenerId":"$alt","RewriteInfos":[{"SourceLocationId":"$a","TargetLocationId":"$b"}]}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"DescribeRewrite", `{"LoadBalancerId":"lb-nonesuch"}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		{"AutoRewrite", `{"LoadBalancerId":"$lb","ListenerId":"$http"}`, "InvalidParameter.ProtocolCheckFailed", "name an HTTPS listener, or use ManualRewrite"},
		{"AutoRewrite", `{"LoadBalancerId":"$lb","ListenerId":"lbl-nonesuch"}`, "InvalidParameter.ListenerIdNotFound", "lbl-nonesuch"},
		{"AutoRewrite", `{"LoadBalancerId":"lb-nonesuch","ListenerId":"$http"}`, "InvalidParameter.LBIdNotFound", "lb-nonesuch"},
		// What a redirect leads to stays.
		{"DeleteRule", `{"LoadBalancerId":"$lb","ListenerId":"$alt","LocationIds":["$b"]}`, "FailedOperation", "call DeleteRewrite first"},
		{"DeleteListener", `{"LoadBalancerId":"$lb","ListenerId":"$alt"}`, "FailedOperation", "call DeleteRewrite first"},
		{"DeleteLoadBalancerListeners", `{"LoadBalancerId":"$lb","ListenerIds":["$alt"]}`, "FailedOperation", "call DeleteRewrite first"},
		{"ModifyDomain", `{"LoadBalancerId":"$lb","ListenerId":"$alt","Domain":"new.example.com","NewDomain":"*.example.com"}`, "InvalidParameterValue", "NewDomain: rule"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	var made struct{ LocationIds []string }
	s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"www.example.com","Url":"/here"}]}`), &made)
	s.refused("ManualRewrite", s.q(pair("$http", "$http")+`[{"SourceLocationId":"$rule","TargetLocationId":"`+made.LocationIds[0]+`","TakeUrl":true}]}`), "InvalidParameterValue", "to where it came from; set TakeUrl to false")
	s.must("DeleteLoadBalancer", s.q(`{"LoadBalancerIds":["$lb"]}`), nil)
}

// ExplainPath names what decides beside the gates.
func TestExplainStoppedAndRedirected(t *testing.T) {
	s := newRewriteSite(t)
	says := func(want string) {
		t.Helper()
		var out explainPathOut
		s.must("ExplainPath", s.q(`{"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":8080}`), &out)
		if out.Admitted || !strings.Contains(out.Text, want) {
			t.Errorf("%+v, want %q", out, want)
		}
	}
	says("nothing is registered")
	s.must("ManualRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"$alt","TargetListenerId":"$http","RewriteInfos":[{"SourceLocationId":"$b","TargetLocationId":"$rule"}]}`), nil)
	says("redirects it")
	s.must("SetLoadBalancerStartStatus", s.q(`{"LoadBalancerId":"$lb","OperationType":"Stop"}`), nil)
	says("listener " + s.alt + " is stopped, and SetLoadBalancerStartStatus starts it")
}
