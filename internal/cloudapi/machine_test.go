// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// tokens remembers what it was asked for.
type tokens struct {
	made    []control.TokenRequest
	revoked []string
	fail    error
}

func (k *tokens) CreateToken(_ context.Context, r control.TokenRequest) (control.JoinToken, error) {
	k.made = append(k.made, r)
	return control.JoinToken{Text: "token", Node: "name", Server: "198.51.100.1:7781", Expires: time.Unix(1000, 0)}, nil
}

func (k *tokens) Revoke(_ context.Context, fingerprint string) error {
	k.revoked = append(k.revoked, fingerprint)
	return k.fail
}

// attached is facts of nodes that are connected.
type attached struct {
	Facts
	nodes []control.NodeStatus
}

func (a attached) Nodes() []control.NodeStatus    { return a.nodes }
func (attached) Health() map[uint32][]flow.Health { return nil }

func TestCreateNodeToken(t *testing.T) {
	maker := &tokens{}
	b := newBench(t, func(o *Options) {
		o.Tokens = maker
		o.Facts = attached{nodes: []control.NodeStatus{{ID: "gateway-1", Connected: true}, {ID: "gateway-2"}}}
	})
	b.seed(func(tx *store.Tx) { tx.PutInstance(&lb.Instance{ID: "ins-1a2b3c4d"}) })
	var got createNodeTokenOut
	b.must("CreateNodeToken", `{"Role":"gateway"}`, &got)
	b.must("CreateNodeToken", `{"Role":"gateway","Name":"gateway-2","LifeSeconds":60}`, nil)
	b.must("CreateNodeToken", `{"Role":"host","InstanceName":"web-1"}`, nil)
	b.must("CreateNodeToken", `{"Role":"host","Name":"ins-1a2b3c4d","InstanceId":"ins-1a2b3c4d"}`, nil)
	want := []control.TokenRequest{
		{Role: lb.RoleGateway}, {Role: lb.RoleGateway, Name: "gateway-2", Life: time.Minute},
		{Role: lb.RoleHost, Title: "web-1"}, {Role: lb.RoleHost, Name: "ins-1a2b3c4d", Instance: "ins-1a2b3c4d"},
	}
	if got != (createNodeTokenOut{"token", "name", "198.51.100.1:7781", "1970-01-01T00:16:40Z"}) || !slices.Equal(maker.made, want) {
		t.Errorf("answered %+v, asked for %+v", got, maker.made)
	}
	b.refusals([]refusal{
		{"CreateNodeToken", `{"Role":"router"}`, "InvalidParameterValue", "router"},
		{"CreateNodeToken", `{"Role":"gateway","Name":"Gate way"}`, "InvalidParameterValue", "Name"},
		{"CreateNodeToken", `{"Role":"gateway","Name":"ins-1a2b3c4d"}`, "InvalidParameterValue", "Name"},
		{"CreateNodeToken", `{"Role":"gateway","Name":"gateway-1"}`, "ResourceInUse", "connected"},
		{"CreateNodeToken", `{"Role":"gateway","Name":"g","InstanceId":"ins-1a2b3c4d"}`, "InvalidParameterCombination", "InstanceId"},
		{"CreateNodeToken", `{"Role":"gateway","InstanceName":"x"}`, "InvalidParameterCombination", "InstanceId"},
		{"CreateNodeToken", `{"Role":"host","Name":"x"}`, "InvalidParameterValue", "InstanceName"},
		{"CreateNodeToken", `{"Role":"host","Name":"x","InstanceId":"ins-1a2b3c4d"}`, "InvalidParameterValue", "Name"},
		{"CreateNodeToken", `{"Role":"host","InstanceName":"x","InstanceId":"ins-1a2b3c4d"}`, "InvalidParameterCombination", "InstanceName"},
		{"CreateNodeToken", `{"Role":"host","InstanceId":"ins-00000000"}`, "ResourceNotFound", "ins-00000000"},
		{"CreateNodeToken", `{"Role":"host","InstanceName":"` + strings.Repeat("x", 129) + `"}`, "InvalidInstanceName.TooLong", "InstanceName"},
		{"CreateNodeToken", `{"Role":"host","LifeSeconds":86401}`, "InvalidParameterValue", "LifeSeconds"},
	})
	newBench(t).refused("CreateNodeToken", `{"Role":"host"}`, "UnsupportedOperation", "takes in no nodes")
}

// admit lets a machine join.
func (b *bench) admit(m control.Machine) error {
	_, err := b.Store.Update(context.Background(), func(tx *store.Tx) error { return b.Admit(tx, m) })
	return err
}

