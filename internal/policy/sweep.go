// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// A point is a place on one of the two lines that peers cut: IPv4 addresses and
// IPv6 addresses. One type serves both, so one sweep does.
type point struct{ hi, lo uint64 }

// lines are the last points of the two.
func lines() (v4, v6 point) {
	return point{0, 1<<32 - 1}, point{^uint64(0), ^uint64(0)}
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

// A portSpan is what a rule covers of the line of PortKeys, both ends included.
type portSpan struct{ first, last uint32 }

// lastPortKey ends the line.
const lastPortKey = 255<<16 | 65535

// portSpans gives what each rule covers of the line. It covers a protocol's
// whole stretch unless the protocol has ports and the rule names some.
func portSpans(rules []Rule) [][]portSpan {
	all := make([][]portSpan, len(rules))
	for i, r := range rules {
		for _, s := range r.services() {
			all[i] = appendService(all[i], s)
		}
	}
	return all
}

func appendService(spans []portSpan, s lb.Service) []portSpan {
	add := func(p lb.Proto, ports lb.PortRange) {
		if ports.First <= ports.Last {
			spans = append(spans, portSpan{PortKey(p, ports.First), PortKey(p, ports.Last)})
		}
	}
	switch {
	case s.Proto == lb.AnyProto && len(s.Ports) == 0:
		spans = append(spans, portSpan{0, lastPortKey})
	case s.Proto == lb.AnyProto:
		spans = append(spans, portless()...)
		for _, ports := range s.Ports {
			add(lb.TCP, ports)
			add(lb.UDP, ports)
		}
	case len(s.Ports) == 0 || !s.Proto.HasPorts():
		add(s.Proto, lb.PortRange{First: 0, Last: 65535})
	default:
		for _, ports := range s.Ports {
			add(s.Proto, ports)
		}
	}
	return spans
}

// portless are the stretches of the protocols without ports.
func portless() (spans []portSpan) {
	for p := range 256 {
		if lb.Proto(p).HasPorts() {
			continue
		}
		first, last := PortKey(lb.Proto(p), 0), PortKey(lb.Proto(p), 65535)
		if n := len(spans); n > 0 && spans[n-1].last+1 == first {
			spans[n-1].last = last
			continue
		}
		spans = append(spans, portSpan{first, last})
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
