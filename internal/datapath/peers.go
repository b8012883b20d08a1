// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"sync/atomic"

	"github.com/cilium/ebpf"
)

// A peer is a node at the other end of the tunnel.
type peer struct {
	GatewayPeer
	num uint32 // the node's number
}

// peerTable holds the peers in rows of two versions. The one that is not read
// is written and then named, so that no packet meets half a MAC address.
type peerTable struct {
	index   index[GatewayAddr]
	rows    []GatewayPeerRow
	at      map[GatewayAddr]uint32
	free    []uint32
	leaving []uint32        // rows that nobody finds any more, but some may still read
	touched map[uint32]bool // rows whose unread version some may still read
	grace   func()          // waits until every program run is over that has begun
}

// load reads back what an earlier process left.
func (t *peerTable) load() {
	t.touched = map[uint32]bool{}
	t.at = t.index.load(func(row uint32) *GatewayAddr {
		if int(row) >= len(t.rows) {
			return nil
		}
		return (*GatewayAddr)(&t.rows[row].Key)
	})
	used := make([]bool, len(t.rows))
	for _, row := range t.at {
		used[row], t.touched[row] = true, true
	}
	for i := len(t.rows) - 1; i >= 0; i-- {
		if !used[i] {
			t.free = append(t.free, uint32(i))
		}
	}
}

// get gives what is known of a peer.
func (t *peerTable) get(k GatewayAddr) (p peer, ok bool) {
	row, ok := t.at[k]
	if !ok {
		return peer{}, false
	}
	r := &t.rows[row]
	return peer{GatewayPeer(r.V[r.Which&1]), r.Num}, true
}

// put makes a peer known, or changes what is known of it.
func (t *peerTable) put(k GatewayAddr, p peer) error {
	if row, ok := t.at[k]; ok {
		if t.touched[row] {
			t.grace()
			clear(t.touched)
		}
		r := &t.rows[row]
		unread := 1 - r.Which&1
		r.Num, r.V[unread] = p.num, p.GatewayPeer
		atomic.StoreUint32(&r.Which, unread)
		t.touched[row] = true
		return nil
	}
	if len(t.free) == 0 && len(t.leaving) > 0 {
		t.grace()
		t.release()
	}
	if len(t.free) == 0 {
		return fmt.Errorf("%d nodes at the other end of the tunnel, room for no more", len(t.rows))
	}
	row := t.free[len(t.free)-1]
	r := &t.rows[row]
	r.Key, r.Row, r.Which, r.V[0] = k, row, 0, p.GatewayPeer
	r.Room, r.RoomUntil = 0, 0
	atomic.StoreUint32(&r.Num, p.num)
	if err := t.index.put(&k, row); err != nil {
		return err
	}
	t.free = t.free[:len(t.free)-1]
	t.at[k] = row
	return nil
}

// remove makes a peer unknown. Its row is used again after release.
func (t *peerTable) remove(k GatewayAddr) {
	row, ok := t.at[k]
	if !ok {
		return
	}
	t.index.remove(&k, row)
	atomic.StoreUint32(&t.rows[row].Num, 0) // flows name it by its row and number
	delete(t.at, k)
	t.leaving = append(t.leaving, row)
}

// release frees the rows of removed peers. It is called after a grace period.
func (t *peerTable) release() {
	t.free, t.leaving = append(t.free, t.leaving...), nil
	clear(t.touched)
}

// openPeers maps the peers' table and reads it.
func (d *Datapath) openPeers() error {
	rows, err := mapped[GatewayPeerRow](d, "peers")
	if err != nil {
		return err
	}
	x, err := openIndex[GatewayAddr](d, "peer_index")
	if err != nil {
		return err
	}
	d.peers = &peerTable{index: x, rows: rows, grace: d.waitGrace}
	d.peers.load()
	return nil
}

// mapped maps the rows of a map of the programs until Close.
func mapped[R any](d *Datapath, name string) ([]R, error) {
	m := d.maps[name]
	if m == nil {
		return nil, fmt.Errorf("the programs have no map %s: %w", name, ebpf.ErrKeyNotExist)
	}
	rows, memory, err := mapRows[R](m)
	if err == nil {
		d.memory = append(d.memory, memory)
	}
	return rows, err
}

// openIndex maps an index until Close.
func openIndex[K comparable](d *Datapath, name string) (index[K], error) {
	buckets, err := mapped[GatewayIndexBucket](d, name)
	return index[K]{buckets: buckets, secret: d.key}, err
}
