// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// What one change allocates does not grow with the number of other objects:
// nothing is copied that it does not change. Counted, not timed.
func TestChangeCopiesNoOthers(t *testing.T) {
	cost := func(groups, balancers int) uint64 {
		s := NewMemory()
		defer s.Close()
		group := func(i int) lb.GroupID { return lb.GroupID(fmt.Sprintf("sg-%08d", i)) }
		update(t, s, func(tx *Tx) {
			for i := range groups {
				tx.PutGroup(&lb.SecurityGroup{ID: group(i), Ingress: []lb.PolicyRule{{ID: "pol-1", PeerGroup: group((i + 1) % groups)}}})
			}
			for i := range balancers {
				id := lb.BalancerID(fmt.Sprintf("lb-%08d", i))
				tx.PutBalancer(&lb.LoadBalancer{ID: id, Groups: []lb.GroupID{group(i)}})
				tx.PutListener(&lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", i)), Balancer: id})
			}
		})
		const changes = 200
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range changes {
			update(t, s, func(tx *Tx) {
				tx.PutGroup(&lb.SecurityGroup{ID: group(i), Name: "changed", Ingress: []lb.PolicyRule{{ID: "pol-1", PeerGroup: group((i + 2) % groups)}}})
				l := *tx.State().Listeners.Get(lb.ListenerID(fmt.Sprintf("lbl-%08d", i)))
				l.Name = "changed"
				tx.PutListener(&l)
			})
		}
		runtime.ReadMemStats(&after)
		return (after.TotalAlloc - before.TotalAlloc) / changes
	}
	small, large := cost(1000, 300), cost(50000, 15000)
	t.Logf("one change allocates %d B among 1,600 objects, %d B among 80,000", small, large)
	if large > small*3/2 {
		t.Errorf("one change allocates %d B among 1,600 objects, %d B among 80,000", small, large)
	}
}
