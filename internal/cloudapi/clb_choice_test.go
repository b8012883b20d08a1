// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/lb"
)

// What is said of a choice is stored, read back by the vendor's actions and by
// ours, and goes into files and comes back from them.
func TestChoice(t *testing.T) {
	s := newSite(t)
	at := `{"LoadBalancerId":"$lb","ListenerId":"$tcp",`
	rule := `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule",`
	for _, tc := range []struct {
		action, params string
		want           lb.Choice
		scheduler      string
		rule           bool
	}{
		{"ModifyListener", at + `"Scheduler":"LEAST_CONN"}`, lb.Choice{}, "LEAST_CONN", false},
		{"ModifyListener", at + `"ListenerName":"n"}`, lb.Choice{}, "LEAST_CONN", false},
		{"ModifyListener", at + `"Scheduler":"IP_HASH","SessionExpireTime":0}`, lb.Choice{}, "IP_HASH", false},
		{"ModifyListener", at + `"Scheduler":"WRR","SessionExpireTime":3600}`, lb.Choice{Session: 3600}, "WRR", false},
		{"SetTargetChoice", at + `"WhenAllUnhealthy":"NONE","SlowStart":30}`, lb.Choice{Session: 3600, HealthyOnly: true, SlowStart: 30}, "WRR", false},
		{"SetTargetChoice", at + `"SlowStart":900}`, lb.Choice{Session: 3600, HealthyOnly: true, SlowStart: 900}, "WRR", false},
		{"ModifyRule", rule + `"SessionExpireTime":86400,"CookieName":"who"}`, lb.Choice{Session: 86400, Cookie: "who"}, "WRR", true},
		{"SetTargetChoice", rule + `"WhenAllUnhealthy":"NONE"}`, lb.Choice{Session: 86400, Cookie: "who", HealthyOnly: true}, "WRR", true},
		{"SetTargetChoice", rule + `"WhenAllUnhealthy":"ALL"}`, lb.Choice{Session: 86400, Cookie: "who"}, "WRR", true},
		{"ModifyRule", rule + `"Scheduler":"LEAST_CONN","SessionExpireTime":0}`, lb.Choice{}, "LEAST_CONN", true},
	} {
		s.must(tc.action, s.q(tc.params), nil)
		l := s.Store.State().Listeners.Get(lb.ListenerID(s.tcp))
		scheduler, choice := l.Scheduler, l.Choice
		if tc.rule {
			r := s.Store.State().Listeners.Get(lb.ListenerID(s.http)).Rules[0]
			scheduler, choice = r.Scheduler, r.Choice
		}
		if scheduler != tc.scheduler || choice != tc.want {
			t.Errorf("%s %s: %s %+v, want %s %+v", tc.action, tc.params, scheduler, choice, tc.scheduler, tc.want)
		}
	}
	s.must("ModifyRule", s.q(rule+`"Scheduler":"WRR","SessionExpireTime":30}`), nil)
	var got describeTargetChoiceOut
	s.must("DescribeTargetChoice", s.q(`{"LoadBalancerId":"$lb"}`), &got)
	var lines []string
	for _, c := range got.Choices {
		cookie := "-"
		if c.CookieName != nil {
			cookie = *c.CookieName
		}
		lines = append(lines, fmt.Sprintf("%v %s %d %s %s %d", c.LocationId != nil, c.Scheduler, c.SessionExpireTime, cookie, c.WhenAllUnhealthy, c.SlowStart))
	}
	if text := strings.Join(lines, ";"); got.TotalCount != 2 || !strings.Contains(text, "false WRR 3600 - NONE 900") || !strings.Contains(text, "true WRR 30 sallyport_route ALL 0") {
		t.Errorf("%q", text)
	}
	var shown struct{ Listeners []listenerOut }
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$tcp"]}`), &shown)
	if l := shown.Listeners[0]; l.SessionExpireTime != 3600 || *l.Scheduler != "WRR" {
		t.Errorf("%+v", l)
	}
}

