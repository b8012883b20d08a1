// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/path"
	"github.com/sallyport/sallyport/internal/policy"
)

// maxNearest is how many rules that nearly decided otherwise are told.
const maxNearest = 5

type explainPathIn struct {
	Source         string `tc:"required"`
	LoadBalancerId string `tc:""`
	InstanceId     string `tc:""` // instead of LoadBalancerId: straight to the instance
	Port           int64  `tc:"range=0-65535"`
	Protocol       string `tc:"enum=TCP|UDP|ICMP|ICMPv6|GRE,anycase"` // TCP when it is not given
}

type explainPathOut struct {
	Revision                      lb.Revision
	Protocol, Source, Destination string // Destination is address and port
	LoadBalancerId, ListenerId    string
	Admitted                      bool
	Text                          string // the answer in one sentence
	Gates                         []gateOut
}

// gateOut is one gate's verdict on the packet. Gate 2 has one entry for each
// target. PolicyIndex is 0-based, -1 when no rule decided.
type gateOut struct {
	Gate, LoadBalancerId, InstanceId, LocationId string
	Direction                                    string
	Port, Weight                                 int
	Action, Reason                               string
	SecurityGroupId, PolicyId                    string
	PolicyIndex                                  int
	Text                                         string
	Nearest                                      []nearOut
}

// nearOut is a rule that would have decided otherwise and did not match, or
// stands too low. Mismatch names what did not match: source, destination,
// protocol, port, or order.
type nearOut struct {
	SecurityGroupId, PolicyId string
	PolicyIndex               int
	Rule                      string
	Mismatch                  []string
	Why                       string
}

// explainPath follows a new flow from a client to a load balancer's port, or
// straight to an instance's, and says which rule of which gate decides.
func explainPath(c *Call, in *explainPathIn) (*explainPathOut, error) {
	p, err := explainPacket(in)
	if err != nil {
		return nil, err
	}
	st := c.State()
	out := &explainPathOut{Revision: st.Revision, Protocol: p.Proto.String(), Source: p.Src.String(), LoadBalancerId: in.LoadBalancerId}
	e := explainer{state: st, resolver: policy.NewResolver(st), out: out}
	if in.InstanceId != "" {
		err = e.direct(in.InstanceId, p)
	} else {
		err = e.through(in.LoadBalancerId, p)
	}
	return out, err
}

func explainPacket(in *explainPathIn) (p lb.Packet, err error) {
	if p.Src, err = netip.ParseAddr(strings.TrimSpace(in.Source)); err != nil {
		return p, refuse(lb.Malformed, "Source", fmt.Sprintf("%q is not an address", clip(in.Source, 60)), "give one such as 203.0.113.10")
	}
	p.Src = p.Src.Unmap().WithZone("")
	if p.Proto, err = lb.ParseProtocol("Protocol", cmp.Or(in.Protocol, "TCP")); err != nil {
		return p, err
	}
	switch {
	case p.Proto == lb.AnyProto:
		return p, refuse(lb.Invalid, "Protocol", "a packet has one protocol", "give TCP, UDP, ICMP, ICMPv6 or GRE")
	case (in.LoadBalancerId == "") == (in.InstanceId == ""):
		return p, refuse(lb.Coexist, "LoadBalancerId", "exactly one of LoadBalancerId and InstanceId says where the packet goes", "give one and leave the other out")
	case p.Proto.HasPorts() && (in.Port < 1 || in.Port > 65535):
		return p, refuse(lb.Range, "Port", fmt.Sprintf("%d is outside 1-65535", in.Port), "give the port that the client connects to")
	case !p.Proto.HasPorts() && in.Port != 0:
		return p, refuse(lb.Invalid, "Port", p.Proto.String()+" has no ports", "leave it out")
	}
	p.DstPort = uint16(in.Port)
	return p, nil
}

// An explainer fills the answer for one packet.
type explainer struct {
	state    *lb.State
	resolver *policy.Resolver
	out      *explainPathOut
}

func (e *explainer) direct(id string, p lb.Packet) error {
	i, err := findInstance(e.state, "InstanceId", id)
	if err != nil {
		return err
	}
	switch {
	case p.Src.Is6():
		p.Dst = i.OwnIPv6()
	case i.Public.IsValid():
		p.Dst = i.Public
	default:
		p.Dst = i.OwnIPv4()
	}
	if !p.Dst.IsValid() {
		return refuse(lb.Invalid, "Source", fmt.Sprintf("%s has no address of the family of %v", id, p.Src), "give a source of the other family")
	}
	e.out.Destination = endpoint(p)
	v, err := path.Direct(e.state, p)
	if err != nil {
		return err
	}
	g := e.gate(v, policy.In, i.Groups, p)
	g.InstanceId, g.Port = id, int(p.DstPort)
	e.out.Gates, e.out.Admitted = []gateOut{g}, v.Action == lb.Accept
	e.out.Text = fmt.Sprintf("%s straight to %s: %s", e.client(p), id, g.Text)
	return nil
}

