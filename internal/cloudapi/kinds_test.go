// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A net is a bench with two VPCs, a subnet in each, and two groups.
type netBench struct {
	*bench
	vpc, subnet, otherVPC, otherSubnet string
}

func newNet(t *testing.T, change ...func(*Options)) *netBench {
	t.Helper()
	n := &netBench{bench: newBench(t, change...)}
	made := func(cidr, part string) (string, string) {
		var v struct{ Vpc struct{ VpcId string } }
		n.must("CreateVpc", `{"VpcName":"v","CidrBlock":"`+cidr+`"}`, &v)
		var s struct{ Subnet struct{ SubnetId string } }
		n.must("CreateSubnet", `{"VpcId":"`+v.Vpc.VpcId+`","SubnetName":"s","CidrBlock":"`+part+`","Zone":"local-1"}`, &s)
		return v.Vpc.VpcId, s.Subnet.SubnetId
	}
	n.vpc, n.subnet = made("10.20.0.0/16", "10.20.1.0/29")
	n.otherVPC, n.otherSubnet = made("10.30.0.0/16", "10.30.1.0/24")
	n.seed(func(tx *store.Tx) {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-edge"})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-cvm"})
	})
	return n
}

func (n *netBench) q(params string) string {
	return strings.NewReplacer("$vpc", n.vpc, "$subnet", n.subnet, "$other", n.otherVPC, "$far", n.otherSubnet).Replace(params)
}

func (n *netBench) balancer(id string) *lb.LoadBalancer {
	n.Helper()
	b := n.Store.State().Balancers.Get(lb.BalancerID(id))
	if b == nil {
		n.Fatalf("there is no %s", id)
	}
	return b
}

// private makes a private load balancer.
func (n *netBench) private() string {
	n.Helper()
	var made struct{ LoadBalancerIds []string }
	n.must("CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet"}`), &made)
	return made.LoadBalancerIds[0]
}

func (n *netBench) imported(params string) string {
	n.Helper()
	var made struct{ LoadBalancerId string }
	n.must("ImportLoadBalancer", n.q(params), &made)
	return made.LoadBalancerId
}

func TestCreatePrivateLoadBalancer(t *testing.T) {
	n := newNet(t)
	id := n.private()
	if b := n.balancer(id); !b.Private() || string(b.Subnet) != n.subnet || string(b.VPC) != n.vpc || b.VIPs[0] != netip.MustParseAddr("10.20.1.2") {
		t.Errorf("got %+v", b)
	}
	var got struct{ LoadBalancerSet []loadBalancerOut }
	n.must("DescribeLoadBalancers", `{"LoadBalancerType":"INTERNAL"}`, &got)
	if l := got.LoadBalancerSet; len(l) != 1 || l[0].LoadBalancerType != "INTERNAL" || l[0].SubnetId != n.subnet || l[0].VpcId != n.vpc || l[0].LoadBalancerVips[0] != "10.20.1.2" || l[0].Forward != 1 {
		t.Errorf("got %+v", l)
	}
	n.must("CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet","Vip":"10.20.1.6"}`), nil)
	n.must("CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet","Number":3}`), nil)
	rows := []refusal{
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","SubnetId":"$subnet"}`, "MissingParameter", "VpcId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$vpc"}`, "MissingParameter", "SubnetId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"vpc-none0000","SubnetId":"$subnet"}`, "InvalidParameterValue", "VpcId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$far"}`, "InvalidParameterValue", "has no subnet"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far","Vip":"10.20.1.7"}`, "InvalidParameterValue", "gives out"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet","Vip":"10.20.1.6"}`, "InvalidParameterValue", "in use"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet","Vip":"x"}`, "InvalidParameter.FormatError", "Vip"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$vpc","SubnetId":"$subnet"}`, "ResourceInsufficient", "use another subnet"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far","EipAddressId":"eip-none0000"}`, "InvalidAddressId.NotFound", "EipAddressId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far","EipAddressId":"eip"}`, "InvalidParameterValue.AddressIdMalformed", "EipAddressId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far","EipAddressId":"eip-none0000","Number":2}`, "InvalidParameter", "EipAddressId"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"OPEN","SubnetId":"$subnet"}`, "InvalidParameterValue", "SubnetId"},
		{"DeleteSubnet", `{"SubnetId":"$subnet"}`, "ResourceInUse", "load balancer"},
		{"DeleteVpc", `{"VpcId":"$vpc"}`, "ResourceInUse", "subnet"},
	}
	for i := range rows {
		rows[i].params = n.q(rows[i].params)
	}
	n.refusals(rows)
	// The quota counts each type by itself.
	n.Quotas.BalancersPerType = 5
	n.refused("CreateLoadBalancer", n.q(`{"LoadBalancerType":"INTERNAL","VpcId":"$other","SubnetId":"$far"}`), "LimitExceeded", "5 private load balancers")
	n.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, nil)
}

