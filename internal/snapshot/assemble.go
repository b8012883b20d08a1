// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// Assemble makes the snapshot of one node from the state. Keys gives the two
// tunnel keys between a gateway and a host, by their nodes' numbers; compile
// is policy.Compile or a Compiler's. It fails, and gives nothing, when the
// node is unknown, when something in the state names what is not there, or
// when a policy does not compile. A target whose instance has no enrolled host
// is left out: nothing could reach it.
func Assemble(state *lb.State, node lb.NodeID, keys func(gateway, host uint32) [2]uint64,
	compile func([]policy.Group) (*policy.Compiled, error)) (*Snapshot, error) {
	self := state.Nodes.Get(node)
	if self == nil {
		return nil, fmt.Errorf("no node %s at revision %d", node, state.Revision)
	}
	a := &assembly{
		state: state, self: self, keys: keys, compile: compile, resolver: policy.NewResolver(state),
		hosts: make(map[lb.InstanceID]*lb.Node),
		out:   &Snapshot{Revision: state.Revision, Node: node, Role: self.Role, Policies: make(map[policy.Hash]*policy.Compiled)},
	}
	for _, n := range state.Nodes.All() {
		if n.Drained && n.Role == lb.RoleGateway && self.Role == lb.RoleGateway {
			a.out.Drained = append(a.out.Drained, n.ID)
		}
		if !n.Address.IsValid() { // has not said yet where its tunnel ends
			continue
		}
		if n.Role == lb.RoleGateway {
			a.gateways = append(a.gateways, n)
		} else if other := a.hosts[n.Instance]; n.Instance != "" && (other == nil || n.Num < other.Num) {
			a.hosts[n.Instance] = n
		}
	}
	for id, i := range state.Instances.All() {
		if n := state.Nodes.Get(i.Host); i.Host != "" && n != nil && n.Address.IsValid() {
			a.hosts[id] = n
		}
	}
	slices.SortFunc(a.gateways, func(x, y *lb.Node) int { return cmp.Compare(x.Num, y.Num) })
	if err := a.run(); err != nil {
		return nil, fmt.Errorf("revision %d for %s: %w", state.Revision, node, err)
	}
	if err := a.certificates(); err != nil {
		return nil, fmt.Errorf("revision %d for %s: %w", state.Revision, node, err)
	}
	a.sort()
	return a.out, nil
}

// An assembly is one snapshot in the making.
type assembly struct {
	state    *lb.State
	self     *lb.Node
	gateways []*lb.Node // by number
	hosts    map[lb.InstanceID]*lb.Node
	keys     func(gateway, host uint32) [2]uint64
	compile  func([]policy.Group) (*policy.Compiled, error)
	resolver *policy.Resolver
	out      *Snapshot
}

func (a *assembly) run() error {
	for _, balancer := range a.state.Balancers.All() {
		a.out.VIPs = append(a.out.VIPs, balancer.Addresses()...)
		if err := a.fronts(balancer); err != nil {
			return err
		}
	}
	a.peers()
	for _, listener := range a.state.Listeners.All() {
		if listener.Stopped { // as if it were not there: no port, no target, no probe
			continue
		}
		if err := a.listener(listener); err != nil {
			return err
		}
	}
	switch a.self.Role {
	case lb.RoleGateway:
		return nil
	case lb.RoleHost:
		return a.instances()
	}
	return fmt.Errorf("%q is not a role", a.self.Role)
}

func (a *assembly) peers() {
	if a.self.Role == lb.RoleHost {
		for _, g := range a.gateways {
			if to, ok := a.end(g); ok {
				a.out.Peers = append(a.out.Peers, Peer{g.ID, g.Num, to, a.keys(g.Num, a.self.Num)})
			}
		}
		return
	}
	seen := map[lb.NodeID]bool{} // a host with guests stands there for each
	for _, h := range a.hosts {
		to, ok := a.end(h)
		if seen[h.ID] || !ok {
			continue
		}
		seen[h.ID] = true
		a.out.Peers = append(a.out.Peers, Peer{h.ID, h.Num, to, a.keys(a.self.Num, h.Num)})
	}
}

// end is where the tunnel of this node ends at another, which may be the host
// itself; ok is false when no tunnel can run between the two.
func (a *assembly) end(other *lb.Node) (to netip.Addr, ok bool) {
	switch {
	case other.Role == a.self.Role || !a.self.Address.IsValid():
		return other.Address, true
	case a.self.Role == lb.RoleGateway:
		_, to, ok = lb.TunnelEnds(a.self, other)
	default:
		to, _, ok = lb.TunnelEnds(other, a.self)
	}
	return to, ok
}

