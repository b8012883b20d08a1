// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// sallyportActions lists our own service, 2026-11-23: what Tencent's has no
// word for.
func sallyportActions() []Action {
	return []Action{
		action(serviceSallyport, "DescribeStatus", describeStatus),
		action(serviceSallyport, "DescribeVerdicts", describeVerdicts).fails("InvalidParameterValue", "UnsupportedOperation"),
		action(serviceSallyport, "DescribeFlows", describeFlows).fails("InvalidParameterValue", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceSallyport, "DrainNode", drainNode).fails("InvalidParameterValue", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceSallyport, "UndrainNode", undrainNode).fails("InvalidParameterValue", "ResourceNotFound"),
		action(serviceSallyport, "DescribeRuleCounters", describeRuleCounters).fails("ResourceNotFound"),
		action(serviceSallyport, "DescribeSeries", describeSeries).fails("InvalidParameterCombination", "InvalidParameterValue", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceSallyport, "DescribeCaller", describeCaller),
		action(serviceSallyport, "DescribeProbeSources", describeProbeSources).fails("ResourceNotFound"),
		action(serviceSallyport, "DescribeHosts", describeHosts).fails("InvalidParameterValue"),
		action(serviceSallyport, "CreateNodeToken", createNodeToken).fails("InvalidInstanceName.TooLong", "InvalidParameterCombination", "InvalidParameterValue", "ResourceInUse", "ResourceNotFound", "UnsupportedOperation"),
		action(serviceSallyport, "AddGuest", addGuest).fails("InvalidInstanceName.TooLong", "InvalidParameterValue", "LimitExceeded", "ResourceInUse", "ResourceNotFound"),
		action(serviceSallyport, "RemoveGuest", removeGuest).fails("ResourceNotFound"),
		action(serviceSallyport, "ForgetNode", forgetNode).fails("ResourceNotFound", "UnsupportedOperation"),
		action(serviceSallyport, "DescribeEffectiveRules", describeEffectiveRules).fails("InvalidInstanceId.NotFound", "InvalidParameter.LBIdNotFound", "InvalidParameterCombination"),
		action(serviceSallyport, "ExplainPath", explainPath).fails("InvalidInstanceId.NotFound", "InvalidParameter.LBIdNotFound", "InvalidParameterCombination", "InvalidParameterValue"),
		action(serviceSallyport, "SearchSecurityGroups", searchSecurityGroups),
		action(serviceSallyport, "SetSecurityGroupPolicies", setSecurityGroupPolicies).needs("Policies.0.Action").fails("InvalidParameterCombination", "InvalidParameterValue", "ResourceNotFound", "UnsupportedOperation", "UnsupportedOperation.VersionMismatch"),
	}
}

// Summary asks for the counts of a great region instead of each target.
type describeStatusIn struct {
	Summary bool `tc:""`
}

type describeStatusOut struct {
	Revision lb.Revision
	Nodes    []nodeOut
	Targets  []targetStatus // none in a Summary
	Summary  *statusSummary // null unless it is asked for
}

// statusSummary is how much there is, and how the targets of each load balancer
// that has any are.
type statusSummary struct {
	LoadBalancers, Instances, SecurityGroups int
	TargetCounts                             []targetCounts
}

type targetCounts struct {
	LoadBalancerId              string
	Alive, Dead, Unknown, Close int
}

// nodeOut is a node and the revision in force there. LagMs is from that
// revision's arrival in the server's watch to the node's word that it is in force.
type nodeOut struct {
	Name, Role, InstanceId, Address string
	Connected                       bool
	Revision                        lb.Revision
	LagMs                           float64
	Error                           string
	Drained                         bool // gateway: new flows are to go elsewhere
	Alarms                          []string
	FlowTables                      []flowTableOut
	Addresses                       []string // Address, where its tunnels end over the other family, and a joined machine's others
	Gate                            string   // host: "enforce", or "observe" until the first group is bound; "" on a gateway
}

