// SPDX-License-Identifier: Apache-2.0

package control

import (
	"maps"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// takeLoads takes in how many connections a host's targets have, and hands it
// on to every gateway. What a gateway has not read yet is replaced by what is
// newer: only the last number counts.
func (c *Control) takeLoads(from lb.NodeID, r report) {
	news := c.facts.loads(from, r)
	if len(news) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.listLocked(lb.RoleGateway) {
		s.putLoads(news)
	}
}

// loads keeps what a host told and gives what is new of it. A target that it
// names no more has no connection.
func (f *Facts) loads(from lb.NodeID, r report) (news map[uint32]uint32) {
	if !r.loadsAll && len(r.loads) == 0 {
		return nil
	}
	news = map[uint32]uint32{}
	f.change(from, func(n *nodeFacts) {
		if r.loadsAll {
			for num, had := range n.loads {
				if had != 0 {
					news[num] = 0
				}
			}
			n.loads = map[uint32]uint32{}
		}
		for _, l := range r.loads {
			news[l.Target] = l.Connections
			n.loads[l.Target] = l.Connections
		}
	})
	return news
}

// Loads are the connections of targets that hosts count, by target: those of
// listeners with LEAST_CONN.
func (f *Facts) Loads() map[uint32]uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[uint32]uint32{}
	for _, n := range f.nodes {
		maps.Copy(all, n.loads)
	}
	return all
}

// putLoads has a gateway told; Control.mu is held.
func (s *session) putLoads(news map[uint32]uint32) {
	if len(news) == 0 {
		return
	}
	if s.loads == nil {
		s.loads = map[uint32]uint32{}
	}
	maps.Copy(s.loads, news)
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// takePending hands the sender what is not told yet; Control.mu is held.
func (s *session) takePending() (*wire.ServerMessage, bool) {
	if len(s.loads) == 0 {
		return nil, false
	}
	m := &wire.Loads{}
	for _, num := range slices.Sorted(maps.Keys(s.loads)) {
		m.Loads = append(m.Loads, &wire.Load{Target: num, Connections: s.loads[num]})
	}
	s.loads = nil
	return &wire.ServerMessage{Kind: &wire.ServerMessage_Loads{Loads: m}}, true
}
