// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	hostsLimit    = 250 * time.Millisecond // a host that has not staged by then holds nobody back
	gatewaysLimit = time.Second            // a gateway that has not committed by then holds no later round back
	upkeepEvery   = time.Second
	writeLimit    = 10 * time.Second // for marking an instance as running; the next acknowledgement tries again
	arrivedLimit  = 4096             // revisions whose arrival is remembered
)

// rounds takes every newest state to the nodes until ctx ends.
func (c *Control) rounds(ctx context.Context) {
	for state := range c.store.Watch(ctx) {
		c.facts.follow(state)
		c.round(ctx, state)
		if err := c.removeOrphans(ctx); err != nil && ctx.Err() == nil {
			c.log.Error("removing nodes without instance", "error", err)
		}
	}
}

// round takes one state to the nodes: hosts stage, then gateways stage and
// commit while hosts commit.
func (c *Control) round(ctx context.Context, state *lb.State) {
	c.offerAll(c.begin(state), state)
	c.wait(ctx, hostsLimit, lb.RoleHost, func(s *session) bool { return s.settled(state.Revision, s.staged) })
	all := c.release(state)
	c.offerAll(all, state)
	c.mu.Lock()
	for _, s := range all {
		s.commit(state.Revision)
	}
	c.mu.Unlock()
	c.wait(ctx, gatewaysLimit, lb.RoleGateway, func(s *session) bool { return s.settled(state.Revision, s.committed) })
	c.pass(state.Revision)
}

// settled reports whether a session has nothing more to say about r.
func (s *session) settled(r, reached lb.Revision) bool {
	return s.offered < r || s.failed >= r || reached >= r
}

// begin notes the state as under way and lists the hosts.
func (c *Control) begin(state *lb.State) []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staging = state
	c.arrivedLocked(state.Revision)
	return c.listLocked(lb.RoleHost)
}

// arrivals notes when each revision is first seen, also while a round is
// under way.
func (c *Control) arrivals(ctx context.Context) {
	for state := range c.store.Watch(ctx) {
		c.mu.Lock()
		c.arrivedLocked(state.Revision)
		c.mu.Unlock()
	}
}

func (c *Control) arrivedLocked(newest lb.Revision) {
	if _, ok := c.arrived[newest]; !ok {
		c.arrived[newest] = c.now()
	}
	if len(c.arrived) > arrivedLimit {
		for r := range c.arrived {
			if r+arrivedLimit/2 < newest {
				delete(c.arrived, r)
			}
		}
	}
}

// release lets gateways have the state and lists everybody. A session that
// comes later finds it released.
func (c *Control) release(state *lb.State) []*session {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.staging, c.released = nil, state
	return append(c.listLocked(lb.RoleGateway), c.listLocked(lb.RoleHost)...)
}

func (c *Control) listLocked(role lb.NodeRole) []*session {
	var all []*session
	for _, s := range c.sessions {
		if s.Role == role {
			all = append(all, s)
		}
	}
	return all
}

// offerAll assembles the state for each session that does not have it queued
// and queues it.
func (c *Control) offerAll(all []*session, state *lb.State) {
	for _, s := range all {
		c.mu.Lock()
		has := s.offered >= state.Revision
		c.mu.Unlock()
		if !has {
			c.offer(s, state)
		}
	}
}

// offer assembles the state for one session and queues it. What cannot be
// assembled is reported as the node's fault line: it keeps what it has.
func (c *Control) offer(s *session, state *lb.State) {
	if state.Nodes.Get(s.Name) == nil {
		return // registered later than this state; its own round is on the way
	}
	if state.Revision < s.least {
		return // it would refuse; where the counter was raised, a newer one is on the way
	}
	p, err := c.encoder.encode(state, s.Name)
	if err != nil {
		c.log.Error("snapshot not assembled", "node", s.Name, "revision", state.Revision, "error", err)
		c.facts.change(s.Name, func(n *nodeFacts) { n.failure = "not assembled: " + err.Error() })
		return
	}
	c.mu.Lock()
	s.offer(p)
	c.mu.Unlock()
}