// Files carry a choice there and back; what they leave out has its default.
func TestChoiceInFiles(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	for id, l := range b.Store.State().Listeners.All() {
		at := fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q`, l.Balancer, id)
		if l.Protocol.Layer7() {
			for _, r := range l.Rules {
				b.must("ModifyRule", fmt.Sprintf(`%s,"LocationId":%q,"SessionExpireTime":3600,"CookieName":"who"}`, at, r.ID), nil)
				b.must("SetTargetChoice", fmt.Sprintf(`%s,"LocationId":%q,"WhenAllUnhealthy":"NONE","SlowStart":900}`, at, r.ID), nil)
			}
			continue
		}
		b.must("ModifyListener", at+`,"SessionExpireTime":3600}`, nil)
		b.must("SetTargetChoice", at+`,"WhenAllUnhealthy":"NONE","SlowStart":900}`, nil)
	}
	files := b.export()
	other := newBench(t)
	other.apply(files, false, false)
	if diff := cmp.Diff(files, other.export()); diff != "" {
		t.Errorf("the empty system turned out different:\n%s", diff)
	}
	if steps := other.apply(files, true, true); len(steps) > 0 {
		t.Errorf("a second time it would %s", steps)
	}
	defaults := strings.NewReplacer("SessionExpireTime: 3600", "SessionExpireTime: 0", "WhenAllUnhealthy: NONE", "WhenAllUnhealthy: ALL", "SlowStart: 900", "SlowStart: 0", "CookieName: who", "CookieName: \"\"")
	reset := map[string]string{}
	for name, text := range files {
		reset[name] = defaults.Replace(text)
	}
	other.apply(reset, false, false)
	for _, l := range other.Store.State().Listeners.All() {
		if l.Choice != (lb.Choice{}) {
			t.Errorf("after the files were changed: %+v", l.Choice)
		}
		for _, r := range l.Rules {
			if r.Choice != (lb.Choice{}) {
				t.Errorf("after the files were changed: %+v", r.Choice)
			}
		}
	}
}

func TestChoiceRefusals(t *testing.T) {
	s := newSite(t)
	for _, tc := range []struct{ action, params, code, text string }{
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","Scheduler":"LEAST_CONN","SessionExpireTime":60}`, "InvalidParameter", "SessionExpireTime: stickiness goes with WRR only"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$http","Scheduler":"LEAST_CONN"}`, "InvalidParameterValue", "Scheduler: the rules of an HTTP listener"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","SessionExpireTime":60,"Scheduler":"IP_HASH"}`, "InvalidParameter", "SessionExpireTime"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"HTTP","SessionExpireTime":60}`, "InvalidParameterValue", "SessionExpireTime"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","DeregisterTargetRst":true}`, "UnsupportedOperation", "DeregisterTargetRst"},
		{"ModifyListener", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","RescheduleUnhealthy":true}`, "UnsupportedOperation", "RescheduleUnhealthy"},
		{"CreateListener", `{"LoadBalancerId":"$lb","Ports":[95],"Protocol":"TCP","RescheduleTargetZeroWeight":true}`, "UnsupportedOperation", "RescheduleTargetZeroWeight"},
		{"ModifyRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","CookieName":"a"}`, "InvalidParameter", "CookieName: no session"},
		{"ModifyRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","CookieName":"a;b","SessionExpireTime":60}`, "InvalidParameterValue", "CookieName"},
		{"ModifyRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","SessionExpireTime":29}`, "InvalidParameterValue.Range", "30-86400"},
		{"CreateRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"d.example.com","Url":"/","Scheduler":"LEAST_CONN","SessionExpireTime":60}]}`, "InvalidParameter", "Rules.0.SessionExpireTime"},
		{"CreateRule", `{"LoadBalancerId":"$lb","ListenerId":"$http","Rules":[{"Domain":"d.example.com","Url":"/","SessionExpireTime":29}]}`, "InvalidParameterValue.Range", "Rules.0.SessionExpireTime"},
		{"SetTargetChoice", `{"LoadBalancerId":"lb-none","ListenerId":"$tcp"}`, "InvalidParameter.LBIdNotFound", "lb-none"},
		{"SetTargetChoice", `{"LoadBalancerId":"$lb","ListenerId":"lbl-none"}`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"SetTargetChoice", `{"LoadBalancerId":"$lb","ListenerId":"$http"}`, "MissingParameter", "LocationId"},
		{"SetTargetChoice", `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"loc-none"}`, "InvalidParameter.LocationNotFound", "loc-none"},
		{"SetTargetChoice", `{"LoadBalancerId":"$lb","ListenerId":"$tcp","LocationId":"$rule"}`, "InvalidParameterValue", "has no rules"},
		{"DescribeTargetChoice", `{"LoadBalancerId":"lb-none"}`, "InvalidParameter.LBIdNotFound", "lb-none"},
	} {
		s.refused(tc.action, s.q(tc.params), tc.code, tc.text)
	}
	b := newBench(t)
	wealthy(b)
	b.refused("ApplyConfiguration", `{"LoadBalancers":[{"LoadBalancerName":"x","Listeners":[{"Protocol":"HTTP","Port":81,"SlowStart":5}]}]}`, "InvalidParameterValue", "SlowStart: the rules")
}