func (e *explainer) through(id string, p lb.Packet) error {
	b, err := findBalancer(e.state, id)
	if err != nil {
		return err
	}
	if p.Dst = dialled(e.state, b, p.Src); !p.Dst.IsValid() {
		return refuse(lb.Invalid, "Source", fmt.Sprintf("%s has no VIP of the family of %v", id, p.Src), "give a source of the VIP's family")
	}
	e.out.Destination = endpoint(p)
	way, err := path.Trace(e.state, p)
	if err != nil {
		return err
	}
	e.out.ListenerId, e.out.Admitted = string(way.Listener), way.Admitted()
	if way.Outbound.Gate != 0 {
		g := e.gate(way.Outbound, policy.Out, e.state.Instances.Get(way.Sender).Groups, p)
		g.InstanceId, g.Port = string(way.Sender), int(p.DstPort)
		e.out.Gates = append(e.out.Gates, g)
		if way.Outbound.Action != lb.Accept {
			e.out.Text = fmt.Sprintf("%s does not leave its own instance: %s", e.client(p), g.Text)
			return nil
		}
	}
	g := e.gate(way.Gate1, policy.In, b.Groups, p)
	g.LoadBalancerId, g.Port = id, int(p.DstPort)
	e.out.Gates = append(e.out.Gates, g)
	for _, h := range way.Hops {
		g := e.gate(h.Gate2, policy.In, e.state.Instances.Get(h.Instance).Groups, h.Packet)
		g.LoadBalancerId, g.InstanceId, g.LocationId, g.Port, g.Weight = id, string(h.Instance), string(h.Location), int(h.Packet.DstPort), h.Weight
		e.out.Gates = append(e.out.Gates, g)
	}
	e.out.Text = e.sentence(way)
	return nil
}

// dialled is the address that a client would use: of its own family, and the
// EIP of a private load balancer whose network it is not in.
func dialled(st *lb.State, b *lb.LoadBalancer, src netip.Addr) netip.Addr {
	if b.EIP.IsValid() && b.EIP.Is4() == src.Is4() && !slices.ContainsFunc(st.Networks(b), func(n netip.Prefix) bool { return n.Contains(src) }) {
		return b.EIP
	}
	for _, vip := range b.VIPs {
		if vip.Is4() == src.Is4() {
			return vip
		}
	}
	return netip.Addr{}
}

func endpoint(p lb.Packet) string {
	if !p.Proto.HasPorts() {
		return p.Dst.String()
	}
	return netip.AddrPortFrom(p.Dst, p.DstPort).String()
}

func (e *explainer) client(p lb.Packet) string {
	return fmt.Sprintf("%v from %v to %s", p.Proto, p.Src, endpoint(p))
}

func (e *explainer) sentence(w path.Way) string {
	what := e.client(w.Packet)
	served := slices.IndexFunc(w.Hops, func(h path.Hop) bool { return h.Weight > 0 && h.Gate2.Action == lb.Accept })
	stopped, redirects := e.special(w)
	switch {
	case stopped != "":
		return fmt.Sprintf("%s is refused at gate 1: listener %s is stopped, and SetLoadBalancerStartStatus starts it", what, stopped)
	case w.Gate1.Action != lb.Accept:
		return what + " is refused at gate 1: " + gateText(e.state, w.Gate1)
	case len(w.Hops) == 0 && redirects != "":
		return fmt.Sprintf("%s passes gate 1, and rule %s redirects it", what, redirects)
	case len(w.Hops) == 0:
		return what + " passes gate 1, and nothing is registered behind the listener"
	case served >= 0:
		n := 0
		for _, h := range w.Hops {
			if h.Weight > 0 && h.Gate2.Action == lb.Accept {
				n++
			}
		}
		return fmt.Sprintf("%s is allowed at both gates; %d of %s may serve it", what, n, count(len(w.Hops), "target"))
	}
	return what + " passes gate 1 and is refused at gate 2: " + gateText(e.state, w.Hops[0].Gate2)
}

// special finds what decides beside the gates: the stopped listener on the
// packet's port, and a rule of its listener that redirects.
func (e *explainer) special(w path.Way) (stopped lb.ListenerID, redirects lb.LocationID) {
	if l := e.state.Listeners.Get(w.Listener); l != nil {
		for _, r := range l.Rules {
			if r.Rewrite != nil {
				return "", r.ID
			}
		}
		return "", ""
	}
	for _, l := range listenersOf(e.state, w.Balancer) {
		if l.Stopped && l.On(w.Packet) {
			return l.ID, ""
		}
	}
	return "", ""
}