type targetStatus struct {
	LoadBalancerId, ListenerId, LocationId, InstanceId string
	Port                                               int
	Health                                             string
	HealthReason                                       *healthReason
	ProbeSystemRule                                    int // that admits its probes at gate 2; 0: the instance's groups judge them
}

func describeStatus(c *Call, in *describeStatusIn) (*describeStatusOut, error) {
	v := c.newHealth()
	out := &describeStatusOut{Revision: v.state.Revision, Nodes: c.nodes(v.state)}
	if in.Summary {
		out.Summary = v.summary()
		return out, nil
	}
	listeners := listenersByBalancer(v.state)
	for _, id := range v.state.Balancers.Sorted() {
		b := v.state.Balancers.Get(id)
		for _, l := range listeners[id] {
			out.Targets = append(out.Targets, v.status(b, l, "", l.Check, l.Targets)...)
			for _, r := range l.Rules {
				out.Targets = append(out.Targets, v.status(b, l, r.ID, r.Check, r.Targets)...)
			}
		}
	}
	return out, nil
}

func (v healthView) summary() *statusSummary {
	s := &statusSummary{LoadBalancers: v.state.Balancers.Len(), Instances: v.state.Instances.Len(), SecurityGroups: v.state.Groups.Len()}
	listeners := listenersByBalancer(v.state)
	for _, id := range v.state.Balancers.Sorted() {
		n := targetCounts{LoadBalancerId: string(id)}
		for _, l := range listeners[id] {
			v.count(&n, l.Check, l.Targets)
			for _, r := range l.Rules {
				v.count(&n, r.Check, r.Targets)
			}
		}
		if n.Alive+n.Dead+n.Unknown+n.Close > 0 {
			s.TargetCounts = append(s.TargetCounts, n)
		}
	}
	return s
}

func (v healthView) count(n *targetCounts, check lb.HealthCheck, targets []lb.Target) {
	for _, t := range targets {
		switch word, _ := v.word(check, t); word {
		case wordAlive:
			n.Alive++
		case wordDead:
			n.Dead++
		case wordClose:
			n.Close++
		default:
			n.Unknown++
		}
	}
}

func (v healthView) status(b *lb.LoadBalancer, l *lb.Listener, rule lb.LocationID, check lb.HealthCheck, targets []lb.Target) []targetStatus {
	var all []targetStatus
	system := 0
	if check.On && !b.PassToTarget && !b.ProbesNeedRule(check) {
		system = policy.ProbeRule(check)
	}
	for _, t := range targets {
		word, reason := v.judge(b, check, t)
		all = append(all, targetStatus{string(b.ID), string(l.ID), string(rule), string(t.Instance), int(t.Port), word, reason, system})
	}
	return all
}

func (c *Call) nodes(st *lb.State) []nodeOut {
	var all []nodeOut
	if c.Facts == nil {
		for _, id := range st.Nodes.Sorted() {
			n := st.Nodes.Get(id)
			all = append(all, nodeOut{Name: string(id), Role: string(n.Role), InstanceId: string(n.Instance), Address: addrText(n.Address), Addresses: addressesOf(st, n.Instance, n.Address, n.Other),
				Drained: n.Drained, Gate: gateOf(st, n.Instance)})
		}
		return all
	}
	for _, n := range c.Facts.Nodes() {
		if st.Nodes.Get(n.ID) == nil && c.narrow() {
			continue
		}
		all = append(all, nodeOut{
			Name: string(n.ID), Role: string(n.Role), InstanceId: string(n.Instance), Address: addrText(n.Address), Connected: n.Connected,
			Revision: n.Committed, LagMs: float64(n.Lag.Microseconds()) / 1000, Error: n.Err,
			Addresses: addressesOf(st, n.Instance, n.Address, n.Other),
			Gate:      gateOf(st, n.Instance), Drained: st.Nodes.Get(n.ID) != nil && st.Nodes.Get(n.ID).Drained,
			Alarms: n.Tables.Alarms, FlowTables: showTables(n.Tables),
		})
	}
	return all
}

