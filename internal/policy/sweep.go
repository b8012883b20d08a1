// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// A point is a place on one of the three lines that rules cut: IPv4 addresses,
// IPv6 addresses, and PortKeys. One type serves all, so one sweep does.
type point struct{ hi, lo uint64 }

// lines are the last points of the three.
func lines() (v4, v6, ports point) {
	return point{0, 1<<32 - 1}, point{^uint64(0), ^uint64(0)}, point{0, uint64(PortKey(255, 65535))}
}

func (p point) compare(q point) int {
	return cmp.Or(cmp.Compare(p.hi, q.hi), cmp.Compare(p.lo, q.lo))
}

// next is the point after p, which must not be the last of all.
func (p point) next() point {
	p.lo++
	if p.lo == 0 {
		p.hi++
	}
	return p
}

func (p point) bytes() (b [16]byte) {
	binary.BigEndian.PutUint64(b[:8], p.hi)
	binary.BigEndian.PutUint64(b[8:], p.lo)
	return b
}

func pointOf(a netip.Addr) point {
	if a.Is4() {
		b := a.As4()
		return point{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return point{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// A span is what one rule covers of a line, both ends included.
type span struct {
	first, last point
	rule        int
}

func sourceSpans(rules []Rule) (v4, v6 []span) {
	for i, r := range rules {
		for _, prefix := range r.Peers {
			s := span{pointOf(prefix.Masked().Addr()), lastOf(prefix), i}
			if prefix.Addr().Is4() {
				v4 = append(v4, s)
			} else {
				v6 = append(v6, s)
			}
		}
	}
	return v4, v6
}

func lastOf(prefix netip.Prefix) point {
	p, host := pointOf(prefix.Masked().Addr()), prefix.Addr().BitLen()-prefix.Bits()
	if host >= 64 {
		p.lo = ^uint64(0)
		p.hi |= uint64(1)<<(host-64) - 1
		return p
	}
	p.lo |= uint64(1)<<host - 1
	return p
}

// portSpans covers a protocol's whole slice of the line unless the protocol
// has ports and the rule names some.
func portSpans(rules []Rule) []span {
	var spans []span
	for i, r := range rules {
		for _, s := range r.services() {
			spans = appendService(spans, s, i)
		}
	}
	return spans
}

func appendService(spans []span, s lb.Service, i int) []span {
	add := func(p lb.Proto, r lb.PortRange) {
		spans = append(spans, span{point{0, uint64(PortKey(p, r.First))}, point{0, uint64(PortKey(p, r.Last))}, i})
	}
	every := lb.PortRange{First: 0, Last: 65535}
	switch {
	case s.Proto == lb.AnyProto && len(s.Ports) == 0:
		spans = append(spans, span{point{}, point{0, uint64(PortKey(255, 65535))}, i})
	case s.Proto == lb.AnyProto:
		for p := range 256 {
			if !lb.Proto(p).HasPorts() {
				add(lb.Proto(p), every)
			}
		}
		for _, ports := range s.Ports {
			add(lb.TCP, ports)
			add(lb.UDP, ports)
		}
	case len(s.Ports) == 0 || !s.Proto.HasPorts():
		add(s.Proto, every)
	default:
		for _, ports := range s.Ports {
			if ports.First <= ports.Last {
				add(s.Proto, ports)
			}
		}
	}
	return spans
}

// classes numbers the distinct sets of rules that a sweep meets.
type classes struct {
	width int // bytes of a set, a multiple of 8
	bySet map[string]int
	sets  [][]byte // bit i%8 of byte i/8: rule i is in
	full  bool     // the sweep gave up for want of room
}

func newClasses(rules int) *classes {
	return &classes{width: (rules + 63) / 64 * 8, bySet: make(map[string]int)}
}

func (c *classes) len() int { return len(c.sets) }

func (c *classes) of(set []byte) int {
	n, ok := c.bySet[string(set)]
	if !ok {
		n = len(c.sets)
		c.sets = append(c.sets, slices.Clone(set))
		c.bySet[string(set)] = n
		c.full = c.full || len(c.sets)*c.width > maxSetBytes
	}
	return n
}

// A bound says that from start on the class holds.
type bound struct {
	start point
	set   int    // before merging
	class uint16 // after
}

// sweep walks a line once, from 0 to its last point, and cuts it where the set
// of rules that cover it changes.
func (c *classes) sweep(spans []span, last point) []bound {
	type edge struct {
		at    point
		rule  int
		delta int
	}
	edges := make([]edge, 0, 2*len(spans))
	for _, s := range spans {
		edges = append(edges, edge{s.first, s.rule, 1})
		if s.last != last {
			edges = append(edges, edge{s.last.next(), s.rule, -1})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int { return a.at.compare(b.at) })
	set := make([]byte, c.width)
	covering := make(map[int]int) // a rule may cover a point with several spans
	var bounds []bound
	for at, i := (point{}), 0; ; at = edges[i].at {
		for ; i < len(edges) && edges[i].at == at; i++ {
			e := edges[i]
			covering[e.rule] += e.delta
			if covering[e.rule] > 0 {
				set[e.rule/8] |= 1 << (e.rule % 8)
			} else {
				set[e.rule/8] &^= 1 << (e.rule % 8)
			}
		}
		bounds = append(bounds, bound{start: at, set: c.of(set)})
		if i == len(edges) || c.full {
			return bounds
		}
	}
}

// join gives every bound its merged class and drops those that change nothing.
func join(bounds []bound, class []uint16) []bound {
	var joined []bound
	for _, b := range bounds {
		b.class = class[b.set]
		if len(joined) == 0 || joined[len(joined)-1].class != b.class {
			joined = append(joined, b)
		}
	}
	return joined
}