// listener adds a listener's targets and, on a gateway, the listener.
func (a *assembly) listener(l *lb.Listener) error {
	balancer := a.state.Balancers.Get(l.Balancer)
	if balancer == nil {
		return fmt.Errorf("listener %s belongs to %s, which does not exist", l.ID, l.Balancer)
	}
	out := Listener{
		Num: l.Num, ID: l.ID, Balancer: l.Balancer, BalancerNum: balancer.Num, VIPs: balancer.VIPs,
		Proto: l.Protocol.Transport(), Port: l.Port, EndPort: l.EndPort, Layer7: l.Protocol.Layer7(),
		TLS: l.Protocol == lb.ListenHTTPS, Certificate: l.Certificate,
	}
	out.Keep = Keeping{balancer.Keep, balancer.KeptSince}
	if !out.Layer7 {
		out.Check, out.Scheduler, out.Choice = l.Check, schedulerOf(l.Scheduler), l.Choice
		refs, err := a.targets(balancer, l, "", l.Check, l.Targets)
		if err != nil {
			return err
		}
		out.Targets = refs
	}
	for _, r := range l.Rules {
		if r.Rewrite != nil { // nobody asks its targets
			r.Targets = nil
		}
		refs, err := a.targets(balancer, l, r.ID, r.Check, r.Targets)
		if err != nil {
			return err
		}
		redirect, err := a.redirect(l, &r)
		if err != nil {
			return err
		}
		out.Rules = append(out.Rules, Rule{ID: r.ID, Domain: r.Domain, URL: r.URL, Default: r.Default, Targets: refs, Check: r.Check, Redirect: redirect,
			Scheduler: schedulerOf(r.Scheduler), Choice: r.Choice, Certificate: r.Certificate})
	}
	if a.self.Role != lb.RoleGateway {
		return nil
	}
	return a.doors(balancer, out)
}

// schedulerOf leaves the default out, so that what has it is as it always was.
func schedulerOf(name string) string {
	if name == lb.SchedulerWRR {
		return ""
	}
	return name
}

// doors adds a listener as clients find it: on the VIPs, and on the EIP.
func (a *assembly) doors(balancer *lb.LoadBalancer, l Listener) error {
	add := func(addresses []netip.Addr) error {
		gate1, err := a.policy(a.resolver.Gate1(balancer, addresses[0]))
		if err != nil {
			return fmt.Errorf("gate 1 of %s: %w", balancer.ID, err)
		}
		l.VIPs, l.Gate1 = addresses, gate1
		a.out.Listeners = append(a.out.Listeners, l)
		return nil
	}
	if err := add(balancer.VIPs); err != nil || !balancer.EIP.IsValid() {
		return err
	}
	l.Num = EIPNum(l.Num)
	return add([]netip.Addr{balancer.EIP})
}

// fronts adds what stands at a load balancer's addresses, on a gateway.
func (a *assembly) fronts(balancer *lb.LoadBalancer) error {
	if a.self.Role != lb.RoleGateway {
		return nil
	}
	for _, addr := range balancer.Addresses() {
		gate1, err := a.policy(a.resolver.Gate1(balancer, addr))
		if err != nil {
			return fmt.Errorf("gate 1 of %s: %w", balancer.ID, err)
		}
		a.out.Fronts = append(a.out.Fronts, Front{addr, balancer.ID, balancer.Num, gate1})
	}
	return nil
}

// targets adds the rows of those targets that this node serves and returns
// references to all that can be reached.
func (a *assembly) targets(balancer *lb.LoadBalancer, l *lb.Listener, location lb.LocationID, check lb.HealthCheck, targets []lb.Target) ([]TargetRef, error) {
	var refs []TargetRef
	for _, t := range targets {
		instance, host := a.state.Instances.Get(t.Instance), a.hosts[t.Instance]
		if instance == nil {
			return nil, fmt.Errorf("target %d of %s is %s, which does not exist", t.Num, l.ID, t.Instance)
		}
		service := instance.ServiceFor(balancer)
		if host == nil || !service.IsValid() {
			continue
		}
		end, ok := a.end(host)
		if !ok {
			continue
		}
		refs = append(refs, TargetRef{t.Num, t.Weight})
		if a.self.Role == lb.RoleHost && !a.runs(instance) {
			continue
		}
		row := Target{
			Num: t.Num, ID: TargetID{balancer.ID, l.ID, location, t.Instance, t.Port},
			Host: end, Service: netip.AddrPortFrom(service, l.ServicePorts(t).First),
			VIPs: balancer.Addresses(), VPort: l.Port, VPortEnd: l.EndPort, Proto: l.Protocol.Transport(),
			PassToTarget: balancer.PassToTarget, ViaGateway: l.Protocol.Layer7(),
			ReturnVia: balancer.ReturnPath == lb.ReturnGateway && !l.Protocol.Layer7(),
			Counted:   l.Scheduler == lb.SchedulerLeast,
		}
		if service.Is4() {
			row.Public = instance.Public
		}
		if a.self.Role == lb.RoleGateway {
			for _, other := range instance.Addresses() {
				if other.Is4() == service.Is4() && !row.Owns(other) {
					row.Others = append(row.Others, other)
				}
			}
		}
		a.probe(&row, balancer, check, t.Port)
		a.out.Targets = append(a.out.Targets, row)
	}
	slices.SortFunc(refs, func(x, y TargetRef) int { return cmp.Compare(x.Num, y.Num) })
	return refs, nil
}

