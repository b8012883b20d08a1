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
	revisions, err1 := mapped[GatewayRevisions](d, "revisions")
	words, err2 := mapped[uint64](d, "arena")
	targets, err3 := mapped[GatewayTargetRow](d, "targets")
	byNum, err4 := openIndex[uint32](d, "target_index")
	if err := errors.Join(err1, err2, err3, err4, d.openPeers(), d.openVIPs()); err != nil {
		return err
	}
	d.revisions = &revisions[0]
	d.revisions.HashKey = d.key
	d.arena = &arena{words: words}
	d.targets = &table[uint32, GatewayTargetRow, GatewayTarget]{name: "targets", index: byNum, rows: targets,
		key:      func(r *GatewayTargetRow) *uint32 { return &r.Num },
		versions: func(r *GatewayTargetRow) *[2]GatewayTarget { return &r.V },
		refs:     func(*GatewayTarget) []*uint32 { return nil },
		own:      func(num uint32) uint32 { return num }}
	d.counters = &counters{values: d.maps["counters"], names: d.maps["counter_names"], live: d.liveCounters}
	d.names = newNames()
	d.targets.load()
	for num, row := range d.targets.at {
		if d.targets.rows[row].Dead != 0 {
			d.dead[num] = true
		}
		if held := d.targets.rows[row].Held; held != 0 {
			d.held[num] = held
		}
	}
	if err := errors.Join(d.counters.load(), d.takeOverRole(), d.takeOverFlows()); err != nil {
		return err
	}
	for _, t := range d.tables() {
		d.gates.left = max(d.gates.left, lb.Revision(t.last()))
	}
	return d.arena.load(d.live())
}

// takeOverRole does the same for the tables that only one role has.
func (d *Datapath) takeOverRole() error {
	if d.opts.Role == lb.RoleGateway {
		rows, err1 := mapped[GatewayListenerRow](d, "listeners")
		x, err2 := openIndex[GatewayListenerKey](d, "listener_index")
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		d.listeners = &table[GatewayListenerKey, GatewayListenerRow, GatewayListener]{name: "listeners", index: x, rows: rows,
			key:      func(r *GatewayListenerRow) *GatewayListenerKey { return &r.Key },
			versions: func(r *GatewayListenerRow) *[2]GatewayListener { return &r.V },
			refs:     func(v *GatewayListener) []*uint32 { return []*uint32{&v.Policy, &v.Ring, &v.Former} }}
		d.listeners.load()
		return d.loadKin()
	}
	rows, err1 := mapped[HostInstanceRow](d, "instances")
	x, err2 := openIndex[GatewayAddr](d, "instance_index")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	d.instances = &table[GatewayAddr, HostInstanceRow, HostInstance]{name: "instances", index: x, rows: rows,
		key:      func(r *HostInstanceRow) *GatewayAddr { return (*GatewayAddr)(&r.Key) },
		versions: func(r *HostInstanceRow) *[2]HostInstance { return &r.V },
		refs:     func(v *HostInstance) []*uint32 { return []*uint32{&v.Ingress, &v.Egress} }}
	d.instances.load()
	return nil
}

