// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// takeOver maps the tables and reads back what is in force, so that this
// process goes on where the last one stopped.
func (d *Datapath) takeOver() error {
	var err error
	mustMap := func(memory []byte, e error) {
		if e != nil {
			err = errors.Join(err, e)
			return
		}
		d.memory = append(d.memory, memory)
	}
	revisions, memory, e := mapRows[GatewayRevisions](d.maps["revisions"])
	mustMap(memory, e)
	words, memory, e := mapRows[uint64](d.maps["arena"])
	mustMap(memory, e)
	targets, memory, e := mapRows[GatewayTargetRow](d.maps["targets"])
	mustMap(memory, e)
	if err != nil {
		return err
	}
	d.revisions = &revisions[0]
	d.revisions.HashKey = d.key
	d.arena = &arena{words: words}
	d.targets = &table[uint32, GatewayTargetRow, GatewayTarget]{name: "targets", index: d.maps["target_index"], rows: targets,
		key:      func(r *GatewayTargetRow) *uint32 { return &r.Num },
		versions: func(r *GatewayTargetRow) *[2]GatewayTarget { return &r.V },
		refs:     func(*GatewayTarget) []uint32 { return nil }}
	d.counters = &counters{values: d.maps["counters"], names: d.maps["counter_names"], live: d.liveCounters}
	d.names = newNames()
	if err := errors.Join(d.targets.load(), d.counters.load(), d.takeOverRole(), d.takeOverSets()); err != nil {
		return err
	}
	return d.arena.load(d.live())
}

// takeOverRole does the same for the tables that only one role has.
func (d *Datapath) takeOverRole() error {
	if d.opts.Role == lb.RoleGateway {
		rows, memory, err := mapRows[GatewayListenerRow](d.maps["listeners"])
		if err != nil {
			return err
		}
		d.memory = append(d.memory, memory)
		d.listeners = &table[GatewayListenerKey, GatewayListenerRow, GatewayListener]{name: "listeners", index: d.maps["listener_index"], rows: rows,
			key:      func(r *GatewayListenerRow) *GatewayListenerKey { return &r.Key },
			versions: func(r *GatewayListenerRow) *[2]GatewayListener { return &r.V },
			refs:     func(v *GatewayListener) []uint32 { return nonzero(v.Policy, v.Ring) }}
		return d.listeners.load()
	}
	rows, memory, err := mapRows[HostInstanceRow](d.maps["instances"])
	if err != nil {
		return err
	}
	d.memory = append(d.memory, memory)
	d.instances = &table[GatewayAddressKey, HostInstanceRow, HostInstance]{name: "instances", index: d.maps["instance_index"], rows: rows,
		key:      func(r *HostInstanceRow) *GatewayAddressKey { return (*GatewayAddressKey)(&r.Key) },
		versions: func(r *HostInstanceRow) *[2]HostInstance { return &r.V },
		refs:     func(v *HostInstance) []uint32 { return nonzero(v.Ingress, v.Egress) }}
	return d.instances.load()
}

// takeOverSets reads back the sets that are not versioned.
func (d *Datapath) takeOverSets() error {
	d.peers, d.vips = map[GatewayAddressKey]GatewayPeer{}, map[GatewayAddressKey]bool{}
	var k GatewayAddressKey
	var p GatewayPeer
	it := d.maps["peers"].Iterate()
	for it.Next(&k, &p) {
		d.peers[k] = p
	}
	var one uint32
	vips := d.maps["vips"].Iterate()
	for vips.Next(&k, &one) {
		d.vips[k] = true
	}
	err := errors.Join(it.Err(), vips.Err())
	if dead := d.maps["dead"]; dead != nil {
		var num uint32
		all := dead.Iterate()
		for all.Next(&num, &one) {
			d.dead[num] = true
		}
		err = errors.Join(err, all.Err())
	}
	return err
}

func nonzero(offsets ...uint32) (out []uint32) {
	for _, o := range offsets {
		if o != 0 {
			out = append(out, o)
		}
	}
	return out
}

func (d *Datapath) live() map[uint32]bool {
	live := map[uint32]bool{}
	if d.listeners != nil {
		d.listeners.live(live)
	}
	if d.instances != nil {
		d.instances.live(live)
	}
	return live
}

// Stage writes a snapshot beside the one in force. Nothing is judged by it
// until Commit, except tunnelled packets that a gateway stamped with its
// revision. On an error the snapshot in force is untouched.
func (d *Datapath) Stage(ctx context.Context, s *snapshot.Snapshot) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return errClosed
	}
	committed, rev := d.revisions.Revision, uint32(s.Revision)
	if rev < committed {
		return fmt.Errorf("revision %d is older than %d, which is in force", rev, committed)
	}
	if rev == committed && rev != 0 && d.pending == nil && d.last != nil {
		if !reflect.DeepEqual(d.last, s) {
			// Its rows are being read, and flows remember what it said.
			return fmt.Errorf("revision %d is in force with another content: the server's state has gone back; any change on it gets past this", rev)
		}
		return nil
	}
	if err := d.afterGrace(ctx); err != nil {
		return err
	}
	want, err := d.encode(s)
	if err != nil {
		return err
	}
	if err := d.openWindow(ctx, committed, rev); err != nil {
		return err
	}
	if err := d.write(rev, committed, want); err != nil {
		return err
	}
	if err := d.addPeers(s, want); err != nil {
		return err
	}
	d.names.learn(s, want.rules)
	d.last = s
	d.pending = &pending{revision: s.Revision, vips: want.vips, peers: want.peers, targets: map[uint32]bool{}}
	for num := range want.targets {
		d.pending.targets[num] = true
	}
	atomic.StoreUint32(&d.revisions.Staged, rev)
	return nil
}