// gateOf is what gate 2 of an instance does with what it refuses.
func gateOf(st *lb.State, id lb.InstanceID) string {
	switch i := st.Instances.Get(id); {
	case i == nil:
		return ""
	case i.Observe:
		return "observe"
	}
	return "enforce"
}

// addressesOf lists a node's: where its tunnels end, and the further ones of a
// machine that joined.
func addressesOf(st *lb.State, id lb.InstanceID, ends ...netip.Addr) []string {
	if i := st.Instances.Get(id); i != nil {
		ends = append(ends, i.Others...)
	}
	var all []string
	for _, a := range ends {
		if text := addrText(a); text != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// addrText is "" for no address.
func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

// Bounds of long polls and of what one answer carries.
const (
	maxWait         = 60 // seconds
	defaultVerdicts = 100
	maxVerdicts     = 1000
)

// waiting is the context of a long poll.
func (c *Call) waiting(seconds int64) (context.Context, context.CancelFunc, error) {
	if seconds < 0 || seconds > maxWait {
		return nil, nil, refuse(lb.Range, "WaitSeconds", fmt.Sprintf("%d is outside 0-%d", seconds, maxWait), "ask again")
	}
	ctx, cancel := c.untilEnding(time.Duration(seconds) * time.Second)
	return ctx, cancel, nil
}

// untilEnding is the context of waiting: it ends with the call, after limit, and
// when the server is asked to end. The call itself goes on.
func (c *Call) untilEnding(limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(c.ctx, limit)
	go func() {
		select {
		case <-c.Ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

type describeVerdictsIn struct {
	After       int64    `tc:"range=-1-"` // 0: the oldest held; -1: only new ones
	Limit       *int64   `tc:"range=1-1000"`
	WaitSeconds int64    `tc:"range=0-60"`
	Filters     []Filter `tc:"" filters:"node gate=clb|cvm|none action=ACCEPT|DROP reason=@reasons security-group-id load-balancer-id listener-id instance-id source-address"`
}

type describeVerdictsOut struct {
	Verdicts []verdictOut
	Next     uint64
	Lost     uint64
}

// verdictOut is one verdict on real traffic. Text says it in one line.
type verdictOut struct {
	Time, Node, Gate, Action, Reason, SecurityGroupId, PolicyId string
	Observed                                                    bool // the machine is only observed: Action is what would have been
	PolicyPosition                                              int
	Revision, StampedRevision                                   lb.Revision
	Protocol, Source, Destination, Direction                    string
	LoadBalancerId, ListenerId, InstanceId                      string
	Text                                                        string
}

// describeVerdicts returns verdicts after a cursor, and waits for one when
// there is none yet.
func describeVerdicts(c *Call, in *describeVerdictsIn) (*describeVerdictsOut, error) {
	limit := int64(defaultVerdicts)
	if in.Limit != nil {
		limit = *in.Limit
	}
	switch {
	case c.Facts == nil:
		return nil, errorf("UnsupportedOperation", "After: this server has no nodes to hear verdicts from; start it with nodes")
	}
	ctx, cancel, err := c.waiting(in.WaitSeconds)
	if err != nil {
		return nil, err
	}
	defer cancel()
	out := &describeVerdictsOut{Next: uint64(in.After)} // -1 is the farthest future
	for {
		events, next, lost := c.Facts.Events(ctx, out.Next, int(limit))
		out.Next, out.Lost = next, out.Lost+lost
		all := make([]verdictOut, len(events))
		st := c.State()
		for i, e := range events {
			all[i] = showVerdict(st, e)
		}
		if out.Verdicts, err = filter(all, in.Filters, verdictFilters(), nil); err != nil {
			return nil, err
		}
		if len(out.Verdicts) > 0 || ctx.Err() != nil {
			return out, nil
		}
	}
}

func verdictFilters() map[string]func(verdictOut) []string {
	one := func(read func(verdictOut) string) func(verdictOut) []string {
		return func(v verdictOut) []string { return []string{read(v)} }
	}
	return map[string]func(verdictOut) []string{
		"node":              one(func(v verdictOut) string { return v.Node }),
		"gate":              one(func(v verdictOut) string { return v.Gate }),
		"action":            one(func(v verdictOut) string { return v.Action }),
		"reason":            one(func(v verdictOut) string { return v.Reason }),
		"security-group-id": one(func(v verdictOut) string { return v.SecurityGroupId }),
		"load-balancer-id":  one(func(v verdictOut) string { return v.LoadBalancerId }),
		"listener-id":       one(func(v verdictOut) string { return v.ListenerId }),
		"instance-id":       one(func(v verdictOut) string { return v.InstanceId }),
		"source-address":    one(func(v verdictOut) string { return addressOf(v.Source) }),
	}
}

func showVerdict(st *lb.State, e flow.Event) verdictOut {
	v := verdictOut{
		Time: e.Time.UTC().Format(time.RFC3339Nano), Node: string(e.Node), Gate: e.Verdict.Gate.String(),
		Observed: e.Observed, Action: e.Verdict.Action.String(), Reason: e.Verdict.Reason.String(),
		SecurityGroupId: string(e.Verdict.Group), PolicyId: string(e.Verdict.Rule), PolicyPosition: e.Verdict.Pos,
		Revision: e.Revision, StampedRevision: e.Stamped, Protocol: e.Proto.String(),
		Source: e.Src.String(), Destination: e.Dst.String(), Direction: directionWord(e.Direction),
		LoadBalancerId: string(e.Balancer), ListenerId: string(e.Listener), InstanceId: string(e.Instance),
	}
	if !e.Proto.HasPorts() {
		v.Source, v.Destination = e.Src.Addr().String(), e.Dst.Addr().String()
	}
	v.Text = verdictLine(v) + through(st, e.Verdict)
	return v
}

// addressOf is an address without the port that may follow it.
func addressOf(text string) string {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a.Addr().String()
	}
	return text
}

func directionWord(d policy.Direction) string {
	switch d {
	case policy.In:
		return "in"
	case policy.Out:
		return "out"
	}
	return ""
}

// verdictLine says a verdict in one line: when, what, which gate of which
// object, which rule, which packet, where and at which revision.
func verdictLine(v verdictOut) string {
	because := v.Reason
	if v.SecurityGroupId != "" {
		because = fmt.Sprintf("%s rule %d %s", v.SecurityGroupId, v.PolicyPosition, v.PolicyId)
	} else if v.PolicyPosition > 0 {
		because = fmt.Sprintf("system rule %d", v.PolicyPosition)
	}
	object := v.InstanceId
	if v.Gate == policy.GateCLB.String() || object == "" {
		object = cmp.Or(v.LoadBalancerId, v.InstanceId, "-")
	}
	action := v.Action
	if v.Observed {
		action = "would " + action
	}
	line := fmt.Sprintf("%s %s gate %s %s %s: %s %s > %s at %s revision %d",
		v.Time, action, v.Gate, object, v.Direction, v.Protocol, v.Source, v.Destination, v.Node, v.Revision)
	if v.StampedRevision != 0 {
		line += fmt.Sprintf(" (the gateway judged at %d)", v.StampedRevision)
	}
	return line + ": " + because
}

type describeRuleCountersIn struct {
	SecurityGroupId string `tc:""`
}

type describeRuleCountersOut struct {
	Counters []counterOut
}

// counterOut is what a rule has done at one gate, over all nodes, since
// Baseline (the earliest of the nodes'). PolicyId "" is the implicit refusal
// of Object. LastHit is "" for never.
type counterOut struct {
	Gate, SecurityGroupId, PolicyId, Object, Direction string
	Packets, Bytes, NewFlows                           uint64
	LastHit, Baseline                                  string
}

func describeRuleCounters(c *Call, in *describeRuleCountersIn) (*describeRuleCountersOut, error) {
	if in.SecurityGroupId != "" && c.State().Groups.Get(lb.GroupID(in.SecurityGroupId)) == nil {
		return nil, refuse(lb.NotFound, "SecurityGroupId", fmt.Sprintf("there is no security group %q", clip(in.SecurityGroupId, 40)), "DescribeSecurityGroups lists them")
	}
	var counters []flow.Counter
	if c.Facts != nil {
		counters = c.Facts.Counters()
	}
	out := &describeRuleCountersOut{}
	for _, n := range sumCounters(counters) {
		if in.SecurityGroupId != "" && string(n.Group) != in.SecurityGroupId {
			continue
		}
		out.Counters = append(out.Counters, counterOut{
			Gate: n.Gate.String(), SecurityGroupId: string(n.Group), PolicyId: string(n.Rule), Object: n.Object, Direction: directionWord(n.Direction),
			Packets: n.Packets, Bytes: n.Bytes, NewFlows: n.NewFlows, LastHit: precise(n.LastHit), Baseline: precise(n.Baseline),
		})
	}
	return out, nil
}

// sumCounters adds up what nodes count of the same rule, in a stable order.
func sumCounters(counters []flow.Counter) []flow.Counter {
	sums := map[flow.Counter]flow.Counter{}
	for _, n := range counters {
		key := flow.Counter{Gate: n.Gate, Group: n.Group, Rule: n.Rule, Object: n.Object, Direction: n.Direction}
		s, ok := sums[key]
		if !ok {
			s = key
			s.Baseline = n.Baseline
		}
		s.Packets, s.Bytes, s.NewFlows = s.Packets+n.Packets, s.Bytes+n.Bytes, s.NewFlows+n.NewFlows
		if n.LastHit.After(s.LastHit) {
			s.LastHit = n.LastHit
		}
		if n.Baseline.Before(s.Baseline) {
			s.Baseline = n.Baseline
		}
		sums[key] = s
	}
	all := make([]flow.Counter, 0, len(sums))
	for _, s := range sums {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b flow.Counter) int {
		return cmp.Or(cmp.Compare(a.Gate, b.Gate), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Rule, b.Rule),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Direction, b.Direction))
	})
	return all
}

// precise is RFC 3339 in UTC, "" for the zero time.
func precise(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

type describeHostsIn struct {
	AfterRevision int64 `tc:"range=0-"`
	WaitSeconds   int64 `tc:"range=0-60"`
}

type describeHostsOut struct {
	Revision  lb.Revision
	Instances []hostOut
}

type hostOut struct {
	InstanceId, InstanceName, PrivateAddress, PublicAddress, State string
	IPv6Address                                                    string // "": it has none
	Joined                                                         bool   // a machine of somebody's own: nobody here makes or powers it
	Gate                                                           string // "enforce" or "observe"
	Host, Device, MacAddress                                       string // a guest's: the node that guards its port, that port, and the guest's MAC address; "": no guest
}

// describeHosts lists the instances that need a host, waiting until the state
// is newer than AfterRevision or the wait is over.
func describeHosts(c *Call, in *describeHostsIn) (*describeHostsOut, error) {
	ctx, cancel, err := c.waiting(in.WaitSeconds)
	if err != nil {
		return nil, err
	}
	defer cancel()
	st := c.State()
	if int64(st.Revision) <= in.AfterRevision && in.WaitSeconds > 0 {
		for next := range c.Store.Watch(ctx) {
			if st = next; int64(st.Revision) > in.AfterRevision {
				break
			}
		}
	}
	out := &describeHostsOut{Revision: st.Revision}
	for _, id := range st.Instances.Sorted() {
		i := st.Instances.Get(id)
		h := hostOut{InstanceId: string(id), InstanceName: i.Name, PrivateAddress: addrText(i.Private),
			PublicAddress: addrText(i.Public), IPv6Address: addrText(i.OwnIPv6()), State: string(i.State), Joined: i.Joined, Gate: gateOf(st, id), Host: string(i.Host), Device: i.Port, MacAddress: i.MAC}
		out.Instances = append(out.Instances, h)
	}
	return out, nil
}
