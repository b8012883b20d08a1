// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestMaglevSize(t *testing.T) {
	for n := range 1000 {
		size := MaglevSize(n)
		if !big.NewInt(int64(size)).ProbablyPrime(10) || size < 251 || size > 65537 || size < 100*n && size != 65537 {
			t.Fatalf("%d targets: size %d", n, size)
		}
	}
	if MaglevSize(2) != 251 || MaglevSize(3) != 503 || MaglevSize(5000) != 65537 {
		t.Error("steps moved: running gateways would disagree with new ones")
	}
}

func entries(t *rapid.T, least int) []MaglevEntry {
	nums := rapid.SliceOfNDistinct(rapid.Uint32Range(1, 1<<24-1), least, 40, rapid.ID).Draw(t, "nums")
	var all []MaglevEntry
	for _, n := range nums {
		all = append(all, MaglevEntry{n, rapid.IntRange(1, 100).Draw(t, "weight")})
	}
	return all
}

func shares(table []uint32) map[uint32]int {
	count := make(map[uint32]int)
	for _, n := range table {
		count[n]++
	}
	return count
}

func TestMaglevShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t, 1)
		size := MaglevSize(len(all))
		sum := 0
		for _, e := range all {
			sum += e.Weight
		}
		got := shares(Maglev(append(all, MaglevEntry{1 << 30, 0}), size))
		if len(got) != len(all) {
			t.Fatalf("%d of %d targets are in the table", len(got), len(all))
		}
		for _, e := range all {
			// A turn more or less than its due, and a hundredth of it.
			due := float64(size) * float64(e.Weight) / float64(sum)
			if off := math.Abs(float64(got[e.Num]) - due); off > 2+due/100 {
				t.Fatalf("weight %d of %d: %d places of %d", e.Weight, sum, got[e.Num], size)
			}
		}
	})
}

func TestMaglevIgnoresOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := entries(t, 1)
		shuffled := rapid.Permutation(all).Draw(t, "order")
		if size := MaglevSize(len(all)); !slices.Equal(Maglev(all, size), Maglev(shuffled, size)) {
			t.Fatal("order changed the table")
		}
	})
}

// moved is the part of the places that had another target than the one that
// left and now have a new one.
func moved(before, after []uint32, left uint32) float64 {
	n, stayed := 0, 0
	for i := range before {
		if before[i] == left {
			continue
		}
		stayed++
		if before[i] != after[i] {
			n++
		}
	}
	return float64(n) / float64(max(stayed, 1))
}

func TestMaglevDisruption(t *testing.T) {
	for _, n := range []int{2, 3, 10, 50} {
		var all []MaglevEntry
		for i := range n {
			all = append(all, MaglevEntry{uint32(i + 1), 10})
		}
		size, worst := MaglevSize(n), 0.0
		before := Maglev(all, size)
		for i, e := range all {
			worst = max(worst, moved(before, Maglev(slices.Delete(slices.Clone(all), i, i+1), size), e.Num))
		}
		t.Logf("%d targets, one leaves: at most %.1f%% of the others' places move", n, 100*worst)
		if worst > 0.15 {
			t.Errorf("%d targets: %.3f", n, worst)
		}
	}
}

func TestMaglevEdges(t *testing.T) {
	if Maglev(nil, 251) != nil || Maglev([]MaglevEntry{{1, 0}}, 251) != nil || Maglev([]MaglevEntry{{1, 1}}, 0) != nil {
		t.Error("a table without candidates")
	}
	if got := shares(Maglev([]MaglevEntry{{7, 1}, {7, 100}, {8, 100}}, 251)); got[7] < 120 || got[8] < 120 {
		t.Errorf("repeated entry: %v", got)
	}
	if got := shares(Maglev([]MaglevEntry{{7, 1}, {8, 1}}, 100)); got[7]+got[8] != 100 {
		t.Errorf("a size that is not prime: %v", got)
	}
}
