// SPDX-License-Identifier: Apache-2.0

// Package policy says what security groups mean. Decide is the reference that
// the compiled form and the kernel programs are tested against: written to be
// read, not to be fast. It is pure.
package policy

import (
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Gate is one of the two places a packet is judged.
type Gate uint8

// The gates. The zero Gate is none.
const (
	GateCLB Gate = 1 // on the gateway, before a target is chosen
	GateCVM Gate = 2 // on the instance's host; skipped when the load balancer passes to target
)

// String is the gate as people, scenarios and metrics write it.
func (g Gate) String() string {
	switch g {
	case GateCLB:
		return "clb"
	case GateCVM:
		return "cvm"
	}
	return "none"
}

// A Direction is seen from the guarded object: In is toward it.
type Direction uint8

// The directions.
const (
	In  Direction = 1
	Out Direction = 2
)

// A Reason says why a packet was let through or dropped. The numbers are
// shared with datapath/bpf/reason.h, which is generated from reasonNames:
// append only.
type Reason uint8

// The reasons. Those up to PassToTarget accept unless a rule says otherwise;
// the rest drop.
const (
	ReasonNone      Reason = iota // nothing was judged
	NoGroups                      // nothing is bound at this gate: accept
	RuleMatched                   // a rule matched: its action
	NoMatch                       // no rule of any bound group matched: drop
	PassToTarget                  // the load balancer vouches: gate 2 is skipped
	SystemRule                    // a numbered system rule: its action
	Established                   // belongs to a tracked flow: accept
	NoListener                    // a VIP's port without listener
	NoTarget                      // a listener without targets
	UnknownTarget                 // the tunnel named a target this host does not have
	UnknownGateway                // a tunnel packet from nobody we know, or with a wrong key
	Spoofed                       // an address that its sender does not own
	Malformed                     // headers that do not parse
	Fragment                      // fragments, where they cannot be judged
	TableFull                     // no slot for a new flow
	TupleCollision                // the translated flow already belongs to another
	Unsupported                   // a protocol that has no meaning here
	FlowRefused                   // reply of a flow that has since been refused
	Hairpin                       // a client would be its own target
	TunnelFailed                  // the kernel could not add or remove the outer headers
	ProxyAway                     // layer 7, and the proxy is not listening: the client tries again
	Observed                      // gate 2 only observes this machine: passed, and the verdict says what would have dropped it
	Unrelated                     // an ICMP error that quotes no packet of a flow known here
	TooBig                        // does not fit into the tunnel whole: its sender was told the size that does
	GuestAway                     // a guest whose port is not there
	NoHealthyTarget               // every target is dead, and the listener takes none then
	PassedOn                      // a flow that its target's host does not know: on to the target that may
	reasonCount
)

var reasonNames = [reasonCount]string{
	"none", "no_groups", "rule", "no_match", "pass_to_target", "system_rule", "established", "no_listener", "no_target",
	"unknown_target", "unknown_gateway", "spoofed", "malformed", "fragment", "table_full",
	"tuple_collision", "unsupported", "flow_refused", "hairpin_self", "tunnel_failed", "proxy_away", "observed",
	"unrelated", "too_big", "guest_away", "no_healthy_target", "passed_on",
}

// String is the reason as metrics, scenarios and verdicts write it.
func (r Reason) String() string {
	if r < reasonCount {
		return reasonNames[r]
	}
	return "unknown"
}

// Reasons lists every reason in numeric order.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// A Verdict is one gate's answer and the evidence for it. Logs, counters, the
// console and explain all print this value; none rebuilds it.
type Verdict struct {
	Gate   Gate
	Action lb.Action
	Reason Reason
	Group  lb.GroupID // "" unless Reason is RuleMatched, or Observed and a rule would have refused
	Rule   lb.RuleID  // "" unless Reason is RuleMatched, or SystemRule of gate 1
	Pos    int        // 1-based place in Group at this revision, or the system rule's number; 0 if no rule matched
}

// A Group is a security group made ready to be judged: one direction of it,
// with references to other groups resolved to their members' addresses.
type Group struct {
	ID    lb.GroupID
	Rules []Rule
}

// A Rule is a policy rule whose peer and service are resolved. A rule whose
// peers are empty (a reference to a group without members) matches nothing.
type Rule struct {
	ID     lb.RuleID
	Pos    int // 1-based position in its group and direction
	Action lb.Action
	Proto  lb.Proto
	Ports  []lb.PortRange // empty: every port
	Peers  []netip.Prefix // IPv4 and IPv6 prefixes
	Reason Reason         // what a match is told as; zero: RuleMatched
	// Services are those of a service template: a packet must match one of them.
	// Empty: Proto and Ports say it; else those mean nothing.
	Services []lb.Service
}

// services are what the rule's packets look like, however it says so.
func (r Rule) services() []lb.Service {
	if len(r.Services) > 0 {
		return r.Services
	}
	return []lb.Service{{Proto: r.Proto, Ports: r.Ports}}
}
