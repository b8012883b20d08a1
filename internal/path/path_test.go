// SPDX-License-Identifier: Apache-2.0

package path

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func rule(id lb.RuleID, action lb.Action, peer string, ports ...uint16) lb.PolicyRule {
	r := lb.PolicyRule{ID: id, Action: action, Proto: lb.TCP, Peer: netip.MustParsePrefix(peer)}
	for _, p := range ports {
		r.Ports = append(r.Ports, lb.PortRange{First: p, Last: p})
	}
	if len(ports) == 0 {
		r.Proto = lb.AnyProto
	}
	return r
}

// demo is the mission document's example with a second listener on 81.
func demo() *lb.State {
	check := lb.DefaultCheck(lb.ListenHTTP)
	return &lb.State{
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{
			"sg-clb": {ID: "sg-clb", Ingress: []lb.PolicyRule{rule("pol-1", lb.Accept, "0.0.0.0/0", 80), rule("pol-2", lb.Drop, "0.0.0.0/0")}},
			"sg-cvm": {ID: "sg-cvm", Ingress: []lb.PolicyRule{rule("pol-3", lb.Accept, "0.0.0.0/0", 8080)}, Egress: []lb.PolicyRule{rule("pol-4", lb.Accept, "192.0.2.0/24", 80, 81)}},
		}),
		Instances: lb.TableOf(map[lb.InstanceID]*lb.Instance{
			"ins-1": {ID: "ins-1", Private: addr("10.200.0.5"), Public: addr("192.0.2.65"), Groups: []lb.GroupID{"sg-cvm"}},
			"ins-2": {ID: "ins-2", Private: addr("10.200.0.6"), Groups: []lb.GroupID{"sg-cvm"}},
		}),
		Balancers: lb.TableOf(map[lb.BalancerID]*lb.LoadBalancer{
			"lb-1": {ID: "lb-1", VIPs: []netip.Addr{addr("192.0.2.1")}, Groups: []lb.GroupID{"sg-clb"}},
		}),
		Listeners: lb.TableOf(map[lb.ListenerID]*lb.Listener{
			"lbl-1": {ID: "lbl-1", Balancer: "lb-1", Protocol: lb.ListenHTTP, Port: 80, Rules: []lb.Rule{{ID: "loc-1", Check: check, Targets: []lb.Target{
				{Num: 41, Instance: "ins-1", Port: 8080, Weight: 10}, {Num: 42, Instance: "ins-2", Port: 8080, Weight: 10}}}}},
			"lbl-2": {ID: "lbl-2", Balancer: "lb-1", Protocol: lb.ListenTCP, Port: 81},
		}),
	}
}

func to(port uint16) lb.Packet {
	return lb.Packet{Proto: lb.TCP, Src: addr("203.0.113.10"), Dst: addr("192.0.2.1"), SrcPort: 40000, DstPort: port}
}

