// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"sync"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// checkFits refuses a change that a node could not put in force: because one
// list of groups is too much for the kernel, or because all that a node has to
// hold together is.
func (c *Call) checkFits(tx *store.Tx, before *lb.State) error {
	if err := c.checkCompiles(tx, before); err != nil {
		return err
	}
	if err := c.checkHosts(tx, before); err != nil {
		return err
	}
	return c.checkRoom(tx, before)
}

// An amount is how much of one kind the nodes have to hold at most.
type amount struct {
	unit  string
	limit int
	of    func(*holdings) int
	hint  string
}

func amounts(room lb.NodeRoom) []amount {
	const hint = "bind fewer or smaller groups, let load balancers share their list of groups, or put fewer targets behind listeners"
	return []amount{
		{"listeners, counted for each address of their load balancer", room.Listeners, func(h *holdings) int { return h.listeners }, "delete listeners that are not used"},
		{"targets of all listeners and rules together", room.Targets, func(h *holdings) int { return h.targets }, "take targets away that are not used"},
		{"addresses of load balancers", room.Addresses, func(h *holdings) int { return h.addresses }, "delete load balancers that are not used"},
		{"instances, each with a node of its own", room.Instances, func(h *holdings) int { return h.state.Instances.Len() }, "terminate instances that are not used"},
		{"words of memory on a gateway, for the rules of all load balancers and the targets of all listeners", room.Words,
			func(h *holdings) int { return h.rings + h.policies }, hint},
		{"counters on a gateway, one for each inbound rule that is bound to a load balancer", room.Counters, func(h *holdings) int { return h.counters }, hint},
	}
}

// checkRoom refuses a change after which all that a gateway holds would not
// fit: rows, counters, and the memory of policies and tables of targets. What
// was too much before may shrink.
func (c *Call) checkRoom(tx *store.Tx, before *lb.State) error {
	after, former := c.rooms.follow(c.Compile, tx)
	for _, a := range amounts(c.Quotas.Node) {
		n := a.of(after)
		if n <= a.limit {
			continue
		}
		if former == nil || !former.isOf(before) {
			former = holdingsOf(c.Compile, before)
		}
		if n <= a.of(former) {
			continue
		}
		return refuse(lb.LimitExceeded, "", fmt.Sprintf("the region would have %d %s; the nodes have room for %d", n, a.unit, a.limit), a.hint)
	}
	return nil
}

// rooms remembers what the newest state that was looked at takes, so that the
// next one costs what has changed.
type rooms struct {
	mu   sync.Mutex
	last *holdings
}

// follow gives what the transaction's state takes, and what the state did that
// was looked at before; nil when none was.
func (r *rooms) follow(compile compiler, tx *store.Tx) (now, former *holdings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	former = r.last
	if former == nil {
		r.last = holdingsOf(compile, tx.State())
	} else {
		r.last = former.next(compile, tx)
	}
	return r.last, former
}

type compiler = func([]policy.Group) (*policy.Compiled, error)

// holdings are what a gateway has to hold of one state. They are never changed.
type holdings struct {
	state                         lb.State
	listeners, targets, addresses int // rows
	rings, policies               int // words of memory
	counters                      int
	rooms                         lb.Table[lb.BalancerID, room]
	shared                        lb.Table[policy.Hash, share]
	bound                         lb.Table[lb.GroupID, share]
}

// A room is what the policies of one load balancer take.
type room struct{ take map[policy.Hash]int }

// A share is what several have together: a policy's words, or a group's rules.
type share struct{ users, size int }

// isOf reports whether the holdings are those of a state.
func (h *holdings) isOf(st *lb.State) bool {
	s := &h.state
	return len(st.Listeners.Changed(s.Listeners))+len(st.Balancers.Changed(s.Balancers))+len(st.Groups.Changed(s.Groups))+
		len(st.Templates.Changed(s.Templates))+len(st.Instances.Changed(s.Instances))+len(st.VPCs.Changed(s.VPCs)) == 0
}

// holdingsOf counts a whole state.
func holdingsOf(compile compiler, st *lb.State) *holdings {
	h := &holdings{state: *st, counters: 1} // the system rule of private load balancers
	for l := range st.Listeners.Values() {
		h.addListener(l, st.Balancers.Get(l.Balancer), 1)
	}
	resolver := policy.NewResolver(st)
	for id, b := range st.Balancers.All() {
		h.addBalancer(b, 1)
		h.setPolicies(id, takes(compile, resolver, b))
	}
	return h
}

