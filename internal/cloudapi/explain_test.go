// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// guardedSite is a site whose edge group allows TCP:80 above a drop of
// everything, and whose instances' group allows one client on 8080.
func guardedSite(t *testing.T) *site {
	t.Helper()
	s := newSite(t)
	s.seed(func(tx *store.Tx) {
		any4 := netip.MustParsePrefix("0.0.0.0/0")
		allow := func(id lb.RuleID, port uint16, peer netip.Prefix) lb.PolicyRule {
			return lb.PolicyRule{ID: id, Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: port, Last: port}}, Peer: peer}
		}
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-edge0001", Name: "edge", ProjectID: "0", Ingress: []lb.PolicyRule{
			allow("pol-a", 80, any4), {ID: "pol-b", Action: lb.Drop, Peer: any4}, allow("pol-c", 81, any4)}})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-host0001", Name: "host", ProjectID: "0", Ingress: []lb.PolicyRule{
			allow("pol-d", 8080, netip.MustParsePrefix("203.0.113.10/32"))}})
		tx.PutInstance(&lb.Instance{ID: "ins-host0001", VPC: "vpc-1", State: lb.Running, Groups: []lb.GroupID{"sg-host0001"},
			Private: netip.MustParseAddr("10.200.0.9"), Public: netip.MustParseAddr("192.0.2.80")})
	})
	s.must("SetLoadBalancerSecurityGroups", s.q(`{"LoadBalancerId":"$lb","SecurityGroups":["sg-edge0001"]}`), nil)
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-host0001","Port":8080}]}`), nil)
	return s
}

func TestExplainPath(t *testing.T) {
	s := guardedSite(t)
	tests := []struct {
		name, in  string
		admitted  bool
		gates     string // gate action reason position, joined
		text      string
		nearRule  int    // index of the nearest rule, -1 none
		nearMatch string // what it missed by
	}{
		{"served", `"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":80`, true, "clb ACCEPT rule 0, cvm ACCEPT rule 0", "allowed at both gates", -1, ""},
		{"gate 2 refuses", `"LoadBalancerId":"$lb","Source":"203.0.113.11","Port":80`, false, "clb ACCEPT rule 0, cvm DROP no_match -1", "refused at gate 2", 0, "source"},
		{"order refuses", `"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":81`, false, "clb DROP rule 1", "rule 2 of sg-edge0001 refuses it", 2, "order"},
		{"no listener", `"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":82`, false, "clb DROP no_listener -1", "no listener", -1, ""},
		{"direct", `"InstanceId":"ins-host0001","Source":"203.0.113.10","Port":9","Protocol":"UDP`, false, "cvm DROP no_match -1", "straight to", 0, "protocol"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out explainPathOut
			s.must("ExplainPath", s.q(strings.Replace("{"+tt.in+"}", `9","Protocol":"UDP`, `9,"Protocol":"UDP"`, 1)), &out)
			var gates []string
			for _, g := range out.Gates {
				gates = append(gates, strings.Join([]string{g.Gate, g.Action, g.Reason, strconv.Itoa(g.PolicyIndex)}, " "))
			}
			if got := strings.Join(gates, ", "); got != tt.gates || out.Admitted != tt.admitted {
				t.Errorf("gates %q admitted %v, want %q %v", got, out.Admitted, tt.gates, tt.admitted)
			}
			if !strings.Contains(out.Text, tt.text) {
				t.Errorf("text %q, want it to say %q", out.Text, tt.text)
			}
			last := out.Gates[len(out.Gates)-1]
			if tt.nearRule < 0 {
				return
			}
			if len(last.Nearest) == 0 || last.Nearest[0].PolicyIndex != tt.nearRule || last.Nearest[0].Mismatch[0] != tt.nearMatch {
				t.Errorf("nearest %+v, want rule index %d missing by %s", last.Nearest, tt.nearRule, tt.nearMatch)
			}
		})
	}
}