func TestImport(t *testing.T) {
	n := newNet(t)
	old := n.imported(`{"LoadBalancerType":"INTERNAL","Forward":0,"VpcId":"$vpc","SubnetId":"$subnet","CreateTime":"2016-12-04T23:59:59+08:00","LoadBalancerName":"old","Tags":[{"TagKey":"k","TagValue":"v"}]}`)
	if b := n.balancer(old); !b.Classic || b.Created.Format("2006-01-02 15:04:05") != "2016-12-04 15:59:59" || !b.ProbesNeedRule(lb.HealthCheck{}) || b.Name != "old" || b.Tags["k"] != "v" {
		t.Errorf("got %+v", b)
	}
	then := n.imported(`{"LoadBalancerType":"INTERNAL","Forward":0,"VpcId":"$vpc","SubnetId":"$subnet","CreateTime":"2016-12-04 16:00:00","Vip":"10.20.1.5"}`)
	if b := n.balancer(then); b.ProbesNeedRule(lb.HealthCheck{}) || b.VIPs[0] != netip.MustParseAddr("10.20.1.5") {
		t.Errorf("got %+v", b)
	}
	basic := n.imported(`{"LoadBalancerType":"INTERNAL","Network":"BASIC"}`)
	if b := n.balancer(basic); !b.Basic() || b.Classic || b.VIPs[0] != netip.MustParseAddr("198.18.0.2") {
		t.Errorf("got %+v", b)
	}
	public := n.imported(`{"LoadBalancerType":"OPEN","Network":"BASIC","Forward":0,"Vip":"192.0.2.9"}`)
	if b := n.balancer(public); !b.Basic() || !b.Classic || b.VIPs[0] != netip.MustParseAddr("192.0.2.9") {
		t.Errorf("got %+v", b)
	}
	for forward, want := range map[string]int{"0": 3, "1": 1, "-1": 4} {
		var got struct{ LoadBalancerSet []loadBalancerOut }
		n.must("DescribeLoadBalancers", `{"Forward":`+forward+`}`, &got)
		if len(got.LoadBalancerSet) != want {
			t.Errorf("Forward %s lists %d, want %d", forward, len(got.LoadBalancerSet), want)
		}
	}
	var made struct{ InstanceIdSet []string }
	n.must("ImportInstances", `{"InstanceName":"b","InstanceCount":2,"SecurityGroupIds":["sg-cvm00000"]}`, nil2(n, &made))
	first := n.Store.State().Instances.Get(lb.InstanceID(made.InstanceIdSet[0]))
	if len(made.InstanceIdSet) != 2 || !first.Basic() || first.Subnet != "" || !lb.BasicNetwork().Contains(first.Private) || first.Public.IsValid() {
		t.Errorf("got %+v", first)
	}
	rows := []refusal{
		{"ImportLoadBalancer", `{"LoadBalancerType":"INTERNAL"}`, "MissingParameter", "VpcId"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"ANYCAST"}`, "InvalidParameterValue", "LoadBalancerType"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","Network":"MOON"}`, "InvalidParameterValue", "Network"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","Snat":true}`, "UnsupportedOperation", "Snat"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","CreateTime":"yesterday"}`, "InvalidParameterValue", "CreateTime"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","CreateTime":"2999-01-01 00:00:00"}`, "InvalidParameterValue", "yet to come"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","LoadBalancerName":"a b"}`, "InvalidParameterValue", "LoadBalancerName"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"OPEN","Tags":[{"TagKey":"k"},{"TagKey":"k"}]}`, "InvalidParameterValue", "Tags"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"INTERNAL","Network":"BASIC","VpcId":"$vpc"}`, "InvalidParameterCombination", "outside any VPC"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"INTERNAL","Network":"BASIC","SubnetId":"$subnet"}`, "InvalidParameterCombination", "outside any VPC"},
		{"ImportLoadBalancer", `{"LoadBalancerType":"INTERNAL","Network":"BASIC","Vip":"10.20.1.6"}`, "InvalidParameterValue", "gives out"},
		{"ImportInstances", `{"SecurityGroupIds":["sg-none0000"]}`, "InvalidSecurityGroupId.NotFound", "SecurityGroupIds"},
	}
	for i := range rows {
		rows[i].params = n.q(rows[i].params)
	}
	n.refusals(rows)
	n.Quotas.BalancersPerType = 1
	n.refused("ImportLoadBalancer", `{"LoadBalancerType":"INTERNAL","Network":"BASIC"}`, "LimitExceeded", "private")
}

