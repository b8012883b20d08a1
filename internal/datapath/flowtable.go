// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// unitShift: time in flow slots runs in units of 2^30 ns, about a second.
const unitShift = 30

// seenClosing marks a gateway's entry whose flow has ended, seenUnsure one whose
// target may not be the one that knows the flow.
const (
	seenClosing = 1 << 31
	seenUnsure  = 1 << 30
)

// flowMoved marks a host's flow whose client has another port for the instance.
const flowMoved = 64

// How long flows of a kind are kept without a packet, in units; bpf/layout.h
// says the same, and a test compares.
const (
	halfLife    = 30
	closingLife = 30
	udpLife     = 180
	icmpLife    = 30
	otherLife   = 600
	tcpLife     = 3 * 3600
)

// scanChunk is how many buckets are looked at before others get their turn.
const scanChunk = 4096

// A raw flow is a slot of either table, read whole.
type raw struct {
	revision, listener, target, counter, seen uint32
	peer, local, dialled                      netip.AddrPort
	proto                                     lb.Proto
	opener                                    policy.Direction
	state                                     flow.State
	gateway                                   bool
	share                                     uint8
}

// life is how long such a flow is kept without a packet, in units.
func (r *raw) life() uint32 {
	switch {
	case r.state == flow.Closing:
		return closingLife
	case r.state == flow.Half && r.proto == lb.UDP:
		return halfLife
	case r.state == flow.Refused, r.proto == lb.UDP:
		return udpLife
	case r.proto == lb.ICMP, r.proto == lb.ICMPv6:
		return icmpLife
	case r.proto != lb.TCP:
		return otherLife
	case r.state == flow.Half:
		return halfLife
	}
	return tcpLife
}

// idle is the time since the last packet, in units; alive is false when the
// slot may be taken by another flow.
func (r *raw) idle(now uint32) (units uint32, alive bool) {
	seen := r.seen
	if r.gateway {
		seen &^= seenClosing | seenUnsure
	}
	units = now - seen
	if units > 1<<30 { // seen in the unit that began just now
		units = 0
	}
	return units, units <= r.life()
}

// nowUnits is the programs' clock.
func nowUnits() uint32 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return uint32(t.Nano() >> unitShift)
}

// portOf is an address and port of a slot, with the words of an IPv6 address
// behind the first; nil: it is one of IPv4.
func portOf(first uint32, rest *[3]uint32, port uint16) netip.AddrPort {
	if rest == nil {
		return netip.AddrPortFrom(addrOf(GatewayAddr{W: [4]uint32{first}}, 4), port)
	}
	return netip.AddrPortFrom(addrOf(GatewayAddr{W: [4]uint32{first, rest[0], rest[1], rest[2]}}, 6), port)
}

// hostStates are a host's states by their number in a slot.
func hostStates() []flow.State {
	return []flow.State{"", flow.Half, flow.Open, flow.Closing, flow.Refused}
}

// readGatewaySlot reads one slot as a program would: whole, or not at all. wide
// is what s begins when it is one of IPv6.
func readGatewaySlot(s *GatewayGatewayFlow, wide *GatewayGatewayFlow6) (raw, bool) {
	seq := atomic.LoadUint32(&s.Seq)
	c := *s
	var rest *[3]uint32
	if wide != nil {
		client := wide.Client
		rest = &client
	}
	if seq == 0 || seq&1 != 0 || atomic.LoadUint32(&s.Seq) != seq || c.Listener == 0 {
		return raw{}, false
	}
	r := raw{revision: c.Revision, listener: c.Listener, target: c.Target, counter: c.Counter, seen: c.Seen, gateway: true,
		peer: portOf(c.Client, rest, c.ClientPort), opener: policy.In, state: flow.Open, proto: lb.TCP}
	r.dialled = netip.AddrPortFrom(netip.Addr{}, c.Port) // the address is the listener's
	if c.Seen&seenClosing != 0 {
		r.state = flow.Closing
	}
	return r, true
}

