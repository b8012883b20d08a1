// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// The most that one compiled policy may hold: the kernel's maps are made for
// this, and so are the bounds of its binary searches.
const (
	MaxIntervals     = 8192 // per address family
	MaxPortIntervals = 4096 // of one source class
	MaxRules         = 16384
	MaxSegments      = 1 << 17 // of all source classes: 1 MiB in the kernel
)

// These bound the work and memory of compiling, whatever the rules.
const (
	maxEdges    = 2 << 20 // rule's ends that all source classes have to look at
	maxSetBytes = 64 << 20
)

// Compile turns the groups, in the order they are bound, into their compiled
// form. The answers of the two are the same for every packet. It fails with an
// *lb.Error of kind LimitExceeded when the result would not fit; nothing else
// can go wrong. Groups must not be empty: whoever has none bound has no policy.
func Compile(groups []Group) (*Compiled, error) {
	if len(groups) == 0 {
		return nil, lb.Refuse(lb.Invalid, "", "there is no group to compile", "an object without groups has no policy")
	}
	c := &Compiled{}
	var rules []Rule
	for _, group := range groups {
		for _, r := range group.Rules {
			rules = append(rules, r)
			c.Rules = append(c.Rules, RuleRef{group.ID, r.ID, r.Pos, r.Action, r.Reason})
		}
	}
	if len(rules) > MaxRules {
		return nil, exceeded(len(rules), MaxRules, "rules")
	}
	src4, src6 := sourceSpans(rules)
	sources := newClasses(len(rules))
	end4, end6 := lines()
	ranges4, ranges6 := sources.sweep(src4, end4), sources.sweep(src6, end6)
	if sources.full {
		return nil, exceeded(len(rules), MaxRules, "rules with too many different peers")
	}
	class, err := c.slice(sources, portSpans(rules))
	if err != nil {
		return nil, err
	}
	for _, b := range join(ranges4, class) {
		c.Src4 = append(c.Src4, Interval{uint32(b.start.lo), b.class})
	}
	for _, b := range join(ranges6, class) {
		c.Src6 = append(c.Src6, Interval6{b.start.bytes(), b.class})
	}
	switch {
	case len(c.Src4) > MaxIntervals:
		return nil, exceeded(len(c.Src4), MaxIntervals, "ranges of IPv4 addresses")
	case len(c.Src6) > MaxIntervals:
		return nil, exceeded(len(c.Src6), MaxIntervals, "ranges of IPv6 addresses")
	}
	c.Hash = c.ContentHash()
	return c, nil
}

func exceeded(n, limit int, what string) error {
	return lb.Refuse(lb.LimitExceeded, "", fmt.Sprintf("the bound groups compile to %d %s; the limit is %d", n, what, limit),
		"use fewer rules, wider prefixes or smaller referenced groups")
}

// slice cuts the line of ports for each set of rules that the sources have,
// and gives sets that are judged alike one class. spans are by rule.
func (c *Compiled) slice(sources *classes, spans [][]portSpan) (class []uint16, err error) {
	seen := make(map[string]uint16)
	var cut cutter
	var key []byte
	edges := 0
	for _, set := range sources.sets {
		cut.begin()
		for at := 0; at < len(set); at += 8 {
			for w := binary.LittleEndian.Uint64(set[at:]); w != 0; w &= w - 1 {
				rule := at*8 + bits.TrailingZeros64(w)
				edges += 2 * len(spans[rule])
				cut.add(rule, spans[rule])
			}
			if edges > maxEdges {
				return nil, exceeded(edges, maxEdges, "ends of port ranges, counted for each kind of source they hold for")
			}
		}
		segments := cut.segments()
		if len(segments) > MaxPortIntervals {
			return nil, exceeded(len(segments), MaxPortIntervals, "ranges of ports for one source")
		}
		key = key[:0]
		for _, s := range segments {
			key = binary.LittleEndian.AppendUint64(key, uint64(s.Start)<<16|uint64(s.Class))
		}
		n, ok := seen[string(key)]
		if !ok {
			n = uint16(len(c.Slices))
			seen[string(key)] = n
			c.Slices = append(c.Slices, uint32(len(c.Segments)))
			c.Segments = append(c.Segments, segments...)
			if len(c.Slices) > 2*MaxIntervals { // numbers of classes would not fit either
				return nil, exceeded(len(c.Slices), 2*MaxIntervals, "kinds of sources")
			}
			if len(c.Segments) > MaxSegments {
				return nil, exceeded(len(c.Segments), MaxSegments, "ranges of ports, counted for each kind of source")
			}
		}
		class = append(class, n)
	}
	return class, nil
}

// A cutter finds where on the line of ports which of a list of rules decides.
type cutter struct {
	rules  []int // in the order of judging
	edges  []cut
	active []uint64 // bit i%64 of word i/64: rules[i] covers the point
	depth  []int32  // how often it does: ranges of one rule may overlap
	out    []Interval
}

// A cut is where a range of a rule begins or has ended.
type cut struct {
	at    uint32
	rule  int32 // index into rules
	delta int32
}

func (c *cutter) begin() { c.rules, c.edges, c.out = c.rules[:0], c.edges[:0], c.out[:0] }

func (c *cutter) add(rule int, spans []portSpan) {
	i := int32(len(c.rules))
	c.rules = append(c.rules, rule)
	for _, s := range spans {
		c.edges = append(c.edges, cut{s.first, i, 1})
		if s.last != lastPortKey {
			c.edges = append(c.edges, cut{s.last + 1, i, -1})
		}
	}
}

// segments is valid until the next begin.
func (c *cutter) segments() []Interval {
	slices.SortFunc(c.edges, func(a, b cut) int { return cmp.Compare(a.at, b.at) })
	c.active = append(c.active[:0], make([]uint64, (len(c.rules)+63)/64)...)
	c.depth = append(c.depth[:0], make([]int32, len(c.rules))...)
	for at, i := uint32(0), 0; ; at = c.edges[i].at {
		for ; i < len(c.edges) && c.edges[i].at == at; i++ {
			e := c.edges[i]
			c.depth[e.rule] += e.delta
			if c.depth[e.rule] > 0 {
				c.active[e.rule/64] |= 1 << (e.rule % 64)
			} else {
				c.active[e.rule/64] &^= 1 << (e.rule % 64)
			}
		}
		ordinal := uint16(0)
		for k, w := range c.active {
			if w != 0 {
				ordinal = uint16(c.rules[k*64+bits.TrailingZeros64(w)] + 1)
				break
			}
		}
		if n := len(c.out); n == 0 || c.out[n-1].Class != ordinal {
			c.out = append(c.out, Interval{at, ordinal})
		}
		if i == len(c.edges) {
			return c.out
		}
	}
}
