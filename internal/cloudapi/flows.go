// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// A FlowSource asks nodes which flows they track.
type FlowSource interface {
	// Flows gives what nodes answered within a few seconds, or until ctx ends.
	Flows(ctx context.Context, q flow.Query) control.FlowAnswer
}

type describeFlowsIn struct {
	Gate           string `tc:"enum=clb|cvm"`
	Node           string `tc:""`
	Protocol       string `tc:""`
	Client         string `tc:""` // an address or CIDR block: where the peer is
	Vip            string `tc:""` // the address that was dialled: a VIP, or an instance's own
	Port           *int64 `tc:"range=1-65535"`
	LoadBalancerId string `tc:""`
	ListenerId     string `tc:""`
	InstanceId     string `tc:""`
	State          string `tc:"enum=half-open|open|closing|refused"`
	Limit          *int64 `tc:"range=1-1000"` // 100 unless given
}

type describeFlowsOut struct {
	Flows      []flowOut
	TotalCount int          // how many match at the nodes that answered
	Silent     []silenceOut // nodes that did not answer
}

type silenceOut struct{ Node, Why string }

// flowOut is one entry of a node's flow table. Text says it in one line.
type flowOut struct {
	Node, Gate, Protocol, Direction, State string
	Peer, Dialled, Service                 string // Service: the instance's own address and port; "" at a gateway
	IdleSeconds                            int64
	Revision                               lb.Revision // at which it was judged last
	LoadBalancerId, ListenerId, InstanceId string
	SecurityGroupId, PolicyId              string // of the rule that let it in; "" when no rule had to
	Text                                   string
}

// defaultFlows is how many flows are told unless Limit says otherwise.
const defaultFlows = 100

// describeFlows tells which flows gateways and hosts track, of those that match
// every parameter given, sorted by peer: the two entries of one flow stand
// together.
func describeFlows(c *Call, in *describeFlowsIn) (*describeFlowsOut, error) {
	q, err := in.query()
	switch {
	case err != nil:
		return nil, err
	case c.FlowSource == nil:
		return nil, errorf("UnsupportedOperation", "Node: this server has no nodes to ask for flows; start it with nodes")
	case q.Node != "" && c.State().Nodes.Get(q.Node) == nil:
		return nil, refuse(lb.NotFound, "Node", fmt.Sprintf("there is no node %q", clip(in.Node, 70)), "DescribeStatus lists them")
	}
	ctx, cancel := c.untilEnding(maxWait * time.Second)
	defer cancel()
	answer := c.FlowSource.Flows(ctx, q)
	out := &describeFlowsOut{TotalCount: answer.Total}
	for _, s := range answer.Silent {
		out.Silent = append(out.Silent, silenceOut{string(s.Node), s.Why})
	}
	for _, f := range answer.Flows {
		out.Flows = append(out.Flows, showFlow(f))
	}
	return out, nil
}

// query checks the parameters.
func (in *describeFlowsIn) query() (flow.Query, error) {
	q := flow.Query{Node: lb.NodeID(in.Node), Balancer: lb.BalancerID(in.LoadBalancerId),
		Listener: lb.ListenerID(in.ListenerId), Instance: lb.InstanceID(in.InstanceId), State: flow.State(in.State), Limit: defaultFlows}
	for _, gate := range []policy.Gate{policy.GateCLB, policy.GateCVM} {
		if in.Gate == gate.String() {
			q.Gate = gate
		}
	}
	if in.Port != nil {
		q.Port = uint16(*in.Port)
	}
	if in.Limit != nil {
		q.Limit = int(*in.Limit)
	}
	var err error
	if in.Protocol != "" {
		if q.Proto, err = lb.ParseProtocol("Protocol", in.Protocol); err != nil {
			return q, err
		}
	}
	if in.Client != "" {
		if q.Client, err = prefixOf(in.Client); err != nil {
			return q, refuse(lb.Invalid, "Client", fmt.Sprintf("%q is neither an address nor a CIDR block", clip(in.Client, 50)), "write it as 203.0.113.10 or 203.0.113.0/24")
		}
	}
	if in.Vip != "" {
		if q.Dialled, err = netip.ParseAddr(in.Vip); err != nil {
			return q, refuse(lb.Invalid, "Vip", fmt.Sprintf("%q is not an address", clip(in.Vip, 50)), "write it as 192.0.2.1")
		}
	}
	return q, nil
}

