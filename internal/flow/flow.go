// SPDX-License-Identifier: Apache-2.0

// Package flow holds what nodes tell upward: verdicts, counters, health. It
// is pure data; facts travel up only and nothing here decides anything.
package flow

import (
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// An Event is one verdict on real traffic: a new flow or a refused packet.
type Event struct {
	Time      time.Time
	Node      lb.NodeID
	Verdict   policy.Verdict
	Direction policy.Direction
	Observed  bool        // the packet was passed on: its machine is only observed, and Verdict says what would have been
	Revision  lb.Revision // judged at
	Stamped   lb.Revision // what the tunnel asked for, when this host did not have it; else 0
	Proto     lb.Proto
	Src, Dst  netip.AddrPort // as the gate saw them: client, then VIP:listener port or service address:port
	Balancer  lb.BalancerID
	Listener  lb.ListenerID
	Instance  lb.InstanceID
}

// A Counter is what one rule has done at one gate of one node since Baseline.
// Rule "" is the implicit refusal of Object.
type Counter struct {
	Node      lb.NodeID
	Gate      policy.Gate
	Group     lb.GroupID
	Rule      lb.RuleID
	Object    string // the load balancer or instance whose implicit refusal this is; "" for rules
	Direction policy.Direction
	Packets   uint64
	Bytes     uint64
	NewFlows  uint64
	LastHit   time.Time // zero: never
	Baseline  time.Time
}

// HealthState is what a prober knows about a target.
type HealthState uint8

// The states; their words on the wire are Unknown, Alive, Dead and Close.
const (
	HealthUnknown HealthState = iota // new: no traffic yet
	HealthAlive
	HealthDead
	HealthClose // the check is switched off: traffic flows
)

// A Health is one target's state as one gateway sees it.
type Health struct {
	Node   lb.NodeID
	Target uint32
	ID     snapshot.TargetID
	State  HealthState
	Kind   string     // why it is Dead: "gate", "refused", "timeout" or "answer"; "" when it is not
	Text   string     // a sentence for people
	Group  lb.GroupID // Kind "gate": the group whose rule refused, "" for the implicit refusal
	Index  int        // Kind "gate": 0-based index of the rule, -1 for the implicit refusal
	Since  time.Time
}

// Reasons counts packets by the way they left one node's programs.
type Reasons struct {
	Node    lb.NodeID
	Packets map[policy.Reason]uint64
	Lost    uint64 // verdict events that were not told, for want of room or by the rate limit
}
