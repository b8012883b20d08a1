// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/path"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// Admit makes the instance of a machine of somebody's own that joins, or
// follows its addresses. It is in the default VPC and the default group, which
// nobody has bound: until somebody binds one, its gate only observes. A gateway
// becomes nothing; its addresses are to be its own. Errors are for the person
// who joins it.
func (s *Server) Admit(tx *store.Tx, m control.Machine) error {
	c := &Call{Server: s, Action: &Action{Service: serviceCVM}, ctx: context.Background()}
	before := *tx.State()
	if err := freeFor(&before, m); err != nil {
		return err
	}
	if m.Instance == "" {
		return nil
	}
	if n := 1 + len(m.Others); n > lb.MaxInstanceRows-1 { // and a public one
		return fmt.Errorf("the machine has %d addresses; its programs have room for %d: take some off it", n, lb.MaxInstanceRows-1)
	}
	if old := tx.State().Instances.Get(m.Instance); old != nil {
		i := *old
		i.Private, i.Others = m.Address, m.Others
		tx.PutInstance(&i) // writes nothing when nothing differs
		return nil
	}
	g, err := defaultGroup(c, tx, "0")
	if err != nil {
		return err
	}
	tx.PutInstance(&lb.Instance{
		ID: m.Instance, Name: cmp.Or(m.Name, "Unnamed"), VPC: c.defaultVPC(tx).ID, Private: m.Address, Others: m.Others,
		Groups: []lb.GroupID{g.ID}, State: lb.Pending, Created: c.Now().UTC(), Joined: true, Observe: true,
	})
	if err := c.checkMembers(tx, []lb.GroupID{g.ID}); err != nil {
		return err
	}
	return c.checkRoom(tx, &before)
}

// freeFor refuses addresses that something else in the region has.
func freeFor(st *lb.State, m control.Machine) error {
	claimed := append([]netip.Addr{m.Address}, m.Others...)
	for id, i := range st.Instances.All() {
		for _, a := range i.Addresses() {
			if id != m.Instance && slices.Contains(claimed, a) {
				return fmt.Errorf("address %v belongs to %s (%s) already; addresses are unique in a region: terminate that instance, or join with another --address", a, id, i.Name)
			}
		}
	}
	for id, b := range st.Balancers.All() {
		for _, a := range b.Addresses() {
			if slices.Contains(claimed, a) {
				return fmt.Errorf("address %v is the VIP of %s; VIPs are no machine's addresses: take it off the machine, or choose another VIP", a, id)
			}
		}
	}
	for id, e := range st.Addresses.All() {
		if slices.Contains(claimed, e.IP) {
			return fmt.Errorf("address %v is the EIP %s; EIPs are no machine's addresses: release it, or join with another --address", e.IP, id)
		}
	}
	return nil
}

// nodeName is what names of gateways look like; they stand in certificates,
// paths and metrics.
var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

type createNodeTokenIn struct {
	Role         string `tc:"required,enum=gateway|host"`
	Name         string `tc:""`              // a gateway's; the next free gateway-N without one
	InstanceId   string `tc:""`              // a host's, when the instance exists already; without one the machine becomes an instance by joining
	InstanceName string `tc:""`              // of the instance that it becomes
	LifeSeconds  int64  `tc:"range=0-86400"` // 0: ten minutes
}

type createNodeTokenOut struct {
	Token   string
	Node    string // its name to be
	Server  string // the address that the token carries; "": whoever joins has to say it
	Expires string
}

// createNodeToken makes the token that one node enrols with, once.
func createNodeToken(c *Call, in *createNodeTokenIn) (*createNodeTokenOut, error) {
	if err := in.check(c); err != nil {
		return nil, err
	}
	if c.Tokens == nil {
		return nil, errorf("UnsupportedOperation", "Role: this server takes in no nodes; ask the one that holds the region")
	}
	token, err := c.Tokens.CreateToken(c.ctx, control.TokenRequest{
		Role: lb.NodeRole(in.Role), Name: lb.NodeID(in.Name), Instance: lb.InstanceID(in.InstanceId), Title: in.InstanceName,
		Life: time.Duration(in.LifeSeconds) * time.Second,
	})
	if err != nil {
		return nil, err
	}
	c.effect = fmt.Sprintf("made a token for %s %s, good until %s", in.Role, token.Node, precise(token.Expires))
	return &createNodeTokenOut{Token: token.Text, Node: string(token.Node), Server: token.Server, Expires: precise(token.Expires)}, nil
}