// prefixOf reads an address or a CIDR block.
func prefixOf(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	return p.Masked(), err
}

func showFlow(f flow.Flow) flowOut {
	end := func(a netip.AddrPort) string {
		switch {
		case !a.Addr().IsValid():
			return ""
		case !f.Proto.HasPorts():
			return a.Addr().String()
		}
		return a.String()
	}
	out := flowOut{Node: string(f.Node), Gate: f.Gate.String(), Protocol: f.Proto.String(), Direction: directionWord(f.Opener), State: string(f.State),
		Peer: end(f.Peer), Dialled: end(f.Dialled), Service: end(f.Service), IdleSeconds: int64(f.Idle / time.Second), Revision: f.Revision,
		LoadBalancerId: string(f.Balancer), ListenerId: string(f.Listener), InstanceId: string(f.Instance),
		SecurityGroupId: string(f.Group), PolicyId: string(f.Rule)}
	out.Text = flowLine(out)
	return out
}

// flowLine says a flow in one line: who with whom, which state, by what, where.
func flowLine(f flowOut) string {
	way := fmt.Sprintf("%s > %s", f.Peer, f.Dialled)
	if f.Direction == directionWord(policy.Out) {
		way = fmt.Sprintf("%s > %s", f.Dialled, f.Peer)
	}
	if f.Service != "" && f.Service != f.Dialled {
		way += " = " + f.Service
	}
	by := cmp.Or(f.PolicyId, "no rule")
	if f.SecurityGroupId != "" {
		by = f.SecurityGroupId + " " + by
	}
	return fmt.Sprintf("%s %s %s idle %d s at %s gate %s, %s %s, revision %d: %s",
		f.Protocol, way, f.State, f.IdleSeconds, f.Node, f.Gate, cmp.Or(f.LoadBalancerId, "direct"), cmp.Or(f.InstanceId, "layer 7"), f.Revision, by)
}

// flowTableOut is how full a flow table of a node is.
type flowTableOut struct {
	Name                         string
	Slots, Flows, HalfOpen       uint64
	Bytes                        uint64 // of kernel memory
	LargestLoadBalancerId        string // that holds most of it; "": what comes by none
	LargestFlows, LargestAllowed uint64 // LargestAllowed 0: as much as there is
}

func showTables(t flow.Tables) []flowTableOut {
	var all []flowTableOut
	for _, one := range t.Tables {
		out := flowTableOut{Name: one.Name, Slots: one.Slots, Flows: one.Live, HalfOpen: one.Half, Bytes: one.Bytes}
		if len(one.Shares) > 0 {
			out.LargestLoadBalancerId, out.LargestFlows, out.LargestAllowed = string(one.Shares[0].Balancer), one.Shares[0].Flows, one.Shares[0].Limit
		}
		all = append(all, out)
	}
	return all
}

type nameNodeIn struct {
	Name string `tc:"required"`
}

// drainNode lets a gateway serve what it has and sends new flows to the others:
// it answers for VIPs no longer, its /healthz says so to whoever routes to it,
// and those that stand by for it take the VIPs over.
func drainNode(c *Call, in *nameNodeIn) (*done, error) { return c.setDrained(in.Name, true) }

// undrainNode takes a gateway back in.
func undrainNode(c *Call, in *nameNodeIn) (*done, error) { return c.setDrained(in.Name, false) }

func (c *Call) setDrained(name string, drained bool) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		n := st.Nodes.Get(lb.NodeID(name))
		switch {
		case n == nil:
			return refuse(lb.NotFound, "Name", fmt.Sprintf("there is no node %q", clip(name, 70)), "DescribeStatus lists them")
		case n.Role != lb.RoleGateway:
			return refuse(lb.Invalid, "Name", name+" is a host, and only gateways are drained", "set the weights of its targets to 0 instead")
		case drained && !n.Drained && !c.anotherServes(st, n.ID):
			return errorf("UnsupportedOperation", "Name: %s is the last gateway that serves, and no other is connected; add or undrain one first", name)
		}
		changed := *n
		changed.Drained = drained
		tx.PutNode(&changed)
		return nil
	})
}

// anotherServes reports whether a gateway besides id is connected and not drained.
func (c *Call) anotherServes(st *lb.State, id lb.NodeID) bool {
	for other, n := range st.Nodes.All() {
		if other != id && n.Role == lb.RoleGateway && !n.Drained && c.attached(other) {
			return true
		}
	}
	return false
}
