// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"math/bits"
	"math/rand/v2"
	"testing"
)

// crowdOf fills a table of two-slot buckets to nine tenths with flows of these
// hashes, each in the first free one of its four slots, and gives how many of them
// found none, and how many have one bucket only.
func crowdOf(buckets int, hash func(i int) uint64) (without, single int) {
	slots := make([]bool, 2*buckets)
	for i := range len(slots) * 9 / 10 {
		h, placed := hash(i), false
		a, b := int(uint32(h))&(buckets-1), int(uint32(h>>32))&(buckets-1)
		if a == b {
			single++
		}
		for _, at := range []int{2 * a, 2*a + 1, 2 * b, 2*b + 1} {
			if !slots[at] {
				slots[at], placed = true, true
				break
			}
		}
		if !placed {
			without++
		}
	}
	return without, single
}

// Flows that differ in their ports alone, which follow each other, crowd a table
// no more than chance would, whatever its secret: the hash's two halves, which name
// a flow's two buckets, are as good as independent in the bits that count.
func TestNearbyPortsCrowdNobody(t *testing.T) {
	const buckets, keys = 1 << 14, 10
	golden := uint64(0x9e3779b97f4a7c15)
	local := uint64(0x0401_000a<<8+6) * golden
	d := rand.New(rand.NewPCG(3, 9))
	sum, one := map[string]int{}, map[string]int{}
	equal := map[string][32]int{}
	for range keys {
		key := d.Uint64() | 1
		for name, hash := range map[string]func(i int) uint64{
			"chance": func(int) uint64 { return d.Uint64() },
			"host: one client's ports": func(i int) uint64 {
				return mix((0x0a71_00cb<<32 + uint64(1024+i)<<16 + 8080 + local) ^ key)
			},
			"host: the instance's ports": func(i int) uint64 {
				return mix((0x0a71_00cb<<32 + 443<<16 + uint64(1024+i) + local) ^ key)
			},
			"gateway: one client's ports": func(i int) uint64 { return mix(((0x0a71_00cb<<32 | uint64(1024+i)<<16 | 80) + 5*golden) ^ key) },
		} {
			without, single := crowdOf(buckets, hash)
			sum[name] += without
			one[name] += single
			same := equal[name]
			for i := range 4096 {
				h := hash(i)
				for bit := range 14 {
					same[bit] += bits.OnesCount64((h^h>>32)>>bit&1 ^ 1)
				}
			}
			equal[name] = same
		}
	}
	flows := keys * buckets * 2 * 9 / 10
	for name := range sum {
		t.Logf("%-28s of %d flows %d find no place, %d have one bucket only; bit 0 is the same in both halves in %.1f %%, bit 1 in %.1f %%", name, flows, sum[name], one[name],
			100*float64(equal[name][0])/(keys*4096), 100*float64(equal[name][1])/(keys*4096))
		if sum[name] > sum["chance"]*105/100 {
			t.Errorf("%s: %d flows find no place, by chance %d", name, sum[name], sum["chance"])
		}
	}
}