func trace(t *testing.T, state *lb.State, p lb.Packet) Way {
	t.Helper()
	w, err := Trace(state, p)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTraceDemo(t *testing.T) {
	state := demo()
	w := trace(t, state, to(80))
	if want := (policy.Verdict{Gate: policy.GateCLB, Action: lb.Accept, Reason: policy.RuleMatched, Group: "sg-clb", Rule: "pol-1", Pos: 1}); w.Gate1 != want {
		t.Errorf("gate 1: %+v", w.Gate1)
	}
	if len(w.Hops) != 2 || w.Hops[0].Target != 41 || w.Hops[1].Target != 42 || w.Listener != "lbl-1" || w.Balancer != "lb-1" || !w.Admitted() {
		t.Fatalf("%+v", w)
	}
	h := w.Hops[0]
	if h.Gate2.Rule != "pol-3" || h.Packet.DstPort != 8080 || h.Packet.Dst != addr("10.200.0.5") || h.Packet.Src != to(80).Src || h.Location != "loc-1" {
		t.Errorf("gate 2: %+v", h)
	}
	// Gate 1 refuses a listener that exists; a port without one has its own reason.
	if w := trace(t, state, to(81)); w.Gate1.Rule != "pol-2" || w.Admitted() || len(w.Hops) != 0 {
		t.Errorf("%+v", w)
	}
	if w := trace(t, state, to(8080)); w.Gate1.Reason != policy.NoListener || w.Admitted() || w.Balancer != "lb-1" {
		t.Errorf("%+v", w)
	}
	ping := to(0)
	ping.Proto = lb.ICMP
	if w := trace(t, state, ping); w.Gate1.Reason != policy.NoListener {
		t.Errorf("%+v", w)
	}
	// Weight 0 gets no new flow.
	for i := range state.Listeners.Get("lbl-1").Rules[0].Targets {
		state.Listeners.Get("lbl-1").Rules[0].Targets[i].Weight = 0
	}
	if trace(t, state, to(80)).Admitted() {
		t.Error("admitted by targets of weight 0")
	}
}

// admit = (no group on the CLB, or gate 1 accepts) and (pass-to-target is on,
// or gate 2 accepts).
func TestTruthTable(t *testing.T) {
	for _, gate1 := range []string{"none", "accepts", "refuses"} {
		for _, gate2 := range []string{"accepts", "refuses"} {
			for _, pass := range []bool{false, true} {
				state := demo()
				balancer := state.Balancers.Get("lb-1")
				balancer.PassToTarget = pass
				switch gate1 {
				case "none":
					balancer.Groups = nil
				case "refuses":
					state.Groups.Get("sg-clb").Ingress = nil
				}
				if gate2 == "refuses" {
					state.Groups.Get("sg-cvm").Ingress = nil
				}
				want := gate1 != "refuses" && (pass || gate2 == "accepts")
				if got := trace(t, state, to(80)).Admitted(); got != want {
					t.Errorf("gate 1 %s, gate 2 %s, pass to target %v: admitted %v", gate1, gate2, pass, got)
				}
			}
		}
	}
}

func TestTraceFromInstance(t *testing.T) {
	state := demo()
	p := to(80)
	p.Src = addr("10.200.0.5")
	w := trace(t, state, p)
	if w.Sender != "ins-1" || w.Outbound.Rule != "pol-4" || w.Hops[0].Gate2.Reason != policy.Hairpin || w.Hops[1].Gate2.Action != lb.Accept || !w.Admitted() {
		t.Errorf("%+v", w)
	}
	state.Groups.Get("sg-cvm").Egress = nil
	if w := trace(t, state, p); w.Outbound.Reason != policy.NoMatch || w.Gate1.Gate != 0 || w.Admitted() {
		t.Errorf("%+v", w)
	}
}

// From an address of the load balancer's own nobody comes in, whatever gate 1 says.
func TestTraceSpoofed(t *testing.T) {
	state := demo()
	for _, src := range []string{"192.0.2.1", "100.64.0.1", "100.127.255.1"} {
		w, err := Trace(state, lb.Packet{Proto: lb.TCP, Src: addr(src), Dst: addr("192.0.2.1"), DstPort: 80})
		if err != nil || w.Gate1.Reason != policy.Spoofed || w.Gate1.Action != lb.Drop || len(w.Hops) != 0 {
			t.Errorf("from %s: %+v, %v", src, w, err)
		}
	}
}

func TestDirectAndOutbound(t *testing.T) {
	state := demo()
	for _, row := range []struct {
		src, dst string
		port     uint16
		want     policy.Reason
		accepted bool
	}{
		{"203.0.113.10", "192.0.2.65", 8080, policy.RuleMatched, true}, // the document's caveat: its own public address
		{"203.0.113.10", "10.200.0.5", 8080, policy.RuleMatched, true},
		{"203.0.113.10", "192.0.2.65", 22, policy.NoMatch, false},
		{"192.0.2.1", "10.200.0.5", 8080, policy.Spoofed, false},
		{"100.64.0.1", "10.200.0.5", 8080, policy.Spoofed, false},
		{"100.127.255.1", "10.200.0.5", 8080, policy.Spoofed, false},
		{"100.65.0.1", "10.200.0.5", 8080, policy.RuleMatched, true},
	} {
		v, err := Direct(state, lb.Packet{Proto: lb.TCP, Src: addr(row.src), Dst: addr(row.dst), DstPort: row.port})
		if err != nil || v.Reason != row.want || (v.Action == lb.Accept) != row.accepted || v.Gate != policy.GateCVM {
			t.Errorf("%s > %s:%d: %+v, %v", row.src, row.dst, row.port, v, err)
		}
	}
	if _, err := Direct(state, to(80)); err == nil {
		t.Error("a VIP is no instance")
	}
	if v, err := Outbound(state, lb.Packet{Proto: lb.TCP, Src: addr("10.200.0.6"), Dst: addr("192.0.2.9"), DstPort: 80}); err != nil || v.Rule != "pol-4" {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := Outbound(state, to(80)); err == nil || !strings.Contains(err.Error(), "203.0.113.10") {
		t.Error(err)
	}
}

func TestProbe(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*lb.State, *lb.HealthCheck)
		want   policy.Reason
		action lb.Action
	}{
		{"0.0.0.0/0 includes the VIP", func(*lb.State, *lb.HealthCheck) {}, policy.RuleMatched, lb.Accept},
		{"only a client", func(s *lb.State, _ *lb.HealthCheck) {
			s.Groups.Get("sg-cvm").Ingress = []lb.PolicyRule{rule("pol-9", lb.Accept, "203.0.113.10/32", 8080)}
		}, policy.NoMatch, lb.Drop},
		{"only the VIP", func(s *lb.State, _ *lb.HealthCheck) {
			s.Groups.Get("sg-cvm").Ingress = []lb.PolicyRule{rule("pol-9", lb.Accept, "192.0.2.1/32", 8080)}
		}, policy.RuleMatched, lb.Accept},
		{"check port", func(_ *lb.State, h *lb.HealthCheck) { h.Port = 9000 }, policy.NoMatch, lb.Drop},
		{"source type 1", func(s *lb.State, h *lb.HealthCheck) { h.SourceIPType = 1; s.Groups.Get("sg-cvm").Ingress = nil }, policy.SystemRule, lb.Accept},
		{"pass to target", func(s *lb.State, _ *lb.HealthCheck) {
			s.Balancers.Get("lb-1").PassToTarget = true
			s.Groups.Get("sg-cvm").Ingress = nil
		}, policy.PassToTarget, lb.Accept},
		{"off", func(_ *lb.State, h *lb.HealthCheck) { h.On = false }, policy.ReasonNone, lb.Accept},
	} {
		state := demo()
		row.change(state, &state.Listeners.Get("lbl-1").Rules[0].Check)
		if v, _, err := Probe(state, 42); err != nil || v.Reason != row.want || v.Action != row.action || v.Gate != policy.GateCVM {
			t.Errorf("%s: %+v, %v", row.name, v, err)
		}
	}
	if _, _, err := Probe(demo(), 99); err == nil {
		t.Error("found a target that is not there")
	}
}

