// SPDX-License-Identifier: Apache-2.0

// Package path follows a packet through the whole state: out of its sender's
// gate if that is an instance, to a listener, through gate 1, to every target
// it may be given to, through gate 2. It reads the compiled policies, as the
// kernel does, and is pure.
package path

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Way is what the state does with a new flow from a client to a VIP.
type Way struct {
	Packet   lb.Packet      // as the client sent it
	Sender   lb.InstanceID  // the instance that sent it; "" for any other client
	Outbound policy.Verdict // gate 2 of the sender; zero without one
	Balancer lb.BalancerID  // "" when no VIP has the address
	Listener lb.ListenerID  // "" when there is none
	Gate1    policy.Verdict // NoListener when there is none; zero when Outbound refused
	Hops     []Hop          // empty when gate 1 refused or nothing is registered
}

// A Hop is one target that the flow may be given to.
type Hop struct {
	Target   uint32
	Location lb.LocationID // "" at layer 4
	Instance lb.InstanceID
	Weight   int            // 0: it gets no new flow
	Packet   lb.Packet      // as gate 2 sees it: client to service address and port
	Gate2    policy.Verdict // PassToTarget when the load balancer vouches
}

// Admitted reports whether any target that gets new flows admits this one.
func (w Way) Admitted() bool {
	return slices.ContainsFunc(w.Hops, func(h Hop) bool { return h.Weight > 0 && h.Gate2.Action == lb.Accept })
}

// A Tracer follows packets through one state and compiles each list of groups
// only once. It is for one goroutine.
type Tracer struct {
	state    *lb.State
	resolver *policy.Resolver
	compiled map[string]*policy.Compiled
	byTarget map[uint32]bound // made by the first Probe
}

// bound is a candidate and the listener it stands behind.
type bound struct {
	*lb.Listener
	candidate
}

// New makes a Tracer for the state, which must not change.
func New(state *lb.State) *Tracer {
	return &Tracer{state: state, resolver: policy.NewResolver(state), compiled: make(map[string]*policy.Compiled)}
}

// Trace follows one packet from a client to a VIP and port. It fails only when
// a policy does not compile or the state names what is not there.
func Trace(state *lb.State, p lb.Packet) (Way, error) { return New(state).Trace(p) }

// Direct is gate 2's verdict on a packet straight to an instance's address; it
// fails when no instance has it.
func Direct(state *lb.State, p lb.Packet) (policy.Verdict, error) { return New(state).Direct(p) }

// Outbound is gate 2's verdict on what an instance sends; it fails when no
// instance has the source address.
func Outbound(state *lb.State, p lb.Packet) (policy.Verdict, error) { return New(state).Outbound(p) }

// Probe is the verdict that gate 2 has for the health probes of a target, by
// its number: PassToTarget, SystemRule, or that of the groups on the probe's
// source and port. It is ReasonNone and accepts when the check is off, and
// fails when there is no such target. The packet is the one that was judged:
// of a check that sends several, the first that is refused, else the last.
func Probe(state *lb.State, target uint32) (policy.Verdict, lb.Packet, error) {
	return New(state).Probe(target)
}

// Trace is the function Trace on the tracer's state.
func (t *Tracer) Trace(p lb.Packet) (Way, error) {
	w := Way{Packet: p}
	if sender := t.instanceAt(p.Src); sender != nil {
		w.Sender = sender.ID
		out, err := t.gate2(sender, policy.Out, p)
		w.Outbound = out
		if err != nil || out.Action != lb.Accept {
			return w, err
		}
	}
	balancer, listener := t.listenerAt(p)
	if balancer != nil {
		w.Balancer = balancer.ID
	}
	if listener == nil {
		w.Gate1 = policy.Verdict{Gate: policy.GateCLB, Action: lb.Drop, Reason: policy.NoListener}
		return w, nil
	}
	w.Listener = listener.ID
	if t.ours(p.Src) {
		w.Gate1 = policy.Verdict{Gate: policy.GateCLB, Action: lb.Drop, Reason: policy.Spoofed}
		return w, nil
	}
	var err error
	if w.Gate1, err = t.gate1(balancer, p); err != nil || w.Gate1.Action != lb.Accept {
		return w, err
	}
	for _, c := range candidates(listener) {
		if listener.EndPort != 0 { // each port of the instance stands behind its own
			c.target.Port = p.DstPort
		}
		hop, err := t.hop(balancer, c, p)
		if err != nil {
			return w, err
		}
		w.Hops = append(w.Hops, hop)
	}
	return w, nil
}

