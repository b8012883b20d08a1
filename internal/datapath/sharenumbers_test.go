// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// balancersOf is n load balancers, from the first-th on, without numbers yet.
func balancersOf(first, n int) map[lb.BalancerID]uint16 {
	ids := map[lb.BalancerID]uint16{}
	for i := range n {
		ids[lb.BalancerID(fmt.Sprintf("lb-%08x", first+i))] = 0
	}
	return ids
}

// As many load balancers as there are numbers have one each, whoever comes and
// goes; more share them evenly, until others leave.
func TestShareNumbersAreHandedOut(t *testing.T) {
	const all = shareProbes - 1
	var n shareNumbers
	held := func(what string, ids map[lb.BalancerID]uint16, most int) {
		t.Helper()
		before := maps.Clone(n.of)
		n.hold(ids)
		holders := map[uint16]int{}
		for id := range ids {
			at := n.of[id]
			if at == shareDirect || at >= shareProbes {
				t.Fatalf("%s: %s has number %d", what, id, at)
			}
			if was, ok := before[id]; ok && was != at && most == 1 && len(before) <= all {
				t.Errorf("%s: %s had number %d and has %d", what, id, was, at)
			}
			if holders[at]++; holders[at] > most {
				t.Errorf("%s: %d load balancers have number %d", what, holders[at], at)
			}
		}
	}
	held("a hundred", balancersOf(0, 100), 1)
	held("all numbers", balancersOf(0, all), 1)
	held("the same again", balancersOf(0, all), 1)
	held("half of them others", balancersOf(100, all), 1)
	held("twice as many", balancersOf(100, 2*all), 2)
	shared := maps.Clone(n.of)
	held("twice as many again", balancersOf(100, 2*all), 2)
	if !maps.Equal(shared, n.of) {
		t.Error("numbers that are shared changed with nobody coming or going")
	}
	held("others left", balancersOf(200, all), 1)
	if len(n.of) > 2*all {
		t.Errorf("%d load balancers are remembered for %d numbers", len(n.of), all)
	}
}

// A number whose load balancer has gone is handed out last: flows in the table
// still carry it.
func TestShareNumbersOfTheGoneRest(t *testing.T) {
	var n shareNumbers
	n.hold(balancersOf(0, 1))
	gone := n.of["lb-00000000"]
	for i := range shareProbes - 2 {
		if n.hold(balancersOf(1, i+1)); n.of[lb.BalancerID(fmt.Sprintf("lb-%08x", i+1))] == gone {
			t.Fatalf("the number was handed out again as the %dth", i+2)
		}
	}
	if n.hold(balancersOf(0, 2)); n.of["lb-00000000"] != gone {
		t.Error("who came back has another number, though nobody took it")
	}
}

// Two load balancers whose names lead to one number have budgets of their own, and
// another process of the agent leaves them theirs.
func TestSharesDoNotCollide(t *testing.T) {
	s := newSiege(t)
	twin, number := lb.BalancerID(""), func(id lb.BalancerID) uint16 {
		var alone shareNumbers
		alone.hold(map[lb.BalancerID]uint16{id: 0})
		return alone.of[id]
	}
	for i := 0; twin == ""; i++ {
		if id := lb.BalancerID(fmt.Sprintf("lb-%08x", i)); number(id) == number("lb-1") {
			twin = id
		}
	}
	all := compiled(t, "sg-2", accept("0.0.0.0/0", 0))
	both := func(h *snapshot.Snapshot) {
		x := h.Targets[0]
		x.Num, x.ID.Balancer, x.VIPs = 8, twin, []netip.Addr{netip.MustParseAddr("192.0.2.2")}
		h.Targets = append(h.Targets, x)
	}
	shareOf := func(num uint32) uint16 {
		newest, _ := s.targets.newest(s.targets.at[num])
		return newest.Share
	}
	s.force(all, all, nil)
	first := shareOf(7)
	s.force(all, all, both)
	second := shareOf(8)
	if shareOf(7) != first || second == first {
		t.Fatalf("shares %d and %d, of which the first was %d alone", shareOf(7), second, first)
	}
	s.restart()
	s.force(all, all, both)
	if shareOf(7) != first || shareOf(8) != second {
		t.Errorf("after a restart: shares %d and %d, before %d and %d", shareOf(7), shareOf(8), first, second)
	}
}