func (d *Datapath) live() map[uint32]bool {
	live := map[uint32]bool{}
	d.vips.live(live)
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
	if err := d.loadGuests(s); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
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
	if p := d.pending; p != nil && uint32(p.revision) <= rev {
		if p.revision == s.Revision && reflect.DeepEqual(d.last, s) {
			return nil // gateways may stamp it: it stays at hand
		}
		if d.asked() >= uint32(p.revision) && uint32(p.revision) < rev {
			// Gateways judge by it, so its commit was lost on the way.
			if err := d.commit(); err != nil {
				return err
			}
			committed = d.revisions.Revision
		}
	}
	if err := d.afterGrace(ctx); err != nil {
		return err
	}
	d.peers.release()
	want, err := d.encode(s)
	if errors.Is(err, errNoRoom) || err == nil && !d.holds(want) {
		if err := d.makeRoom(ctx, committed); err != nil {
			return err
		}
		want, err = d.encode(s)
	}
	if err != nil {
		return err
	}
	kin := kinOf(s)
	if err := d.addKin(kin); err != nil {
		return err
	}
	if err := d.openWindow(ctx, committed); err != nil {
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
	d.pending = &pending{revision: s.Revision, gates: d.gates.staged, quiet: d.silent(s), peers: want.peers, targets: map[uint32]bool{}, guests: guestsOf(s), kin: kin}
	if n := uint32(len(d.pending.guests)); d.opts.Role == lb.RoleHost && n > d.revisions.Here {
		atomic.StoreUint32(&d.revisions.Here, n) // some packets are judged by what is staged
	}
	for num := range want.targets {
		d.pending.targets[num] = true
	}
	atomic.StoreUint32(&d.revisions.Staged, rev)
	return nil
}

// asked is the newest revision that a gateway stamped while it was staged here and
// not in force; 0: none.
func (d *Datapath) asked() (rev uint32) {
	if v := d.vars["asked"]; v != nil {
		if err := v.Get(&rev); err != nil {
			d.log.Warn("what gateways stamp is not known", "error", err)
		}
	}
	return rev
}

// openWindow frees what no packet can need any more and narrows the revisions
// that tunnelled packets may ask for to the one in force: that stays complete, while
// one that was staged and never committed is about to be overwritten.
func (d *Datapath) openWindow(ctx context.Context, committed uint32) error {
	atomic.StoreUint32(&d.revisions.Staged, committed)
	d.settling.Stop()
	overwrites := d.targets.uncommitted(committed) || d.vips.uncommitted(committed) || d.instances != nil && d.instances.uncommitted(committed)
	if overwrites || atomic.LoadUint32(&d.revisions.Oldest) != committed {
		if err := d.waitUnderWay(ctx); err != nil {
			return err
		}
		atomic.StoreUint32(&d.revisions.Oldest, committed)
		if d.opts.Role == lb.RoleHost {
			// Packets that were promised an older revision must be through.
			d.beginGrace()
			if err := d.afterGrace(ctx); err != nil {
				return err
			}
		}
	}
	d.targets.sweep(committed)
	d.vips.sweep(committed)
	if d.listeners != nil {
		d.listeners.sweep(committed)
	}
	if d.instances != nil {
		d.instances.sweep(committed)
	}
	return nil
}

func (d *Datapath) write(rev, committed uint32, want *encoded) error {
	if err := d.targets.stage(rev, committed, want.targets); err != nil {
		return err
	}
	for num := range d.dead { // health may be told before the target
		d.markDead(num)
	}
	d.markLoads(want)
	if err := d.stageVIPs(rev, committed, want.vips); err != nil {
		return err
	}
	if d.listeners != nil {
		return d.listeners.stage(rev, committed, want.listeners)
	}
	return d.instances.stage(rev, committed, want.instances)
}

// addPeers makes new peers known; the ones that are gone follow at commit.
func (d *Datapath) addPeers(s *snapshot.Snapshot, want *encoded) error {
	for k, p := range want.peers {
		old, known := d.peers.get(k)
		if known && old.Key == p.Key && old.num == p.num {
			continue
		}
		if err := d.putPeer(k, p, d.hops.resolve(k)); err != nil {
			return err
		}
	}
	for num, t := range want.targets {
		d.targets.rows[d.targets.at[num]].Peer = d.peers.at[t.Host]
	}
	return nil
}

// Commit puts a staged revision in force, with one store. Commit of the
// revision in force does nothing.
func (d *Datapath) Commit(_ context.Context, r lb.Revision) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return errClosed
	}
	if d.pending == nil || d.pending.revision != r {
		if lb.Revision(d.revisions.Revision) == r {
			return nil
		}
		return fmt.Errorf("revision %d is not staged", r)
	}
	return d.commit()
}

// commit puts what is pending in force; d.mu is held. What was in force until now is
// the oldest revision that tunnelled packets may still ask for.
func (d *Datapath) commit() error {
	p := d.pending
	atomic.StoreUint32(&d.revisions.Revision, uint32(p.revision))
	d.pending, d.partners, d.gates.inForce = nil, p.peers, p.gates
	if d.opts.Role == lb.RoleGateway {
		atomic.StoreUint32(&d.revisions.Here, p.quiet)
	}
	d.passed = time.Time{}
	for k := range d.peers.at {
		if _, ok := p.peers[k]; !ok {
			d.peers.remove(k)
		}
	}
	for num := range d.dead {
		if !p.targets[num] {
			delete(d.dead, num)
			d.markDead(num)
		}
	}
	if d.opts.Role == lb.RoleHost {
		d.moveGuests(p.guests)
	}
	d.forgetChoices(p.targets)
	err := d.keepKin(p.kin)
	d.beginGrace() // after the last thing was taken away
	return err
}

// SetHealth says whether probes reach a target. New flows avoid dead ones.
func (d *Datapath) SetHealth(target uint32, alive bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return errClosed
	}
	if d.opts.Role != lb.RoleGateway {
		return nil
	}
	if alive {
		delete(d.dead, target)
	} else {
		d.dead[target] = true
	}
	d.markDead(target)
	return nil
}

// markDead writes into a target's row what probes found, if it has one.
func (d *Datapath) markDead(num uint32) {
	row, ok := d.targets.at[num]
	if !ok {
		return
	}
	dead := uint16(0)
	if d.dead[num] {
		dead = 1
	}
	d.targets.rows[row].Dead = dead
}
