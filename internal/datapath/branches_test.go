// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Tests of branches that no other test on frames took: found by faults planted
// there, which nobody saw.

// Of the four places that a flow may have at a gateway, a new one takes one that
// was never used, else the one of whoever was silent longest.
func TestUnseenBranchesOfTheVictim(t *testing.T) {
	w := newQuiet(t)
	d := w.open(quietName(), Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: 2, Events: 1 << 30})
	b := newBench(t, d)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	at := func(i int) *GatewayGatewayFlow { return &b.gatewayFlows[i/2].Slot[i%2] }
	// fill makes all places another's, i's the oldest, and unused ones free.
	fill := func(oldest int, unused ...int) {
		for i := range 4 {
			*at(i) = GatewayGatewayFlow{Seq: 2, Client: 9, Listener: 5, Seen: uint32(10 + (i-oldest+4)%4)}
		}
		for _, i := range unused {
			*at(i) = GatewayGatewayFlow{}
		}
	}
	taken := func(port uint16) int {
		t.Helper()
		if answer, err := b.run("gateway", frameBetween(lb.TCP, clientA, port, vip, 80, first), make([]byte, 256)); err != nil || answer != actRedirect {
			t.Fatalf("a new flow: answer %d, %v", answer, err)
		}
		for i := range 4 {
			if at(i).ClientPort == port {
				return i
			}
		}
		t.Fatal("a new flow has no place")
		return 0
	}
	apart := 0 // flows whose two buckets are not the same one
	for i := range 32 {
		port := uint16(4000 + 1777*i)
		var got [4]int
		for oldest := range 4 {
			fill(oldest)
			got[oldest] = taken(port)
		}
		switch got {
		case [4]int{0, 1, 2, 3}:
			apart++
		case [4]int{0, 1, 0, 0}, [4]int{2, 2, 2, 3}: // both are the same one
		default:
			t.Errorf("port %d: with each place the oldest in turn, a new flow took %v", port, got)
		}
		for free := range 4 {
			fill((free+1)%4, free)
			if place := taken(port); place != free && (got == [4]int{0, 1, 2, 3} || place/2 == free/2) {
				t.Errorf("port %d: place %d is free, a new flow took %d", port, free, place)
			}
		}
	}
	if apart == 0 {
		t.Error("none of 32 new flows looked at two buckets")
	}
}

// The early hook finishes what it can send straight out, refuses what is
// refused, and leaves all else to the other hook without a word.
func TestUnseenBranchesOfTheEarlyHook(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, compiled(t, "sg-1", accept(clientA+"/32", 80), accept(clientA+"/32", 82)), compiled(t, "sg-2"))
	layer7 := gw.Listeners[0]
	layer7.Num, layer7.ID, layer7.Port, layer7.Layer7, layer7.Targets = 6, "lbl-2", 82, true, nil
	gw.Listeners = append(gw.Listeners, layer7)
	b.stage(t, gw)
	long := func(n int) []byte {
		f := append(frameBetween(lb.TCP, clientA, 4001, vip, 80, later), make([]byte, n)...)
		f[16], f[17] = byte((40+n)>>8), byte(40+n)
		return f
	}
	for _, c := range []struct {
		name  string
		frame []byte
		want  uint32
		told  bool
	}{
		{"a client's first packet", frameBetween(lb.TCP, clientA, 4000, vip, 80, first), xdpRedirect, true},
		{"one that is refused", frameBetween(lb.TCP, clientB, 4000, vip, 80, first), xdpDrop, true},
		{"one for the proxy", frameBetween(lb.TCP, clientA, 4000, vip, 82, first), xdpPass, false},
		{"the longest that fits", long(1400), xdpRedirect, true},
		{"one that does not fit", long(1401), xdpPass, false},
		{"one of its own traffic", frameBetween(lb.TCP, clientA, 4000, gwAddr, 80, first), xdpPass, false},
	} {
		b.forget(t)
		answer, err := b.run("gateway_xdp", c.frame, make([]byte, 2048))
		if err != nil || answer != c.want {
			t.Errorf("%s: answer %d, %v, want %d", c.name, answer, err, c.want)
		}
		if _, err := b.next(); (err == nil) != c.told {
			t.Errorf("%s: told of: %v, want %v", c.name, err == nil, c.told)
		}
	}
}

// What the gateway's own sockets send goes into the tunnel by the target in its
// mark, and nowhere but to that target's address.
func TestUnseenBranchesOfTheWayOut(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	lost := gw.Targets[0]
	lost.Num, lost.Host = 8, netip.MustParseAddr("192.0.2.77")
	gw.Targets = append(gw.Targets, lost)
	b.stage(t, gw)
	for _, c := range []struct {
		name string
		mark uint32
		dst  string
		want uint32
	}{
		{"for the target", snapshot.TargetMark(7), service, actRedirect},
		{"for another address", snapshot.TargetMark(7), "10.0.9.9", actShot},
		{"for a target that is not there", snapshot.TargetMark(9), service, actShot},
		{"for a target whose host nobody knows", snapshot.TargetMark(8), service, actShot},
		{"of somebody else's", 0x77, service, actNext},
		{"without a mark", 0, "10.0.9.9", actNext},
	} {
		opts := &ebpf.RunOptions{Data: frameBetween(lb.TCP, vip, 4000, c.dst, 8080, first), DataOut: make([]byte, 256), Context: skb{2: c.mark}}
		answer, err := b.progs["gateway_out"].Run(opts)
		if err != nil || answer != c.want {
			t.Errorf("%s: answer %#x, %v, want %#x", c.name, answer, err, c.want)
		}
		if c.want == actShot {
			b.wantDrop(t, c.name, policy.UnknownTarget)
		}
	}
}