func (t *Tracer) hop(balancer *lb.LoadBalancer, c candidate, p lb.Packet) (Hop, error) {
	instance := t.state.Instances.Get(c.target.Instance)
	if instance == nil {
		return Hop{}, fmt.Errorf("target %d is %s, which does not exist", c.target.Num, c.target.Instance)
	}
	h := Hop{Target: c.target.Num, Location: c.location, Instance: instance.ID, Weight: c.target.Weight, Packet: p}
	h.Packet.Dst, h.Packet.DstPort = instance.ServiceFor(balancer), c.target.Port
	if slices.Contains(instance.Addresses(), p.Src) {
		h.Gate2 = policy.Verdict{Gate: policy.GateCVM, Action: lb.Drop, Reason: policy.Hairpin}
		return h, nil
	}
	var err error
	h.Gate2, err = t.through(balancer, instance, h.Packet)
	return h, err
}

// through is gate 2 for what comes through a load balancer.
func (t *Tracer) through(balancer *lb.LoadBalancer, instance *lb.Instance, p lb.Packet) (policy.Verdict, error) {
	if balancer.PassToTarget {
		return policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept, Reason: policy.PassToTarget}, nil
	}
	return t.gate2(instance, policy.In, p)
}

// Direct is the function Direct on the tracer's state.
func (t *Tracer) Direct(p lb.Packet) (policy.Verdict, error) {
	instance := t.instanceAt(p.Dst)
	if instance == nil {
		return policy.Verdict{}, fmt.Errorf("no instance has the address %v", p.Dst)
	}
	if t.ours(p.Src) {
		return observe(instance, policy.Verdict{Gate: policy.GateCVM, Action: lb.Drop, Reason: policy.Spoofed}), nil
	}
	return t.gate2(instance, policy.In, p)
}

// Outbound is the function Outbound on the tracer's state.
func (t *Tracer) Outbound(p lb.Packet) (policy.Verdict, error) {
	instance := t.instanceAt(p.Src)
	if instance == nil {
		return policy.Verdict{}, fmt.Errorf("no instance has the address %v", p.Src)
	}
	return t.gate2(instance, policy.Out, p)
}

// Probe is the function Probe on the tracer's state.
func (t *Tracer) Probe(target uint32) (policy.Verdict, lb.Packet, error) {
	if t.byTarget == nil { // a listing probes thousands
		t.byTarget = map[uint32]bound{}
		for _, l := range t.state.Listeners.All() {
			for _, c := range candidates(l) {
				t.byTarget[c.target.Num] = bound{l, c}
			}
		}
	}
	if b, ok := t.byTarget[target]; ok {
		return t.probe(b.Listener, b.candidate)
	}
	return policy.Verdict{}, lb.Packet{}, fmt.Errorf("no target has number %d", target)
}

func (t *Tracer) probe(l *lb.Listener, c candidate) (policy.Verdict, lb.Packet, error) {
	balancer, instance := t.state.Balancers.Get(l.Balancer), t.state.Instances.Get(c.target.Instance)
	switch {
	case balancer == nil || instance == nil:
		return policy.Verdict{}, lb.Packet{}, fmt.Errorf("target %d of %s has no load balancer or no instance", c.target.Num, l.ID)
	case !c.check.On || l.Stopped:
		return policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept}, lb.Packet{}, nil
	case !balancer.PassToTarget && !balancer.ProbesNeedRule(c.check):
		number := policy.ProbeRule(c.check)
		return policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept, Reason: policy.SystemRule, Rule: policy.SystemRuleID(number), Pos: number}, lb.Packet{}, nil
	}
	p := lb.Packet{Proto: l.Protocol.Transport(), Dst: instance.ServiceFor(balancer), DstPort: c.target.Port}
	if c.check.Port != 0 {
		p.DstPort = uint16(c.check.Port)
	}
	for _, vip := range balancer.VIPs {
		if vip.Is4() == p.Dst.Is4() {
			p.Src = vip
			break
		}
	}
	if c.check.Type == lb.CheckPing {
		ping := lb.Packet{Proto: lb.ICMP, Src: p.Src, Dst: p.Dst}
		if p.Dst.Is6() {
			ping.Proto = lb.ICMPv6
		}
		if v, err := t.through(balancer, instance, ping); err != nil || v.Action != lb.Accept {
			return v, ping, err
		}
	}
	v, err := t.through(balancer, instance, p)
	return v, p, err
}

