// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// rulesOf makes rules of a listener; each is a domain and "/".
func (s *tlsSite) rulesOf(listener string, domains ...string) {
	s.Helper()
	for _, domain := range domains {
		s.must("CreateRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"`+listener+`","Rules":[{"Domain":"`+domain+`","Url":"/"}]}`), nil)
	}
}

// sent is where clients of port 80 are sent, by domain and URL.
func (s *tlsSite) sent() map[string]snapshot.Redirect {
	s.Helper()
	all := map[string]snapshot.Redirect{}
	for _, l := range s.gateway().Listeners {
		for _, r := range l.Rules {
			if r.Redirect != nil {
				all[r.Domain+r.URL] = *r.Redirect
			}
		}
	}
	return all
}

func TestAutoRewrite(t *testing.T) {
	s := newTLSSite(t)
	s.must("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http"}`), nil)
	s.rulesOf(s.https, "www.example.com", "other.example.com")
	const ask = `{"LoadBalancerId":"$lb","ListenerId":"$https"`
	s.must("AutoRewrite", s.q(ask+`,"Domains":["other.example.com"],"RewriteCodes":[307],"TakeUrls":[false]}`), nil)
	if got := s.sent(); len(got) != 1 || got["other.example.com/"] != (snapshot.Redirect{Code: 307, Scheme: "https", Host: "other.example.com", URL: "/"}) {
		t.Fatalf("%+v", got)
	}
	s.must("AutoRewrite", s.q(ask+`}`), nil) // again, for those that came later: what was said of others stays
	want := snapshot.Redirect{Code: 301, Scheme: "https", Host: "www.example.com"}
	if got := s.sent(); len(got) != 2 || got["www.example.com/"] != want || got["other.example.com/"].Code != 307 || got["other.example.com/"].URL != "/" {
		t.Errorf("%+v", got)
	}
	s.must("AutoRewrite", s.q(ask+`,"Domains":["other.example.com"]}`), nil) // by its name it is made anew
	if got := s.sent()["other.example.com/"]; got.Code != 301 || got.URL != "" {
		t.Errorf("%+v", got)
	}
	var shown describeRewriteOut
	s.must("DescribeRewrite", s.q(`{"LoadBalancerId":"$lb"}`), &shown)
	if len(shown.RewriteSet) != 2 || !shown.RewriteSet[0].BeAutoCreated || shown.RewriteSet[0].RewriteTarget.RewriteType != "Auto" ||
		shown.RewriteSet[0].RewriteTarget.TargetListenerId != s.https || shown.RewriteSet[0].ListenerId == s.https {
		t.Fatalf("%+v", shown)
	}
	var listeners describeListenersOut
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","Protocol":"HTTP"}`), &listeners)
	if len(listeners.Listeners) != 1 || listeners.Listeners[0].Port != 80 || len(listeners.Listeners[0].Rules) != 2 {
		t.Fatalf("%+v", listeners)
	}
	// What clients are sent to cannot go; without the redirects it can.
	s.refused("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https"}`), "FailedOperation", "DeleteRewrite")
	for _, r := range shown.RewriteSet {
		s.must("DeleteRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"`+r.ListenerId+`","TargetListenerId":"$https","RewriteInfos":[{"SourceLocationId":"`+r.LocationId+`","TargetLocationId":"`+r.RewriteTarget.TargetLocationId+`"}]}`), nil)
	}
	s.must("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https"}`), nil)
}

// An HTTP:80 listener that is there is used, with its rules.
func TestAutoRewriteUsesWhatIsThere(t *testing.T) {
	s := newTLSSite(t)
	s.rulesOf(s.https, "www.example.com", "other.example.com")
	s.must("AutoRewrite", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$https"}`), nil)
	l := s.Store.State().Listeners.Get(lb.ListenerID(s.http))
	if len(l.Rules) != 2 || string(l.Rules[0].ID) != s.rule || l.Rules[0].Rewrite == nil || !l.Rules[0].Default || l.Rules[1].Default {
		t.Errorf("%+v", l.Rules)
	}
	// A redirect by hand may lead to HTTPS as well, from any port.
	alt := s.listen(`"Ports":[8080],"Protocol":"HTTP"`)
	s.rulesOf(alt, "alt.example.com")
	from, to := s.show(alt).Rules[0].LocationId, s.show(s.https).Rules[0].LocationId
	s.must("ManualRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"`+alt+`","TargetListenerId":"$https","RewriteInfos":[{"SourceLocationId":"`+from+`","TargetLocationId":"`+to+`"}]}`), nil)
	if got := s.sent()["alt.example.com/"]; got != (snapshot.Redirect{Code: 302, Scheme: "https", Host: "www.example.com", URL: "/"}) {
		t.Errorf("%+v", got)
	}
}