// readHostSlot is readGatewaySlot for a host.
func readHostSlot(s *HostHostFlow, wide *HostHostFlow6) (raw, bool) {
	seq := atomic.LoadUint32(&s.Seq)
	c := *s
	var remote, local, vip *[3]uint32
	if wide != nil {
		words := [3][3]uint32{wide.Remote, wide.Local, wide.Vip}
		remote, local, vip = &words[0], &words[1], &words[2]
	}
	if seq == 0 || seq&1 != 0 || atomic.LoadUint32(&s.Seq) != seq || c.State == 0 || int(c.State) >= len(hostStates()) {
		return raw{}, false
	}
	r := raw{revision: c.Revision, target: c.Target, counter: c.Counter, seen: c.Seen, share: c.Share, proto: lb.Proto(c.Proto),
		peer: portOf(c.Remote, remote, c.RemotePort), local: portOf(c.Local, local, c.LocalPort), opener: policy.Direction(c.Opener), state: hostStates()[c.State]}
	if c.Flags&flowMoved != 0 { // only the instance knows the other one
		r.peer = netip.AddrPortFrom(r.peer.Addr(), c.ClientPort)
	}
	r.dialled = r.local
	if c.Vip != 0 {
		r.dialled = portOf(c.Vip, vip, c.Vport)
	}
	return r, true
}

// eachFlow calls visit for every flow that is alive, in no order, with d.mu
// held; others get their turn between chunks.
func (d *Datapath) eachFlow(visit func(family int, r *raw, idle uint32)) error {
	now := nowUnits()
	for family := range flowFamilies {
		for at := 0; ; at += scanChunk {
			d.mu.Lock()
			if d.closed() {
				d.mu.Unlock()
				return errClosed
			}
			n := d.allBuckets(family)
			for i := at; i < min(at+scanChunk, n); i++ {
				for slot := range 2 {
					r, ok := d.read(family, i, slot)
					if !ok {
						continue
					}
					d.names.complete(&r)
					if idle, alive := r.idle(now); alive {
						visit(family, &r, idle)
					}
				}
			}
			d.mu.Unlock()
			if at+scanChunk >= n {
				break
			}
		}
	}
	return nil
}

// echoFlow marks a gateway's entry of a ping to a VIP, whose listener is the load
// balancer's number; bpf/echo.h says the same.
const echoFlow = 1 << 30

// complete adds the protocol, which a gateway's slot does not say.
func (n *names) complete(r *raw) {
	if !r.gateway {
		return
	}
	if l, ok := n.listeners[r.listener]; ok {
		r.proto = l.Proto
	}
	if r.listener&echoFlow != 0 {
		if r.proto = lb.ICMP; !r.peer.Addr().Is4() {
			r.proto = lb.ICMPv6
		}
	}
}

// A wayIn is a load balancer's number and one address family.
type wayIn struct {
	balancer uint32
	is4      bool
}

// echoed is what stands at the VIP that a gateway's ping went to: at the first one
// of that family, for the slot says no more than whose it is.
func (n *names) echoed(r *raw) (snapshot.Front, bool) {
	if !r.gateway || r.listener&echoFlow == 0 {
		return snapshot.Front{}, false
	}
	front, ok := n.echoes[wayIn{r.listener &^ echoFlow, r.peer.Addr().Is4()}]
	return front, ok
}

