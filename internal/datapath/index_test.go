// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"math/rand/v2"
	"testing"

	"github.com/cilium/ebpf"
)

func newIndex(buckets int) index[uint32] {
	return index[uint32]{buckets: make([]GatewayIndexBucket, buckets), secret: 0x5eed}
}

// find is what bpf/index.h does.
func (x index[K]) find(key *K) (row uint32, ok bool) {
	hash := x.place(key)
	for _, bucket := range x.candidates(hash) {
		for _, entry := range bucket {
			if entry>>32 == hash>>32 && uint32(entry) != 0 {
				return uint32(entry) - 1, true
			}
		}
	}
	return 0, false
}

// Half full, as the tables' sizes allow, every key finds its place, and what is
// removed is found no more.
func TestIndex(t *testing.T) {
	x := newIndex(256)
	d := rand.New(rand.NewPCG(1, 2))
	rows := map[uint32]uint32{}
	for len(rows) < 256*8/2 {
		key := d.Uint32()
		if _, ok := rows[key]; ok {
			continue
		}
		row := uint32(len(rows))
		if err := x.put(&key, row); err != nil {
			t.Fatalf("key %d: %v", row, err)
		}
		rows[key] = row
	}
	removed := 0
	for key, row := range rows {
		if row%3 == 0 {
			x.remove(&key, row)
			delete(rows, key)
			removed++
			if _, ok := x.find(&key); ok {
				t.Fatalf("%d is found after its removal", key)
			}
		}
	}
	for key, row := range rows {
		if got, ok := x.find(&key); !ok || got != row {
			t.Fatalf("%d is found at %d, %v; want %d", key, got, ok, row)
		}
	}
	if len(rows) == 0 || removed == 0 {
		t.Fatal("nothing was tried")
	}
}

// A key may not be put where another one would answer for it, or where there is
// no room.
func TestIndexRefuses(t *testing.T) {
	x := newIndex(1)
	for key := range uint32(8) {
		if err := x.put(&key, key); err != nil {
			t.Fatal(err)
		}
	}
	ninth, first := uint32(9), uint32(0)
	if err := x.put(&ninth, 9); err == nil {
		t.Error("a ninth key fits into a bucket of eight")
	}
	if err := x.put(&first, 5); err == nil {
		t.Error("one key leads to two rows")
	}
	if err := x.put(&first, 0); err != nil {
		t.Errorf("the same once more: %v", err)
	}
}

// What an earlier process left is taken over, and what does not fit the rows is
// cleared: another secret, a row of another key, a row that is not there.
func TestIndexLoad(t *testing.T) {
	x := newIndex(4)
	keys := []uint32{7, 8, 9}
	for i := range keys {
		if err := x.put(&keys[i], uint32(i)); err != nil {
			t.Fatal(err)
		}
	}
	rows := []uint32{7, 80} // the second is another's by now, the third is gone
	at := x.load(func(row uint32) *uint32 {
		if int(row) >= len(rows) {
			return nil
		}
		return &rows[row]
	})
	if len(at) != 1 || at[7] != 0 {
		t.Errorf("%v, want 7 at row 0", at)
	}
	left := 0
	for _, b := range x.buckets {
		for _, entry := range b.Entry {
			if entry != 0 {
				left++
			}
		}
	}
	if left != 1 {
		t.Errorf("%d entries are left, want one", left)
	}
	x.secret++
	if at := x.load(func(uint32) *uint32 { return &rows[0] }); len(at) != 0 {
		t.Errorf("with another secret: %v", at)
	}
}

// A peer's way changes from one whole version to another. Before a version is
// written that somebody may still read, the table waits.
func TestPeersChangeWhole(t *testing.T) {
	waited := 0
	table := &peerTable{index: index[GatewayAddr]{buckets: make([]GatewayIndexBucket, 4)}, rows: make([]GatewayPeerRow, 2), grace: func() { waited++ }}
	table.load()
	key := func(n uint32) GatewayAddr { return GatewayAddr{W: [4]uint32{n}} }
	way := func(mac byte) peer { return peer{GatewayPeer{Mac: [6]uint8{mac}}, 5} }
	for i, wants := range []int{0, 0, 1, 2} { // waits after the first write, and each further one
		if err := table.put(key(1), way(byte(i+1))); err != nil {
			t.Fatal(err)
		}
		p, ok := table.get(key(1))
		if !ok || p != way(byte(i+1)) {
			t.Errorf("write %d: %+v", i, p)
		}
		if waited != wants {
			t.Errorf("write %d: waited %d times, want %d", i, waited, wants)
		}
	}
	row := &table.rows[table.at[key(1)]]
	if other := row.V[1-row.Which].Mac[0]; other != 3 {
		t.Errorf("the version before was overwritten: %d", other)
	}
	if err := table.put(key(2), way(9)); err != nil {
		t.Fatal(err)
	}
	if err := table.put(key(3), way(9)); err == nil {
		t.Error("a third peer fits into two rows")
	}
	table.remove(key(2))
	if _, ok := table.get(key(2)); ok || len(table.free) != 0 {
		t.Errorf("removed: known %v, free %v before the grace period", ok, table.free)
	}
	if err := table.put(key(3), way(9)); err != nil {
		t.Errorf("after a removal: %v", err)
	}
}

// Closing lets go of the routes before the maps. A look at the peers that waited
// for the lock meanwhile finds nothing to do.
func TestNoLookAfterClosing(t *testing.T) {
	table := &peerTable{index: index[GatewayAddr]{buckets: make([]GatewayIndexBucket, 4)}, rows: make([]GatewayPeerRow, 2), grace: func() {}}
	table.load()
	if err := table.put(GatewayAddr{W: [4]uint32{1}}, peer{}); err != nil {
		t.Fatal(err)
	}
	(&Datapath{maps: map[string]*ebpf.Map{}, peers: table}).resolveAll()
}
