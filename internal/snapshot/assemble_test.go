// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func testKeys(gateway, host uint32) [2]uint64 {
	return [2]uint64{uint64(gateway)<<32 | uint64(host), 1<<63 | uint64(gateway)<<32 | uint64(host)}
}

// demo is the mission document's example: HTTP:80 to 8080 on two instances,
// and beside it a TCP listener, and an instance whose host is not there yet.
func demo() *lb.State {
	every := netip.MustParsePrefix("0.0.0.0/0")
	tcp := func(id lb.RuleID, port uint16) lb.PolicyRule {
		return lb.PolicyRule{ID: id, Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: port, Last: port}}, Peer: every}
	}
	check := lb.DefaultCheck(lb.ListenHTTP)
	return &lb.State{
		Revision: 7,
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{
			"sg-clb": {ID: "sg-clb", Ingress: []lb.PolicyRule{tcp("pol-1", 80)}},
			"sg-cvm": {ID: "sg-cvm", Ingress: []lb.PolicyRule{tcp("pol-2", 8080), {ID: "pol-3", Action: lb.Accept, PeerGroup: "sg-cvm"}}},
		}),
		Instances: lb.TableOf(map[lb.InstanceID]*lb.Instance{
			"ins-1": {ID: "ins-1", Private: addr("10.200.0.5"), Public: addr("192.0.2.65"), Groups: []lb.GroupID{"sg-cvm"}},
			"ins-2": {ID: "ins-2", Private: addr("10.200.0.6"), Groups: []lb.GroupID{"sg-cvm"}},
			"ins-3": {ID: "ins-3", Private: addr("10.200.0.7"), Groups: []lb.GroupID{"sg-cvm"}},
		}),
		Balancers: lb.TableOf(map[lb.BalancerID]*lb.LoadBalancer{
			"lb-1": {ID: "lb-1", Num: 21, Type: lb.Open, VIPs: []netip.Addr{addr("192.0.2.1")}, Groups: []lb.GroupID{"sg-clb"}},
			"lb-2": {ID: "lb-2", Num: 22, Type: lb.Open, VIPs: []netip.Addr{addr("192.0.2.2")}, PassToTarget: true},
		}),
		Listeners: lb.TableOf(map[lb.ListenerID]*lb.Listener{
			"lbl-1": {ID: "lbl-1", Num: 31, Balancer: "lb-1", Protocol: lb.ListenHTTP, Port: 80, Rules: []lb.Rule{{
				ID: "loc-1", Domain: "www.example.com", URL: "/", Default: true, Check: check,
				Targets: []lb.Target{{Num: 42, Instance: "ins-2", Port: 8080, Weight: 10}, {Num: 41, Instance: "ins-1", Port: 8080, Weight: 0}, {Num: 43, Instance: "ins-3", Port: 8080, Weight: 10}},
			}}},
			"lbl-2": {ID: "lbl-2", Num: 30, Balancer: "lb-2", Protocol: lb.ListenTCP, Port: 443,
				Check:   lb.HealthCheck{On: true, Type: lb.CheckTCP, Port: 9000, SourceIPType: 1},
				Targets: []lb.Target{{Num: 44, Instance: "ins-1", Port: 8443, Weight: 100}}},
			"lbl-3": {ID: "lbl-3", Num: 32, Balancer: "lb-2", Protocol: lb.ListenTCP, Port: 81},
		}),
		Nodes: lb.TableOf(map[lb.NodeID]*lb.Node{
			"gateway-1": {ID: "gateway-1", Num: 0x102, Role: lb.RoleGateway, Address: addr("192.0.2.129")},
			"ins-1":     {ID: "ins-1", Num: 12, Role: lb.RoleHost, Instance: "ins-1", Address: addr("192.0.2.130")},
			"ins-2":     {ID: "ins-2", Num: 13, Role: lb.RoleHost, Instance: "ins-2", Address: addr("192.0.2.131")},
			"ins-9":     {ID: "ins-9", Num: 14, Role: lb.RoleHost, Instance: "ins-9", Address: addr("192.0.2.132")}, // its instance is gone
		}),
	}
}

func assemble(t testing.TB, state *lb.State, node lb.NodeID) *Snapshot {
	t.Helper()
	s, err := Assemble(state, node, testKeys, policy.Compile)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatalf("what Assemble makes is not valid: %v", err)
	}
	return s
}