// A machine that joins is an instance with its own addresses, which are
// followed; it is only observed until the first binding, whichever call makes
// it and whether or not the group is new to it.
func TestJoinedMachine(t *testing.T) {
	for _, bind := range []string{
		`AssociateSecurityGroups {"SecurityGroupIds":["GROUP"],"InstanceIds":["ins-1a2b3c4d"]}`,
		`ModifyInstancesAttribute {"SecurityGroups":["GROUP"],"InstanceIds":["ins-1a2b3c4d"]}`,
	} {
		b := newBench(t, func(o *Options) { o.Tokens = &tokens{} })
		addr := netip.MustParseAddr
		m := control.Machine{Instance: "ins-1a2b3c4d", Name: "web-1", Address: addr("198.51.100.11"), Others: []netip.Addr{addr("198.51.100.12")}}
		if err := b.admit(m); err != nil {
			t.Fatal(err)
		}
		b.seed(func(tx *store.Tx) {
			tx.PutNode(&lb.Node{ID: "ins-1a2b3c4d", Role: lb.RoleHost, Instance: "ins-1a2b3c4d"})
		})
		i := b.Store.State().Instances.Get("ins-1a2b3c4d")
		group := i.Groups[0]
		if !i.Joined || !i.Observe || i.State != lb.Pending || !b.Store.State().Groups.Get(group).IsDefault || b.Store.State().VPCs.Get(i.VPC) == nil {
			t.Errorf("joined as %+v", i)
		}
		var shown describeInstancesOut
		b.must("DescribeInstances", `{}`, &shown)
		if len(shown.InstanceSet) != 1 || !slices.Equal(shown.InstanceSet[0].PrivateIpAddresses, []string{"198.51.100.11", "198.51.100.12"}) || shown.InstanceSet[0].InstanceName != "web-1" {
			t.Errorf("shown as %+v", shown)
		}
		gate := func() string {
			var status describeStatusOut
			b.must("DescribeStatus", `{}`, &status)
			var hosts describeHostsOut
			b.must("DescribeHosts", `{}`, &hosts)
			var rules describeEffectiveRulesOut
			b.must("DescribeEffectiveRules", `{"InstanceId":"ins-1a2b3c4d"}`, &rules)
			if hosts.Instances[0].Gate != status.Nodes[0].Gate || rules.Gate != status.Nodes[0].Gate || !hosts.Instances[0].Joined {
				t.Errorf("status %+v, hosts %+v, rules %+v", status.Nodes, hosts.Instances, rules.Gate)
			}
			return status.Nodes[0].Gate
		}
		b.must("ModifyInstancesAttribute", `{"InstanceIds":["ins-1a2b3c4d"],"InstanceName":"web-2"}`, nil)
		if got := gate(); got != "observe" {
			t.Errorf("before the first binding the gate does %q", got)
		}
		m.Address, m.Others, m.Name = addr("198.51.100.21"), nil, "not this"
		if err := b.admit(m); err != nil {
			t.Fatal(err)
		}
		if i := b.Store.State().Instances.Get("ins-1a2b3c4d"); i.Private != m.Address || i.Others != nil || i.Name != "web-2" || !i.Observe {
			t.Errorf("after a move: %+v", i)
		}
		action, params, _ := strings.Cut(bind, " ")
		b.must(action, strings.Replace(params, "GROUP", string(group), 1), nil)
		if got := gate(); got != "enforce" {
			t.Errorf("after %s the gate does %q", action, got)
		}
		b.must("TerminateInstances", `{"InstanceIds":["ins-1a2b3c4d"]}`, nil)
		if st := b.Store.State(); st.Instances.Len()+st.Nodes.Len() != 0 {
			t.Errorf("%s: left after the end: %v, %v", action, st.Instances, st.Nodes)
		}
	}
}

// No two things of a region have one address.
func TestJoinedAddressIsFree(t *testing.T) {
	b := newBench(t)
	addr := netip.MustParseAddr
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Name: "web-1", Private: addr("10.0.0.1"), Public: addr("192.0.2.65"), Others: []netip.Addr{addr("10.0.0.2")}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", VIPs: []netip.Addr{addr("192.0.2.1")}})
	})
	for _, c := range []struct {
		address, other, want string
	}{
		{"10.0.0.1", "", "ins-00000001"}, {"10.0.0.9", "192.0.2.65", "ins-00000001"}, {"10.0.0.2", "", "ins-00000001"},
		{"192.0.2.1", "", "VIP of lb-00000001"}, {"10.0.0.9", "192.0.2.1", "VIP of lb-00000001"}, {"10.0.0.9", "10.0.0.8", ""},
	} {
		m := control.Machine{Instance: "ins-1a2b3c4d", Address: addr(c.address)}
		if c.other != "" {
			m.Others = []netip.Addr{addr(c.other)}
		}
		err := b.admit(m)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s and %s: %v, want %q", c.address, c.other, err, c.want)
		}
	}
}