// next counts the transaction's state from what is different in it. Only who
// is bound to what has changed is compiled.
func (h *holdings) next(compile compiler, tx *store.Tx) *holdings {
	was, is, n := h.state, tx.State(), *h
	n.state = *is
	listeners, balancers := map[lb.ListenerID]bool{}, map[lb.BalancerID]bool{}
	for _, id := range is.Listeners.Changed(was.Listeners) {
		listeners[id] = true
	}
	for _, id := range is.Balancers.Changed(was.Balancers) {
		balancers[id] = true
		n.addBalancer(was.Balancers.Get(id), -1)
		n.addBalancer(is.Balancers.Get(id), 1)
		for _, l := range tx.Index().Listeners(id) {
			listeners[l] = true
		}
	}
	for id := range listeners {
		if l := was.Listeners.Get(id); l != nil {
			n.addListener(l, was.Balancers.Get(l.Balancer), -1)
		}
		if l := is.Listeners.Get(id); l != nil {
			n.addListener(l, is.Balancers.Get(l.Balancer), 1)
		}
	}
	for _, id := range is.Groups.Changed(was.Groups) {
		n.resize(id)
	}
	for _, g := range regrouped(tx, &was) {
		for _, id := range tx.Index().Balancers(g) {
			balancers[id] = true
		}
	}
	if len(is.VPCs.Changed(was.VPCs)) > 0 || joinedChanged(is, &was) {
		for id, b := range is.Balancers.All() {
			balancers[id] = balancers[id] || b.Private()
		}
	}
	resolver := policy.NewResolver(is)
	for id, look := range balancers {
		if !look {
			continue
		}
		var take map[policy.Hash]int
		if b := is.Balancers.Get(id); b != nil {
			take = takes(compile, resolver, b)
		}
		n.setPolicies(id, take)
	}
	return &n
}

func (h *holdings) addListener(l *lb.Listener, b *lb.LoadBalancer, sign int) {
	if b != nil {
		h.listeners += sign * len(b.Addresses())
		if l.EndPort != 0 {
			h.rings += sign * lb.RangeWords * len(b.Addresses())
		}
	}
	n := len(l.Targets)
	if !l.Protocol.Layer7() {
		h.rings += sign * lb.RingWords(n)
	}
	for i := range l.Rules {
		n += len(l.Rules[i].Targets)
	}
	h.targets += sign * n
}

// addBalancer counts the balancer's addresses, the counter of what it refuses
// without a rule, and that its groups are bound once more, or once less.
func (h *holdings) addBalancer(b *lb.LoadBalancer, sign int) {
	if b == nil {
		return
	}
	h.addresses += sign * len(b.Addresses())
	h.counters += sign
	for _, id := range b.Groups {
		one := share{}
		if known := h.bound.Get(id); known != nil {
			one = *known
		}
		one.users += sign
		h.bound.Put(id, &one)
		h.resize(id)
	}
}

// resize counts the rules of a group, if it is bound, as they are now.
func (h *holdings) resize(id lb.GroupID) {
	known := h.bound.Get(id)
	if known == nil {
		return
	}
	one := share{users: known.users}
	if g := h.state.Groups.Get(id); g != nil && one.users > 0 {
		one.size = len(g.Ingress)
	}
	h.counters += one.size - known.size
	if h.bound.Put(id, &one); one.users == 0 {
		h.bound.Delete(id)
	}
}

// setPolicies says what the policies of a balancer take; what several share
// counts once.
func (h *holdings) setPolicies(id lb.BalancerID, take map[policy.Hash]int) {
	use := func(hash policy.Hash, words, sign int) {
		one := share{size: words}
		if known := h.shared.Get(hash); known != nil {
			one = *known
		}
		switch one.users += sign; {
		case one.users == 0:
			h.policies -= one.size
			h.shared.Delete(hash)
			return
		case one.users == 1 && sign == 1:
			h.policies += one.size
		}
		h.shared.Put(hash, &one)
	}
	for hash, words := range take {
		use(hash, words, 1)
	}
	if old := h.rooms.Get(id); old != nil {
		for hash, words := range old.take {
			use(hash, words, -1)
		}
	}
	if h.rooms.Delete(id); len(take) > 0 {
		h.rooms.Put(id, &room{take})
	}
}

// takes compiles what gate 1 judges at each of the balancer's addresses. What
// does not compile takes nothing, because no node gets it.
func takes(compile compiler, resolver *policy.Resolver, b *lb.LoadBalancer) map[policy.Hash]int {
	take := map[policy.Hash]int{}
	for _, dialled := range b.Addresses() {
		groups := resolver.Gate1(b, dialled)
		if len(groups) == 0 {
			continue
		}
		if c, err := compile(groups); err == nil {
			take[c.Hash] = c.Words()
		}
	}
	return take
}

// regrouped are the groups whose resolved rules may be others than they were:
// their own rules, the members of those they name, or templates are.
func regrouped(tx *store.Tx, was *lb.State) []lb.GroupID {
	is := tx.State()
	found := is.Groups.Changed(was.Groups)
	for _, id := range is.Instances.Changed(was.Instances) {
		a, b := was.Instances.Get(id), is.Instances.Get(id)
		if a != nil && b != nil && a.Private == b.Private && slices.Equal(a.Groups, b.Groups) {
			continue
		}
		for _, i := range []*lb.Instance{a, b} {
			if i == nil {
				continue
			}
			for _, joined := range i.Groups {
				found = append(found, tx.Index().Naming(joined)...)
			}
		}
	}
	for _, id := range is.Templates.Changed(was.Templates) {
		found = append(found, usersOfTemplate(tx, id)...)
	}
	return found
}

// joinedChanged reports whether a machine of somebody's own came, went or has
// other addresses: they are part of the network around private load balancers.
func joinedChanged(is, was *lb.State) bool {
	for _, id := range is.Instances.Changed(was.Instances) {
		a, b := was.Instances.Get(id), is.Instances.Get(id)
		switch {
		case (a == nil || !a.Joined) && (b == nil || !b.Joined):
		case a == nil || b == nil || a.Joined != b.Joined || a.Private != b.Private || a.VPC != b.VPC || !slices.Equal(a.Others, b.Others):
			return true
		}
	}
	return false
}
