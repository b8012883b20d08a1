// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// leavingFor is how long requests to a layer-7 target may go on after it was taken
// away. The proxy ends them then; the row goes with the next revision.
const leavingFor = time.Hour

// A leaver is a layer-7 target that was taken away and whose row stays.
type leaver struct {
	balancer lb.BalancerID // "": this process never knew the target
	until    time.Time
}

// keepLeaving adds to a snapshot's rows those of the layer-7 targets in force that
// it names no more: the proxy chooses them for no request, and those that are under
// way are answered. What gate 2 says of them it goes on saying. A layer-4 target's
// flows end with it. It never makes a revision greater than one may be: those that
// left last stay then.
func (d *Datapath) keepLeaving(s *snapshot.Snapshot, e *encoded, now time.Time) {
	known, passes := map[uint32]lb.BalancerID{}, map[lb.BalancerID]bool{}
	if d.last != nil {
		for _, t := range d.last.Targets {
			known[t.Num] = t.ID.Balancer
		}
	}
	for _, t := range s.Targets {
		passes[t.ID.Balancer] = t.PassToTarget
	}
	leaving := map[uint32]leaver{}
	rows := map[uint32]GatewayTarget{}
	for num, at := range d.targets.at {
		row := d.targets.readAt(at, d.revisions.Revision)
		if _, stays := e.targets[num]; stays || row == nil || row.Flags&targetViaGateway == 0 {
			continue
		}
		l, ok := d.leaving[num]
		if !ok {
			l = leaver{known[num], now.Add(leavingFor)}
		}
		leaving[num] = l
		if pass, told := passes[l.balancer]; now.Before(l.until) && d.reaches(row, e) && (!told || pass == (row.Flags&targetPass != 0)) {
			rows[num] = left(row)
		}
	}
	d.leaving = leaving
	nums := slices.SortedFunc(maps.Keys(rows), func(a, b uint32) int {
		return cmp.Or(leaving[b].until.Compare(leaving[a].until), cmp.Compare(a, b))
	})
	for _, num := range nums[:min(len(nums), max(0, lb.MaxTargetRows-len(e.targets)))] {
		e.targets[num] = rows[num]
	}
}

// reaches reports whether the other end that a target's row names is still there:
// for a gateway the host, for a host the instance.
func (d *Datapath) reaches(row *GatewayTarget, e *encoded) (ok bool) {
	if d.opts.Role == lb.RoleGateway {
		_, ok = e.peers[row.Host]
	} else {
		_, ok = e.instances[row.Service]
	}
	return ok
}

// left is a row without what is said of probes: there are none any more.
func left(row *GatewayTarget) GatewayTarget {
	r := *row
	r.Flags &^= targetProbeExempt | targetProbePing
	r.ProbePort, r.ProbeSource, r.Step = r.ServicePort, GatewayAddr{}, 0
	r.From, r.Present = 0, 0
	return r
}