// A candidate is a target with what its listener or rule says about it.
type candidate struct {
	target   lb.Target
	location lb.LocationID
	check    lb.HealthCheck
}

// candidates are all targets of a listener, at layer 7 those of all its rules.
func candidates(l *lb.Listener) []candidate {
	var all []candidate
	for _, target := range l.Targets {
		all = append(all, candidate{target, "", l.Check})
	}
	for _, r := range l.Rules {
		if r.Rewrite != nil { // answered by the gateway itself
			continue
		}
		for _, target := range r.Targets {
			all = append(all, candidate{target, r.ID, r.Check})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int { return cmp.Compare(a.target.Num, b.target.Num) })
	return all
}

func (t *Tracer) instanceAt(a netip.Addr) *lb.Instance {
	if !a.IsValid() {
		return nil
	}
	for _, i := range t.state.Instances.All() {
		if slices.Contains(i.Addresses(), a) {
			return i
		}
	}
	return nil
}

// listenerAt finds who owns the packet's destination.
func (t *Tracer) listenerAt(p lb.Packet) (*lb.LoadBalancer, *lb.Listener) {
	for _, balancer := range t.state.Balancers.All() {
		if !slices.Contains(balancer.Addresses(), p.Dst) {
			continue
		}
		for _, l := range t.state.Listeners.All() {
			if l.Balancer == balancer.ID && l.On(p) && !l.Stopped {
				return balancer, l
			}
		}
		return balancer, nil
	}
	return nil, nil
}

// ours reports whether only the load balancer itself sends from an address:
// a VIP, or the ranges of its probes and shared connections.
func (t *Tracer) ours(a netip.Addr) bool {
	for _, text := range []string{"100.64.0.0/16", "100.127.0.0/16"} {
		if netip.MustParsePrefix(text).Contains(a) {
			return true
		}
	}
	for _, balancer := range t.state.Balancers.All() {
		if slices.Contains(balancer.Addresses(), a) {
			return true
		}
	}
	return false
}

// judge is a gate's verdict by the compiled groups.
func (t *Tracer) judge(g policy.Gate, dir policy.Direction, ids []lb.GroupID, p lb.Packet) (policy.Verdict, error) {
	if len(ids) == 0 {
		return policy.Verdict{Gate: g, Action: lb.Accept, Reason: policy.NoGroups}, nil
	}
	c, err := t.compile(fmt.Sprint(dir, ids), func() []policy.Group { return t.resolver.Resolve(ids, dir) })
	if err != nil {
		return policy.Verdict{}, err
	}
	return c.Judge(g, dir, p), nil
}

// gate2 is gate 2's verdict by the instance's groups.
func (t *Tracer) gate2(i *lb.Instance, dir policy.Direction, p lb.Packet) (policy.Verdict, error) {
	v, err := t.judge(policy.GateCVM, dir, i.Groups, p)
	return observe(i, v), err
}

// observe is what becomes of a verdict on a machine that is only observed: it
// refuses nothing, and what would have refused stays to be told.
func observe(i *lb.Instance, v policy.Verdict) policy.Verdict {
	if i.Observe && v.Action == lb.Drop {
		v.Action, v.Reason = lb.Accept, policy.Observed
	}
	return v
}

// gate1 is gate 1's verdict on what is sent to an address of the balancer.
func (t *Tracer) gate1(balancer *lb.LoadBalancer, p lb.Packet) (policy.Verdict, error) {
	if !balancer.Private() || p.Dst == balancer.EIP {
		return t.judge(policy.GateCLB, policy.In, balancer.Groups, p)
	}
	c, err := t.compile("private "+string(balancer.ID), func() []policy.Group { return t.resolver.Gate1(balancer, p.Dst) })
	if err != nil {
		return policy.Verdict{}, err
	}
	return c.Judge(policy.GateCLB, policy.In, p), nil
}

func (t *Tracer) compile(key string, groups func() []policy.Group) (*policy.Compiled, error) {
	if c := t.compiled[key]; c != nil {
		return c, nil
	}
	c, err := policy.Compile(groups())
	if err == nil {
		t.compiled[key] = c
	}
	return c, err
}
