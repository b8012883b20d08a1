// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"sync/atomic"
)

// holds reports whether the tables have rows for a snapshot beside all that
// they have now.
func (d *Datapath) holds(want *encoded) bool {
	return fits(d.targets, want.targets) && fits(d.vips, want.vips) && (d.listeners == nil || fits(d.listeners, want.listeners)) &&
		(d.instances == nil || fits(d.instances, want.instances)) && missing(want.peers, d.peers.at) <= len(d.peers.free)
}

func fits[K comparable, R any, V any](t *table[K, R, V], want map[K]V) bool {
	return missing(want, t.at) <= len(t.free)
}

// missing counts the keys that are not there yet.
func missing[K comparable, V any](want map[K]V, there map[K]uint32) (n int) {
	for k := range want {
		if _, ok := there[k]; !ok {
			n++
		}
	}
	return n
}

// makeRoom gives up all but the revision in force: what was staged and never
// committed, and what tunnelled packets might still ask for of the revision
// before. Then it moves together what the arena holds. The API keeps a revision
// so small (see lb.MaxListenerRows) that the next one fits afterwards, whatever
// it is.
func (d *Datapath) makeRoom(ctx context.Context, committed uint32) error {
	d.pending = nil
	d.settling.Stop()
	atomic.StoreUint32(&d.revisions.Staged, committed)
	atomic.StoreUint32(&d.revisions.Oldest, committed)
	if err := d.quiet(ctx); err != nil {
		return err
	}
	for _, t := range d.tables() {
		t.only(committed)
	}
	for k := range d.peers.at {
		if _, ok := d.partners[k]; !ok && d.partners != nil {
			d.peers.remove(k)
		}
	}
	if err := d.quiet(ctx); err != nil {
		return err
	}
	d.peers.release()
	for _, t := range d.tables() {
		t.sweep(committed)
	}
	d.forgetFormer()
	d.arena.retain(d.live())
	d.arena.pack(func(moved map[uint32]uint32) {
		for _, t := range d.tables() {
			t.relocate(moved)
		}
		d.waitGrace()
	})
	return nil
}

// tables are those with versioned rows.
func (d *Datapath) tables() []interface {
	last() uint32
	only(committed uint32)
	sweep(committed uint32)
	relocate(moved map[uint32]uint32)
} {
	all := []interface {
		last() uint32
		only(committed uint32)
		sweep(committed uint32)
		relocate(moved map[uint32]uint32)
	}{d.targets, d.vips}
	if d.listeners != nil {
		all = append(all, d.listeners)
	}
	if d.instances != nil {
		all = append(all, d.instances)
	}
	return all
}

// quiet waits until no program runs that began before.
func (d *Datapath) quiet(ctx context.Context) error {
	d.beginGrace()
	return d.afterGrace(ctx)
}

// only empties every version but the one that counts at the committed
// revision, which nobody reads any other than. A row that has none is left
// absent, for sweep.
func (t *table[K, R, V]) only(committed uint32) {
	for _, row := range t.at {
		v := t.versions(&t.rows[row])
		keep := -1
		for i := range v {
			if from := head(&v[i]).From; from != 0 && from <= committed && (keep < 0 || from > head(&v[keep]).From) {
				keep = i
			}
		}
		for i := range v {
			if i != keep {
				atomic.StoreUint32(&head(&v[i]).From, 0)
				atomic.StoreUint32(&head(&v[i]).Present, 0)
			}
		}
	}
}

// relocate makes rows name the new places of what was moved in the arena. Old
// and new place hold the same, so it does not matter which one a packet meets.
func (t *table[K, R, V]) relocate(moved map[uint32]uint32) {
	t.each(func(v *V) {
		for _, off := range t.refs(v) {
			if to, ok := moved[*off]; ok {
				atomic.StoreUint32(off, to)
			}
		}
	})
}
