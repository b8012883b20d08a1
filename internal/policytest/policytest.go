// SPDX-License-Identifier: Apache-2.0

// Package policytest makes random policies and packets for the tests that
// compare policy.Decide with the compiled form and with the kernel programs.
// It is for tests only.
package policytest

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Dice is where the generators take their choices from: math/rand for long
// plain loops, rapid for one that shrinks. IntN gives 0 to n-1.
type Dice interface{ IntN(n int) int }

// Sizes are the most rules that the lists of a campaign hold, in turn: none,
// a few, and as many as a long list has.
func Sizes() []int { return []int{0, 4, 16, 64, 128, 512} }

// Number makes a group of the rules and gives them ids and positions, which
// start at 1.
func Number(id lb.GroupID, rules ...policy.Rule) policy.Group {
	for i := range rules {
		rules[i].ID, rules[i].Pos = lb.RuleID(fmt.Sprintf("%s/%d", id, i+1)), i+1
	}
	return policy.Group{ID: id, Rules: rules}
}

// RandomPrefix is a prefix of either family, most often a small part of
// 10.0.0.0/14 or 2001:db8::/32, so that prefixes meet and contain each other.
func RandomPrefix(d Dice) netip.Prefix {
	var b [16]byte
	for i := range b {
		b[i] = byte(d.IntN(256))
	}
	if d.IntN(3) > 0 {
		a := netip.AddrFrom4([4]byte{10, byte(d.IntN(3)), b[2] & 3, b[3]})
		return netip.PrefixFrom(a, []int{0, 1, 8, 15, 16, 22, 24, 24, 30, 31, 32, 32}[d.IntN(12)]).Masked()
	}
	copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(d.IntN(3)), 0, byte(d.IntN(3))})
	return netip.PrefixFrom(netip.AddrFrom16(b), []int{0, 1, 32, 47, 48, 63, 64, 65, 127, 128}[d.IntN(10)]).Masked()
}

// RandomRule is a rule without id and position. It may name no peer at all,
// which matches nothing.
func RandomRule(d Dice) policy.Rule {
	protos := [...]lb.Proto{lb.AnyProto, lb.TCP, lb.TCP, lb.TCP, lb.UDP, lb.UDP, lb.ICMP, lb.ICMPv6, lb.GRE}
	r := policy.Rule{Action: lb.Accept, Proto: protos[d.IntN(len(protos))]}
	if d.IntN(3) == 0 {
		r.Action = lb.Drop
	}
	for range []int{0, 1, 1, 1, 1, 2, 5}[d.IntN(7)] {
		r.Peers = append(r.Peers, RandomPrefix(d))
	}
	r.Ports = randomPorts(d)
	if d.IntN(6) == 0 { // a template's, instead
		r.Proto, r.Ports = lb.AnyProto, nil
		for range 1 + d.IntN(4) {
			r.Services = append(r.Services, lb.Service{Proto: protos[1+d.IntN(len(protos)-1)], Ports: randomPorts(d)})
		}
	}
	return r
}

func randomPorts(d Dice) (all []lb.PortRange) {
	for range []int{0, 1, 1, 2}[d.IntN(4)] {
		first := []int{0, 1, 22, 80, 443, 8000, 65535, d.IntN(65536)}[d.IntN(8)]
		last := min(first+[]int{0, 0, 10, 1000, 65535}[d.IntN(5)], 65535)
		all = append(all, lb.PortRange{First: uint16(first), Last: uint16(last)})
	}
	return all
}

// RandomGroups are one to five groups of together at most that many rules.
func RandomGroups(d Dice, most int) []policy.Group {
	groups := make([]policy.Group, 1+d.IntN(5))
	total := d.IntN(most + 1)
	for i := range groups {
		var rules []policy.Rule
		for range total / len(groups) {
			rules = append(rules, RandomRule(d))
		}
		groups[i] = Number(lb.GroupID([]string{"sg-a", "sg-b", "sg-c", "sg-d", "sg-e"}[i]), rules...)
	}
	return groups
}

// edgeAddr is the first or last address of a prefix or the one beside it.
func edgeAddr(d Dice, prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().As16()
	host := prefix.Addr().BitLen() - prefix.Bits()
	if d.IntN(2) == 0 { // the last one
		for i := range host {
			b[15-i/8] |= 1 << (i % 8)
		}
	}
	a := netip.AddrFrom16(b)
	if prefix.Addr().Is4() {
		a = a.Unmap()
	}
	step := []netip.Addr{a, a, a, a.Prev(), a.Next()}[d.IntN(5)]
	if !step.IsValid() {
		return a
	}
	return step
}

// RandomPacket lies on a boundary of a random rule of groups, or anywhere. In
// direction Out its peer is the destination.
func RandomPacket(d Dice, groups []policy.Group, dir policy.Direction) lb.Packet {
	p := lb.Packet{Proto: []lb.Proto{lb.TCP, lb.UDP, lb.ICMP, lb.ICMPv6, lb.GRE, lb.Proto(d.IntN(256))}[d.IntN(6)], DstPort: uint16(d.IntN(65536)), SrcPort: uint16(d.IntN(65536))}
	peer := edgeAddr(d, RandomPrefix(d))
	if rules := groups[d.IntN(len(groups))].Rules; len(rules) > 0 && d.IntN(4) > 0 {
		r := rules[d.IntN(len(rules))]
		if len(r.Peers) > 0 {
			peer = edgeAddr(d, r.Peers[d.IntN(len(r.Peers))])
		}
		if r.Proto != lb.AnyProto {
			p.Proto = r.Proto
		}
		if len(r.Ports) > 0 {
			edge := r.Ports[d.IntN(len(r.Ports))]
			p.DstPort = []uint16{edge.First, edge.Last, edge.First - 1, edge.Last + 1}[d.IntN(4)]
		}
	}
	if !p.Proto.HasPorts() {
		p.SrcPort, p.DstPort = 0, 0
	}
	other := netip.AddrFrom4([4]byte{10, 200, 0, byte(d.IntN(256))})
	if peer.Is6() {
		other = netip.MustParseAddr("2001:db8:ffff::1")
	}
	p.Src, p.Dst = peer, other
	if dir == policy.Out {
		p.Src, p.Dst = other, peer
	}
	return p
}

// Boundaries calls visit with an inbound packet on both sides of every
// boundary of every class of the compiled form, of both address families,
// until visit says to stop.
func Boundaries(c *policy.Compiled, visit func(lb.Packet) bool) {
	var starts []uint32
	for _, s := range c.Segments {
		starts = append(starts, s.Start)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	for _, peer := range peers(c) {
		for _, start := range starts {
			for _, key := range []uint32{start, max(start, 1) - 1} {
				if !visit(lb.Packet{Proto: lb.Proto(key >> 16), Src: peer, DstPort: uint16(key)}) {
					return
				}
			}
		}
	}
}

// peers are the first address of every interval and the one before it.
func peers(c *policy.Compiled) []netip.Addr {
	var all []netip.Addr
	add := func(a netip.Addr) {
		all = append(all, a)
		if before := a.Prev(); before.IsValid() {
			all = append(all, before)
		}
	}
	for _, i := range c.Src4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], i.Start)
		add(netip.AddrFrom4(b))
	}
	for _, i := range c.Src6 {
		add(netip.AddrFrom16(i.Start))
	}
	return all
}