func (in *createNodeTokenIn) check(c *Call) error {
	if lb.NodeRole(in.Role) == lb.RoleGateway {
		return in.checkGateway(c)
	}
	switch {
	case in.InstanceId == "" && in.Name != "":
		return refuse(lb.Invalid, "Name", "a host has its instance's id as its name", "give InstanceName to name the instance that it becomes")
	case in.InstanceId == "":
		return instanceName("InstanceName", in.InstanceName)
	case in.InstanceName != "":
		return refuse(lb.Coexist, "InstanceName", "the instance of InstanceId has a name", "leave it out")
	case in.Name != "" && in.Name != in.InstanceId:
		return refuse(lb.Invalid, "Name", "a host has its instance's id as its name", "leave it out")
	case c.State().Instances.Get(lb.InstanceID(in.InstanceId)) == nil:
		return refuse(lb.NotFound, "InstanceId", fmt.Sprintf("there is no instance %q", clip(in.InstanceId, 40)), "leave it out: a machine becomes an instance by joining")
	}
	return nil
}

func (in *createNodeTokenIn) checkGateway(c *Call) error {
	switch {
	case in.InstanceId != "" || in.InstanceName != "":
		return refuse(lb.Coexist, "InstanceId", "a gateway runs no instance", "leave InstanceId and InstanceName out")
	case in.Name != "" && (!nodeName.MatchString(in.Name) || hasShape("ins-", in.Name)):
		return refuse(lb.Invalid, "Name", fmt.Sprintf("%q is not a name for a gateway", clip(in.Name, 70)), "use 1 to 63 of a-z, 0-9 and -, not in the form of an instance's id")
	case gateways(c.Whole()) >= lb.MaxPeerRows:
		return refuse(lb.LimitExceeded, "Role", fmt.Sprintf("the region has its %d gateways", lb.MaxPeerRows), "let ForgetNode remove one that is gone")
	case c.attached(lb.NodeID(in.Name)):
		return refuse(lb.InUse, "Name", in.Name+" is a gateway that is connected; joining under its name would shut it out", "choose another name, stop it, or let ForgetNode remove it")
	}
	return nil
}

func gateways(st *lb.State) (n int) {
	for node := range st.Nodes.Values() {
		if node.Role == lb.RoleGateway {
			n++
		}
	}
	return n
}

// attached reports whether a node is connected.
func (c *Call) attached(id lb.NodeID) bool {
	return c.Facts != nil && slices.ContainsFunc(c.Facts.Nodes(), func(n control.NodeStatus) bool { return n.ID == id && n.Connected })
}

type forgetNodeIn struct {
	Name string `tc:"required"`
}

// forgetNode shuts a node out for good: its certificate is refused from now
// on. With a host goes its instance, also from behind listeners. What a machine
// has in force stays in force there, until its owner detaches it.
func forgetNode(c *Call, in *forgetNodeIn) (*done, error) {
	n := c.State().Nodes.Get(lb.NodeID(in.Name))
	switch {
	case n == nil:
		return nil, refuse(lb.NotFound, "Name", fmt.Sprintf("there is no node %q", clip(in.Name, 70)), "DescribeStatus lists them")
	case c.Tokens == nil:
		return nil, errorf("UnsupportedOperation", "Name: this server takes in no nodes; ask the one that holds the region")
	case n.Certificate != "":
		// First the list that survives everything, then the record: whatever comes
		// between, nobody comes back in.
		if err := c.Tokens.Revoke(c.ctx, n.Certificate); err != nil {
			return nil, err
		}
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		if i := tx.State().Instances.Get(n.Instance); n.Role == lb.RoleHost && i != nil {
			removeInstance(tx, i)
		}
		tx.DeleteNode(n.ID)
		return nil
	})
}

// removeInstance removes an instance, also from behind its listeners. With a
// machine of somebody's own goes its node in the same step: it is to keep what
// it has in force, not to be told of a region without it. With a host go its
// guests.
func removeInstance(tx *store.Tx, i *lb.Instance) {
	for _, id := range tx.State().Listeners.Sorted() {
		if l, changed := withoutTargets(tx.State().Listeners.Get(id), i.ID); changed {
			tx.PutListener(l)
		}
	}
	leaveTargetGroups(tx, i.ID)
	if i.Joined && i.Host == "" {
		tx.DeleteNode(lb.NodeID(i.ID))
	}
	tx.DeleteInstance(i.ID)
	for _, id := range tx.State().Instances.Sorted() {
		if guest := tx.State().Instances.Get(id); guest != nil && guest.Host == lb.NodeID(i.ID) {
			removeInstance(tx, guest)
		}
	}
}

