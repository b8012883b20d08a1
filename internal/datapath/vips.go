// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// openVIPs maps the rows of VIPs and the filter in front of them, and reads
// back what is in force.
func (d *Datapath) openVIPs() error {
	rows, err1 := mapped[GatewayVipRow](d, "vips")
	x, err2 := openIndex[GatewayAddr](d, "vip_index")
	bits, err3 := mapped[uint64](d, "vip_filter")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	d.vipBits = bits
	d.vips = &table[GatewayAddr, GatewayVipRow, GatewayVip]{name: "VIPs", index: x, rows: rows,
		key:      func(r *GatewayVipRow) *GatewayAddr { return (*GatewayAddr)(&r.Key) },
		versions: func(r *GatewayVipRow) *[2]GatewayVip { return &r.V },
		refs:     func(v *GatewayVip) []*uint32 { return []*uint32{&v.Policy, &v.Ranges} }}
	d.vips.load()
	for k := range d.vips.at {
		d.filterVIP(k)
	}
	return nil
}

// stageVIPs writes the VIPs beside those in force.
func (d *Datapath) stageVIPs(rev, committed uint32, want map[GatewayAddr]GatewayVip) error {
	for k := range want {
		d.filterVIP(k)
	}
	return d.vips.stage(rev, committed, want)
}

// filterVIP lets the programs look an address up among the VIPs. What is set
// stays until the map is made anew: it costs a look, not a wrong answer.
func (d *Datapath) filterVIP(k GatewayAddr) {
	hash := d.vips.index.place(&k)
	word := &d.vipBits[uint32(hash>>6)%uint32(len(d.vipBits))]
	atomic.StoreUint64(word, *word|1<<(hash&63))
}

// encodeVIPs makes the rows of all VIPs. A host knows them by their addresses
// alone; a gateway has their fronts.
func (d *Datapath) encodeVIPs(s *snapshot.Snapshot, e *encoded) error {
	for _, addr := range s.VIPs {
		e.vips[rawAddr(addr)] = GatewayVip{}
	}
	for _, f := range s.Fronts {
		row := GatewayVip{Balancer: f.BalancerNum}
		var err error
		if row.Policy, row.Implicit, err = d.placeGate1(s, f.Gate1, f.Balancer, e); err != nil {
			return fmt.Errorf("VIP %v: %w", f.Addr, err)
		}
		if ranges := rangeWords(s.Listeners, f.Addr); ranges != nil {
			if row.Ranges, err = d.arena.put(ranges); err != nil {
				return fmt.Errorf("VIP %v: %w", f.Addr, err)
			}
		}
		e.vips[rawAddr(f.Addr)] = row
	}
	return nil
}

// rangeWords are the listeners of several ports at an address as bpf/ports.h
// reads them; nil when there is none.
func rangeWords(listeners []snapshot.Listener, at netip.Addr) []uint64 {
	words := []uint64{0}
	for _, l := range listeners {
		if l.EndPort != 0 && slices.Contains(l.VIPs, at) {
			words = append(words, uint64(l.Proto)<<48|uint64(l.Port)<<32|uint64(l.EndPort))
		}
	}
	if len(words) == 1 {
		return nil
	}
	words[0] = uint64(len(words) - 1)
	slices.Sort(words[1:])
	return words
}

// placeGate1 places the policy of gate 1 and gives its offset and the counter
// of its implicit refusal; both are 0 when no group is bound.
func (d *Datapath) placeGate1(s *snapshot.Snapshot, gate1 policy.Hash, balancer lb.BalancerID, e *encoded) (at, implicit uint32, err error) {
	if gate1 == "" {
		return 0, 0, nil
	}
	if at, err = d.placePolicy(s, gate1, policy.In, e); err != nil {
		return 0, 0, err
	}
	implicit, err = d.counters.take(counterName{gate: d.gate, direction: policy.In, object: string(balancer)})
	return at, implicit, err
}
