// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// namedRevisions is for how many revisions back a verdict can still name the
// position that its rule had.
const namedRevisions = 16

// names turns the kernel's numbers back into clients' words.
type names struct {
	listeners map[uint32]snapshot.Listener
	targets   map[uint32]snapshot.TargetID
	exempt    map[uint32]int // the system rule that admits a target's probes, by target
	instances map[netip.Addr]lb.InstanceID
	fronts    map[netip.Addr]lb.BalancerID // by the address that clients dial
	echoes    map[wayIn]snapshot.Front
	rules     map[lb.Revision]map[uint32]policy.RuleRef // by counter slot
	order     []lb.Revision
}

func newNames() *names {
	return &names{map[uint32]snapshot.Listener{}, map[uint32]snapshot.TargetID{}, map[uint32]int{}, map[netip.Addr]lb.InstanceID{},
		map[netip.Addr]lb.BalancerID{}, map[wayIn]snapshot.Front{}, map[lb.Revision]map[uint32]policy.RuleRef{}, nil}
}

// learn adds what a snapshot names. Names of what is gone are kept until the
// next process: late verdicts still speak of them.
func (n *names) learn(s *snapshot.Snapshot, rules map[uint32]policy.RuleRef) {
	for _, l := range s.Listeners {
		n.listeners[l.Num] = l
	}
	for _, t := range s.Targets {
		n.targets[t.Num] = t.ID
		if n.exempt[t.Num] = policy.SystemProbeKind; t.ProbeSource.Is4() && t.ProbeSource.As4()[0] == 100 && t.ProbeSource.As4()[1] == 64 {
			n.exempt[t.Num] = policy.SystemProbeRange
		}
	}
	for _, f := range slices.Backward(s.Fronts) {
		n.fronts[f.Addr] = f.Balancer
		n.echoes[wayIn{f.BalancerNum, f.Addr.Is4()}] = f
	}
	for _, i := range s.Instances {
		for _, a := range i.Addrs {
			n.instances[a] = i.ID
		}
	}
	if _, ok := n.rules[s.Revision]; !ok {
		n.order = append(n.order, s.Revision)
	}
	n.rules[s.Revision] = rules
	for len(n.order) > namedRevisions {
		delete(n.rules, n.order[0])
		n.order = n.order[1:]
	}
}

// rule is the rule that a counter slot stood for at a revision.
func (n *names) rule(at lb.Revision, slot uint32) (policy.RuleRef, bool) {
	r, ok := n.rules[at][slot]
	return r, ok
}

// Events calls tell for every verdict that the programs tell of, until ctx
// ends or the datapath is closed. It is called once.
func (d *Datapath) Events(ctx context.Context, tell func(flow.Event)) error {
	d.mu.Lock()
	if d.closed() {
		d.mu.Unlock()
		return errClosed
	}
	r, err := ringbuf.NewReader(d.maps["events"])
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("read verdicts: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	defer r.Close()
	var rec ringbuf.Record
	var offset int64
	for n := 0; ; n++ {
		if err := r.ReadInto(&rec); err != nil {
			if errors.Is(err, ringbuf.ErrClosed) || errors.Is(err, os.ErrClosed) {
				return ctx.Err()
			}
			return fmt.Errorf("read verdicts: %w", err)
		}
		if len(rec.RawSample) < int(unsafe.Sizeof(GatewayEvent{})) {
			continue
		}
		if n%bunch == 0 { // two clocks cost as much as all else about a verdict
			offset = wallOffset()
		}
		tell(d.eventAt((*GatewayEvent)(unsafe.Pointer(unsafe.SliceData(rec.RawSample))), offset))
		if rec.Remaining == 0 { // r itself may be closed by now
			if !d.gather(ctx) {
				return ctx.Err()
			}
			n = -1
		}
	}
}

// gatherFor is how long verdicts wait for more of them. The kernel wakes whoever
// has read all, which costs the packet that it does so for more than everything
// else about it: several µs where an interrupt leaves a virtual machine. One wait
// each time keeps that to forty wakings a second, and the ring has room for
// what a second's budget of a CPU tells.
const gatherFor = 25 * time.Millisecond

// bunch is how many verdicts are read at most by one look at the clocks.
const bunch = 64

// gather lets verdicts come together; it gives false when ctx has ended.
func (d *Datapath) gather(ctx context.Context) bool {
	select {
	case <-ctx.Done():
	case <-time.After(gatherFor):
	}
	return ctx.Err() == nil
}

// event translates what the kernel told just now.
func (d *Datapath) event(e *GatewayEvent) flow.Event { return d.eventAt(e, wallOffset()) }

// eventAt does so where the programs' clock is offset behind the wall's.
func (d *Datapath) eventAt(e *GatewayEvent, offset int64) flow.Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := flow.Event{
		Time: time.Unix(0, int64(e.Time)+offset), Node: d.opts.Node, Direction: policy.Direction(e.Direction),
		Observed: e.Observed != 0,
		Revision: lb.Revision(e.Revision), Stamped: lb.Revision(e.Stamped), Proto: lb.Proto(e.Proto),
		Src:     netip.AddrPortFrom(addrOf(e.Src, e.Family), e.SrcPort),
		Dst:     netip.AddrPortFrom(addrOf(e.Dst, e.Family), e.DstPort),
		Verdict: policy.Verdict{Gate: policy.Gate(e.Gate), Action: lb.Action(e.Action), Reason: policy.Reason(e.Reason)},
	}
	if l, ok := d.names.listeners[e.Listener]; ok {
		out.Listener, out.Balancer = l.ID, l.Balancer
	}
	if t, ok := d.names.targets[e.Target]; ok {
		out.Listener, out.Balancer, out.Instance = t.Listener, t.Balancer, t.Instance
	}
	if out.Balancer == "" {
		out.Balancer = d.names.fronts[out.Dst.Addr()] // no listener of its is there
	}
	own := out.Dst.Addr()
	if out.Direction == policy.Out {
		own = out.Src.Addr()
	}
	if id, ok := d.names.instances[own]; ok {
		out.Instance = id
	}
	if out.Verdict.Reason == policy.SystemRule && out.Verdict.Gate == policy.GateCVM && d.names.exempt[e.Target] != 0 {
		out.Verdict.Pos = d.names.exempt[e.Target]
		out.Verdict.Rule = policy.SystemRuleID(out.Verdict.Pos)
	}
	if out.Verdict.Reason == policy.RuleMatched || out.Verdict.Reason == policy.SystemRule && e.Counter != 0 {
		if r, ok := d.names.rule(out.Revision, e.Counter); ok {
			out.Verdict.Group, out.Verdict.Rule, out.Verdict.Pos = r.Group, r.Rule, r.Pos
		} else if c, ok := d.counters.byslot[e.Counter]; ok {
			out.Verdict.Group, out.Verdict.Rule = c.group, c.rule
		}
	}
	return out
}