func TestTraceFailsOnHoles(t *testing.T) {
	state := demo()
	state.Instances.Delete("ins-2")
	if _, err := Trace(state, to(80)); err == nil || !strings.Contains(err.Error(), "ins-2") {
		t.Error(err)
	}
	if _, _, err := Probe(state, 42); err == nil {
		t.Error("probed an instance that is not there")
	}
}

// What Trace reads from the compiled form is what Decide says.
func TestTraceIsDecide(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		state := demo()
		for _, group := range state.Groups.All() {
			group.Ingress = nil
			for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
				action := lb.Action(rapid.IntRange(1, 2).Draw(t, "action"))
				peer := rapid.SampledFrom([]string{"0.0.0.0/0", "203.0.113.0/24", "203.0.113.10/32", "203.0.113.11/32", "192.0.2.1/32"}).Draw(t, "peer")
				r := rule(lb.RuleID(fmt.Sprintf("%s/%d", group.ID, i)), action, peer, rapid.SampledFrom([]uint16{80, 8080}).Draw(t, "port"))
				group.Ingress = append(group.Ingress, r)
			}
		}
		tracer, p := New(state), to(80)
		w, err := tracer.Trace(p)
		if err != nil {
			t.Fatal(err)
		}
		if want := policy.Decide(policy.GateCLB, policy.In, policy.Resolve(state, []lb.GroupID{"sg-clb"}, policy.In), p); w.Gate1 != want {
			t.Fatalf("gate 1 %+v, want %+v", w.Gate1, want)
		}
		for _, h := range w.Hops {
			if want := policy.Decide(policy.GateCVM, policy.In, policy.Resolve(state, []lb.GroupID{"sg-cvm"}, policy.In), h.Packet); h.Gate2 != want {
				t.Fatalf("gate 2 %+v, want %+v", h.Gate2, want)
			}
		}
	})
}

