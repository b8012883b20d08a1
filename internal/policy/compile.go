// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/sallyport/sallyport/internal/lb"
)

// The most that one compiled policy may hold: the kernel's maps are made for
// this, and so are the bounds of its binary searches.
const (
	MaxIntervals     = 8192    // per address family
	MaxPortIntervals = 4096    //
	MaxRules         = 65535   // ordinals + 1 fit 16 bits
	MaxCells         = 1 << 20 // of Table
)

// These bound work and memory before equal rows and columns are merged.
const (
	maxRawCells = 16 * MaxCells
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
	sources, ports := newClasses(len(rules)), newClasses(len(rules))
	end4, end6, endPorts := lines()
	ranges4, ranges6 := sources.sweep(src4, end4), sources.sweep(src6, end6)
	portRanges := ports.sweep(portSpans(rules), endPorts)
	if sources.full || ports.full {
		return nil, exceeded(len(rules), MaxRules, "rules with too many different peers and ports")
	}
	if cells := sources.len() * ports.len(); cells > maxRawCells {
		return nil, exceeded(cells, maxRawCells, "cells (distinct sets of sources times distinct sets of ports)")
	}
	if err := c.fill(matrix{sources, ports}, ranges4, ranges6, portRanges); err != nil {
		return nil, err
	}
	return c, nil
}

func exceeded(n, limit int, what string) error {
	return lb.Refuse(lb.LimitExceeded, "", fmt.Sprintf("the bound groups compile to %d %s; the limit is %d", n, what, limit),
		"use fewer rules, wider prefixes or smaller referenced groups")
}

// fill merges equal rows and columns of the matrix and writes the result.
func (c *Compiled) fill(m matrix, ranges4, ranges6, portRanges []bound) error {
	rows := m.rows()
	rowClass, distinct := merge(rows)
	columnClass, columns := merge(transpose(distinct, m.ports.len()))
	c.NSrc, c.NPorts = len(distinct), len(columns)
	if c.NSrc > 2*MaxIntervals || c.NPorts > MaxPortIntervals { // class numbers would not fit either
		return exceeded(max(c.NSrc, c.NPorts), MaxPortIntervals, "kinds of sources or ports")
	}
	if cells := c.NSrc * c.NPorts; cells > MaxCells {
		return exceeded(cells, MaxCells, "cells (distinct kinds of sources times distinct kinds of ports)")
	}
	c.Table = make([]uint16, 0, c.NSrc*c.NPorts)
	for row := range distinct {
		for _, column := range columns {
			c.Table = append(c.Table, column[row])
		}
	}
	for _, b := range join(ranges4, rowClass) {
		c.Src4 = append(c.Src4, Interval{uint32(b.start.lo), b.class})
	}
	for _, b := range join(ranges6, rowClass) {
		c.Src6 = append(c.Src6, Interval6{b.start.bytes(), b.class})
	}
	for _, b := range join(portRanges, columnClass) {
		c.Ports = append(c.Ports, Interval{uint32(b.start.lo), b.class})
	}
	switch {
	case len(c.Src4) > MaxIntervals:
		return exceeded(len(c.Src4), MaxIntervals, "ranges of IPv4 addresses")
	case len(c.Src6) > MaxIntervals:
		return exceeded(len(c.Src6), MaxIntervals, "ranges of IPv6 addresses")
	case len(c.Ports) > MaxPortIntervals:
		return exceeded(len(c.Ports), MaxPortIntervals, "ranges of ports")
	}
	c.Hash = c.ContentHash()
	return nil
}

// A matrix has a row per set of rules that match a source and a column per set
// of rules that match a port.
type matrix struct {
	sources, ports *classes
}

// rows gives each cell the first rule that both sets have, as ordinal+1.
func (m matrix) rows() [][]uint16 {
	rows := make([][]uint16, m.sources.len())
	for i, source := range m.sources.sets {
		rows[i] = make([]uint16, m.ports.len())
		for k, port := range m.ports.sets {
			rows[i][k] = firstCommon(source, port)
		}
	}
	return rows
}

func firstCommon(a, b []byte) uint16 {
	for at := 0; at < len(a); at += 8 {
		if both := binary.LittleEndian.Uint64(a[at:]) & binary.LittleEndian.Uint64(b[at:]); both != 0 {
			return uint16(at*8 + bits.TrailingZeros64(both) + 1)
		}
	}
	return 0
}

// merge numbers equal rows alike, by first appearance.
func merge(rows [][]uint16) (class []uint16, distinct [][]uint16) {
	seen := make(map[string]uint16)
	var key []byte
	for _, row := range rows {
		key = key[:0]
		for _, cell := range row {
			key = binary.LittleEndian.AppendUint16(key, cell)
		}
		n, ok := seen[string(key)]
		if !ok {
			n = uint16(len(distinct))
			seen[string(key)] = n
			distinct = append(distinct, row)
		}
		class = append(class, n)
	}
	return class, distinct
}

func transpose(rows [][]uint16, width int) [][]uint16 {
	columns := make([][]uint16, width)
	for k := range columns {
		columns[k] = make([]uint16, len(rows))
		for i, row := range rows {
			columns[k][i] = row[k]
		}
	}
	return columns
}
