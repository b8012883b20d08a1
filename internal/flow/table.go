// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A State is how far a tracked flow has come.
type State string

// The states. A gateway's entry is a cache of a judgement and is Open until it
// saw an end.
const (
	Half    State = "half-open" // its opener was heard, nobody else
	Open    State = "open"
	Closing State = "closing" // both sides have ended it, or one broke it off
	Refused State = "refused" // was let in once and is refused by the rules of today
)

// States lists every state.
func States() []State { return []State{Half, Open, Closing, Refused} }

// A Flow is one entry of a node's flow table.
type Flow struct {
	Node     lb.NodeID
	Gate     policy.Gate // whose table: clb on a gateway, cvm on a host
	Proto    lb.Proto
	Opener   policy.Direction // In: the peer began it; Out: the instance did
	Peer     netip.AddrPort   // the client, or whom the instance called
	Dialled  netip.AddrPort   // what the peer called: VIP and listener port, or the instance itself
	Service  netip.AddrPort   // host: the instance's own address and port; zero on a gateway
	State    State
	Idle     time.Duration // since its last packet; full seconds, at most one too few
	Revision lb.Revision   // at which it was judged last
	Balancer lb.BalancerID // "": it did not come by a load balancer
	Listener lb.ListenerID
	Instance lb.InstanceID // "": on a gateway, a flow of layer 7
	Group    lb.GroupID    // of the rule that lets it in; "": no rule had to
	Rule     lb.RuleID
}

// A Query says which flows are meant: those that match every field that is not
// zero.
type Query struct {
	Gate     policy.Gate
	Node     lb.NodeID
	Proto    lb.Proto
	Client   netip.Prefix // where Peer is
	Dialled  netip.Addr
	Port     uint16 // of Dialled, or of Service
	Balancer lb.BalancerID
	Listener lb.ListenerID
	Instance lb.InstanceID
	State    State
	Limit    int // how many are told at most; 0: MaxFlows
}

// MaxFlows is how many flows one answer of one node holds at most.
const MaxFlows = 1000

// Room is how many flows the query asks a node for.
func (q *Query) Room() int {
	if q.Limit <= 0 || q.Limit > MaxFlows {
		return MaxFlows
	}
	return q.Limit
}

// Matches reports whether f is one of those meant.
func (q *Query) Matches(f *Flow) bool {
	return (q.Gate == 0 || q.Gate == f.Gate) && (q.Node == "" || q.Node == f.Node) && (q.Proto == 0 || q.Proto == f.Proto) &&
		(!q.Client.IsValid() || q.Client.Contains(f.Peer.Addr())) &&
		(!q.Dialled.IsValid() || q.Dialled == f.Dialled.Addr() || q.Dialled == f.Service.Addr()) &&
		(q.Port == 0 || q.Port == f.Dialled.Port() || q.Port == f.Service.Port()) &&
		(q.Balancer == "" || q.Balancer == f.Balancer) && (q.Listener == "" || q.Listener == f.Listener) &&
		(q.Instance == "" || q.Instance == f.Instance) && (q.State == "" || q.State == f.State)
}

// CompareFlows orders flows for people: by peer, then what it dialled, then
// gate, so that the two entries of one flow stand together.
func CompareFlows(a, b Flow) int {
	return cmp.Or(a.Peer.Compare(b.Peer), a.Dialled.Compare(b.Dialled), cmp.Compare(a.Proto, b.Proto),
		cmp.Compare(a.Gate, b.Gate), cmp.Compare(a.Node, b.Node), a.Service.Compare(b.Service))
}

// SortFlows sorts by CompareFlows and keeps the first limit.
func SortFlows(all []Flow, limit int) []Flow {
	slices.SortFunc(all, CompareFlows)
	return all[:min(len(all), limit)]
}

// Flows are what one node answers to a Query: the first of those that match,
// in the order of CompareFlows.
type Flows struct {
	Flows []Flow
	Total int // how many match
}

// A Table is how full a flow table of a node is.
type Table struct {
	Name   string  // "flows", or "flows6" for IPv6
	Slots  uint64  // how many flows it has room for
	Live   uint64  // slots with a flow that is still alive
	Half   uint64  // of those, half-open ones
	Bytes  uint64  // of kernel memory, whether used or not
	Shares []Share // by load balancer, the greatest first, those of the eight greatest
}

// A Share is what flows of one load balancer hold of a table.
type Share struct {
	Balancer lb.BalancerID // "": what comes by none
	Flows    uint64
	Limit    uint64 // no new flow of it is tracked beyond; 0: none but the table's end
}

// Tables are a node's flow tables.
type Tables struct {
	Node   lb.NodeID
	Tables []Table
	Full   uint64   // packets of new flows that found no room since the programs were loaded
	Alarms []string // what is wrong with them, in sentences; empty when nothing is
}

// Thresholds of the alarms, in percent of a table's slots. An alarm stands until
// its figure is below the lower one.
const (
	AlarmAt    = 80
	AlarmUntil = 70
)

// Alarm says what is wrong with t; "" when nothing is. stands says whether the
// alarm was on before.
func (t *Table) Alarm(role lb.NodeRole, stands bool) string {
	limit := uint64(AlarmAt)
	if stands {
		limit = AlarmUntil
	}
	if t.Slots == 0 || t.Live*100 < t.Slots*limit {
		return ""
	}
	what := "new flows are refused when it is full"
	if role == lb.RoleGateway {
		what = "beyond it, flows are judged packet by packet"
	}
	return fmt.Sprintf("flow table %s is %d %% full (%d of %d flows): %s; raise --flows", t.Name, t.Live*100/t.Slots, t.Live, t.Slots, what)
}
