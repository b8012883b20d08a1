// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// Validate reports the first thing in the snapshot that does not hold
// together, so that what reaches the kernel is whole: order, names of
// policies and targets, tables, addresses and what a role may have.
func (s *Snapshot) Validate() error {
	switch {
	case s.Node == "":
		return fmt.Errorf("names no node")
	case s.Role != lb.RoleGateway && s.Role != lb.RoleHost:
		return fmt.Errorf("%q is not a role", s.Role)
	case s.Role == lb.RoleGateway && len(s.Instances) > 0:
		return fmt.Errorf("a gateway with instances")
	case s.Role == lb.RoleHost && len(s.Listeners)+len(s.Fronts) > 0:
		return fmt.Errorf("a host with listeners")
	case s.Role == lb.RoleHost && len(s.Certificates) > 0:
		return fmt.Errorf("a host with certificates")
	}
	v := &validation{s: s, targets: make(map[uint32]bool), used: make(map[policy.Hash]bool), shown: make(map[lb.CertificateID]bool)}
	for _, check := range []func() error{v.policies, v.targetRows, v.certificates, v.listeners, v.instances, v.peers, v.fronts, v.unused} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

type validation struct {
	s       *Snapshot
	targets map[uint32]bool
	used    map[policy.Hash]bool
	shown   map[lb.CertificateID]bool // certificates that are here
}

func (v *validation) policies() error {
	for _, hash := range v.s.policyHashes() {
		c := v.s.Policies[hash]
		if c == nil || c.Hash != hash {
			return fmt.Errorf("policy %s is not what its name says", hash)
		}
		if err := c.Validate(); err != nil {
			return fmt.Errorf("policy %s: %w", hash, err)
		}
	}
	return nil
}

func (v *validation) uses(hash policy.Hash) error {
	if v.s.Policies[hash] == nil {
		return fmt.Errorf("names policy %q, which is not here", hash)
	}
	v.used[hash] = true
	return nil
}

func (v *validation) unused() error {
	for _, hash := range v.s.policyHashes() {
		if !v.used[hash] {
			return fmt.Errorf("nothing names policy %s", hash)
		}
	}
	return nil
}

func (v *validation) targetRows() error {
	last := uint32(0)
	for _, t := range v.s.Targets {
		switch {
		case t.Num <= last:
			return fmt.Errorf("target %d after %d", t.Num, last)
		case t.Num&MarkMask != 0:
			return fmt.Errorf("target %d: number beyond 24 bits", t.Num)
		case !t.Host.IsValid() || !t.Service.IsValid() || t.Service.Port() == 0 || t.VPort == 0:
			return fmt.Errorf("target %d lacks an address or port", t.Num)
		case t.Public.Zone() != "":
			return fmt.Errorf("target %d: %v is not an address", t.Num, t.Public)
		case !t.Proto.HasPorts():
			return fmt.Errorf("target %d: protocol %v", t.Num, t.Proto)
		case t.VPortEnd != 0 && (t.VPortEnd <= t.VPort || t.VPort != t.Service.Port() || t.ViaGateway):
			return fmt.Errorf("target %d: %d is no last port of %d, served at %d", t.Num, t.VPortEnd, t.VPort, t.Service.Port())
		case t.ProbeExempt && (!t.ProbeSource.IsValid() || t.ProbePort == 0):
			return fmt.Errorf("target %d exempts probes from nowhere", t.Num)
		}
		if err := addresses(t.VIPs); err != nil {
			return fmt.Errorf("target %d: %w", t.Num, err)
		}
		for _, a := range t.Others {
			if !a.IsValid() || a.Zone() != "" || a.Is4() != t.Service.Addr().Is4() {
				return fmt.Errorf("target %d: %v is no address of its instance", t.Num, a)
			}
		}
		last = t.Num
		v.targets[t.Num] = true
	}
	return nil
}

// addresses must be there and be addresses.
func addresses(all []netip.Addr) error {
	if len(all) == 0 {
		return fmt.Errorf("no address")
	}
	for _, a := range all {
		if !a.IsValid() || a.Zone() != "" {
			return fmt.Errorf("%v is not an address", a)
		}
	}
	return nil
}

func (v *validation) listeners() error {
	last := uint32(0)
	for _, l := range v.s.Listeners {
		if l.Num <= last {
			return fmt.Errorf("listener %d after %d", l.Num, last)
		}
		last = l.Num
		if err := v.listener(l); err != nil {
			return fmt.Errorf("listener %d: %w", l.Num, err)
		}
	}
	return nil
}

func (v *validation) listener(l Listener) error {
	switch {
	case l.Port == 0 || !l.Proto.HasPorts():
		return fmt.Errorf("protocol %v, port %d", l.Proto, l.Port)
	case l.EndPort != 0 && (l.EndPort <= l.Port || l.Layer7):
		return fmt.Errorf("%d is no last port of %d", l.EndPort, l.Port)
	case l.Layer7 && len(l.Targets) > 0 || !l.Layer7 && len(l.Rules) > 0:
		return fmt.Errorf("targets and rules do not fit its layer")
	}
	if err := v.shows(l); err != nil {
		return err
	}
	if err := addresses(l.VIPs); err != nil {
		return err
	}
	if l.Gate1 != "" {
		if err := v.uses(l.Gate1); err != nil {
			return err
		}
	}
	if err := v.refs(l.Targets); err != nil {
		return err
	}
	if err := scheduled(l.Scheduler); err != nil {
		return err
	}
	for _, r := range l.Rules {
		if err := v.refs(r.Targets); err != nil {
			return fmt.Errorf("rule %s: %w", r.ID, err)
		}
		if err := scheduled(r.Scheduler); err != nil {
			return fmt.Errorf("rule %s: %w", r.ID, err)
		}
		if err := r.Redirect.validate(); err != nil {
			return fmt.Errorf("rule %s: %w", r.ID, err)
		}
	}
	return nil
}

// scheduled refuses what a newer server may know and this node does not.
func scheduled(name string) error {
	switch name {
	case "", lb.SchedulerLeast, lb.SchedulerHash:
		return nil
	}
	return fmt.Errorf("scheduler %q is not known", name)
}

func (v *validation) refs(refs []TargetRef) error {
	last := uint32(0)
	for _, r := range refs {
		switch {
		case r.Num <= last:
			return fmt.Errorf("target %d after %d", r.Num, last)
		case !v.targets[r.Num]:
			return fmt.Errorf("names target %d, which is not here", r.Num)
		case r.Weight < 0 || r.Weight > 100:
			return fmt.Errorf("target %d has weight %d", r.Num, r.Weight)
		}
		last = r.Num
	}
	return nil
}

func (v *validation) instances() error {
	last := lb.InstanceID("")
	for _, i := range v.s.Instances {
		if i.ID <= last {
			return fmt.Errorf("instance %q after %q", i.ID, last)
		}
		last = i.ID
		if err := addresses(i.Addrs); err != nil {
			return fmt.Errorf("instance %s: %w", i.ID, err)
		}
		// An instance always has a group: "no policy" would admit everything.
		for _, hash := range []policy.Hash{i.Ingress, i.Egress} {
			if err := v.uses(hash); err != nil {
				return fmt.Errorf("instance %s: %w", i.ID, err)
			}
		}
	}
	return nil
}

func (v *validation) peers() error {
	last := lb.NodeID("")
	for _, p := range v.s.Peers {
		if p.Node <= last || !p.Addr.IsValid() {
			return fmt.Errorf("peer %q after %q, at %v", p.Node, last, p.Addr)
		}
		last = p.Node
	}
	for i, vip := range v.s.VIPs {
		if !vip.IsValid() || i > 0 && v.s.VIPs[i-1].Compare(vip) >= 0 {
			return fmt.Errorf("VIP %v is none or out of order", vip)
		}
	}
	return nil
}

func (v *validation) fronts() error {
	var last netip.Addr
	for _, f := range v.s.Fronts {
		if _, known := slices.BinarySearchFunc(v.s.VIPs, f.Addr, netip.Addr.Compare); !known || f.Addr.Compare(last) <= 0 {
			return fmt.Errorf("front %v is no VIP or out of order", f.Addr)
		}
		last = f.Addr
		if f.Gate1 != "" {
			if err := v.uses(f.Gate1); err != nil {
				return fmt.Errorf("front %v: %w", f.Addr, err)
			}
		}
	}
	return nil
}