// probe fills in what probes of the target look like; nothing if it has none.
func (a *assembly) probe(t *Target, balancer *lb.LoadBalancer, check lb.HealthCheck, port uint16) {
	if !check.On {
		return
	}
	t.ProbePort, t.ProbePing = port, check.Type == lb.CheckPing
	if check.Port != 0 {
		t.ProbePort = uint16(check.Port)
	}
	if check.SourceIPType == 0 {
		for _, vip := range balancer.VIPs {
			if vip.Is4() == t.Service.Addr().Is4() {
				t.ProbeSource, t.ProbeExempt = vip, !balancer.ProbesNeedRule(check)
				return
			}
		}
		return
	}
	num := uint32(0)
	if a.self.Role == lb.RoleGateway {
		num = a.self.Num
	}
	t.ProbeSource, t.ProbeExempt = ProbeAddress(num), true
}

// ProbeAddress is the address in 100.64.0.0/16 from which a gateway probes
// when a check asks for that; num is the gateway's node number. 0 is none's:
// hosts read it as all of them, so that a gateway may come or go without a
// change to their rows.
func ProbeAddress(num uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{100, 64, byte(num >> 8), byte(num)})
}

// runs reports whether this host judges an instance: its own, or a guest.
func (a *assembly) runs(i *lb.Instance) bool {
	return i.ID == a.self.Instance && i.Host == "" || i.Host == a.self.ID
}

// instances adds the machines whose traffic this host judges.
func (a *assembly) instances() error {
	if own := a.state.Instances.Get(a.self.Instance); own != nil {
		if err := a.instance(own); err != nil {
			return err
		}
	}
	for _, i := range a.state.Instances.All() {
		if i.Host != a.self.ID {
			continue
		}
		if err := a.instance(i); err != nil {
			return err
		}
	}
	return nil
}

// instance adds one of them. When the host's own is gone or has no address yet,
// the host has none, which admits nothing.
func (a *assembly) instance(i *lb.Instance) error {
	if len(i.Addresses()) == 0 {
		return nil
	}
	if len(i.Groups) == 0 {
		return fmt.Errorf("instance %s has no group: it must have one", i.ID)
	}
	out := Instance{ID: i.ID, Observe: i.Observe, Keep: Keeping{i.Keep, i.KeptSince}, Addrs: i.Addresses(), Port: i.Port, MAC: i.MAC}
	var err error
	if out.Ingress, err = a.policy(a.resolver.Resolve(i.Groups, policy.In)); err == nil {
		out.Egress, err = a.policy(a.resolver.Resolve(i.Groups, policy.Out))
	}
	if err != nil {
		return fmt.Errorf("gate 2 of %s: %w", i.ID, err)
	}
	a.out.Instances = append(a.out.Instances, out)
	return nil
}

// policy adds the compiled form of the groups; "" when there is none.
func (a *assembly) policy(groups []policy.Group) (policy.Hash, error) {
	if len(groups) == 0 {
		return "", nil
	}
	c, err := a.compile(groups)
	if err != nil {
		return "", err
	}
	a.out.Policies[c.Hash] = c
	return c.Hash, nil
}

func (a *assembly) sort() {
	s := a.out
	slices.SortFunc(s.Listeners, func(x, y Listener) int { return cmp.Compare(x.Num, y.Num) })
	slices.SortFunc(s.Instances, func(x, y Instance) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortFunc(s.Targets, func(x, y Target) int { return cmp.Compare(x.Num, y.Num) })
	slices.SortFunc(s.Peers, func(x, y Peer) int { return cmp.Compare(x.Node, y.Node) })
	slices.SortFunc(s.Certificates, func(x, y Certificate) int { return cmp.Compare(x.ID, y.ID) })
	slices.SortFunc(s.Fronts, func(x, y Front) int { return x.Addr.Compare(y.Addr) })
	slices.Sort(s.Drained)
	slices.SortFunc(s.VIPs, netip.Addr.Compare)
	s.VIPs = slices.Compact(s.VIPs)
}

// policyHashes are the names of the snapshot's policies, sorted.
func (s *Snapshot) policyHashes() []policy.Hash { return slices.Sorted(maps.Keys(s.Policies)) }