type describeEffectiveRulesIn struct {
	InstanceId     string `tc:""`
	LoadBalancerId string `tc:""`
}

type describeEffectiveRulesOut struct {
	Revision lb.Revision
	Gate     string // "enforce" or "observe"
	System   []systemRuleOut
	Ingress  []effectiveRuleOut
	Egress   []effectiveRuleOut
}

// systemRuleOut is a rule that nobody wrote and nobody can remove. All are
// judged before the groups' rules.
type systemRuleOut struct {
	Number       int
	PolicyId     string
	Direction    string // in, out or both
	Action, Text string
}

// effectiveRuleOut is a rule of a bound group at its place among all of them.
type effectiveRuleOut struct {
	Position, PolicyIndex                  int // counted from 1 over all groups; from 0 in its own
	SecurityGroupId, SecurityGroupName     string
	PolicyId, Action, Protocol, Port, Peer string
	Description                            string
}

// describeEffectiveRules lists what judges packets at an object's gate, in the
// order in which it does: first the numbered system rules, then the rules of
// all groups bound. What none of them matches is refused.
func describeEffectiveRules(c *Call, in *describeEffectiveRulesIn) (*describeEffectiveRulesOut, error) {
	st := c.State()
	out := &describeEffectiveRulesOut{Revision: st.Revision, Gate: "enforce"}
	var groups []lb.GroupID
	switch {
	case (in.InstanceId == "") == (in.LoadBalancerId == ""):
		return nil, refuse(lb.Coexist, "InstanceId", "one of InstanceId and LoadBalancerId is needed", "give one of the two")
	case in.InstanceId != "":
		i := st.Instances.Get(lb.InstanceID(in.InstanceId))
		if i == nil {
			return nil, errorf("InvalidInstanceId.NotFound", "InstanceId: there is no instance %s; DescribeInstances lists them", clip(in.InstanceId, 40))
		}
		groups, out.Gate = i.Groups, gateOf(st, i.ID)
		out.System = systemRules(path.StandingOfInstance(st, i))
	default:
		b := st.Balancers.Get(lb.BalancerID(in.LoadBalancerId))
		if b == nil {
			return nil, errorf("InvalidParameter.LBIdNotFound", "LoadBalancerId: there is no load balancer %s; DescribeLoadBalancers lists them", clip(in.LoadBalancerId, 40))
		}
		groups = b.Groups
		out.System = systemRules(path.StandingOfBalancer(st, b))
	}
	out.Ingress = effectiveRules(st, groups, func(g *lb.SecurityGroup) []lb.PolicyRule { return g.Ingress })
	if in.InstanceId != "" {
		out.Egress = effectiveRules(st, groups, func(g *lb.SecurityGroup) []lb.PolicyRule { return g.Egress })
	}
	return out, nil
}

func systemRules(standing []policy.Standing) []systemRuleOut {
	var all []systemRuleOut
	for _, r := range standing {
		all = append(all, systemRuleOut{Number: r.Number, PolicyId: string(policy.SystemRuleID(r.Number)),
			Direction: cmp.Or(directionWord(r.Direction), "both"), Action: r.Action.String(), Text: r.Text})
	}
	return all
}

func effectiveRules(st *lb.State, groups []lb.GroupID, of func(*lb.SecurityGroup) []lb.PolicyRule) []effectiveRuleOut {
	var all []effectiveRuleOut
	for _, id := range groups {
		g := st.Groups.Get(id)
		if g == nil {
			continue
		}
		for n, r := range of(g) {
			peer := r.Peer.String()
			if r.PeerGroup != "" {
				peer = string(r.PeerGroup)
			}
			all = append(all, effectiveRuleOut{Position: len(all) + 1, PolicyIndex: n, SecurityGroupId: string(id), SecurityGroupName: g.Name,
				PolicyId: string(r.ID), Action: r.Action.String(), Protocol: r.Text.Protocol, Port: r.Text.Port, Peer: peer, Description: r.Description})
		}
	}
	return all
}
