// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// Ref is the engine that knows only what rules mean: state is kept in memory,
// changed by the API in process, and judged by policy.Decide.
type Ref struct {
	store     *store.Store
	api       *cloudapi.Server
	instances map[string]Instance
	flows     map[string]refFlow // that stories hold open, by name
}

// NewRef makes an empty region, by a server with these flags (Script.Server).
func NewRef(flags ...string) *Ref {
	s := store.NewMemory()
	sourceIPType := 0
	if slices.Contains(flags, "--source-ip-type=1") {
		sourceIPType = 1
	}
	return &Ref{store: s, instances: map[string]Instance{}, flows: map[string]refFlow{}, api: cloudapi.New(cloudapi.Options{
		Store: s, Region: "local", SeedMode: slices.Contains(flags, "--seed-mode"), SourceIPType: sourceIPType,
		VIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26")}, EIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")},
		IPv6Pool: ipv6Pool(),
	})}
}

// Close ends the store.
func (r *Ref) Close() error { return r.store.Close() }

// State is the newest state; what it points to is never modified.
func (r *Ref) State() *lb.State { return r.store.State() }

// Call runs the action in process.
func (r *Ref) Call(ctx context.Context, api API, action string, in, out any) error {
	params, err := json.Marshal(in)
	if err != nil {
		return err
	}
	data, err := r.api.Do(ctx, api.Version, action, params)
	if err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// Instance runs an instance that is at once RUNNING: there is no node to wait for.
func (r *Ref) Instance(ctx context.Context, name string, public bool) (Instance, error) {
	if i, ok := r.instances[name]; ok {
		return i, nil
	}
	id, err := runInstance(ctx, r, name, public)
	if err != nil {
		return Instance{}, err
	}
	_, err = r.store.Update(ctx, func(tx *store.Tx) error {
		i := *tx.State().Instances.Get(lb.InstanceID(id))
		i.State = lb.Running
		tx.PutInstance(&i)
		return nil
	})
	if err != nil {
		return Instance{}, err
	}
	made := r.store.State().Instances.Get(lb.InstanceID(id))
	r.instances[name] = Instance{Name: name, ID: id, Private: made.Private, Public: made.Public}
	return r.instances[name], nil
}

// runInstance asks for an instance and gives its id.
func runInstance(ctx context.Context, e Engine, name string, public bool) (string, error) {
	api, action := apiCVM(), "RunInstances"
	in := map[string]any{"InstanceName": name, "InternetAccessible": map[string]any{"PublicIpAssigned": public}}
	if strings.HasPrefix(name, "basic-") {
		api, action, in = apiSallyport(), "ImportInstances", map[string]any{"InstanceName": name}
	} else if strings.HasPrefix(name, "other-") {
		network, err := otherNetwork(ctx, e)
		if err != nil {
			return "", err
		}
		in["VirtualPrivateCloud"] = network
	}
	var made struct{ InstanceIdSet []string }
	if err := e.Call(ctx, api, action, in, &made); err != nil {
		return "", err
	}
	if len(made.InstanceIdSet) != 1 {
		return "", fmt.Errorf("RunInstances made %v", made.InstanceIdSet)
	}
	return made.InstanceIdSet[0], nil
}

// Settle has nothing to wait for.
func (r *Ref) Settle(context.Context) error { return nil }

// Send judges each send on the newest state.
func (r *Ref) Send(ctx context.Context, sends []Send) ([]Result, error) {
	results := make([]Result, len(sends))
	for i, s := range sends {
		var err error
		if results[i], err = r.judge(r.store.State(), s); err != nil {
			return nil, err
		}
		l := r.store.State().Listeners.Get(lb.ListenerID(s.Listener))
		if l != nil && len(results[i].Verdicts) > 1 && l.Choice.HealthyOnly && len(r.eligible(ctx, l)) == 0 {
			results[i] = Result{Verdicts: []string{"drop clb " + policy.NoHealthyTarget.String()}}
		}
	}
	return results, nil
}

// judge follows a send from gate to gate: out of its sender's if that is an
// instance, then through a load balancer or straight to an instance.
func (r *Ref) judge(state *lb.State, s Send) (Result, error) {
	p := lb.Packet{Proto: lb.TCP, Src: s.From.Address, Dst: s.To, DstPort: s.Port}
	if s.ICMP {
		p.Proto = echoOf(s.To)
	} else if s.UDP {
		p.Proto = lb.UDP
	}
	if s.Cut {
		return inPieces(s, p), nil
	}
	var left []string
	if s.From.Instance != "" {
		out := atInstance(state, nil, lb.InstanceID(s.From.Instance), policy.Out, p)
		left = []string{VerdictText(out, policy.Out)}
		if out.Action != lb.Accept {
			return Result{Verdicts: left}, nil
		}
	}
	if s.Balancer == "" {
		in := atInstance(state, nil, lb.InstanceID(s.Target.Instance), policy.In, p)
		return Result{Served: in.Action == lb.Accept, Verdicts: append(left, VerdictText(in, policy.In))}, nil
	}
	res, err := through(state, state.Balancers.Get(lb.BalancerID(s.Balancer)), p)
	res.Verdicts = append(left, res.Verdicts...)
	return res, err
}

// through judges a packet to a VIP: gate 1 on the listener's port, gate 2 on
// the service port of every target the flow may be given to.
func through(state *lb.State, b *lb.LoadBalancer, p lb.Packet) (Result, error) {
	if p.Proto == lb.ICMP || p.Proto == lb.ICMPv6 { // the gateway answers by itself
		gate1 := policy.Decide(policy.GateCLB, policy.In, policy.NewResolver(state).Gate1(b, p.Dst), p)
		return Result{Served: gate1.Action == lb.Accept, Verdicts: []string{VerdictText(gate1, policy.In)}}, nil
	}
	listener := listenerOf(state, b.ID, p)
	if listener == nil {
		return Result{Verdicts: []string{"drop clb " + policy.NoListener.String()}}, nil
	}
	gate1 := policy.Decide(policy.GateCLB, policy.In, policy.NewResolver(state).Gate1(b, p.Dst), p)
	if gate1.Action != lb.Accept {
		return Result{Verdicts: []string{VerdictText(gate1, policy.In)}}, nil
	}
	if slices.ContainsFunc(listener.Rules, func(r lb.Rule) bool { return r.Rewrite != nil }) { // a story's listener has one rule
		return Result{Redirected: true, Verdicts: []string{VerdictText(gate1, policy.In)}}, nil
	}
	var all []Result
	targets := targetsOf(listener)
	others := slices.DeleteFunc(slices.Clone(targets), func(t lb.Target) bool {
		i := state.Instances.Get(t.Instance)
		return slices.Contains(i.Addresses(), p.Src)
	})
	if len(others) == 0 && len(targets) > 0 { // the client would be its own target
		return Result{Verdicts: []string{"drop clb " + policy.Hairpin.String()}}, nil
	}
	for _, t := range others {
		if listener.EndPort == 0 {
			p.DstPort = t.Port
		}
		gate2 := atInstance(state, b, t.Instance, policy.In, p)
		all = append(all, Result{Served: gate2.Action == lb.Accept, Verdicts: []string{VerdictText(gate1, policy.In), VerdictText(gate2, policy.In)}})
	}
	if len(all) == 0 {
		return Result{}, errors.New("the listener has no targets")
	}
	for _, other := range all[1:] {
		if other.Served != all[0].Served || !slices.Equal(other.Verdicts, all[0].Verdicts) {
			return Result{}, errors.New("the outcome depends on which target is chosen")
		}
	}
	return all[0], nil
}

// gatesOf are what both gates say of a packet to a listener with one target.
func gatesOf(state *lb.State, b *lb.LoadBalancer, l *lb.Listener, p lb.Packet) (gate1, gate2 bool) {
	gate1 = policy.Decide(policy.GateCLB, policy.In, policy.NewResolver(state).Gate1(b, p.Dst), p).Action == lb.Accept
	if l.EndPort == 0 {
		p.DstPort = l.Targets[0].Port
	}
	return gate1, atInstance(state, b, l.Targets[0].Instance, policy.In, p).Action == lb.Accept
}

// atInstance is gate 2; b is the load balancer the packet came through, or nil.
func atInstance(state *lb.State, b *lb.LoadBalancer, id lb.InstanceID, dir policy.Direction, p lb.Packet) policy.Verdict {
	if b != nil && b.PassToTarget {
		return policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept, Reason: policy.PassToTarget}
	}
	return policy.Decide(policy.GateCVM, dir, policy.Resolve(state, state.Instances.Get(id).Groups, dir), p)
}

