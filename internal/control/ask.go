// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/wire"
)

// askLimit is how long nodes may take to tell of their flows.
const askLimit = 5 * time.Second

// askProtocol is the first protocol with Ask.
const askProtocol = 3

// A FlowAnswer is what nodes tell of their flows when asked.
type FlowAnswer struct {
	Flows  []flow.Flow // in the order of flow.CompareFlows
	Total  int         // how many match; more than Flows when the query's limit cut
	Silent []Silence   // nodes that told nothing, by name
}

// A Silence is a node that could not be asked, and why.
type Silence struct {
	Node lb.NodeID
	Why  string
}

// an asking is one question under way to one node.
type asking struct {
	node   lb.NodeID
	answer chan *wire.Answer // room for one
}

// Flows asks every node that may know of flows that q means. It gives what
// came within five seconds, or until ctx ends.
func (c *Control) Flows(ctx context.Context, q flow.Query) FlowAnswer {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	out := FlowAnswer{}
	query, err := json.Marshal(q)
	if err != nil { // plain values: it cannot be
		return out
	}
	for _, a := range c.ask(q, query, &out) {
		select {
		case answer := <-a.answer:
			out.add(a.node, answer)
		case <-ctx.Done():
			out.Silent = append(out.Silent, Silence{a.node, "it did not answer in time"})
		}
	}
	slices.SortFunc(out.Silent, func(a, b Silence) int { return cmp.Compare(a.Node, b.Node) })
	out.Flows = flow.SortFlows(out.Flows, q.Room())
	return out
}

// ask queues the question for every node that it concerns.
func (c *Control) ask(q flow.Query, query []byte, out *FlowAnswer) []asking {
	var all []asking
	for _, n := range c.facts.Nodes() {
		if q.Node != "" && q.Node != n.ID || q.Gate != 0 && q.Gate != gateOf(n.Role) {
			continue
		}
		c.mu.Lock()
		s := c.sessions[n.ID]
		if s != nil && s.protocol >= askProtocol {
			all = append(all, asking{n.ID, s.ask(query)})
		}
		c.mu.Unlock()
		switch {
		case s == nil:
			out.Silent = append(out.Silent, Silence{n.ID, "it is not connected"})
		case s.protocol < askProtocol:
			out.Silent = append(out.Silent, Silence{n.ID, "its program is of an earlier release that cannot tell"})
		}
	}
	return all
}

// add takes in one node's answer. Whose flows they are is said by its stream.
func (f *FlowAnswer) add(id lb.NodeID, answer *wire.Answer) {
	var told flow.Flows
	err := json.Unmarshal(answer.Flows, &told)
	if answer.Error != "" {
		err = fmt.Errorf("%s", answer.Error)
	}
	if err != nil {
		f.Silent = append(f.Silent, Silence{id, err.Error()})
		return
	}
	for i := range told.Flows {
		told.Flows[i].Node = id
	}
	f.Flows, f.Total = append(f.Flows, told.Flows...), f.Total+told.Total
}

// ask queues a question and gives where its answer will come; Control.mu is held.
func (s *session) ask(query []byte) chan *wire.Answer {
	answer := make(chan *wire.Answer, 1)
	s.asked++
	s.asks[s.asked] = answer
	s.questions = append(s.questions, &wire.Ask{Number: s.asked, Query: query})
	if len(s.questions) > queueLimit { // it does not even read: who asked gives up by itself
		s.questions = s.questions[1:]
	}
	s.rouse()
	return answer
}

// answered hands an answer to who asked.
func (c *Control) answered(s *session, a *wire.Answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if to := s.asks[a.Number]; to != nil {
		to <- a
		delete(s.asks, a.Number)
	}
}

// gateOf is the gate that a node of the role holds.
func gateOf(role lb.NodeRole) policy.Gate {
	if role == lb.RoleGateway {
		return policy.GateCLB
	}
	return policy.GateCVM
}