func TestForgetNode(t *testing.T) {
	maker := &tokens{}
	b := newBench(t, func(o *Options) { o.Tokens = maker })
	b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gateway-1", Role: lb.RoleGateway, Certificate: "aa"})
		tx.PutNode(&lb.Node{ID: "ins-1a2b3c4d", Role: lb.RoleHost, Instance: "ins-1a2b3c4d", Certificate: "bb"})
		tx.PutInstance(&lb.Instance{ID: "ins-1a2b3c4d"})
		tx.PutListener(&lb.Listener{ID: "lbl-1", Targets: []lb.Target{{Instance: "ins-1a2b3c4d"}}})
	})
	b.refused("ForgetNode", `{"Name":"gateway-9"}`, "ResourceNotFound", "gateway-9")
	maker.fail = errors.New("disk full")
	if err := b.try("ForgetNode", `{"Name":"gateway-1"}`, nil); err == nil || b.Store.State().Nodes.Get("gateway-1") == nil {
		t.Errorf("a node that could not be shut out was removed: %v", err)
	}
	maker.fail = nil
	b.must("ForgetNode", `{"Name":"gateway-1"}`, nil)
	b.must("ForgetNode", `{"Name":"ins-1a2b3c4d"}`, nil)
	if st := b.Store.State(); st.Nodes.Len()+st.Instances.Len()+len(st.Listeners.Get("lbl-1").Targets) != 0 || !slices.Equal(maker.revoked, []string{"aa", "aa", "bb"}) {
		t.Errorf("left %v, %v; revoked %v", st.Nodes, st.Instances, maker.revoked)
	}
	alone := newBench(t)
	alone.seed(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-1"}) })
	alone.refused("ForgetNode", `{"Name":"gateway-1"}`, "UnsupportedOperation", "takes in no nodes")
}

// System rules are listed with their numbers, then the rules of all groups in
// the order in which they are judged.
func TestEffectiveRules(t *testing.T) {
	b := newBench(t)
	rule := func(id lb.RuleID, action lb.Action) lb.PolicyRule {
		return lb.PolicyRule{ID: id, Action: action, Peer: netip.MustParsePrefix("203.0.113.0/24"), Text: lb.RuleText{Protocol: "tcp", Port: "80"}}
	}
	b.seed(func(tx *store.Tx) {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-00000001", Name: "one", Ingress: []lb.PolicyRule{rule("pol-a", lb.Accept)}, Egress: []lb.PolicyRule{rule("pol-b", lb.Drop)}})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-00000002", Name: "two", Ingress: []lb.PolicyRule{rule("pol-c", lb.Drop)}})
		tx.PutInstance(&lb.Instance{ID: "ins-1a2b3c4d", Groups: []lb.GroupID{"sg-00000002", "sg-00000001"}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", Type: lb.Open, Groups: []lb.GroupID{"sg-00000001"}})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000002", Type: lb.Internal})
	})
	var got describeEffectiveRulesOut
	b.must("DescribeEffectiveRules", `{"InstanceId":"ins-1a2b3c4d"}`, &got)
	if len(got.System) < 5 || got.System[0].Number != 1 || got.System[0].PolicyId != "sys-1" || got.System[0].Direction != "both" || !strings.Contains(got.System[0].Text, "agent and its server") {
		t.Errorf("system rules %+v", got.System)
	}
	if len(got.Ingress) != 2 || got.Ingress[0].PolicyId != "pol-c" || got.Ingress[0].Position != 1 || got.Ingress[1].PolicyId != "pol-a" || got.Ingress[1].Position != 2 || len(got.Egress) != 1 {
		t.Errorf("rules %+v, %+v", got.Ingress, got.Egress)
	}
	b.must("DescribeEffectiveRules", `{"LoadBalancerId":"lb-00000001"}`, &got)
	if len(got.System) != 0 || len(got.Ingress) != 1 || got.Egress != nil && len(got.Egress) != 0 {
		t.Errorf("of a public load balancer: %+v", got)
	}
	b.must("DescribeEffectiveRules", `{"LoadBalancerId":"lb-00000002"}`, &got)
	if len(got.System) != 1 {
		t.Errorf("of a private load balancer: %+v", got)
	}
	b.refusals([]refusal{
		{"DescribeEffectiveRules", `{}`, "InvalidParameterCombination", "InstanceId"},
		{"DescribeEffectiveRules", `{"InstanceId":"ins-00000000"}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"DescribeEffectiveRules", `{"LoadBalancerId":"lb-00000000"}`, "InvalidParameter.LBIdNotFound", "lb-00000000"},
	})
}
