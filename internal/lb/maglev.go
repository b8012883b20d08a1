// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
)

// A MaglevEntry is a candidate for a Maglev table.
type MaglevEntry struct {
	Num    uint32 // the target's number; what the table holds
	Weight int    // 0 or less: not in the table
}

// MaglevSize is the size of the table for n candidates: a prime at least 100
// times n, so that shares are right to about a hundredth, between 251 and
// 65537. It grows in coarse steps, because a new size moves every flow.
func MaglevSize(n int) int {
	for _, prime := range []int{251, 503, 1009, 2003, 4001, 8009, 16001, 32003} {
		if prime >= 100*n {
			return prime
		}
	}
	return 65537
}

// Maglev is a table of size target numbers in which each entry has a share in
// proportion to its weight. Equal sets of entries give equal tables, whatever
// their order, and when one leaves few places of the others change. It is nil
// when no entry has weight. Of entries with equal Num the heaviest counts.
func Maglev(entries []MaglevEntry, size int) []uint32 {
	ring := slices.Clone(entries)
	slices.SortFunc(ring, func(a, b MaglevEntry) int { return cmp.Or(cmp.Compare(a.Num, b.Num), cmp.Compare(b.Weight, a.Weight)) })
	ring = slices.CompactFunc(ring, func(a, b MaglevEntry) bool { return a.Num == b.Num })
	ring = slices.DeleteFunc(ring, func(e MaglevEntry) bool { return e.Weight <= 0 })
	if len(ring) == 0 || size <= 0 {
		return nil
	}
	heaviest := slices.MaxFunc(ring, func(a, b MaglevEntry) int { return cmp.Compare(a.Weight, b.Weight) }).Weight
	walks := make([]walk, len(ring))
	for i, e := range ring {
		walks[i] = newWalk(e.Num, size)
	}
	table, taken := make([]uint32, size), make([]bool, size)
	for round, left := 1, size; ; round++ {
		for i, e := range ring {
			// In heaviest rounds an entry has Weight turns, spread evenly.
			if round*e.Weight/heaviest == (round-1)*e.Weight/heaviest {
				continue
			}
			at := walks[i].next()
			for taken[at] {
				at = walks[i].next()
			}
			table[at], taken[at] = e.Num, true
			if left--; left == 0 {
				return table
			}
		}
	}
}

// A walk visits every place of a table once, in an order of its own.
type walk struct{ at, skip, size int }

func newWalk(num uint32, size int) walk {
	first := mix(uint64(num))
	w := walk{int(first % uint64(size)), 1 + int(mix(first)%uint64(max(size-1, 1))), size}
	for gcd(w.skip, size) != 1 { // only where size is not a prime
		w.skip++
	}
	return w
}

func (w *walk) next() int {
	at := w.at
	w.at = (w.at + w.skip) % w.size
	return at
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// HashAddr is where in a ring a client's address belongs, the same on every
// gateway.
func HashAddr(a netip.Addr) uint64 {
	raw := a.Unmap().As16()
	return mix(mix(binary.BigEndian.Uint64(raw[:8])) ^ binary.BigEndian.Uint64(raw[8:]))
}

// Mix is the place after x, for whoever may not stop there.
func Mix(x uint64) uint64 { return mix(x) }

// mix spreads the bits of a number (splitmix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
