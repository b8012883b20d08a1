// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"iter"
	"slices"
)

const (
	tableBits = 4              // of the hash that one level of a table takes
	tableFan  = 1 << tableBits // children of an inner node
	tableLeaf = 8              // entries that a leaf holds before it is split
)

// A Table is what a state has of one kind, by id: a map whose copies share all
// but what was changed since, so that one change costs the same however many
// others there are. Copying a Table is free, and a change of a copy is not seen
// in the original: a Table that nobody changes may be read by many goroutines.
// The zero Table is empty and ready. The values are shared by all copies.
type Table[K ~string, V any] struct {
	root *tableNode[K, V]
	size int
}

// A tableNode is a leaf, or has children by the next bits of the hash. It is
// never changed.
type tableNode[K ~string, V any] struct {
	kids    *[tableFan]*tableNode[K, V] // nil in a leaf
	entries []tableEntry[K, V]
}

type tableEntry[K ~string, V any] struct {
	id    K
	value *V
}

// TableOf is a table of what m holds.
func TableOf[K ~string, V any](m map[K]*V) Table[K, V] {
	var t Table[K, V]
	for id, v := range m {
		t.Put(id, v)
	}
	return t
}

// Len is the number of entries.
func (t Table[K, V]) Len() int { return t.size }

// Get is the value of id, nil when there is none.
func (t Table[K, V]) Get(id K) *V {
	v, _ := t.Find(id)
	return v
}

// Find is the value of id, and whether there is one.
func (t Table[K, V]) Find(id K) (*V, bool) {
	n := t.root
	if n == nil {
		return nil, false
	}
	if n.kids != nil {
		for h := tableHash(id); n.kids != nil; h >>= tableBits {
			if n = n.kids[h%tableFan]; n == nil {
				return nil, false
			}
		}
	}
	for i := range n.entries {
		if n.entries[i].id == id {
			return n.entries[i].value, true
		}
	}
	return nil, false
}

// All are the entries, in an order that means nothing and is the same for the
// same changes. It is the table as it is when All is called.
func (t Table[K, V]) All() iter.Seq2[K, *V] {
	return func(yield func(K, *V) bool) { t.root.all(yield) }
}

// Keys are the ids, in the order of All.
func (t Table[K, V]) Keys() iter.Seq[K] {
	return func(yield func(K) bool) { t.root.all(func(id K, _ *V) bool { return yield(id) }) }
}

// Sorted are the ids, sorted.
func (t Table[K, V]) Sorted() []K {
	return slices.Sorted(t.Keys())
}

// Values are the values, in the order of All.
func (t Table[K, V]) Values() iter.Seq[*V] {
	return func(yield func(*V) bool) { t.root.all(func(_ K, v *V) bool { return yield(v) }) }
}

// Changed are the ids whose value is another one here than in former, or is only
// in one of the two, in no order and each once. It costs what was changed, not
// what there is, where one table was made from the other.
func (t Table[K, V]) Changed(former Table[K, V]) []K { return changed(nil, t.root, former.root) }

func changed[K ~string, V any](found []K, a, b *tableNode[K, V]) []K {
	switch {
	case a == b:
		return found
	case a != nil && b != nil && a.kids != nil && b.kids != nil:
		for i := range a.kids {
			found = changed(found, a.kids[i], b.kids[i])
		}
		return found
	}
	values := map[K]*V{}
	a.all(func(id K, v *V) bool { values[id] = v; return true })
	b.all(func(id K, v *V) bool {
		was, there := values[id]
		if delete(values, id); !there || was != v {
			found = append(found, id)
		}
		return true
	})
	for id := range values {
		found = append(found, id)
	}
	return found
}

// Put makes v the value of id, in this table and in no copy of it.
func (t *Table[K, V]) Put(id K, v *V) {
	root, grew := t.root.with(id, v, tableHash(id), 0)
	t.root = root
	if grew {
		t.size++
	}
}

// Delete removes id, from this table and from no copy of it. It does nothing
// when id is not there.
func (t *Table[K, V]) Delete(id K) {
	root, shrank := t.root.without(id, tableHash(id))
	if t.root = root; shrank {
		t.size--
	}
}

func (n *tableNode[K, V]) all(yield func(K, *V) bool) bool {
	switch {
	case n == nil:
		return true
	case n.kids == nil:
		for i := range n.entries {
			if !yield(n.entries[i].id, n.entries[i].value) {
				return false
			}
		}
		return true
	}
	for _, kid := range n.kids {
		if !kid.all(yield) {
			return false
		}
	}
	return true
}

func (n *tableNode[K, V]) at(id K) int {
	return slices.IndexFunc(n.entries, func(e tableEntry[K, V]) bool { return e.id == id })
}

// with is n and the entry; h is what the levels above depth left of the hash.
func (n *tableNode[K, V]) with(id K, v *V, h uint64, depth int) (_ *tableNode[K, V], grew bool) {
	if n == nil {
		return &tableNode[K, V]{entries: []tableEntry[K, V]{{id, v}}}, true
	}
	if n.kids != nil {
		kids := *n.kids
		kids[h%tableFan], grew = kids[h%tableFan].with(id, v, h>>tableBits, depth+1)
		return &tableNode[K, V]{kids: &kids}, grew
	}
	if at := n.at(id); at >= 0 {
		entries := slices.Clone(n.entries)
		entries[at].value = v
		return &tableNode[K, V]{entries: entries}, false
	}
	entries := make([]tableEntry[K, V], 0, len(n.entries)+1)
	entries = append(append(entries, n.entries...), tableEntry[K, V]{id, v})
	if len(entries) <= tableLeaf || depth*tableBits >= 64 { // at the hash's end nothing tells them apart
		return &tableNode[K, V]{entries: entries}, true
	}
	split := &tableNode[K, V]{kids: new([tableFan]*tableNode[K, V])}
	for _, e := range entries {
		split, _ = split.with(e.id, e.value, tableHash(e.id)>>(depth*tableBits), depth)
	}
	return split, true
}

// without is n without the entry, nil when none is left in it.
func (n *tableNode[K, V]) without(id K, h uint64) (_ *tableNode[K, V], shrank bool) {
	if n == nil {
		return nil, false
	}
	if n.kids == nil {
		at := n.at(id)
		switch {
		case at < 0:
			return n, false
		case len(n.entries) == 1:
			return nil, true
		}
		return &tableNode[K, V]{entries: slices.Delete(slices.Clone(n.entries), at, at+1)}, true
	}
	kid, shrank := n.kids[h%tableFan].without(id, h>>tableBits)
	if !shrank {
		return n, false
	}
	kids := *n.kids
	kids[h%tableFan] = kid
	if kid == nil && kids == [tableFan]*tableNode[K, V]{} {
		return nil, true
	}
	return &tableNode[K, V]{kids: &kids}, true
}

// tableHash is FNV-1a, and its bits mixed so that the lowest depend on all.
func tableHash[K ~string](id K) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	h ^= h >> 32
	return h
}
