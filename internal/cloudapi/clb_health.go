// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/path"
	"github.com/sallyport/sallyport/internal/policy"
)

type describeTargetHealthIn struct {
	LoadBalancerIds []string `tc:"required,count=1-30"`
	ListenerIds     []string `tc:""`
	LocationIds     []string `tc:""`
}

type describeTargetHealthOut struct {
	LoadBalancers []balancerHealth
}

type balancerHealth struct {
	LoadBalancerId, LoadBalancerName string
	Listeners                        []listenerHealth
}

type listenerHealth struct {
	ListenerId, ListenerName, Protocol string
	Port                               int
	Rules                              []ruleHealth
}

// ruleHealth of a layer-4 listener has no Domain and Url: they are null.
type ruleHealth struct {
	LocationId  string
	Domain, Url *string
	Targets     []targetHealth
}

type targetHealth struct {
	IP                 string
	Port               int
	HealthStatus       bool
	TargetId           string
	HealthStatusDetail string
	HealthStatusDetial string // the published misspelling, filled too
	HealthReason       *healthReason
}

// healthReason is ours: why a target is Dead. PolicyIndex is 0-based, -1 for
// the implicit refusal and for other kinds than gate.
type healthReason struct {
	Kind            string // gate, refused, timeout or answer
	SecurityGroupId string
	PolicyIndex     int
	Text            string
}

func describeTargetHealth(c *Call, in *describeTargetHealthIn) (*describeTargetHealthOut, error) {
	h := c.newHealth()
	out := &describeTargetHealthOut{}
	for i, id := range in.LoadBalancerIds {
		b, err := findBalancer(h.state, id)
		if err != nil {
			return nil, inList(err, "LoadBalancerIds", i)
		}
		entry := balancerHealth{LoadBalancerId: id, LoadBalancerName: b.Name}
		for _, l := range listenersOf(h.state, b.ID) {
			if len(in.ListenerIds) > 0 && !slices.Contains(in.ListenerIds, string(l.ID)) {
				continue
			}
			entry.Listeners = append(entry.Listeners, listenerHealth{
				ListenerId: string(l.ID), ListenerName: l.Name, Protocol: string(l.Protocol), Port: int(l.Port),
				Rules: h.rules(b, l, in.LocationIds),
			})
		}
		out.LoadBalancers = append(out.LoadBalancers, entry)
	}
	return out, nil
}

// A healthView joins what gateways report with the current state.
type healthView struct {
	state  *lb.State
	tracer *path.Tracer
	facts  map[uint32][]flow.Health
}

func (c *Call) newHealth() healthView {
	st := c.State()
	v := healthView{state: st, tracer: path.New(c.Whole())}
	if c.Facts != nil {
		v.facts = c.Facts.Health()
	}
	return v
}

func (v healthView) rules(b *lb.LoadBalancer, l *lb.Listener, only []string) []ruleHealth {
	if !l.Protocol.Layer7() {
		return []ruleHealth{{Targets: v.targets(b, l.Check, l.Targets)}}
	}
	var all []ruleHealth
	for _, r := range l.Rules {
		if len(only) == 0 || slices.Contains(only, string(r.ID)) {
			all = append(all, ruleHealth{string(r.ID), &r.Domain, &r.URL, v.targets(b, r.Check, r.Targets)})
		}
	}
	return all
}

func (v healthView) targets(b *lb.LoadBalancer, check lb.HealthCheck, targets []lb.Target) []targetHealth {
	var all []targetHealth
	for _, t := range targets {
		word, reason := v.judge(b, check, t)
		out := targetHealth{Port: int(t.Port), TargetId: string(t.Instance), HealthStatus: word == wordAlive || word == wordClose,
			HealthStatusDetail: word, HealthStatusDetial: word, HealthReason: reason}
		if i := v.state.Instances.Get(t.Instance); i != nil {
			out.IP = i.ServiceFor(b).String()
		}
		all = append(all, out)
	}
	return all
}

// The published words of health.
const (
	wordUnknown = "Unknown"
	wordAlive   = "Alive"
	wordDead    = "Dead"
	wordClose   = "Close"
)

// judge says how a target is and why.
func (v healthView) judge(b *lb.LoadBalancer, check lb.HealthCheck, t lb.Target) (string, *healthReason) {
	word, dead := v.word(check, t)
	if dead == nil {
		return word, nil
	}
	return word, v.why(b, check, t, *dead)
}

// word says how a target is, and who found it dead. With several gateways the
// worst word counts: Dead at one is Dead, and Alive needs all that have
// reported.
func (v healthView) word(check lb.HealthCheck, t lb.Target) (string, *flow.Health) {
	if !check.On {
		return wordClose, nil
	}
	word, told := wordUnknown, v.facts[t.Num]
	for i, h := range told {
		switch h.State {
		case flow.HealthDead:
			return wordDead, &told[i]
		case flow.HealthAlive:
			word = wordAlive
		}
	}
	if slices.ContainsFunc(told, func(h flow.Health) bool { return h.State == flow.HealthUnknown }) {
		word = wordUnknown
	}
	return word, nil
}

// why turns a prober's finding into a reason. Silence is looked into: when
// gate 2 of the current state refuses the probe, that is the reason.
func (v healthView) why(b *lb.LoadBalancer, check lb.HealthCheck, t lb.Target, h flow.Health) *healthReason {
	if h.Kind == "timeout" {
		if r := v.gate(b, check, t); r != nil {
			return r
		}
	}
	if h.Kind == "gate" {
		return &healthReason{h.Kind, string(h.Group), h.Index, h.Text}
	}
	return &healthReason{h.Kind, "", -1, h.Text}
}

// gate is nil when gate 2 admits the probe, or does not judge it.
func (v healthView) gate(b *lb.LoadBalancer, check lb.HealthCheck, t lb.Target) *healthReason {
	verdict, packet, err := v.tracer.Probe(t.Num)
	if err != nil || verdict.Action != lb.Drop {
		return nil
	}
	port := t.Port
	if check.Port != 0 {
		port = uint16(check.Port)
	}
	what, allow := fmt.Sprintf("to port %d", port), fmt.Sprintf("%v:%d", packet.Proto, port)
	if !packet.Proto.HasPorts() {
		what, allow = "by ping", packet.Proto.String()
	}
	text := fmt.Sprintf("gate %v drops the probe from %s %s: no rule accepts it; allow %s from there in a security group of %s",
		verdict.Gate, strings.Join(texts(b.VIPs), ", "), what, allow, t.Instance)
	if verdict.Reason != policy.RuleMatched {
		return &healthReason{"gate", "", -1, text}
	}
	text = fmt.Sprintf("gate %v drops the probe from %s %s: rule %d of %s; allow %s from there above it",
		verdict.Gate, strings.Join(texts(b.VIPs), ", "), what, verdict.Pos, verdict.Group, allow)
	return &healthReason{"gate", string(verdict.Group), verdict.Pos - 1, text}
}