// nil2 seeds the group that ImportInstances names.
func nil2[T any](n *netBench, out *T) *T {
	n.seed(func(tx *store.Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-cvm00000"}) })
	return out
}

// Which load balancers can have groups, and in seed mode: public ones only.
func TestBindByKind(t *testing.T) {
	for _, seed := range []bool{false, true} {
		n := newNet(t, func(o *Options) { o.SeedMode = seed })
		var open struct{ LoadBalancerIds []string }
		n.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN"}`, &open)
		for _, row := range []struct {
			name, id   string
			bind, pass bool
		}{
			{"public", open.LoadBalancerIds[0], true, true},
			{"public classic", n.imported(`{"LoadBalancerType":"OPEN","Forward":0}`), true, true},
			{"public, basic network", n.imported(`{"LoadBalancerType":"OPEN","Network":"BASIC"}`), true, false},
			{"private", n.private(), !seed, true},
			{"private, basic network", n.imported(`{"LoadBalancerType":"INTERNAL","Network":"BASIC"}`), false, false},
			{"private classic", n.imported(`{"LoadBalancerType":"INTERNAL","Forward":0,"VpcId":"$vpc","SubnetId":"$subnet"}`), false, false},
		} {
			set := `{"LoadBalancerId":"` + row.id + `","SecurityGroups":["sg-edge"]}`
			add := `{"SecurityGroup":"sg-edge","OperationType":"ADD","LoadBalancerIds":["` + row.id + `"]}`
			pass := `{"LoadBalancerId":"` + row.id + `","LoadBalancerPassToTarget":true}`
			if row.bind {
				n.must("SetLoadBalancerSecurityGroups", set, nil)
				n.must("SetSecurityGroupForLoadbalancers", add, nil)
			} else {
				n.refused("SetLoadBalancerSecurityGroups", set, "InvalidParameterValue", row.id+" is ")
				n.refused("SetSecurityGroupForLoadbalancers", add, "InvalidParameterValue", row.id+" is ")
			}
			if got := len(n.balancer(row.id).Groups); (got == 1) != row.bind {
				t.Errorf("seed mode %v, %s: %d groups are bound", seed, row.name, got)
			}
			n.must("SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"`+row.id+`"}`, nil)
			if row.pass {
				n.must("ModifyLoadBalancerAttributes", pass, nil)
			} else {
				n.refused("ModifyLoadBalancerAttributes", pass, "InvalidParameterValue", "LoadBalancerPassToTarget")
			}
		}
	}
}

// The server's SourceIpType counts where the author of a check says nothing.
func TestSourceIPTypeDefault(t *testing.T) {
	for _, standard := range []int{0, 1} {
		s := newSite(t, func(o *Options) { o.SourceIPType = standard })
		checks := func() (tcp, rule int) {
			st := s.Store.State()
			return st.Listeners.Get(lb.ListenerID(s.tcp)).Check.SourceIPType, st.Listeners.Get(lb.ListenerID(s.http)).Rules[0].Check.SourceIPType
		}
		if tcp, rule := checks(); tcp != standard || rule != standard {
			t.Errorf("default %d: %d and %d", standard, tcp, rule)
		}
		s.must("ModifyListener", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","HealthCheck":{"TimeOut":3}}`), nil)
		s.must("ModifyRule", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","HealthCheck":{"SourceIpType":`+map[int]string{0: "1", 1: "0"}[standard]+`}}`), nil)
		if tcp, rule := checks(); tcp != standard || rule != 1-standard {
			t.Errorf("default %d, after changes: %d and %d", standard, tcp, rule)
		}
		var made struct{ ListenerIds []string }
		s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[99],"Protocol":"TCP","HealthCheck":{"SourceIpType":0}}`), &made)
		if got := s.Store.State().Listeners.Get(lb.ListenerID(made.ListenerIds[0])).Check.SourceIPType; got != 0 {
			t.Errorf("default %d, given 0: %d", standard, got)
		}
	}
}

// Explain, the listing of effective rules, status and verdict lines name system
// rules by their number.
func TestSystemRulesAreVisible(t *testing.T) {
	n := newNet(t)
	clb := n.private()
	eip := n.allocate(`{}`)[0]
	var made struct{ InstanceIdSet, ListenerIds []string }
	n.must("RunInstances", n.q(`{"VirtualPrivateCloud":{"VpcId":"$vpc","SubnetId":"$subnet"}}`), &made)
	instance := made.InstanceIdSet[0]
	n.must("CreateListener", `{"LoadBalancerId":"`+clb+`","Ports":[80],"Protocol":"TCP","HealthCheck":{"SourceIpType":1}}`, &made)
	n.must("RegisterTargets", `{"LoadBalancerId":"`+clb+`","ListenerId":"`+made.ListenerIds[0]+`","Targets":[{"InstanceId":"`+instance+`","Port":8080}]}`, nil)
	explain := func(source string) explainPathOut {
		var out explainPathOut
		n.must("ExplainPath", `{"LoadBalancerId":"`+clb+`","Port":80,"Source":"`+source+`"}`, &out)
		return out
	}
	far := explain("203.0.113.9")
	if g := far.Gates[0]; far.Admitted || g.Reason != "system_rule" || g.PolicyId != "sys-8" || g.PolicyIndex != 7 || !strings.Contains(far.Text, "system rule 8 refuses it") || far.Destination != "10.20.1.2:80" {
		t.Errorf("from outside: %+v", far)
	}
	if near := explain("10.20.200.7"); near.Gates[0].Reason != "no_groups" {
		t.Errorf("from inside: %+v", near)
	}
	n.must("CreateAssistantCidr", n.q(`{"VpcId":"$vpc","CidrBlocks":["172.16.5.0/24"]}`), nil)
	if near := explain("172.16.5.9"); near.Gates[0].Reason != "no_groups" {
		t.Errorf("from a further range of the VPC: %+v", near)
	}
	n.must("AssociateAddress", `{"AddressId":"`+eip+`","InstanceId":"`+clb+`"}`, nil)
	if far := explain("203.0.113.9"); far.Gates[0].Reason != "no_groups" || far.Destination != "192.0.2.65:80" {
		t.Errorf("by the EIP: %+v", far)
	}
	if near := explain("10.20.200.7"); near.Destination != "10.20.1.2:80" {
		t.Errorf("from inside, with an EIP: %+v", near)
	}
	rules := func(params string) string {
		var out describeEffectiveRulesOut
		n.must("DescribeEffectiveRules", params, &out)
		var all []string
		for _, r := range out.System {
			all = append(all, r.PolicyId+" "+r.Action+" "+r.Text)
		}
		return strings.Join(all, "\n")
	}
	if got := rules(`{"LoadBalancerId":"` + clb + `"}`); got != "sys-8 DROP to the VIP 10.20.1.2 from outside 10.20.0.0/16, 172.16.5.0/24, the network of this private load balancer" {
		t.Errorf("of the load balancer:\n%s", got)
	}
	if got := rules(`{"InstanceId":"` + instance + `"}`); !strings.HasSuffix(got, "sys-6 ACCEPT health checks of "+clb+" "+made.ListenerIds[0]+" from 100.64.0.0/16 to port 8080, through the tunnel") {
		t.Errorf("of the instance:\n%s", got)
	}
	var status describeStatusOut
	if n.must("DescribeStatus", `{}`, &status); status.Targets[0].ProbeSystemRule != 6 {
		t.Errorf("got %+v", status.Targets)
	}
	line := verdictLine(verdictOut{Action: "DROP", Gate: "clb", Reason: "system_rule", PolicyId: "sys-8", PolicyPosition: 8})
	if !strings.HasSuffix(line, ": system rule 8") {
		t.Error(line)
	}
}
