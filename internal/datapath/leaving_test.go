// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// takenAway shows that a target that is taken away answers the requests that are
// under way at layer 7, for an hour at most and only while gate 2 lets them; at
// layer 4 its flows end. rev is in force in the world.
func (w *world) takenAway(t *testing.T, gw, host *Datapath, rev lb.Revision) {
	all, nobody := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2")
	apply := func(layer7, there, open bool) {
		t.Helper()
		rev++
		gate2 := nobody
		if open {
			gate2 = all
		}
		s1, s2 := pair(t, rev, nil, gate2)
		s1.Listeners[0].Layer7, s1.Targets[0].ViaGateway, s2.Targets[0].ViaGateway = layer7, layer7, layer7
		if layer7 {
			s1.Listeners[0].Targets = nil
		}
		if !there {
			s1.Targets, s2.Targets, s1.Listeners[0].Targets = nil, nil, nil
		}
		put(t, gw, host, s1, s2)
	}
	for _, row := range []struct {
		name   string
		layer7 bool
		open   bool
		later  time.Duration
		served bool
	}{
		{"layer 4", false, true, 0, false},
		{"layer 7", true, true, 0, true},
		{"layer 7, three revisions and half an hour later", true, true, leavingFor / 2, true},
		{"layer 7, refused by gate 2 since", true, false, 0, false},
		{"layer 7, more than an hour later", true, true, leavingFor + time.Second, false},
	} {
		apply(row.layer7, true, true)
		c, err := w.tunnelConn(clientA, service+":8080", 7, 2*time.Second)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		r := bufio.NewReader(c)
		c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := r.ReadString('\n'); err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		apply(row.layer7, false, row.open)
		if row.later != 0 {
			apply(row.layer7, false, row.open)
			for _, d := range []*Datapath{gw, host} {
				d.leaving[7] = leaver{d.leaving[7].balancer, d.leaving[7].until.Add(-row.later)}
			}
			apply(row.layer7, false, row.open)
		}
		wait := 5 * time.Second
		if !row.served {
			wait = 300 * time.Millisecond
		}
		c.SetDeadline(time.Now().Add(wait))
		fmt.Fprint(c, "take 3\nabc")
		said, err := r.ReadString('\n')
		if served := strings.TrimSpace(said) == "took"; served != row.served {
			t.Errorf("%s: answered %v (%v), want %v", row.name, served, err, row.served)
		}
		c.Close()
	}
}

// Rows of targets that were taken away are no room that a revision lacks, and go
// with the host, the switch pass-to-target and the number's next use.
func TestLeavingRows(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	rev := lb.Revision(0)
	apply := func(change func(s *snapshot.Snapshot)) {
		t.Helper()
		rev++
		gw, _ := pair(t, rev, nil, compiled(t, "sg-2"))
		gw.Listeners[0].Layer7, gw.Listeners[0].Targets, gw.Targets[0].ViaGateway = true, nil, true
		other := gw.Targets[0]
		other.Num, other.ID.Port = 8, 8081
		other.Service = netip.AddrPortFrom(other.Service.Addr(), 8081)
		gw.Targets = append(gw.Targets, other)
		change(gw)
		b.stage(t, gw)
	}
	has := func(num uint32) bool {
		row, ok := b.targets.at[num]
		return ok && b.targets.readAt(row, b.revisions.Revision) != nil
	}
	whole := func(*snapshot.Snapshot) {}
	gone := func(s *snapshot.Snapshot) { s.Targets = s.Targets[1:] }
	for _, row := range []struct {
		name   string
		change func(s *snapshot.Snapshot)
		stays  bool
	}{
		{"taken away", gone, true},
		{"passed to target since", func(s *snapshot.Snapshot) { gone(s); s.Targets[0].PassToTarget = true }, false},
		{"its host gone", func(s *snapshot.Snapshot) { s.Targets, s.Peers = nil, nil }, false},
		{"no room beside the others", func(s *snapshot.Snapshot) {
			one := s.Targets[1]
			for s.Targets = nil; len(s.Targets) < lb.MaxTargetRows; {
				one.Num = 100 + uint32(len(s.Targets))
				s.Targets = append(s.Targets, one)
			}
		}, false},
	} {
		apply(whole)
		apply(row.change)
		if has(7) != row.stays {
			t.Errorf("%s: its row stays %v, want %v", row.name, has(7), row.stays)
		}
	}
	apply(whole)
	apply(gone)
	at, _ := b.targets.at[7], false
	if r := b.targets.readAt(at, b.revisions.Revision); r == nil || r.ProbeSource != (GatewayAddr{}) || r.Flags != targetViaGateway {
		t.Errorf("the row says %+v: want nothing of probes", r)
	}
	apply(whole)
	if _, ok := b.leaving[7]; ok || !has(7) {
		t.Error("a target that came back still counts as leaving")
	}
}
