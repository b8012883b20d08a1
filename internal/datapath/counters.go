// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// counterName is what a slot counts: a rule at a gate in a direction, or the
// implicit refusal of one load balancer or instance.
type counterName struct {
	gate      policy.Gate
	direction policy.Direction
	group     lb.GroupID
	rule      lb.RuleID
	object    string
}

// counters hands out counter slots. A rule keeps its slot through every
// revision and restart, so its counts go on. Slot 0 counts nothing. Slots of
// rules that are gone are kept for as long as there are others: late verdicts
// and refused flows still speak of them.
type counters struct {
	values *ebpf.Map // per CPU
	names  *ebpf.Map
	live   func() map[uint32]bool // slots that the kernel may count on
	wanted map[uint32]bool        // slots of the snapshot that is being encoded
	slot   map[counterName]uint32
	byslot map[uint32]counterName
	since  map[uint32]time.Time
	free   []uint32 // the last is handed out first
}

func (c *counters) load() error {
	c.slot, c.byslot, c.since, c.wanted = map[counterName]uint32{}, map[uint32]counterName{}, map[uint32]time.Time{}, map[uint32]bool{}
	var i uint32
	var n GatewayCounterName
	it := c.names.Iterate()
	for it.Next(&i, &n) {
		name := counterName{policy.Gate(n.Gate), policy.Direction(n.Direction), lb.GroupID(text(n.Group)), lb.RuleID(text(n.Rule)), text(n.Object)}
		c.slot[name], c.byslot[i], c.since[i] = i, name, time.Unix(0, int64(n.Baseline))
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read the counters' names: %w", err)
	}
	for i := c.values.MaxEntries() - 1; i > 0; i-- {
		if _, taken := c.byslot[i]; !taken {
			c.free = append(c.free, i)
		}
	}
	return nil
}

// liveCounters are the slots that rows and their policies may count on.
func (d *Datapath) liveCounters() map[uint32]bool {
	live, policies := map[uint32]bool{}, map[uint32]bool{}
	if d.listeners != nil {
		d.listeners.each(func(v *GatewayListener) { live[v.Implicit], policies[v.Policy] = true, true })
	}
	d.vips.each(func(v *GatewayVip) { live[v.Implicit], policies[v.Policy] = true, true })
	if d.instances != nil {
		d.instances.each(func(v *HostInstance) {
			live[v.ImplicitIn], live[v.ImplicitOut] = true, true
			policies[v.Ingress], policies[v.Egress] = true, true
		})
	}
	for offset := range policies {
		if offset == 0 {
			continue
		}
		for _, rule := range rulesAt(d.arena.words[offset:]) {
			live[rule] = true
		}
	}
	return live
}

// reclaim frees the slots of all rules that are gone.
func (c *counters) reclaim() error {
	live := c.live()
	for name, i := range c.slot {
		if live[i] || c.wanted[i] {
			continue
		}
		if err := c.names.Delete(i); err != nil {
			return fmt.Errorf("free counter %d: %w", i, err)
		}
		delete(c.slot, name)
		delete(c.byslot, i)
		delete(c.since, i)
		c.free = append(c.free, i)
	}
	return nil
}

func text(b [16]int8) string {
	var s []byte
	for _, c := range b {
		if c == 0 {
			break
		}
		s = append(s, byte(c))
	}
	return string(s)
}

func chars(s string) (b [16]int8) {
	for i := 0; i < len(s) && i < len(b)-1; i++ {
		b[i] = int8(s[i])
	}
	return b
}

// take gives the slot of name, a new one from zero if it has none.
func (c *counters) take(name counterName) (uint32, error) {
	if i, ok := c.slot[name]; ok {
		c.wanted[i] = true
		return i, nil
	}
	if len(c.free) == 0 {
		if err := c.reclaim(); err != nil {
			return 0, err
		}
	}
	if len(c.free) == 0 {
		return 0, fmt.Errorf("%w: no counter is left for rule %s of %s: %d are in use", errNoRoom, name.rule, name.group, len(c.slot))
	}
	i := c.free[len(c.free)-1]
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return 0, err
	}
	if err := c.values.Put(i, make([]GatewayCounter, cpus)); err != nil {
		return 0, fmt.Errorf("clear counter %d: %w", i, err)
	}
	now := time.Now()
	n := GatewayCounterName{Gate: uint8(name.gate), Direction: uint8(name.direction), Baseline: uint64(now.UnixNano()),
		Group: chars(string(name.group)), Rule: chars(string(name.rule)), Object: chars(name.object)}
	if err := c.names.Put(i, n); err != nil {
		return 0, fmt.Errorf("name counter %d: %w", i, err)
	}
	c.free = c.free[:len(c.free)-1]
	c.slot[name], c.byslot[i], c.since[i], c.wanted[i] = i, name, now, true
	return i, nil
}

// Counters reads what every rule and implicit refusal on this node has done.
func (d *Datapath) Counters() ([]flow.Counter, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed() {
		return nil, errClosed
	}
	c := d.counters
	offset := wallOffset()
	all := make([]flow.Counter, 0, len(c.byslot))
	for i, name := range c.byslot {
		var perCPU []GatewayCounter
		if err := c.values.Lookup(i, &perCPU); err != nil {
			return nil, fmt.Errorf("read counter %d: %w", i, err)
		}
		one := flow.Counter{Node: d.opts.Node, Gate: name.gate, Group: name.group, Rule: name.rule, Object: name.object,
			Direction: name.direction, Baseline: c.since[i]}
		var last uint64
		for _, v := range perCPU {
			one.Packets += v.Packets
			one.Bytes += v.Bytes
			one.NewFlows += v.NewFlows
			last = max(last, v.Last)
		}
		if last != 0 {
			one.LastHit = time.Unix(0, int64(last)+offset)
		}
		all = append(all, one)
	}
	return all, nil
}

// Reasons reads how many packets left the programs for each reason.
func (d *Datapath) Reasons() (flow.Reasons, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := flow.Reasons{Node: d.opts.Node, Packets: map[policy.Reason]uint64{}}
	if d.closed() {
		return out, errClosed
	}
	for _, r := range policy.Reasons() {
		var perCPU []uint64
		if err := d.maps["reasons"].Lookup(uint32(r), &perCPU); err != nil {
			return out, fmt.Errorf("read the count of %v: %w", r, err)
		}
		for _, n := range perCPU {
			out.Packets[r] += n
		}
	}
	var budgets []GatewayEventBudget
	if err := d.maps["budgets"].Lookup(uint32(0), &budgets); err != nil {
		return out, fmt.Errorf("read the count of lost events: %w", err)
	}
	for _, b := range budgets {
		out.Lost += b.Lost
	}
	return out, nil
}

var errClosed = errors.New("the datapath is closed")

// wallOffset is what to add to the programs' clock, which starts at boot, to
// get nanoseconds of wall time.
func wallOffset() int64 {
	var mono unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono); err != nil {
		return 0
	}
	return time.Now().UnixNano() - mono.Nano()
}