func TestAutoRewriteRefusals(t *testing.T) {
	s := newTLSSite(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.RulesPerListener = 3
		o.Quotas.ListenersPerLB = 4
	})
	const ask = `{"LoadBalancerId":"$lb","ListenerId":"$https"`
	s.refused("AutoRewrite", s.q(ask+`}`), "InvalidParameter.LocationNotFound", "has no rules")
	s.rulesOf(s.https, "www.example.com", "b.example.com", "c.example.com")
	s.refusals([]refusal{
		{"AutoRewrite", s.q(`{"LoadBalancerId":"lb-none","ListenerId":"$https"}`), "InvalidParameter.LBIdNotFound", "lb-none"},
		{"AutoRewrite", s.q(`{"LoadBalancerId":"$lb","ListenerId":"lbl-none"}`), "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"AutoRewrite", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp"}`), "InvalidParameter.ProtocolCheckFailed", "TCP"},
		{"AutoRewrite", s.q(ask + `,"Domains":["none.example.com"]}`), "InvalidParameter.LocationNotFound", "Domains.0"},
		{"AutoRewrite", s.q(ask + `,"RewriteCodes":[301]}`), "InvalidParameterValue", "1 value for 0 domains"},
		{"AutoRewrite", s.q(ask + `,"Domains":["www.example.com"],"TakeUrls":[true,false]}`), "InvalidParameterValue", "TakeUrls"},
		{"AutoRewrite", s.q(ask + `,"Domains":["www.example.com"],"RewriteCodes":[302,0]}`), "InvalidParameterValue", "RewriteCodes"},
		{"AutoRewrite", s.q(ask + `,"Domains":["www.example.com"],"RewriteCodes":[200]}`), "InvalidParameterValue", "RewriteCodes.0: 200"},
	})
	// Only HTTPS:443 is where the vendor's redirects lead.
	other := s.listen(`"Ports":[8443],"Protocol":"HTTPS","Certificate":{"CertId":"$cert"}`)
	s.rulesOf(other, "www.example.com")
	s.refused("AutoRewrite", s.q(`{"LoadBalancerId":"$lb","ListenerId":"`+other+`"}`), "InvalidParameter.PortCheckFailed", "ListenerId: "+other+" listens on port 8443")
	s.must("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"`+other+`"}`), nil)
	s.rulesOf(s.http, "own.example.com")
	s.refused("AutoRewrite", s.q(ask+`}`), "LimitExceeded", "no more fit")
	// A rule that redirects elsewhere is left alone.
	alt := s.listen(`"Ports":[8080],"Protocol":"HTTP"`)
	s.rulesOf(alt, "alt.example.com")
	s.must("ManualRewrite", s.q(`{"LoadBalancerId":"$lb","SourceListenerId":"$http","TargetListenerId":"`+alt+`","RewriteInfos":[{"SourceLocationId":"$rule","TargetLocationId":"`+s.show(alt).Rules[0].LocationId+`"}]}`), nil)
	s.refused("AutoRewrite", s.q(ask+`,"Domains":["www.example.com"]}`), "InvalidParameter.RewriteAlreadyExist", "DeleteRewrite")
	s.must("DeleteListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http"}`), nil)
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[80],"Protocol":"TCP"}`), nil)
	s.refused("AutoRewrite", s.q(ask+`}`), "InvalidParameter.PortCheckFailed", "port 80")
}
