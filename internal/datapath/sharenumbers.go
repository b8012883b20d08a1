// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"hash/fnv"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// shareNumbers hands out the shares of load balancers, from 1 to shareProbes-1.
// One keeps its number while it is there, and after that until another one needs
// it, since flows in the table still carry it. No two that are there have the
// same one unless all are taken. The zero value has handed out none.
type shareNumbers struct {
	of   map[lb.BalancerID]uint16
	last map[lb.BalancerID]int // the round in which it was there last
	turn int
}

// hold makes sure that each load balancer has its number. ids are those that are
// there, each with the number that an earlier process gave it, 0 for none.
func (n *shareNumbers) hold(ids map[lb.BalancerID]uint16) {
	if n.of == nil {
		n.of, n.last = map[lb.BalancerID]uint16{}, map[lb.BalancerID]int{}
	}
	n.turn++
	var holders [shareProbes]int
	holders[shareDirect] = 1 // nobody's to have
	var without []lb.BalancerID
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		n.last[id] = n.turn
		has, known := n.of[id]
		if !known {
			has = ids[id]
		}
		if has == shareDirect || has >= shareProbes || holders[has] > 0 {
			without = append(without, id)
			continue
		}
		n.of[id] = has
		holders[has]++
	}
	for _, id := range without {
		free := n.vacant(id, &holders)
		if has, known := n.of[id]; known && holders[free] > 0 {
			free = has // all are taken, so it goes on sharing this one
		}
		n.of[id] = free
		holders[free]++
	}
}

// vacant is the number for one more load balancer: the first from where its name
// leads that nobody ever had, or that whose holder has been gone longest, or that
// which the fewest have. Whoever is gone and had it gives it up.
func (n *shareNumbers) vacant(id lb.BalancerID, holders *[shareProbes]int) uint16 {
	var gone [shareProbes]int // the round in which its last holder left; 0: nobody had it
	for had, number := range n.of {
		gone[number] = max(gone[number], n.last[had])
	}
	h := fnv.New32a()
	h.Write([]byte(id))
	first := int(h.Sum32() % (shareProbes - 1))
	best := uint16(1 + first)
	for i := 1; i < shareProbes-1; i++ {
		at := uint16(1 + (first+i)%(shareProbes-1))
		if holders[at] < holders[best] || holders[at] == holders[best] && holders[at] == 0 && gone[at] < gone[best] {
			best = at
		}
	}
	for had, number := range n.of {
		if number == best && n.last[had] < n.turn {
			delete(n.of, had)
			delete(n.last, had)
		}
	}
	return best
}

// holdShares gives each load balancer of a snapshot's targets its number. The rows
// of targets say which ones an earlier process gave.
func (d *Datapath) holdShares(s *snapshot.Snapshot) {
	if d.opts.Role != lb.RoleHost {
		return // whose table has no budgets
	}
	ids := map[lb.BalancerID]uint16{}
	for _, t := range s.Targets {
		if ids[t.ID.Balancer] != 0 {
			continue
		}
		ids[t.ID.Balancer] = 0
		if row, ok := d.targets.at[t.Num]; ok {
			newest, _ := d.targets.newest(row)
			ids[t.ID.Balancer] = newest.Share
		}
	}
	d.numbers.hold(ids)
}