// Probes of a target are let in where a system rule says so: from the probes'
// own source, for the port or by the ping that is probed with, and nothing else.
func TestUnseenBranchesOfProbes(t *testing.T) {
	s := newSiege(t)
	nobody := compiled(t, "sg-2", accept("198.51.100.99/32", 1))
	const ours, stranger = "100.64.3.9", "100.65.0.9"
	segment := func(src string, port uint16) []byte { return frameBetween(lb.TCP, src, 5000, service, port, first) }
	for _, c := range []struct {
		name         string
		exempt, ping bool
		source       string
		frame        []byte
		passes       bool
	}{
		{"a probe from the VIP", true, false, vip, segment(vip, 9090), true},
		{"one without a system rule", false, false, vip, segment(vip, 9090), false},
		{"one for the service port", true, false, vip, segment(vip, 8080), false},
		{"one for a port of nobody's", true, false, vip, segment(vip, 9091), false},
		{"one from elsewhere", true, false, vip, segment(clientA, 9090), false},
		{"one from a gateway's address", true, false, "100.64.0.0", segment(ours, 9090), true},
		{"one from beside the gateways'", true, false, "100.64.0.0", segment(stranger, 9090), false},
		{"one from the VIP where gateways probe", true, false, "100.64.0.0", segment(vip, 9090), false},
		{"a ping", true, true, vip, echo(vip, service, 7, false), true},
		{"a ping from elsewhere", true, true, vip, echo(clientA, service, 7, false), false},
		{"a ping without a system rule", false, true, vip, echo(vip, service, 7, false), false},
		{"a ping where nobody pings", true, false, vip, echo(vip, service, 7, false), false},
		{"a ping of another address", true, true, vip, echo(vip, "10.0.9.9", 7, false), false},
	} {
		s.force(nobody, compiled(t, "sg-out"), func(h *snapshot.Snapshot) {
			row := &h.Targets[0]
			row.ViaGateway, row.ProbeExempt, row.ProbePing, row.ProbePort, row.ProbeSource = true, c.exempt, c.ping, 9090, netip.MustParseAddr(c.source)
		})
		s.forget(t)
		s.want(c.name, c.passes, "host_in", inTunnel(c.frame, gwAddr, hostAddr, uint32(s.rev), 7))
	}
}

// A tunnelled flow's answers are judged like its packets when rules change.
func TestUnseenBranchesOfAnswers(t *testing.T) {
	s := newSiege(t)
	open, shut, out := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2", accept(clientB+"/32", 8080)), compiled(t, "sg-out")
	begin := func(port uint16) {
		t.Helper()
		s.force(open, out, nil)
		s.want("a first packet", true, "host_in", s.through(port, first))
		s.want("its answer", true, "host_out", outbound(8080, port, second))
		s.want("its third", true, "host_in", s.through(port, later))
	}
	begin(5002)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080), accept("0.0.0.0/0", 9090)), out, nil)
	s.want("an answer that other rules admit too", true, "host_out", outbound(8080, 5002, later))
	s.force(shut, out, func(h *snapshot.Snapshot) { h.Instances[0].Keep = snapshot.Keeping{Always: true} })
	s.want("an answer of a flow that is kept", true, "host_out", outbound(8080, 5002, later))

	begin(5003)
	s.force(shut, out, nil)
	if !s.counted(policy.NoMatch, "host_out", outbound(8080, 5003, later)) {
		t.Error("an answer outlived the rule that let its client in")
	}
	if !s.counted(policy.FlowRefused, "host_out", outbound(8080, 5003, later)) {
		t.Error("a second answer was not refused as its flow's")
	}

	begin(5004)
	s.force(shut, out, nil)
	if !s.counted(policy.NoMatch, "host_in", s.through(5004, later)) {
		t.Error("a client outlived the rule that let it in")
	}
	if !s.counted(policy.FlowRefused, "host_out", outbound(8080, 5004, later)) {
		t.Error("the answer to a refused client was not refused as its flow's")
	}
	s.force(open, out, nil)
	s.want("a client that is let in again", true, "host_in", s.through(5004, later))
	s.want("the answer to it", true, "host_out", outbound(8080, 5004, later))
}

// An ICMP error passes gate 2 with the direct flow that it is about, and else by
// the rules for ICMP; nobody sends one from an address of the load balancer's.
func TestUnseenBranchesOfErrors(t *testing.T) {
	s := newSiege(t)
	out := compiled(t, "sg-out")
	about := func(from string, port uint16) []byte {
		f := frameBetween(lb.ICMP, from, 0, service, 0, 0)
		f[34], f[35] = 3, 1
		f = append(f[:42], outbound(8080, port, second)[14:]...)
		f[16], f[17] = byte((len(f)-14)>>8), byte(len(f)-14)
		return f
	}
	tcp := compiled(t, "sg-2", accept("0.0.0.0/0", 8080))
	s.force(tcp, out, nil)
	s.want("a direct connection", true, "host_in", inbound(5000, 8080, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	const router = "203.0.113.254"
	s.want("an error about it", true, "host_in", about(router, 5000))
	s.want("an error about no flow", false, "host_in", about(router, 5001))
	s.want("a connection through the tunnel", true, "host_in", s.through(5002, first))
	s.want("a direct error about that", false, "host_in", about(router, 5002))
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080), policy.Rule{ID: "pol-2", Pos: 2, Action: lb.Accept, Proto: lb.ICMP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}), out, nil)
	s.want("an error about no flow, by a rule", true, "host_in", about(router, 5001))
	if !s.counted(policy.Spoofed, "host_in", about(vip, 5001)) {
		t.Error("an error from the VIP was not dropped as spoofed")
	}
}