func TestExplainPathRefuses(t *testing.T) {
	s := guardedSite(t)
	for _, r := range [][3]string{
		{`{"LoadBalancerId":"$lb","Source":"banana","Port":80}`, "InvalidParameterValue", "is not an address"},
		{`{"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":0}`, "InvalidParameterValue", "outside 1-65535"},
		{`{"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":80,"Protocol":"ICMP"}`, "InvalidParameterValue", "has no ports"},
		{`{"LoadBalancerId":"$lb","Source":"203.0.113.10","Port":80,"Protocol":"ALL"}`, "InvalidParameterValue", "it is one of TCP, UDP, ICMP, ICMPv6, GRE"},
		{`{"Source":"203.0.113.10","Port":80}`, "InvalidParameterCombination", "exactly one"},
		{`{"LoadBalancerId":"lb-none0000","Source":"203.0.113.10","Port":80}`, "InvalidParameter.LBIdNotFound", "no load balancer"},
		{`{"LoadBalancerId":"$lb","Source":"2001:db8::1","Port":80}`, "InvalidParameterValue", "no VIP of the family"},
		{`{"InstanceId":"ins-none0000","Source":"203.0.113.10","Port":80}`, "InvalidInstanceId.NotFound", "no instance"},
		{`{"LoadBalancerId":"$lb","InstanceId":"ins-host0001","Source":"203.0.113.10","Port":8080}`, "InvalidParameterCombination", "exactly one"},
	} {
		s.refused("ExplainPath", s.q(r[0]), r[1], r[2])
	}
}

func TestSetSecurityGroupPolicies(t *testing.T) {
	s := guardedSite(t)
	ids := func() string {
		var all []string
		for _, r := range s.Store.State().Groups.Get("sg-edge0001").Ingress {
			all = append(all, string(r.ID)+":"+r.Action.String())
		}
		return strings.Join(all, " ")
	}
	rule := func(port, action string) string {
		return `{"Protocol":"TCP","Port":"` + port + `","CidrBlock":"0.0.0.0/0","Action":"` + action + `"}`
	}
	set := func(version, rules string) string {
		return `{"SecurityGroupId":"sg-edge0001","Version":"` + version + `","Direction":"Ingress","Policies":[` + rules + `]}`
	}
	s.must("SetSecurityGroupPolicies", set("0", rule("81", "ACCEPT")+","+rule("80", "ACCEPT")), nil)
	if got := ids(); got != "pol-c:ACCEPT pol-a:ACCEPT" {
		t.Errorf("after sorting: %s, want the same rules under their ids in the new order", got)
	}
	s.refused("SetSecurityGroupPolicies", set("0", rule("80", "ACCEPT")), "UnsupportedOperation.VersionMismatch", "version 1")
	s.refused("SetSecurityGroupPolicies", set("", ""), "MissingParameter", "Version")
	s.refused("SetSecurityGroupPolicies", strings.Replace(set("1", ""), "Ingress", "Sideways", 1), "InvalidParameterValue", "Direction")
	s.refused("SetSecurityGroupPolicies", set("1", rule("80-", "ACCEPT")), "InvalidParameterValue", "Policies.0.Port")
	dry := func(request string) string { return strings.Replace(request, "{", `{"DryRun":true,`, 1) }
	s.must("SetSecurityGroupPolicies", dry(set("1", rule("82", "ACCEPT"))), nil)
	if got := ids(); got != "pol-c:ACCEPT pol-a:ACCEPT" {
		t.Errorf("a dry run wrote %s", got)
	}
	s.refused("SetSecurityGroupPolicies", dry(set("1", rule("82", "ACCEPT")+","+rule("80-", "ACCEPT"))), "InvalidParameterValue", "Policies.1.Port")
	s.refused("SetSecurityGroupPolicies", dry(set("0", rule("82", "ACCEPT"))), "UnsupportedOperation.VersionMismatch", "version 1")
	s.must("SetSecurityGroupPolicies", set("1", ""), nil)
	if got := ids(); got != "" {
		t.Errorf("an empty list left %s", got)
	}
}

func TestSearchSecurityGroups(t *testing.T) {
	s := guardedSite(t)
	var out searchGroupsOut
	s.must("SearchSecurityGroups", `{"Text":"EDGE0"}`, &out)
	if out.TotalCount != 1 || out.SecurityGroups[0].SecurityGroupId != "sg-edge0001" || out.SecurityGroups[0].CLB != 1 || out.SecurityGroups[0].Ingress != 3 {
		t.Errorf("search by id gives %+v", out)
	}
	s.must("SearchSecurityGroups", `{"Limit":1,"Offset":1}`, &out)
	if len(out.SecurityGroups) != 1 || out.TotalCount != 4 {
		t.Errorf("a page of one gives %d of %d", len(out.SecurityGroups), out.TotalCount)
	}
}