// Health is what a probe would find.
func (r *Ref) Health(_ context.Context, h Health) (Health, error) {
	state := r.store.State()
	b := state.Balancers.Get(lb.BalancerID(h.Balancer))
	check, proto := checkOf(state, h)
	probes := []lb.Packet{{Proto: proto, Src: b.VIPs[0], DstPort: h.Port}}
	if check.Type == lb.CheckPing {
		probes = append(probes, lb.Packet{Proto: echoOf(b.VIPs[0]), Src: b.VIPs[0]})
	}
	h.State, h.Kind = "alive", ""
	if !b.ProbesNeedRule(check) {
		return h, nil
	}
	for _, probe := range probes {
		if atInstance(state, b, lb.InstanceID(h.Instance.ID), policy.In, probe).Action != lb.Accept {
			h.State, h.Kind = "dead", "gate"
		}
	}
	return h, nil
}

// checkOf is the check of a target: its listener's, or its rule's, and
// the protocol of its packets.
func checkOf(state *lb.State, h Health) (lb.HealthCheck, lb.Proto) {
	is := func(t lb.Target) bool { return string(t.Instance) == h.Instance.ID && t.Port == h.Port }
	for _, l := range state.Listeners.All() {
		if string(l.Balancer) != h.Balancer {
			continue
		}
		if slices.ContainsFunc(l.Targets, is) {
			return l.Check, l.Protocol.Transport()
		}
		for _, r := range l.Rules {
			if slices.ContainsFunc(r.Targets, is) {
				return r.Check, lb.TCP
			}
		}
	}
	return lb.HealthCheck{}, lb.TCP
}

