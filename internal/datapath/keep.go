// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A gateState is what one listener's or instance's gate was made of.
type gateState struct {
	rules  string      // names its rules by their content
	judged lb.Revision // flows judged at it or later keep their verdict
	always bool
}

// gateStates remember the gates in force, by listener's number or instance's
// id, to tell whether a revision changes them.
type gateStates struct {
	inForce map[string]gateState
	staged  map[string]gateState
	left    lb.Revision // what an earlier process staged and did not commit: it may have let flows in
}

// judged says from which revision on verdicts on flows of a gate hold at
// revision rev: from its rules' last change on, or from longer ago where open
// flows are to keep theirs. kernel gives what the row in force says, for a
// process that began after it was written.
func (d *Datapath) judged(gate, rules string, keep snapshot.Keeping, rev lb.Revision, kernel func() (lb.Revision, bool)) uint32 {
	committed := lb.Revision(d.revisions.Revision)
	was, known := d.gates.inForce[gate]
	if !known {
		if row, ok := kernel(); ok && (rev == committed || keep.Always) {
			was, known = gateState{rules: rules, judged: row, always: keep.Always}, true
		}
	}
	now := gateState{rules: rules, judged: rev, always: keep.Always}
	switch {
	case !known:
	case was.always && !keep.Always: // whoever was kept is judged at last
	case was.rules == rules, keep.Always, keep.Since != 0 && committed+1 >= keep.Since:
		now.judged = was.judged
	}
	if d.gates.left > committed && !keep.Always {
		now.judged = rev
	}
	d.gates.staged[gate] = now
	return uint32(now.judged)
}

func (d *Datapath) listenerJudged(s *snapshot.Snapshot, l *snapshot.Listener) uint32 {
	return d.judged(fmt.Sprint("listener ", l.Num), string(l.Gate1), l.Keep, s.Revision, func() (lb.Revision, bool) {
		for _, vip := range l.VIPs {
			if row, ok := d.listeners.at[GatewayListenerKey{Addr: rawAddr(vip), Port: l.Port, Proto: uint8(l.Proto)}]; ok {
				v, _ := d.listeners.newest(row)
				return lb.Revision(v.Judged), true
			}
		}
		return 0, false
	})
}

func (d *Datapath) instanceJudged(s *snapshot.Snapshot, i *snapshot.Instance) uint32 {
	rules := fmt.Sprint(i.Ingress, " ", i.Egress, " ", i.Observe)
	return d.judged("instance "+string(i.ID), rules, i.Keep, s.Revision, func() (lb.Revision, bool) {
		for _, a := range i.Addrs {
			if row, ok := d.instances.at[rawAddr(a)]; ok {
				v, _ := d.instances.newest(row)
				return lb.Revision(v.Judged), true
			}
		}
		return 0, false
	})
}

// silent is 1 when the gateway is not to answer for its VIPs.
func (d *Datapath) silent(s *snapshot.Snapshot) uint32 {
	return uint32(flagOf(d.opts.Role == lb.RoleGateway && !s.Answers(d.opts.Standby)))
}