// wait blocks until done holds for every session of the role, limit has passed
// or ctx ends. Whoever made it wait in vain is not waited for again until it
// has answered to the newest.
func (c *Control) wait(ctx context.Context, limit time.Duration, role lb.NodeRole, done func(*session) bool) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		c.mu.Lock()
		all, progress := true, c.progress
		for _, s := range c.sessions {
			all = all && (s.Role != role || s.late || done(s))
		}
		c.mu.Unlock()
		if all {
			return
		}
		select {
		case <-progress:
		case <-timer.C:
			c.mu.Lock()
			for _, s := range c.sessions {
				s.late = s.late || s.Role == role && !done(s)
			}
			c.mu.Unlock()
			return
		case <-ctx.Done():
			return
		}
	}
}

// add takes a session in and gives it at once what is in force, and what is
// under way if it is a host's. It replaces an older session of the same node.
func (c *Control) add(s *session, hello *wire.Hello) bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	if old := c.sessions[s.Name]; old != nil {
		old.stop(errReplaced)
	}
	c.sessions[s.Name] = s
	c.facts.follow(c.store.State())
	if s.Role == lb.RoleGateway {
		s.putLoads(c.facts.Loads())
	}
	c.facts.change(s.Name, func(n *nodeFacts) {
		n.status.Connected, n.status.Since, n.status.Version = true, c.now(), hello.Version
		n.status.Committed, n.status.Staged, n.ahead = s.committed, s.committed, s.ahead
	})
	c.mu.Unlock()
	c.log.Info("node attached", "node", s.Name, "role", s.Role, "revision", s.committed, "version", hello.Version)
	c.catchUp(s)
	return true
}

// catchUp offers a session what its role may have by now.
func (c *Control) catchUp(s *session) {
	c.mu.Lock()
	released, staging := c.released, c.staging
	c.mu.Unlock()
	if released != nil {
		c.offer(s, released)
		c.mu.Lock()
		s.commit(released.Revision)
		c.mu.Unlock()
	}
	if staging != nil && s.Role == lb.RoleHost {
		c.offer(s, staging)
		// The round may have ended meanwhile, without a view of this offer.
		c.mu.Lock()
		if c.released == staging {
			s.commit(staging.Revision)
		}
		c.mu.Unlock()
	}
}

func (c *Control) remove(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sessions[s.Name] == s {
		delete(c.sessions, s.Name)
		c.facts.change(s.Name, func(n *nodeFacts) { n.status.Connected, n.status.Since = false, c.now() })
		if !c.closing {
			c.advance(s.Instance, hasLeft)
		}
	}
	c.moved()
	c.log.Info("node detached", "node", s.Name)
}

// moved wakes whoever waits; Control.mu is held.
func (c *Control) moved() {
	close(c.progress)
	c.progress = make(chan struct{})
}

// acknowledged takes in a node's answer to a Stage or Commit.
func (c *Control) acknowledged(s *session, ack *wire.Ack) {
	r := lb.Revision(ack.Revision)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	switch {
	case r > s.offered:
		return // nobody offered it
	case ack.Error != "" && r == s.failed:
		return // the commit that was already under way when its stage was refused
	case ack.Error != "":
		s.refused(r, now)
		c.log.Error("node refused a snapshot", "node", s.Name, "revision", r, "error", ack.Error)
		c.facts.change(s.Name, func(n *nodeFacts) { n.failure = ack.Error })
	case ack.Phase == wire.Phase_PHASE_STAGED:
		s.staged = r
		s.late = s.late && (s.Role == lb.RoleGateway || r < s.offered)
		c.facts.change(s.Name, func(n *nodeFacts) { n.status.Staged = r })
	case ack.Phase == wire.Phase_PHASE_COMMITTED:
		c.committed(s, r, now)
	}
	c.moved()
}

// committed notes that r is in force on a node; Control.mu is held.
func (c *Control) committed(s *session, r lb.Revision, now time.Time) {
	fresh := s.committed != r
	s.committed, s.retryWait = r, retryFirst
	s.late = s.late && r < s.offered
	since, known := c.arrived[r]
	c.facts.change(s.Name, func(n *nodeFacts) {
		n.status.Committed, n.failure = r, ""
		if fresh && known {
			n.status.Lag = now.Sub(since)
		}
	})
	if s.carries == 0 || r < s.carries || c.closing {
		return
	}
	c.advance(s.Instance, inForce)
	for id, i := range c.store.State().Instances.All() { // its guests
		if i.Host == s.Name && i.State == lb.Pending && fresh {
			c.advance(id, inForce)
		}
	}
}