// named is a raw flow in clients' words; d.mu is held.
func (d *Datapath) named(r *raw, idle uint32) flow.Flow {
	f := flow.Flow{Node: d.opts.Node, Gate: d.gate, Proto: r.proto, Opener: r.opener, Peer: r.peer, Dialled: r.dialled, Service: r.local,
		State: r.state, Idle: time.Duration(idle) * (1 << unitShift) / time.Second * time.Second, Revision: lb.Revision(r.revision)}
	if front, ok := d.names.echoed(r); ok {
		f.Balancer, f.Dialled = front.Balancer, netip.AddrPortFrom(front.Addr, 0)
	}
	if l, ok := d.names.listeners[r.listener]; ok && r.gateway {
		f.Listener, f.Balancer = l.ID, l.Balancer
		for _, vip := range l.VIPs {
			if vip.Is4() == r.peer.Addr().Is4() {
				f.Dialled = netip.AddrPortFrom(vip, r.dialled.Port())
				break
			}
		}
	}
	if t, ok := d.names.targets[r.target]; ok && r.target != 0 {
		f.Listener, f.Balancer, f.Instance = t.Listener, t.Balancer, t.Instance
	}
	if id, ok := d.names.instances[r.local.Addr()]; ok {
		f.Instance = id
	}
	if c, ok := d.counters.byslot[r.counter]; ok {
		f.Group, f.Rule = c.group, c.rule
	}
	return f
}

// Flows tells of the flows that q means, the first q.Room() of them. It reads
// the whole table and is for people who look.
func (d *Datapath) Flows(q flow.Query) (flow.Flows, error) {
	out := flow.Flows{}
	err := d.eachFlow(func(_ int, r *raw, idle uint32) {
		f := d.named(r, idle)
		if !q.Matches(&f) {
			return
		}
		out.Total++
		out.Flows = append(out.Flows, f)
		if len(out.Flows) >= 4*q.Room() {
			out.Flows = flow.SortFlows(out.Flows, q.Room())
		}
	})
	out.Flows = flow.SortFlows(out.Flows, q.Room())
	return out, err
}

// shareRoom is how many load balancers' shares are told.
const shareRoom = 8

// Tables counts how full the flow tables of both families are. It reads all of
// them: a few milliseconds for a hundred thousand flows.
func (d *Datapath) Tables() (flow.Tables, error) {
	out := flow.Tables{Node: d.opts.Node, Tables: []flow.Table{{Name: "flows"}, {Name: "flows6"}}}
	held := [flowFamilies]map[lb.BalancerID]uint64{{}, {}}
	var budgets [flowFamilies][shareCount]uint64
	err := d.eachFlow(func(family int, r *raw, _ uint32) {
		t := &out.Tables[family]
		switch r.state {
		case flow.Open:
			budgets[family][r.share]++
		case flow.Half:
			budgets[family][shareHalf]++
		}
		if r.gateway && r.state == flow.Closing {
			return // as good as gone
		}
		if !r.gateway && r.share == shareProbes {
			return // it has a place of its own
		}
		t.Live++
		if r.state == flow.Half {
			t.Half++
		}
		held[family][d.balancerOf(r)]++
	})
	if err != nil {
		return flow.Tables{Node: d.opts.Node}, err
	}
	d.mu.Lock()
	if d.closed() {
		d.mu.Unlock()
		return flow.Tables{Node: d.opts.Node}, errClosed
	}
	for family := range flowFamilies {
		t := &out.Tables[family]
		t.Slots = 2 * uint64(d.buckets(family))
		t.Bytes = 2 * uint64(d.allBuckets(family)) * d.slotBytes(family)
		d.budget(family, t.Slots, budgets[family])
		t.Shares = shares(held[family])
	}
	err = d.leaveFormer()
	d.mu.Unlock()
	if err != nil {
		return out, err
	}
	reasons, err := d.Reasons()
	out.Full = reasons.Packets[policy.TableFull]
	return out, err
}

// balancerOf is whose load balancer's flow this is, without the rest of its
// name; d.mu is held.
func (d *Datapath) balancerOf(r *raw) lb.BalancerID {
	if front, ok := d.names.echoed(r); ok {
		return front.Balancer
	}
	if r.gateway {
		return d.names.listeners[r.listener].Balancer
	}
	return d.names.targets[r.target].Balancer
}
