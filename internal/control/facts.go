// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// NodeStatus is what the server knows about one node of the state.
type NodeStatus struct {
	ID        lb.NodeID
	Role      lb.NodeRole
	Instance  lb.InstanceID // "" on a gateway
	Address   netip.Addr
	Other     netip.Addr // where its tunnels end over the other family; zero: nowhere
	Connected bool
	Staged    lb.Revision   // the newest it holds ready; 0: none
	Committed lb.Revision   // in force; 0: none
	Lag       time.Duration // from Committed's arrival in the server's watch to the node's word that it is in force, by the server's clock
	Err       string        // why the node could not take the newest revision, or what it warns of; "" when all is well
	Failure   string        // why the node could not take a newer revision than Committed; "": it can, or has not been asked
	Since     time.Time     // of Connected's value; zero: not seen since the server started
	Version   string        // of the node's program
	Reasons   flow.Reasons
	Tables    flow.Tables // of its flows; zero: not told
	RSS       uint64      // bytes; 0: not told
}

// Facts are what nodes have told since the server started: the latest of
// everything, and the newest events. All methods may be called concurrently.
type Facts struct {
	now    func() time.Time
	events *ring
	past   *chronicle

	mu    sync.Mutex
	nodes map[lb.NodeID]*nodeFacts
	state *lb.State // the newest followed
}

// nodeFacts is one node's part of Facts.
type nodeFacts struct {
	status   NodeStatus
	warning  string
	failure  string
	apart    string // which nodes it shares no address family with
	ahead    string // it came with a revision that the server does not follow
	counters map[counterKey]flow.Counter
	health   map[uint32]flow.Health
	requests map[flow.Requests]flow.Requests // by their keys
	strips   map[uint32][]turn               // by target, oldest first
	loads    map[uint32]uint32               // connections by target
	toldAt   time.Time                       // when counters were told last; zero: never
	unseen   uint64                          // verdicts that the kernel did not tell, as of then
}

// A counterKey says which counter of a node is meant.
type counterKey struct {
	gate      policy.Gate
	group     lb.GroupID
	rule      lb.RuleID
	object    string
	direction policy.Direction
}

func keyOf(c flow.Counter) counterKey {
	return counterKey{c.Gate, c.Group, c.Rule, c.Object, c.Direction}
}

func newFacts(now func() time.Time) *Facts {
	return &Facts{now: now, events: newRing(uint64(now().UnixMicro())), nodes: map[lb.NodeID]*nodeFacts{},
		past: newChronicle(now), state: &lb.State{}}
}

// Nodes lists every node of the state, by name; also those that have never
// connected to this server.
func (f *Facts) Nodes() []NodeStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]NodeStatus, 0, len(f.nodes))
	for _, n := range f.nodes {
		s := n.status
		s.Failure = cmp.Or(n.ahead, n.failure)
		s.Err = cmp.Or(n.ahead, n.failure, n.warning, n.apart)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b NodeStatus) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Health is the latest word of every gateway on every target, by target
// number; each list is sorted by gateway.
func (f *Facts) Health() map[uint32][]flow.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[uint32][]flow.Health{}
	for _, n := range f.nodes {
		for target, h := range n.health {
			all[target] = append(all[target], h)
		}
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b flow.Health) int { return cmp.Compare(a.Node, b.Node) })
	}
	return all
}

// Counters are the latest of every node, in no order. Sums are the caller's.
func (f *Facts) Counters() []flow.Counter {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []flow.Counter
	for _, n := range f.nodes {
		for _, c := range n.counters {
			all = append(all, c)
		}
	}
	return all
}

// Events returns up to max events (at most 10,000) after a cursor, waiting
// until there is one or ctx ends; then events is empty and the error of ctx is
// not reported. next is the cursor to go on from. lost counts the events
// between the two that cannot be returned: overwritten here, or never told by
// a node. Cursor 0 means the oldest event still held, and counts nothing lost;
// a cursor of the future means the newest.
func (f *Facts) Events(ctx context.Context, after uint64, max int) (events []flow.Event, next, lost uint64) {
	return f.events.read(ctx, after, max)
}

// Newest is the cursor behind the newest event: Events after it waits for
// the next one.
func (f *Facts) Newest() uint64 { return f.events.newest() }

// follow takes over which nodes the state has.
func (f *Facts) follow(state *lb.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = state
	apart := lb.Apart(state)
	for id, n := range state.Nodes.All() {
		have := f.nodes[id]
		if have == nil {
			have = &nodeFacts{counters: map[counterKey]flow.Counter{}, health: map[uint32]flow.Health{},
				requests: map[flow.Requests]flow.Requests{}, strips: map[uint32][]turn{}, loads: map[uint32]uint32{}}
			f.nodes[id] = have
		}
		have.status.ID, have.status.Role, have.status.Instance, have.status.Address, have.status.Other = id, n.Role, n.Instance, n.Address, n.Other
		have.apart = apart[id]
	}
	for id := range f.nodes {
		if state.Nodes.Get(id) == nil {
			delete(f.nodes, id)
		}
	}
}

// change edits one node's facts, if it is still there.
func (f *Facts) change(id lb.NodeID, edit func(n *nodeFacts)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.nodes[id]; n != nil {
		edit(n)
	}
}

// report takes in what a node told.
func (f *Facts) report(id lb.NodeID, r report) {
	f.events.add(r.events, r.lost)
	f.chronicleEvents(r.events, r.lost)
	f.change(id, func(n *nodeFacts) {
		f.takeCounts(n, r)
		n.turns(r, f.now())
		if r.healthAll {
			clear(n.health)
		}
		for _, h := range r.health {
			n.health[h.Target] = h
		}
		if r.reasons != nil {
			n.status.Reasons = *r.reasons
		}
		if r.tables != nil {
			n.status.Tables = *r.tables
		}
		if r.rss != 0 {
			n.status.RSS = r.rss
		}
		if r.warningSet {
			n.warning = r.warning
		}
	})
}

// takeCounts takes in counters, and notes for the charts how much they have
// grown.
func (f *Facts) takeCounts(n *nodeFacts, r report) {
	if r.reasons == nil && r.rss == 0 && !r.countersAll && !r.requestsAll && len(r.counters) == 0 && len(r.requests) == 0 {
		return // a message between, without counters
	}
	now := f.now()
	f.chronicleCounters(n, n.counters, r.counters, now)
	f.chronicleRequests(n, n.requests, r.requests, now)
	if r.reasons != nil {
		if !n.toldAt.IsZero() {
			f.past.spread(SeriesKey{Metric: MetricUntold}, growth(n.unseen, r.reasons.Lost, true), n.toldAt, now)
		}
		n.unseen = r.reasons.Lost
	}
	n.toldAt = now
	if r.countersAll {
		clear(n.counters)
	}
	for _, c := range r.counters {
		n.counters[keyOf(c)] = c
	}
	if r.requestsAll {
		clear(n.requests)
	}
	for _, c := range r.requests {
		n.requests[c.Key()] = c
	}
}
