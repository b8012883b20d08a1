// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// targets gives the listener on a port exactly these targets, with these weights:
// PORT INSTANCE:PORT[*WEIGHT] …
func (w *world) targets(ctx context.Context, args []string) error {
	l, err := w.listenerOn(args[0])
	if err != nil {
		return err
	}
	type one struct {
		InstanceId string
		Port       uint16
		Weight     int
	}
	var want []one
	for _, arg := range args[1:] {
		text, weightText, weighted := strings.Cut(arg, "*")
		name, port, err := target(text)
		if err != nil {
			return err
		}
		t := one{w.instances[name].ID, port, 10}
		if weighted {
			if t.Weight, err = strconv.Atoi(weightText); err != nil {
				return fmt.Errorf("weight %q", weightText)
			}
		}
		want = append(want, t)
	}
	var out struct{ Listeners []struct{ Targets []one } }
	in := map[string]any{"LoadBalancerId": w.balancer, "ListenerIds": []string{l.id}}
	if err := w.engine.Call(ctx, apiCLB(), "DescribeTargets", in, &out); err != nil {
		return err
	}
	same := func(a one) func(one) bool {
		return func(b one) bool { return a.InstanceId == b.InstanceId && a.Port == b.Port }
	}
	var gone, stay, come []one
	for _, t := range out.Listeners[0].Targets {
		if !slices.ContainsFunc(want, same(t)) {
			gone = append(gone, t)
		}
	}
	for _, t := range want {
		if slices.ContainsFunc(out.Listeners[0].Targets, same(t)) {
			stay = append(stay, t)
		} else {
			come = append(come, t)
		}
	}
	in = map[string]any{"LoadBalancerId": w.balancer, "ListenerId": l.id}
	for _, t := range stay {
		in["Targets"], in["Weight"] = []one{t}, t.Weight
		if err := w.task(ctx, "ModifyTargetWeight", in, nil); err != nil {
			return err
		}
	}
	delete(in, "Weight")
	if in["Targets"] = come; len(come) > 0 {
		if err := w.task(ctx, "RegisterTargets", in, nil); err != nil {
			return err
		}
	}
	type bare struct {
		InstanceId string
		Port       uint16
	}
	var leaving []bare
	for _, t := range gone {
		leaving = append(leaving, bare{t.InstanceId, t.Port})
	}
	if in["Targets"] = leaving; len(leaving) > 0 {
		return w.task(ctx, "DeregisterTargets", in, nil)
	}
	return nil
}

// choice says how the listener on a port chooses targets:
// PORT scheduler NAME | sticky SECONDS | when-all-unhealthy all|none
func (w *world) choice(ctx context.Context, args []string) error {
	l, err := w.listenerOn(args[0])
	if err != nil {
		return err
	}
	in := map[string]any{"LoadBalancerId": w.balancer, "ListenerId": l.id}
	switch args[1] {
	case "scheduler":
		in["Scheduler"] = args[2]
	case "sticky":
		if in["SessionExpireTime"], err = strconv.Atoi(args[2]); err != nil {
			return fmt.Errorf("write %s", verbs["choice"].usage)
		}
	case "when-all-unhealthy":
		in["WhenAllUnhealthy"] = strings.ToUpper(args[2])
		return w.engine.Call(ctx, apiSallyport(), "SetTargetChoice", in, nil)
	default:
		return fmt.Errorf("write %s", verbs["choice"].usage)
	}
	return w.task(ctx, "ModifyListener", in, nil)
}

// keepFlows is the setting of the load balancer, at gate 1, or of an instance, at
// gate 2.
func (w *world) keepFlows(ctx context.Context, args []string) error {
	what, in := args[0], map[string]any{"KeepFlows": args[1] == "on"}
	if i, ok := w.instances[what]; ok {
		in["InstanceId"] = i.ID
	} else if what == "clb" {
		in["LoadBalancerId"] = w.balancer
	} else {
		return fmt.Errorf("write %s", verbs["keep-flows"].usage)
	}
	return w.engine.Call(ctx, apiSallyport(), "ModifyFlowKeeping", in, nil)
}

// spreadOver is how many flows tell where new flows go. That one of two targets
// with equal weights gets none of them happens once in a million times.
const spreadOver = 20

// spread opens flows and looks at who serves them: exactly the instances named,
// or "one", whichever.
func (w *world) spread(ctx context.Context, args []string) error {
	s, err := w.send(Line{Verb: "send", Args: append(slices.Clone(args[:3]), "served")})
	if err != nil {
		return err
	}
	if s.Listener == "" || s.Layer7 || s.ICMP {
		return fmt.Errorf("write %s", verbs["spread"].usage)
	}
	if err := w.engine.Settle(ctx); err != nil {
		return err
	}
	by, one, err := w.servers(ctx, s)
	if err != nil {
		return err
	}
	names := []string{}
	for name, i := range w.instances {
		if slices.Contains(by, i.ID) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	got := strings.Join(names, " ")
	if one || len(names) == 1 && args[3] == "one" {
		got = "one"
	}
	want := slices.Sorted(slices.Values(args[3:]))
	if got != strings.Join(want, " ") {
		return &OutcomeError{Want: strings.Join(want, " "), Got: got}
	}
	return nil
}

// servers are the instances that serve new flows; one says that it is a single
// one of them.
func (w *world) servers(ctx context.Context, s Send) (by []string, one bool, err error) {
	if ref, ok := w.engine.(*Ref); ok {
		return ref.servers(ctx, s)
	}
	results, err := w.engine.Send(ctx, slices.Repeat([]Send{s}, spreadOver))
	if err != nil {
		return nil, false, err
	}
	for _, r := range results {
		if !r.Served {
			return nil, false, &OutcomeError{Want: "served", Got: fmt.Sprintf("refused (%s%s)", r.Fault, r.Detail)}
		}
		by = append(by, r.By)
	}
	return by, false, nil
}

// servers are the targets that new flows may be given to; each must let them in.
func (r *Ref) servers(ctx context.Context, s Send) (by []string, one bool, err error) {
	state := r.store.State()
	l := state.Listeners.Get(lb.ListenerID(s.Listener))
	p := lb.Packet{Proto: l.Protocol.Transport(), Src: s.From.Address, Dst: s.To, DstPort: s.Port}
	for _, t := range r.eligible(ctx, l) {
		if t.Weight == 0 {
			continue
		}
		alone := *l
		alone.Targets = []lb.Target{t}
		if gate1, gate2 := gatesOf(state, state.Balancers.Get(l.Balancer), &alone, p); !gate1 || !gate2 {
			return nil, false, &OutcomeError{Want: "served", Got: "refused"}
		}
		by = append(by, string(t.Instance))
	}
	return by, l.Choice.Session > 0 || l.Scheduler == lb.SchedulerHash, nil
}

// eligible are the targets that are healthy, or all where none is, unless the
// listener insists.
func (r *Ref) eligible(ctx context.Context, l *lb.Listener) (alive []lb.Target) {
	for _, t := range l.Targets {
		h, err := r.Health(ctx, Health{Balancer: string(l.Balancer), Instance: Instance{ID: string(t.Instance)}, Port: t.Port})
		if err == nil && h.State == "alive" {
			alive = append(alive, t)
		}
	}
	if len(alive) == 0 && !l.Choice.HealthyOnly {
		return l.Targets
	}
	return alive
}
