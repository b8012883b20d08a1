// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
)

// A table is a map whose old copies stay as they were.
func TestTable(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var table Table[GroupID, int]
	if _, ok := table.Find("sg-1"); ok || table.Get("sg-1") != nil || table.Len() != 0 {
		t.Fatal("the zero table is not empty")
	}
	want := map[GroupID]*int{}
	type past struct {
		table Table[GroupID, int]
		want  map[GroupID]*int
	}
	var kept []past
	for n := range 20000 {
		id := GroupID(fmt.Sprintf("sg-%d", random.IntN(3000)))
		if random.IntN(3) == 0 {
			table.Delete(id)
			delete(want, id)
		} else {
			table.Put(id, &n)
			want[id] = &n
		}
		if n%1000 == 0 {
			kept = append(kept, past{table, maps.Clone(want)})
		}
	}
	for id := range want { // down to nothing
		kept = append(kept[:20], past{table, maps.Clone(want)})
		table.Delete(id)
		delete(want, id)
	}
	if table != (Table[GroupID, int]{}) {
		t.Error("an emptied table is not the zero table")
	}
	for i, p := range kept {
		if got := maps.Collect(p.table.All()); !maps.Equal(got, p.want) || p.table.Len() != len(p.want) {
			t.Errorf("copy %d: %d entries by All, %d by Len, want %d, or others", i, len(got), p.table.Len(), len(p.want))
		}
		for id := range p.want {
			if v, ok := p.table.Find(id); !ok || v != p.want[id] || v != p.table.Get(id) {
				t.Errorf("copy %d: %s is %v (%v), want %v", i, id, v, ok, p.want[id])
			}
		}
		if got, want := p.table.Sorted(), slices.Sorted(maps.Keys(p.want)); !slices.Equal(got, want) {
			t.Errorf("copy %d: other keys", i)
		}
		if n := len(slices.Collect(p.table.Values())); n != len(p.want) {
			t.Errorf("copy %d: %d values", i, n)
		}
		for range p.table.All() { // stops when told to
			break
		}
	}
}

// Ids whose hashes are alike to the last bit still have a value each.
func TestTableCollisions(t *testing.T) {
	t.Parallel()
	var n *tableNode[GroupID, int]
	values := make([]int, 3*tableLeaf)
	for i := range values {
		n, _ = n.with(GroupID(fmt.Sprint(i)), &values[i], 0, 64/tableBits)
	}
	if len(n.entries) != len(values) {
		t.Fatalf("%d entries, want %d", len(n.entries), len(values))
	}
}

// What one change allocates does not grow with the number of others.
func TestTableCost(t *testing.T) {
	cost := func(n int) uint64 {
		var table Table[GroupID, int]
		ids := make([]GroupID, n)
		for i := range ids {
			ids[i] = GroupID(fmt.Sprintf("sg-%08d", i))
			table.Put(ids[i], new(int))
		}
		const changes = 1000
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range changes {
			changed := table
			changed.Put(ids[i], nil)
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / changes
	}
	small, large := cost(1000), cost(100000)
	t.Logf("one change allocates %d B among 1,000, %d B among 100,000", small, large)
	if large > 3*small { // a level of the tree more for every 16 times as many
		t.Errorf("one change allocates %d B among 1,000, %d B among 100,000", small, large)
	}
}

func TestTableChanged(t *testing.T) {
	d := rand.New(rand.NewPCG(9, 9))
	var now Table[GroupID, int]
	former, plain := now, map[GroupID]*int{}
	before := map[GroupID]*int{}
	for i := range 4000 {
		id := GroupID(fmt.Sprintf("sg-%d", d.IntN(300)))
		if d.IntN(3) == 0 {
			now.Delete(id)
			delete(plain, id)
		} else {
			v := new(int)
			now.Put(id, v)
			plain[id] = v
		}
		if i%7 != 0 {
			continue
		}
		want := map[GroupID]bool{}
		for id, v := range plain {
			if before[id] != v {
				want[id] = true
			}
		}
		for id := range before {
			if plain[id] == nil {
				want[id] = true
			}
		}
		for _, pair := range [][2]Table[GroupID, int]{{now, former}, {former, now}} {
			got := pair[0].Changed(pair[1])
			for _, id := range got {
				if !want[id] {
					t.Fatalf("step %d: %s is the same", i, id)
				}
			}
			if len(got) != len(want) {
				t.Fatalf("step %d: %d changed, want %d", i, len(got), len(want))
			}
		}
		if d.IntN(3) == 0 {
			former, before = now, maps.Clone(plain)
		}
	}
}
