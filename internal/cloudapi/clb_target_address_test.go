// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A target named by address is the instance's, and is read as it was named.
func TestTargetsByAddress(t *testing.T) {
	s := newSite(t)
	rule := `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule",`
	s.must("RegisterTargets", s.q(rule+`"Targets":[{"EniIp":"10.200.0.2","Port":8080},{"EniIp":"10.200.0.3","Port":8080,"Type":"ENI","Weight":0},{"InstanceId":"ins-a","Port":8081}]}`), nil)
	shown := func() string {
		var got describeTargetsOut
		s.must("DescribeTargets", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["$http"]}`), &got)
		var all []string
		for _, x := range got.Listeners[0].Rules[0].Targets {
			eni := ""
			if x.EniId != nil {
				eni = " " + *x.EniId
			}
			all = append(all, fmt.Sprintf("%s %s %s:%d=%d%s", x.Type, x.InstanceId, x.PrivateIpAddresses[0], x.Port, x.Weight, eni))
		}
		return strings.Join(all, ", ")
	}
	expect := func(want string) {
		t.Helper()
		if got := shown(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	expect("ENI ins-a 10.200.0.2:8080=10 eni-a, ENI ins-b 10.200.0.3:8080=0 eni-b, CVM ins-a 10.200.0.2:8081=10")
	s.must("ModifyTargetWeight", s.q(rule+`"Targets":[{"EniIp":"10.200.0.2","Port":8080,"Weight":7},{"InstanceId":"ins-b","Port":8080,"Weight":8},{"EniIp":"10.200.0.2","Port":8081,"Weight":9}]}`), nil)
	s.must("ModifyTargetPort", s.q(rule+`"Targets":[{"EniIp":"10.200.0.3","Port":8080}],"NewPort":8090}`), nil)
	s.must("BatchModifyTargetWeight", s.q(`{"LoadBalancerId":"$lb","ModifyList":[{"ListenerId":"$http","LocationId":"$rule","Targets":[{"EniIp":"10.200.0.3","Port":8090,"Weight":5}]}]}`), nil)
	expect("ENI ins-a 10.200.0.2:8080=7 eni-a, ENI ins-b 10.200.0.3:8090=5 eni-b, CVM ins-a 10.200.0.2:8081=9")
	s.must("CloneLoadBalancer", s.q(`{"LoadBalancerId":"$lb","LoadBalancerName":"copy"}`), nil)
	byAddress := 0
	for _, l := range s.Store.State().Listeners.All() {
		for _, x := range allTargets(l) {
			if x.ByAddress {
				byAddress++
			}
		}
	}
	if byAddress != 4 {
		t.Errorf("%d targets are named by address, want two and their copies", byAddress)
	}
	var out batchTargetsOut
	s.must("BatchRegisterTargets", s.q(`{"LoadBalancerId":"$lb","Targets":[{"ListenerId":"$tcp","EniIp":"10.200.0.2","Port":9000},{"ListenerId":"$http","LocationId":"$rule","EniIp":"10.9.0.2","Port":1}]}`), &out)
	if !slices.Equal(out.FailListenerIdSet, []string{s.http}) || !strings.Contains(out.Message, "Targets.1.EniIp: no instance in vpc-1 has the private address 10.9.0.2") || s.targetsOf(s.tcp) != "ins-a:9000=10" {
		t.Errorf("%+v, %s", out, s.targetsOf(s.tcp))
	}
	s.must("BatchDeregisterTargets", s.q(`{"LoadBalancerId":"$lb","Targets":[{"ListenerId":"$tcp","EniIp":"10.200.0.2","Port":9000}]}`), nil)
	s.must("DeregisterTargets", s.q(rule+`"Targets":[{"EniIp":"10.200.0.2","Port":8080},{"InstanceId":"ins-b","Port":8090}]}`), nil)
	expect("CVM ins-a 10.200.0.2:8081=9")
}

func TestTargetsByAddressRefusals(t *testing.T) {
	s := newSite(t)
	s.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-ends", VPC: "vpc-1", State: lb.Terminating, Private: netip.MustParseAddr("10.200.0.9")})
		tx.PutInstance(&lb.Instance{ID: "ins-basic", State: lb.Running, Private: netip.MustParseAddr("10.77.0.2")})
	})
	rule := `{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":`
	s.must("RegisterTargets", s.q(rule+`[{"EniIp":"10.200.0.2","Port":8080},{"InstanceId":"ins-b","Port":8080}]}`), nil)
	for _, tc := range []struct{ action, targets, code, text string }{
		{"RegisterTargets", `[{"InstanceId":"ins-a","EniIp":"10.200.0.2","Port":1}]`, "InvalidParameter", "Targets.0.EniIp: InstanceId names the instance too"},
		{"RegisterTargets", `[{"InstanceId":"ins-a","Type":"ENI","Port":1}]`, "InvalidParameter", "Targets.0.Type: ENI does not go with InstanceId"},
		{"RegisterTargets", `[{"EniIp":"10.200.0.2","Type":"CVM","Port":1}]`, "InvalidParameter", "Targets.0.Type: CVM does not go with EniIp"},
		{"RegisterTargets", `[{"EniIp":"web","Port":1}]`, "InvalidParameterValue", `Targets.0.EniIp: "web" is not an address`},
		{"RegisterTargets", `[{"EniIp":"2001:db8::1","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: 2001:db8::1 is not of the family"},
		{"RegisterTargets", `[{"EniIp":"10.200.0.77","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: no instance in vpc-1 has"},
		{"RegisterTargets", `[{"EniIp":"10.9.0.2","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: no instance in vpc-1 has"},    // in another VPC
		{"RegisterTargets", `[{"EniIp":"10.77.0.2","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: no instance in vpc-1 has"},   // in the basic network
		{"RegisterTargets", `[{"EniIp":"192.0.2.70","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: no instance in vpc-1 has"},  // a public one
		{"RegisterTargets", `[{"EniIp":"10.200.0.9","Port":1}]`, "InvalidParameterValue", "Targets.0.EniIp: no instance in vpc-1 has"},  // on its way out
		{"RegisterTargets", `[{"EniIp":"10.200.0.2","Port":8080}]`, "InvalidParameterValue.Duplicate", "10.200.0.2 port 8080 is bound"}, // by address
		{"RegisterTargets", `[{"InstanceId":"ins-a","Port":8080}]`, "InvalidParameterValue.Duplicate", "ins-a port 8080 is bound already"},
		{"RegisterTargets", `[{"EniIp":"10.200.0.3","Port":8080}]`, "InvalidParameterValue.Duplicate", "10.200.0.3 port 8080 is bound already"},
		{"RegisterTargets", `[{"EniIp":"10.200.0.3","Port":7},{"InstanceId":"ins-b","Port":7}]`, "InvalidParameterValue.Duplicate", "Targets.1.Port: ins-b port 7 is named twice"},
		{"RegisterTargets", `[{"EniIp":"10.200.0.3","Port":7},{"EniIp":"10.200.0.3","Port":7}]`, "InvalidParameterValue.Duplicate", "Targets.1.Port: 10.200.0.3 port 7 is named twice"},
		{"DeregisterTargets", `[{"EniIp":"10.200.0.2","Port":8080},{"InstanceId":"ins-a","Port":8080}]`, "InvalidParameterValue.Duplicate", "named twice"},
		{"DeregisterTargets", `[{"EniIp":"10.200.0.3","Port":9}]`, "InvalidParameter", "10.200.0.3 port 9 is not bound here"},
		{"DeregisterTargets", `[{"EniIp":"10.200.0.77","Port":9}]`, "InvalidParameter", "10.200.0.77 port 9 is not bound here"},
		{"ModifyTargetWeight", `[{"EniIp":"10.200.0.77","Port":8080}]`, "InvalidParameter", "not bound"},
		{"ModifyTargetPort", `[{"EniIp":"10.200.0.77","Port":8080}],"NewPort":9`, "InvalidParameter", "not bound"},
		{"ModifyTargetPort", `[{"EniIp":"web","Port":8080}],"NewPort":9`, "InvalidParameterValue", "Targets.0.EniIp"},
		{"ModifyTargetWeight", `[{"Port":8080}]`, "MissingParameter", "Targets.0.InstanceId: neither it nor EniIp is given"},
	} {
		s.refused(tc.action, s.q(rule+tc.targets+`}`), tc.code, tc.text)
	}
}

// Behind an IPv6 load balancer the address is the IPv6 one, of a machine that
// joined too.
func TestIPv6TargetsByAddress(t *testing.T) {
	b := newSix(t)
	b.seed(func(tx *store.Tx) {
		i := *b.without
		i.ID, i.Private, i.Joined, i.Others = "ins-joined01", netip.MustParseAddr("10.1.9.9"), true, []netip.Addr{netip.MustParseAddr("2001:db8:9::9")}
		tx.PutInstance(&i)
	})
	id := b.balancer(b.public() + `}`).LoadBalancerId
	var made createListenerOut
	b.must("CreateListener", fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[80]}`, id), &made)
	bind := func(addr string) string {
		return fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q,"Targets":[{"EniIp":%q,"Port":80}]}`, id, made.ListenerIds[0], addr)
	}
	b.must("RegisterTargets", bind("2001:db8:200:7:0::2"), nil)
	b.must("RegisterTargets", bind("2001:db8:9::9"), nil)
	b.refused("RegisterTargets", bind("2001:db8:200:7::2"), "InvalidParameterValue.Duplicate", "2001:db8:200:7::2 port 80 is bound already")
	b.refused("RegisterTargets", bind(b.without.Private.String()), "InvalidParameterValue", "is not of the family of "+id)
	var got describeTargetsOut
	b.must("DescribeTargets", fmt.Sprintf(`{"LoadBalancerId":%q}`, id), &got)
	if x := got.Listeners[0].Targets; len(x) != 2 || x[0].Type != "ENI" || x[0].InstanceId != string(b.with.ID) || x[0].PrivateIpAddresses[0] != "2001:db8:200:7::2" || x[1].InstanceId != "ins-joined01" || x[1].PrivateIpAddresses[0] != "2001:db8:9::9" {
		t.Errorf("got %+v", x)
	}
	// Target groups name members by their IPv4 address alone.
	var group createTargetGroupOut
	b.must("CreateTargetGroup", fmt.Sprintf(`{"TargetGroupName":"g","VpcId":%q,"Port":80}`, b.vpc), &group)
	b.refused("RegisterTargetGroupInstances", fmt.Sprintf(`{"TargetGroupId":%q,"TargetGroupInstances":[{"BindIP":"2001:db8:200:7::2","Port":80}]}`, group.TargetGroupId), "InvalidParameterValue", "BindIP")
}

// Files say how a target was named, and turn it without a new target.
func TestFilesOfTargetsByAddress(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	file := func(one, two string) map[string]string {
		return map[string]string{"a.yaml": `
LoadBalancers:
- LoadBalancerName: named
  Vpc: office
  Listeners:
  - {Protocol: TCP, Port: 80, Targets: [{Instance: web-1, Port: 7000` + one + `}, {Instance: web-2, Port: 7000` + two + `}]}
`}
	}
	targets := func() []lb.Target {
		for _, l := range b.Store.State().Listeners.All() {
			if string(l.Balancer) == b.balancerNamed("named") {
				return l.Targets
			}
		}
		return nil
	}
	b.apply(file(", Type: ENI", ""), false, false)
	first := targets()
	if len(first) != 2 || !first[0].ByAddress || first[1].ByAddress {
		t.Fatalf("made %+v", first)
	}
	if again := b.apply(file(", Type: ENI", ", Type: CVM"), true, false); len(again) > 0 {
		t.Errorf("a second time it would %s", again)
	}
	if !strings.Contains(strings.Join(slices.Collect(maps.Values(b.export())), ""), "Type: ENI") {
		t.Error("the export does not say how the target was named")
	}
	if got := b.apply(file("", ", Type: ENI, Weight: 5"), false, false); !slices.Equal(got, []string{"change Target web-1:7000 of TCP:80 of named Type", "change Target web-2:7000 of TCP:80 of named Weight,Type"}) {
		t.Errorf("steps %q", got)
	}
	if now := targets(); now[0].ByAddress || !now[1].ByAddress || now[1].Weight != 5 || now[0].Num != first[0].Num || now[1].Num != first[1].Num {
		t.Errorf("turned to %+v", now)
	}
	b.refused("ApplyConfiguration", `{"TargetGroups":[{"TargetGroupName":"x","Vpc":"office","Members":[{"Instance":"web-1","Port":1,"Type":"ENI"}]}]}`, "UnsupportedOperation", "TargetGroups.0.Members.0.Type")
}