// gate shows one verdict with the rules that nearly decided otherwise.
func (e *explainer) gate(v policy.Verdict, dir policy.Direction, groups []lb.GroupID, p lb.Packet) gateOut {
	out := gateOut{
		Gate: v.Gate.String(), Direction: directionWord(dir), Action: v.Action.String(), Reason: v.Reason.String(),
		SecurityGroupId: string(v.Group), PolicyId: string(v.Rule), PolicyIndex: v.Pos - 1, Text: gateText(e.state, v),
	}
	if v.Reason == policy.RuleMatched || v.Reason == policy.NoMatch {
		out.Nearest = e.nearest(v, dir, groups, p)
	}
	return out
}

func gateText(st *lb.State, v policy.Verdict) string {
	did := "allows it"
	if v.Action != lb.Accept {
		did = "refuses it"
	}
	switch v.Reason {
	case policy.RuleMatched:
		return fmt.Sprintf("rule %d of %s%s %s", v.Pos, v.Group, through(st, v), did)
	case policy.NoMatch:
		return "no rule of the bound groups matches, and the implicit last rule refuses it"
	case policy.NoGroups:
		return "no security group is bound here, so everything is allowed"
	case policy.PassToTarget:
		return "the load balancer passes to target, so this gate is not asked"
	case policy.NoListener:
		return "no listener is on that port"
	case policy.SystemRule:
		return fmt.Sprintf("system rule %d %s: %s", v.Pos, did, policy.SystemRules()[v.Pos-1].Text)
	case policy.Hairpin:
		return "the client would be its own target"
	case policy.Observed:
		if v.Group == "" {
			return "no rule accepts it, and the machine is only observed until a group is bound to it, so it passes"
		}
		return fmt.Sprintf("rule %d of %s%s would refuse it, and the machine is only observed until a group is bound to it, so it passes", v.Pos, v.Group, through(st, v))
	}
	return v.Reason.String()
}

// nearest lists rules of the other action, those first that miss by least.
func (e *explainer) nearest(v policy.Verdict, dir policy.Direction, groups []lb.GroupID, p lb.Packet) []nearOut {
	var all []nearOut
	for _, g := range e.resolver.Resolve(groups, dir) {
		for _, r := range g.Rules {
			if r.Action == v.Action || v.Reason == policy.RuleMatched && r.ID == v.Rule && g.ID == v.Group {
				continue
			}
			miss, why := misses(r, dir, p)
			if len(miss) == 0 {
				miss = []string{"order"}
				why = []string{fmt.Sprintf("it matches, but rule %d of %s stands above it", v.Pos, v.Group)}
			}
			all = append(all, nearOut{
				SecurityGroupId: string(g.ID), PolicyId: string(r.ID), PolicyIndex: r.Pos - 1,
				Rule: e.ruleText(g.ID, dir, r), Mismatch: miss, Why: strings.Join(why, "; "),
			})
		}
	}
	weigh := func(n nearOut) int {
		if n.Mismatch[0] == "order" {
			return 0
		}
		return len(n.Mismatch)
	}
	slices.SortStableFunc(all, func(a, b nearOut) int { return cmp.Compare(weigh(a), weigh(b)) })
	return all[:min(len(all), maxNearest)]
}

func (e *explainer) ruleText(id lb.GroupID, dir policy.Direction, r policy.Rule) string {
	g := e.state.Groups.Get(id)
	rules := g.Ingress
	if dir == policy.Out {
		rules = g.Egress
	}
	return ruleLine(rules[r.Pos-1])
}

// misses names the parts of a rule that do not match a packet, and says why;
// none when the rule matches.
func misses(r policy.Rule, dir policy.Direction, p lb.Packet) (parts, why []string) {
	peer, part := policy.Peer(dir, p), "source"
	if dir == policy.Out {
		part = "destination"
	}
	if !slices.ContainsFunc(r.Peers, func(n netip.Prefix) bool { return n.Contains(peer) }) {
		parts = append(parts, part)
		if len(r.Peers) == 0 {
			why = append(why, fmt.Sprintf("its %s is a group without members, or a template of it names nothing", part))
		} else {
			why = append(why, fmt.Sprintf("%v is outside its %s", peer, part))
		}
	}
	if len(r.Services) > 0 {
		if !slices.ContainsFunc(r.Services, func(s lb.Service) bool { return serves(s, p) }) {
			parts = append(parts, map[bool]string{true: "port", false: "protocol"}[slices.ContainsFunc(r.Services, func(s lb.Service) bool { return s.Proto == p.Proto })])
			why = append(why, "its service template has nothing for "+serviceOf(p))
		}
	} else if r.Proto != lb.AnyProto && r.Proto != p.Proto {
		parts = append(parts, "protocol")
		why = append(why, fmt.Sprintf("it is for %v, the packet is %v", r.Proto, p.Proto))
	} else if p.Proto.HasPorts() && len(r.Ports) > 0 && !slices.ContainsFunc(r.Ports, func(n lb.PortRange) bool { return n.First <= p.DstPort && p.DstPort <= n.Last }) {
		parts = append(parts, "port")
		why = append(why, fmt.Sprintf("it is for port %s, the packet goes to %d", lb.FormatPorts(r.Ports), p.DstPort))
	}
	return parts, why
}