// Logged is for engines with real servers.
func (r *Ref) Logged(context.Context, Instance, uint16, netip.Addr) (bool, error) {
	return false, errors.New("the ref engine has no logs; write [lab]")
}

func listenerOf(state *lb.State, b lb.BalancerID, p lb.Packet) *lb.Listener {
	for _, l := range state.Listeners.All() {
		if l.Balancer == b && l.On(p) && !l.Stopped {
			return l
		}
	}
	return nil
}

func targetsOf(l *lb.Listener) []lb.Target {
	targets := slices.Clone(l.Targets)
	for _, rule := range l.Rules {
		if rule.Rewrite != nil {
			continue
		}
		targets = append(targets, rule.Targets...)
	}
	return targets
}

// VerdictText is a verdict as scenario files write it, with the group's id.
func VerdictText(v policy.Verdict, dir policy.Direction) string {
	words := []string{"drop", v.Gate.String()}
	if v.Action == lb.Accept {
		words[0] = "accept"
	}
	if dir == policy.Out {
		words = append(words, "out")
	}
	if v.Reason == policy.RuleMatched {
		return fmt.Sprintf("%s %s rule %d", strings.Join(words, " "), v.Group, v.Pos)
	}
	if v.Reason == policy.SystemRule && v.Pos > 0 {
		return fmt.Sprintf("%s %s rule %d", strings.Join(words, " "), systemGroup, v.Pos)
	}
	return strings.Join(append(words, v.Reason.String()), " ")
}