func TestAssembleGateway(t *testing.T) {
	state := demo()
	s := assemble(t, state, "gateway-1")
	gate1, _ := policy.Compile(policy.Resolve(state, []lb.GroupID{"sg-clb"}, policy.In))
	vip1, vip2 := []netip.Addr{addr("192.0.2.1")}, []netip.Addr{addr("192.0.2.2")}
	web := func(num uint32, instance lb.InstanceID, host, service string) Target {
		return Target{Num: num, ID: TargetID{"lb-1", "lbl-1", "loc-1", instance, 8080}, Host: addr(host), Service: netip.MustParseAddrPort(service),
			VIPs: vip1, VPort: 80, Proto: lb.TCP, ViaGateway: true, ProbePort: 8080, ProbeSource: addr("192.0.2.1")}
	}
	want := &Snapshot{
		Revision: 7, Node: "gateway-1", Role: lb.RoleGateway,
		Policies: map[policy.Hash]*policy.Compiled{gate1.Hash: gate1},
		Listeners: []Listener{
			{Num: 30, ID: "lbl-2", Balancer: "lb-2", BalancerNum: 22, VIPs: vip2, Proto: lb.TCP, Port: 443, Targets: []TargetRef{{44, 100}}, Check: state.Listeners.Get("lbl-2").Check},
			{Num: 31, ID: "lbl-1", Balancer: "lb-1", BalancerNum: 21, VIPs: vip1, Proto: lb.TCP, Port: 80, Gate1: gate1.Hash, Layer7: true, Rules: []Rule{{
				ID: "loc-1", Domain: "www.example.com", URL: "/", Default: true, Targets: []TargetRef{{41, 0}, {42, 10}}, Check: lb.DefaultCheck(lb.ListenHTTP)}}},
			{Num: 32, ID: "lbl-3", Balancer: "lb-2", BalancerNum: 22, VIPs: vip2, Proto: lb.TCP, Port: 81},
		},
		Targets: []Target{
			web(41, "ins-1", "192.0.2.130", "10.200.0.5:8080"),
			web(42, "ins-2", "192.0.2.131", "10.200.0.6:8080"),
			{Num: 44, ID: TargetID{"lb-2", "lbl-2", "", "ins-1", 8443}, Host: addr("192.0.2.130"), Service: netip.MustParseAddrPort("10.200.0.5:8443"),
				VIPs: vip2, VPort: 443, Proto: lb.TCP, PassToTarget: true, ProbePort: 9000, ProbeExempt: true, ProbeSource: addr("100.64.1.2")},
		},
		Peers: []Peer{
			{"ins-1", 12, addr("192.0.2.130"), testKeys(0x102, 12)},
			{"ins-2", 13, addr("192.0.2.131"), testKeys(0x102, 13)},
			{"ins-9", 14, addr("192.0.2.132"), testKeys(0x102, 14)},
		},
		Fronts: []Front{{vip1[0], "lb-1", 21, gate1.Hash}, {vip2[0], "lb-2", 22, ""}},
		VIPs:   []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")},
	}
	want.Targets[0].Public, want.Targets[2].Public = addr("192.0.2.65"), addr("192.0.2.65")
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
}

func TestAssembleHost(t *testing.T) {
	state := demo()
	s := assemble(t, state, "ins-1")
	gateway := assemble(t, state, "gateway-1")
	in, _ := policy.Compile(policy.Resolve(state, []lb.GroupID{"sg-cvm"}, policy.In))
	out, _ := policy.Compile(policy.Resolve(state, []lb.GroupID{"sg-cvm"}, policy.Out))
	want := &Snapshot{
		Revision: 7, Node: "ins-1", Role: lb.RoleHost,
		Policies:  map[policy.Hash]*policy.Compiled{in.Hash: in, out.Hash: out},
		Targets:   []Target{gateway.Targets[0], gateway.Targets[2]},
		Instances: []Instance{{ID: "ins-1", Addrs: []netip.Addr{addr("10.200.0.5"), addr("192.0.2.65")}, Ingress: in.Hash, Egress: out.Hash}},
		Peers:     []Peer{{"gateway-1", 0x102, addr("192.0.2.129"), testKeys(0x102, 12)}},
		VIPs:      []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2")},
	}
	// Both ends have the same rows, but for whose probes a host knows: every gateway's.
	want.Targets[1].ProbeSource = addr("100.64.0.0")
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got  %+v\nwant %+v", s, want)
	}
	if gone := assemble(t, state, "ins-9"); len(gone.Instances)+len(gone.Targets)+len(gone.Policies) != 0 {
		t.Errorf("a host without its instance has %+v", gone)
	}
}

func TestAssembleMembershipIsLive(t *testing.T) {
	state := demo()
	before := assemble(t, state, "ins-1").Instances[0].Ingress
	state.Instances.Put("ins-4", &lb.Instance{ID: "ins-4", Private: addr("10.200.0.8"), Groups: []lb.GroupID{"sg-cvm"}})
	if after := assemble(t, state, "ins-1").Instances[0].Ingress; after == before {
		t.Error("a new member changed nothing")
	}
}

func TestAssembleRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		node lb.NodeID
		harm func(*lb.State)
		says string
	}{
		"unknown node":      {"gateway-9", func(*lb.State) {}, "no node gateway-9"},
		"dangling balancer": {"gateway-1", func(s *lb.State) { s.Balancers.Delete("lb-1") }, "lbl-1 belongs to lb-1"},
		"dangling instance": {"gateway-1", func(s *lb.State) { s.Instances.Delete("ins-2") }, "ins-2, which does not exist"},
		"groupless":         {"ins-1", func(s *lb.State) { s.Instances.Get("ins-1").Groups = nil }, "no group"},
		"roleless":          {"ins-1", func(s *lb.State) { s.Nodes.Get("ins-1").Role = "other" }, "not a role"},
	} {
		state := demo()
		row.harm(state)
		s, err := Assemble(state, row.node, testKeys, policy.Compile)
		if s != nil || err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	fails := func([]policy.Group) (*policy.Compiled, error) { return nil, fmt.Errorf("too large") }
	for _, node := range []lb.NodeID{"gateway-1", "ins-1"} {
		if s, err := Assemble(demo(), node, testKeys, fails); s != nil || err == nil || !strings.Contains(err.Error(), "gate ") {
			t.Errorf("%s: %v", node, err)
		}
	}
}

// A group that was deleted under an object's feet closes, it never opens.
func TestAssembleDanglingGroupRefuses(t *testing.T) {
	state := demo()
	state.Groups.Delete("sg-clb")
	s := assemble(t, state, "gateway-1")
	c := s.Policies[s.Listeners[1].Gate1]
	if c == nil {
		t.Fatal("gate 1 fell open")
	}
	p := lb.Packet{Proto: lb.TCP, Src: addr("203.0.113.10"), Dst: addr("192.0.2.1"), DstPort: 80}
	if v := c.Judge(policy.GateCLB, policy.In, p); v.Action != lb.Drop {
		t.Errorf("%+v", v)
	}
}

func TestCompilerRemembers(t *testing.T) {
	c := NewCompiler()
	state := demo()
	for range 3 {
		if _, err := Assemble(state, "gateway-1", testKeys, c.Compile); err != nil {
			t.Fatal(err)
		}
	}
	if c.Made() != 1 {
		t.Errorf("one policy was compiled %d times", c.Made())
	}
	changed := func(change func(*policy.Group)) []policy.Group {
		g := policy.Resolve(state, []lb.GroupID{"sg-clb"}, policy.In)
		change(&g[0])
		return g
	}
	for name, change := range map[string]func(*policy.Group){
		"id":       func(g *policy.Group) { g.ID = "sg-x" },
		"rule":     func(g *policy.Group) { g.Rules[0].ID = "pol-x" },
		"pos":      func(g *policy.Group) { g.Rules[0].Pos = 2 },
		"action":   func(g *policy.Group) { g.Rules[0].Action = lb.Drop },
		"proto":    func(g *policy.Group) { g.Rules[0].Proto = lb.UDP },
		"ports":    func(g *policy.Group) { g.Rules[0].Ports = nil },
		"services": func(g *policy.Group) { g.Rules[0].Services = []lb.Service{{Proto: lb.TCP}} },
		"peers":    func(g *policy.Group) { g.Rules[0].Peers = []netip.Prefix{netip.MustParsePrefix("::/0")} },
	} {
		before := c.Made()
		if _, err := c.Compile(changed(change)); err != nil || c.Made() != before+1 {
			t.Errorf("%s: taken for the same groups (%v)", name, err)
		}
	}
	for i := range compilerRoom {
		if _, err := c.Compile([]policy.Group{{ID: lb.GroupID(fmt.Sprint(i))}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.byKey) != compilerRoom || c.recent.Len() != compilerRoom {
		t.Errorf("remembers %d", len(c.byKey))
	}
	if _, err := c.Compile(nil); err == nil {
		t.Error("compiled nothing")
	}
}

// A machine that joined has all its addresses judged, and is only observed for
// as long as nobody has bound a group to it.
func TestAssembleJoinedHost(t *testing.T) {
	for _, observe := range []bool{true, false} {
		state := demo()
		i := *state.Instances.Get("ins-1")
		i.Joined, i.Observe, i.Others = true, observe, []netip.Addr{addr("198.51.100.9")}
		state.Instances.Put("ins-1", &i)
		got := assemble(t, state, "ins-1").Instances[0]
		if got.Observe != observe || len(got.Addrs) != 3 || got.Addrs[2] != addr("198.51.100.9") {
			t.Errorf("observe %v: got %+v", observe, got)
		}
		for _, target := range assemble(t, state, "gateway-1").Targets {
			if own := target.ID.Instance == "ins-1"; target.Owns(addr("198.51.100.9")) != own || !target.Owns(target.Service.Addr()) {
				t.Errorf("target %d of %s: its instance has also %v", target.Num, target.ID.Instance, target.Others)
			}
		}
	}
}

// A stopped listener leaves no port, no target and so no probe on any node.
func TestAssembleStoppedListener(t *testing.T) {
	state := demo()
	stopped := *state.Listeners.Get("lbl-1")
	stopped.Stopped = true
	state.Listeners.Put("lbl-1", &stopped)
	s := assemble(t, state, "gateway-1")
	if len(s.Listeners) != 2 || len(s.Targets) != 1 || s.Targets[0].Num != 44 || len(s.VIPs) != 2 || len(s.Fronts) != 2 {
		t.Errorf("%+v", s)
	}
	if h := assemble(t, state, "ins-2"); len(h.Targets) != 0 {
		t.Errorf("%+v", h.Targets)
	}
}
