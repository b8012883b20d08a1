// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync/atomic"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// loadScale is what one connection adds to the load of a target of weight 1;
// the quotients for all weights to 100 are right to a half percent.
const loadScale = 25200

// wholeShare is the share of a target that takes all that the ring gives it.
const wholeShare = 256

// choice says in a listener's row how targets are chosen, and names the table
// before the present one: flows that were begun by that and are not known here
// may be known where it says. The table stays until the next one comes.
func (d *Datapath) choice(l *snapshot.Listener, row *GatewayListener) {
	for _, f := range []struct {
		on  bool
		bit uint32
	}{
		{lb.Sticky(l.Scheduler, l.Choice), listenerByAddress},
		{l.Scheduler == lb.SchedulerLeast, listenerLeast},
		{l.Choice.HealthyOnly, listenerHealthyOnly},
	} {
		if f.on {
			row.Flags |= f.bit
		}
	}
	if d.listeners == nil || len(l.VIPs) == 0 {
		return
	}
	at, ok := d.listeners.at[GatewayListenerKey{Addr: rawAddr(l.VIPs[0]), Port: l.Port, Proto: uint8(l.Proto)}]
	if !ok {
		return
	}
	switch before := d.listeners.readAt(at, d.revisions.Revision); {
	case before == nil || before.Num != row.Num || before.RingLen == 0:
	case before.Ring == row.Ring:
		row.Former, row.FormerLen = before.Former, before.FormerLen
	default:
		row.Former, row.FormerLen = before.Ring, before.RingLen
	}
}

// readAt gives what a row says at a revision; nil when it says nothing.
func (t *table[K, R, V]) readAt(row, revision uint32) *V {
	var best *V
	v := t.versions(&t.rows[row])
	for i := range v {
		if h := head(&v[i]); h.From != 0 && h.From <= revision && (best == nil || h.From > head(best).From) {
			best = &v[i]
		}
	}
	if best == nil || head(best).Present == 0 {
		return nil
	}
	return best
}

// forgetFormer gives up the tables before the present ones, when there is no
// room for them.
func (d *Datapath) forgetFormer() {
	if d.listeners == nil {
		return
	}
	d.listeners.each(func(v *GatewayListener) {
		atomic.StoreUint32(&v.FormerLen, 0)
		atomic.StoreUint32(&v.Former, 0)
	})
}

// stepsOf notes what a connection adds to the load of each target of a
// listener with LEAST_CONN.
func stepsOf(l *snapshot.Listener, steps map[uint32]uint16) {
	if l.Scheduler != lb.SchedulerLeast {
		return
	}
	for _, t := range l.Targets {
		if t.Weight > 0 {
			steps[t.Num] = uint16(loadScale / t.Weight)
		}
	}
}

// SetLoads takes in how many connections targets have as their hosts count
// them. It is no part of a snapshot: it counts from the next packet on.
func (d *Datapath) SetLoads(list []flow.Load) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return errClosed
	}
	for _, l := range list {
		d.loads[l.Target] = l.Connections
		row, ok := d.targets.at[l.Target]
		if !ok {
			continue
		}
		if t := d.targets.readAt(row, d.revisions.Revision); t != nil {
			d.putLoad(row, l.Connections, t.Step)
		}
	}
	return nil
}

func (d *Datapath) putLoad(row, connections uint32, step uint16) {
	atomic.StoreUint32(&d.targets.rows[row].Load, uint32(min(uint64(connections)*uint64(step), 1<<31)))
}

// forgetChoices forgets what was known of targets that are gone: their rows
// will be others'.
func (d *Datapath) forgetChoices(stay map[uint32]bool) {
	for num := range d.loads {
		if row, ok := d.targets.at[num]; !stay[num] {
			delete(d.loads, num)
			if ok {
				d.putLoad(row, 0, 0)
			}
		}
	}
	for num := range d.held {
		if !stay[num] {
			delete(d.held, num)
			d.markHeld(num)
		}
	}
}

// markLoads writes loads of a staged revision's targets where weights make
// something else of them.
func (d *Datapath) markLoads(want *encoded) {
	for num, connections := range d.loads {
		t, ok := want.targets[num]
		if !ok {
			continue
		}
		row := d.targets.at[num]
		if now := d.targets.readAt(row, d.revisions.Revision); now == nil || now.Step != t.Step {
			d.putLoad(row, connections, t.Step)
		}
	}
	for num := range d.held {
		d.markHeld(num)
	}
}

// SetShare says how much of what the ring gives it a target takes, of 256: less
// while it starts slowly.
func (d *Datapath) SetShare(target, share uint32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return errClosed
	}
	if share >= wholeShare {
		delete(d.held, target)
	} else {
		d.held[target] = uint16(wholeShare - share)
	}
	d.markHeld(target)
	return nil
}

func (d *Datapath) markHeld(num uint32) {
	if row, ok := d.targets.at[num]; ok {
		d.targets.rows[row].Held = d.held[num]
	}
}

// Loads counts the connections of the targets of this host for which the
// snapshot in force asks: half-open and open ones that came through the tunnel.
func (d *Datapath) Loads() ([]flow.Load, error) {
	d.mu.Lock()
	counted := map[uint32]int{}
	var list []flow.Load
	if d.last != nil && d.opts.Role == lb.RoleHost {
		for _, t := range d.last.Targets {
			if t.Counted {
				counted[t.Num] = len(list)
				list = append(list, flow.Load{Target: t.Num})
			}
		}
	}
	d.mu.Unlock()
	if len(list) == 0 {
		return nil, nil
	}
	err := d.eachFlow(func(_ int, r *raw, _ uint32) {
		if i, ok := counted[r.target]; ok && (r.state == flow.Half || r.state == flow.Open) {
			list[i].Connections++
		}
	})
	return list, err
}
