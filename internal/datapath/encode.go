// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// encoded is a snapshot as the maps want it.
type encoded struct {
	listeners map[GatewayListenerKey]GatewayListener
	targets   map[uint32]GatewayTarget
	instances map[GatewayAddr]HostInstance
	peers     map[GatewayAddr]peer
	vips      map[GatewayAddr]GatewayVip
	rules     map[uint32]policy.RuleRef // by counter slot
	placed    map[placement]uint32
	steps     map[uint32]uint16 // of targets whose connections are counted
}

// A placement is one policy with the counters of one direction: listeners and
// instances that are bound alike share its place in the arena.
type placement struct {
	hash      policy.Hash
	direction policy.Direction
}

// encode places policies and rings in the arena and makes the rows that name
// them. Blobs that it placed before an error are freed by the next Stage.
func (d *Datapath) encode(s *snapshot.Snapshot) (*encoded, error) {
	d.arena.retain(d.live())
	clear(d.counters.wanted)
	d.gates.staged = map[string]gateState{}
	e := &encoded{map[GatewayListenerKey]GatewayListener{}, map[uint32]GatewayTarget{}, map[GatewayAddr]HostInstance{},
		map[GatewayAddr]peer{}, map[GatewayAddr]GatewayVip{}, map[uint32]policy.RuleRef{}, map[placement]uint32{}, map[uint32]uint16{}}
	for _, l := range s.Listeners {
		if err := d.encodeListener(s, &l, e); err != nil {
			return nil, fmt.Errorf("listener %s: %w", l.ID, err)
		}
	}
	d.holdShares(s)
	for _, t := range s.Targets {
		row := encodeTarget(&t)
		row.Step, row.Share = e.steps[t.Num], d.numbers.of[t.ID.Balancer]
		e.targets[t.Num] = row
	}
	for i, inst := range s.Instances {
		if err := d.encodeInstance(s, uint32(i), &inst, e); err != nil {
			return nil, fmt.Errorf("instance %s: %w", inst.ID, err)
		}
	}
	for _, p := range s.Peers {
		e.peers[rawAddr(p.Addr)] = peer{GatewayPeer{Key: p.Keys, Family: familyOf(p.Addr)}, p.Num}
	}
	d.keepLeaving(s, e, time.Now())
	return e, d.encodeVIPs(s, e)
}

// listenerLayer7 and the target flags repeat bpf/layout.h; a test compares.
const (
	listenerLayer7      = 1
	listenerByAddress   = 2
	listenerLeast       = 4
	listenerHealthyOnly = 8
	targetPass          = 1
	targetViaGateway    = 2
	targetProbeExempt   = 4
	targetProbePing     = 8
	targetReturn        = 16
	targetKin           = 32
	instanceObserved    = 1
	instanceGuest       = 2
)

func (d *Datapath) encodeListener(s *snapshot.Snapshot, l *snapshot.Listener, e *encoded) error {
	row := GatewayListener{Num: l.Num, Balancer: l.BalancerNum, Judged: d.listenerJudged(s, l)}
	var err error
	if row.Policy, row.Implicit, err = d.placeGate1(s, l.Gate1, l.Balancer, e); err != nil {
		return err
	}
	stepsOf(l, e.steps)
	if l.Layer7 {
		row.Flags |= listenerLayer7
	} else if ring, roster := ringOf(l.Targets); len(ring) > 0 {
		if row.Ring, err = d.arena.put(ringWords(ring, roster)); err != nil {
			return err
		}
		row.RingLen = uint32(len(ring))
		d.choice(l, &row)
	}
	for _, vip := range l.VIPs {
		e.listeners[GatewayListenerKey{Addr: rawAddr(vip), Port: l.Port, Proto: uint8(l.Proto)}] = row
	}
	return nil
}

// ringOf gives the Maglev table of the targets with weight, and the roster of
// their numbers. Both are empty when there is none.
func ringOf(targets []snapshot.TargetRef) (ring, roster []uint32) {
	entries := make([]lb.MaglevEntry, 0, len(targets))
	for _, t := range targets {
		if t.Weight > 0 {
			entries = append(entries, lb.MaglevEntry{Num: t.Num, Weight: t.Weight})
			roster = append(roster, t.Num)
		}
	}
	if len(entries) == 0 {
		return nil, nil
	}
	return lb.Maglev(entries, lb.MaglevSize(len(entries))), roster
}