// A stopped listener is none, and its targets are not probed.
func TestStoppedListener(t *testing.T) {
	state := demo()
	stopped := *state.Listeners.Get("lbl-1")
	stopped.Stopped = true
	state.Listeners.Put("lbl-1", &stopped)
	if w := trace(t, state, to(80)); w.Listener != "" || w.Gate1.Reason != policy.NoListener {
		t.Errorf("%+v", w)
	}
	if v, _, err := Probe(state, 41); err != nil || v.Action != lb.Accept || v.Reason != policy.ReasonNone {
		t.Errorf("%+v, %v", v, err)
	}
}

// A rule that redirects leads to no instance.
func TestRedirectLeadsNowhere(t *testing.T) {
	state := demo()
	http := *state.Listeners.Get("lbl-1")
	http.Rules = []lb.Rule{http.Rules[0]}
	http.Rules[0].Rewrite = &lb.Rewrite{Listener: "lbl-1", Location: "loc-2", Code: 302}
	state.Listeners.Put("lbl-1", &http)
	if w := trace(t, state, to(80)); w.Listener != "lbl-1" || w.Gate1.Action != lb.Accept || len(w.Hops) != 0 {
		t.Errorf("%+v", w)
	}
}

// A machine that is only observed refuses nothing, and the verdict keeps what
// would have refused.
func TestObservedMachine(t *testing.T) {
	state := demo()
	state.Groups.Get("sg-cvm").Ingress = []lb.PolicyRule{rule("pol-3", lb.Drop, "203.0.113.0/24", 8080)}
	i := *state.Instances.Get("ins-1")
	i.Observe, i.Others = true, []netip.Addr{addr("198.51.100.9")}
	state.Instances.Put("ins-1", &i)
	w := trace(t, state, to(80))
	if got := w.Hops[0].Gate2; got != (policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept, Reason: policy.Observed, Group: "sg-cvm", Rule: "pol-3", Pos: 1}) {
		t.Errorf("observed: %+v", got)
	}
	if got := w.Hops[1].Gate2; got.Action != lb.Drop || got.Reason != policy.RuleMatched {
		t.Errorf("not observed: %+v", got)
	}
	for _, c := range []struct {
		src, dst string
		want     policy.Reason
	}{{"203.0.113.10", "198.51.100.9", policy.Observed}, {"100.64.0.9", "10.200.0.5", policy.Observed}, {"100.64.0.9", "10.200.0.6", policy.Spoofed}} {
		v, err := New(state).Direct(lb.Packet{Proto: lb.TCP, Src: addr(c.src), Dst: addr(c.dst), DstPort: 22})
		if err != nil || v.Reason != c.want || (v.Action == lb.Accept) != (c.want == policy.Observed) {
			t.Errorf("%s to %s: %+v, %v", c.src, c.dst, v, err)
		}
	}
	if v, err := New(state).Outbound(lb.Packet{Proto: lb.TCP, Src: addr("198.51.100.9"), Dst: addr("203.0.113.10"), DstPort: 25}); err != nil || v.Reason != policy.Observed {
		t.Errorf("outbound: %+v, %v", v, err)
	}
}