// openWindow frees what no packet can need any more and narrows the revisions
// that tunnelled packets may ask for to those that stay complete.
func (d *Datapath) openWindow(ctx context.Context, committed, rev uint32) error {
	atomic.StoreUint32(&d.revisions.Staged, committed)
	oldest := committed
	d.settling.Stop()
	if d.targets.uncommitted(committed) || d.instances != nil && d.instances.uncommitted(committed) {
		oldest = rev
	}
	if atomic.LoadUint32(&d.revisions.Oldest) != oldest {
		atomic.StoreUint32(&d.revisions.Oldest, oldest)
		if d.opts.Role == lb.RoleHost {
			// Packets that were promised an older revision must be through.
			d.beginGrace()
			if err := d.afterGrace(ctx); err != nil {
				return err
			}
		}
	}
	var errs []error
	errs = append(errs, d.targets.sweep(committed))
	if d.listeners != nil {
		errs = append(errs, d.listeners.sweep(committed))
	}
	if d.instances != nil {
		errs = append(errs, d.instances.sweep(committed))
	}
	return errors.Join(errs...)
}

func (d *Datapath) write(rev, committed uint32, want *encoded) error {
	if err := d.targets.stage(rev, committed, want.targets); err != nil {
		return err
	}
	if d.listeners != nil {
		return d.listeners.stage(rev, committed, want.listeners)
	}
	return d.instances.stage(rev, committed, want.instances)
}

// addPeers makes new peers and VIPs known; the ones that are gone follow at
// commit.
func (d *Datapath) addPeers(s *snapshot.Snapshot, want *encoded) error {
	for k, p := range want.peers {
		old, known := d.peers[k]
		if known && old.Key == p.Key && old.Num == p.Num {
			continue
		}
		if err := d.putPeer(k, p, d.hops.resolve(k)); err != nil {
			return err
		}
	}
	for k := range want.vips {
		if d.vips[k] {
			continue
		}
		if err := d.maps["vips"].Put(k, uint32(1)); err != nil {
			return fmt.Errorf("VIP %v: %w", addrOf(k.Addr, 4), err)
		}
		d.vips[k] = true
	}
	return nil
}

// Commit puts a staged revision in force, with one store. Commit of the
// revision in force does nothing.
func (d *Datapath) Commit(_ context.Context, r lb.Revision) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return errClosed
	}
	if d.pending == nil || d.pending.revision != r {
		if lb.Revision(d.revisions.Revision) == r {
			return nil
		}
		return fmt.Errorf("revision %d is not staged", r)
	}
	before := d.revisions.Revision
	atomic.StoreUint32(&d.revisions.Revision, uint32(r))
	p := d.pending
	d.pending = nil
	if d.revisions.Oldest > uint32(r) || d.revisions.Oldest == 0 {
		atomic.StoreUint32(&d.revisions.Oldest, before)
	}
	d.beginGrace()
	d.settling = time.AfterFunc(settleAfter, d.settle)
	var errs []error
	for k := range d.peers {
		if _, ok := p.peers[k]; !ok {
			errs = append(errs, d.maps["peers"].Delete(k))
			delete(d.peers, k)
		}
	}
	for num := range d.dead {
		if !p.targets[num] {
			delete(d.dead, num)
			errs = append(errs, d.maps["dead"].Delete(num))
		}
	}
	for k := range d.vips {
		if !p.vips[k] {
			errs = append(errs, d.maps["vips"].Delete(k))
			delete(d.vips, k)
		}
	}
	return errors.Join(errs...)
}

// settleAfter is how long after a commit packets stamped with the revision
// before may still be under way from a gateway.
const settleAfter = 20 * time.Millisecond

// settle gives up the former revision ahead of time, so that the next Stage
// need not wait for a grace period.
func (d *Datapath) settle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil || d.pending != nil || d.revisions.Oldest == d.revisions.Revision {
		return
	}
	<-d.grace
	atomic.StoreUint32(&d.revisions.Oldest, d.revisions.Revision)
	d.beginGrace()
}

// SetHealth says whether probes reach a target. New flows avoid dead ones.
func (d *Datapath) SetHealth(target uint32, alive bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.maps == nil {
		return errClosed
	}
	if d.opts.Role != lb.RoleGateway || d.dead[target] == !alive {
		return nil
	}
	if alive {
		delete(d.dead, target)
		return d.maps["dead"].Delete(target)
	}
	d.dead[target] = true
	return d.maps["dead"].Put(target, uint32(1))
}