func encodeTarget(t *snapshot.Target) GatewayTarget {
	row := GatewayTarget{Host: rawAddr(t.Host), Service: rawAddr(t.Service.Addr()), ServicePort: t.Service.Port(),
		Vport: t.VPort, ProbePort: t.ProbePort, Proto: uint8(t.Proto)}
	if v, ok := firstOf(t.VIPs, t.Service.Addr().Is4()); ok {
		row.Vip, row.Eip = rawAddr(v), rawAddr(v)
	}
	if last := len(t.VIPs) - 1; last > 0 && t.VIPs[last].Is4() == t.Service.Addr().Is4() {
		row.Eip = rawAddr(t.VIPs[last])
	}
	if t.VPortEnd != 0 {
		row.Span = t.VPortEnd - t.VPort
	}
	row.Public = row.Service
	if t.Public.IsValid() {
		row.Public = rawAddr(t.Public)
	}
	if t.ProbeSource.IsValid() {
		row.ProbeSource = rawAddr(t.ProbeSource)
	}
	for _, f := range []struct {
		on  bool
		bit uint8
	}{{t.PassToTarget, targetPass}, {t.ViaGateway, targetViaGateway}, {t.ProbeExempt, targetProbeExempt}, {t.ProbePing, targetProbePing}, {t.ReturnVia, targetReturn},
		{len(t.Others) > 0, targetKin}} {
		if f.on {
			row.Flags |= f.bit
		}
	}
	return row
}

// firstOf is the first VIP of the target's own family.
func firstOf(vips []netip.Addr, is4 bool) (netip.Addr, bool) {
	for _, v := range vips {
		if v.Is4() == is4 {
			return v, true
		}
	}
	return netip.Addr{}, false
}

func (d *Datapath) encodeInstance(s *snapshot.Snapshot, n uint32, i *snapshot.Instance, e *encoded) error {
	row := HostInstance{Num: n, Judged: d.instanceJudged(s, i)}
	var err error
	if row.Ingress, err = d.placePolicy(s, i.Ingress, policy.In, e); err != nil {
		return err
	}
	if row.Egress, err = d.placePolicy(s, i.Egress, policy.Out, e); err != nil {
		return err
	}
	for _, side := range []struct {
		direction policy.Direction
		slot      *uint32
	}{{policy.In, &row.ImplicitIn}, {policy.Out, &row.ImplicitOut}} {
		name := counterName{gate: d.gate, direction: side.direction, object: string(i.ID)}
		if *side.slot, err = d.counters.take(name); err != nil {
			return err
		}
	}
	if i.Port != "" {
		row.Flags |= instanceGuest
	} else if i.Observe {
		row.Flags |= instanceObserved
		// Packets that belong to no address of the machine are told of too.
		e.instances[GatewayAddr{}] = row
	}
	for _, a := range i.Addrs {
		e.instances[rawAddr(a)] = row
	}
	return nil
}

// placePolicy puts a compiled policy into the arena, its rules counted apart
// for each gate and direction.
func (d *Datapath) placePolicy(s *snapshot.Snapshot, hash policy.Hash, dir policy.Direction, e *encoded) (uint32, error) {
	if at, ok := e.placed[placement{hash, dir}]; ok {
		return at, nil
	}
	c := s.Policies[hash]
	if c == nil {
		return 0, fmt.Errorf("the snapshot names policy %q and does not hold it", hash)
	}
	words, err := policyWords(c, func(r policy.RuleRef) (uint32, error) {
		if r.Reason == policy.NoGroups {
			return 0, nil // nothing decided, so nothing is counted
		}
		slot, err := d.counters.take(counterName{gate: d.gate, direction: dir, group: r.Group, rule: r.Rule})
		if err == nil {
			e.rules[slot] = r
		}
		return slot, err
	})
	if err != nil {
		return 0, err
	}
	at, err := d.arena.put(words)
	if err == nil {
		e.placed[placement{hash, dir}] = at
	}
	return at, err
}
