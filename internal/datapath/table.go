// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// mapRows maps an array's values into memory, so that a row can be changed
// field by field while programs read it. A value may be several rows.
func mapRows[R any](m *ebpf.Map) ([]R, []byte, error) {
	var r R
	stride := (unsafe.Sizeof(r) + 7) &^ 7
	if stride != unsafe.Sizeof(r) {
		return nil, nil, fmt.Errorf("rows of %v are %d bytes: not a multiple of 8", m, unsafe.Sizeof(r))
	}
	value := (uintptr(m.ValueSize()) + 7) &^ 7
	if value%stride != 0 {
		return nil, nil, fmt.Errorf("values of %v are %d bytes: not rows of %d", m, value, stride)
	}
	size := int(m.MaxEntries()) * int(value)
	n := size / int(stride)
	page := unix.Getpagesize()
	size = (size + page - 1) / page * page
	b, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %v: %w", m, err)
	}
	return unsafe.Slice((*R)(unsafe.Pointer(unsafe.SliceData(b))), n), b, nil
}

// A version is the head of every versioned value: from which revision it
// holds, and whether it says that the row is there.
type version struct {
	From    uint32
	Present uint32
}

// A table is a hash from key to row and the rows, each with two versions.
// Readers take the newest version that is not above their revision, so a
// revision is written beside the one in force and seen by nobody until the
// one store that commits it.
type table[K comparable, R any, V any] struct {
	name     string
	index    index[K]
	rows     []R
	key      func(*R) *K
	versions func(*R) *[2]V
	refs     func(*V) []*uint32 // arena offsets that the version names; 0: none
	own      func(K) uint32     // the row that programs try without the index, beyond the rows' number; nil: they try none
	at       map[K]uint32
	free     []uint32
	spot     []uint32 // of each free row, where it stands in free
}

// load reads back what an earlier process left, so that staging can go on.
func (t *table[K, R, V]) load() {
	used := make([]bool, len(t.rows))
	t.at = t.index.load(func(row uint32) *K {
		if int(row) >= len(t.rows) {
			return nil
		}
		return t.key(&t.rows[row])
	})
	for _, row := range t.at {
		used[row] = true
	}
	for i := len(t.rows) - 1; i >= 0; i-- {
		if !used[i] {
			t.release(uint32(i))
		}
	}
}

// release makes a row free.
func (t *table[K, R, V]) release(row uint32) {
	if t.spot == nil {
		t.spot = make([]uint32, len(t.rows))
	}
	t.spot[row] = uint32(len(t.free))
	t.free = append(t.free, row)
}

// vacancy gives the free row for a key, which is the last of them then: its own
// one, unless another key has it.
func (t *table[K, R, V]) vacancy(k K) uint32 {
	last := uint32(len(t.free) - 1)
	if t.own != nil {
		row := t.own(k) % uint32(len(t.rows))
		if at := t.spot[row]; at <= last && t.free[at] == row {
			other := t.free[last]
			t.free[at], t.free[last] = other, row
			t.spot[other], t.spot[row] = at, last
		}
	}
	return t.free[last]
}

func head[V any](v *V) *version { return (*version)(unsafe.Pointer(v)) }

// newest gives the version with the highest revision, and the other one.
func (t *table[K, R, V]) newest(row uint32) (newest, other *V) {
	v := t.versions(&t.rows[row])
	if head(&v[1]).From > head(&v[0]).From {
		return &v[1], &v[0]
	}
	return &v[0], &v[1]
}

// same reports whether two versions say the same, whatever their revision.
func same[V any](a, b *V) bool {
	x, y := bytesOf(a), bytesOf(b)
	head := unsafe.Sizeof(version{})
	return string(x[head:]) == string(y[head:])
}

func bytesOf[V any](v *V) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v))
}

// put writes value as the version from rev on, beside the one in force.
func (t *table[K, R, V]) put(row, rev, committed uint32, value *V, present bool) {
	newest, slot := t.newest(row)
	if head(newest).From > committed || head(newest).From >= rev {
		slot = newest // staged and never committed: nobody reads it
	}
	h := head(slot)
	atomic.StoreUint32(&h.From, 0)
	copy(bytesOf(slot)[unsafe.Sizeof(version{}):], bytesOf(value)[unsafe.Sizeof(version{}):])
	h.Present = 0
	if present {
		h.Present = 1
	}
	atomic.StoreUint32(&h.From, rev)
}

// last is the newest revision that any row says something of.
func (t *table[K, R, V]) last() (rev uint32) {
	for _, row := range t.at {
		newest, _ := t.newest(row)
		rev = max(rev, head(newest).From)
	}
	return rev
}

// uncommitted reports whether staging want would replace versions that were
// staged and never committed.
func (t *table[K, R, V]) uncommitted(committed uint32) bool {
	for _, row := range t.at {
		if newest, _ := t.newest(row); head(newest).From > committed {
			return true
		}
	}
	return false
}

// stage writes what want says as of rev. Rows that want does not name are
// marked absent as of rev. It changes nothing when there is no room.
func (t *table[K, R, V]) stage(rev, committed uint32, want map[K]V) error {
	news := 0
	for k := range want {
		if _, ok := t.at[k]; !ok {
			news++
		}
	}
	if news > len(t.free) {
		return fmt.Errorf("%s: %d rows wanted, room for %d: raise the table's size", t.name, len(t.at)+news, len(t.rows))
	}
	for k, v := range want {
		row, ok := t.at[k]
		if !ok {
			row = t.vacancy(k)
			*t.key(&t.rows[row]) = k
			t.put(row, rev, committed, &v, true)
			if err := t.index.put(&k, row); err != nil {
				t.clear(row)
				return fmt.Errorf("%s: %w", t.name, err)
			}
			t.free = t.free[:len(t.free)-1]
			t.at[k] = row
			continue
		}
		if newest, _ := t.newest(row); head(newest).Present == 0 || !same(newest, &v) {
			t.put(row, rev, committed, &v, true)
		}
	}
	for k, row := range t.at {
		if _, ok := want[k]; ok {
			continue
		}
		if newest, _ := t.newest(row); head(newest).Present != 0 {
			t.put(row, rev, committed, newest, false)
		}
	}
	return nil
}

// sweep frees rows that have been absent since a committed revision. It is
// called after a grace period.
func (t *table[K, R, V]) sweep(committed uint32) {
	for k, row := range t.at {
		newest, _ := t.newest(row)
		if head(newest).Present != 0 || head(newest).From > committed {
			continue
		}
		t.index.remove(&k, row)
		t.clear(row)
		delete(t.at, k)
		t.release(row)
	}
}

// clear empties a row that nobody is led to. Somebody may still compare its
// key, so that goes last.
func (t *table[K, R, V]) clear(row uint32) {
	var empty R
	*t.versions(&t.rows[row]) = [2]V{}
	t.rows[row] = empty
}

// each calls fn for every version that may be read.
func (t *table[K, R, V]) each(fn func(*V)) {
	for _, row := range t.at {
		v := t.versions(&t.rows[row])
		for i := range v {
			if head(&v[i]).From != 0 {
				fn(&v[i])
			}
		}
	}
}

// live adds the arena offsets that any version still names.
func (t *table[K, R, V]) live(into map[uint32]bool) {
	t.each(func(v *V) {
		for _, off := range t.refs(v) {
			if *off != 0 {
				into[*off] = true
			}
		}
	})
}
