// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	hostAddrB = "192.0.2.131"
	serviceB  = "10.0.1.5"
	serviceB6 = "2001:db8:1::5"
)

// twoHosts gives pair's snapshots a second target, 8, on another host, whose
// snapshot it gives too; gw has only that one behind its listener.
func twoHosts(gw, host *snapshot.Snapshot, service netip.Addr) (other *snapshot.Snapshot) {
	t := gw.Targets[0]
	t.Num, t.Host, t.ID.Instance = 8, netip.MustParseAddr(hostAddrB), "ins-2"
	t.Service = netip.AddrPortFrom(service, 8080)
	gw.Targets = append(gw.Targets, t)
	gw.Peers = append(gw.Peers, snapshot.Peer{Node: "ins-2", Num: 3, Addr: t.Host, Keys: [2]uint64{tunnelKey, 0}})
	gw.Listeners[0].Targets = []snapshot.TargetRef{{Num: 8, Weight: 10}}
	b := *host
	b.Node, b.Targets = "ins-2", []snapshot.Target{t}
	b.Instances = []snapshot.Instance{host.Instances[0]}
	b.Instances[0].ID, b.Instances[0].Addrs = "ins-2", []netip.Addr{service}
	return &b
}

// A hopper carries one packet from node to node.
type hopper struct {
	t        *testing.T
	gw, a, b *bench
	frame    []byte
}

// through runs a program on the packet and gives its answer.
func (h *hopper) through(b *bench, program string) uint32 {
	h.t.Helper()
	opts := &ebpf.RunOptions{Data: h.frame, DataOut: make([]byte, 2048)}
	answer, err := b.loaded(h.t, program).Run(opts)
	if err != nil {
		h.t.Fatal(err)
	}
	h.frame = opts.DataOut
	return answer
}

// option is where the tunnel goes, and the target and the second one that it names.
func (h *hopper) option() (to netip.Addr, target, second uint32) {
	at := 14 + 28 + 8 + 8
	return netip.AddrFrom4([4]byte(h.frame[30:])), binary.BigEndian.Uint32(h.frame[at:]), binary.BigEndian.Uint32(h.frame[at+4:])
}

// A gateway that lost its table after the ring changed sends a flow's packet to
// the host that the ring now says; that host does not know it, and the packet
// comes by the gateway to the one that does, as do those after it, straight.
func TestFlowFoundElsewhere(t *testing.T) {
	w := newQuiet(t)
	h := &hopper{t: t, gw: w.benchOf(lb.RoleGateway, nil), a: w.benchOf(lb.RoleHost, nil)}
	h.b = w.benchAt(Options{Node: "ins-2", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddrB)})
	for family, e := range families() {
		t.Run(family, func(t *testing.T) {
			h.t = t
			h.find(e)
		})
	}
}

func (h *hopper) find(e ends) {
	t := h.t
	all := policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.TCP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	gw, host := pair(t, 1, compiled(t, "sg-1", all), compiled(t, "sg-2", all))
	e.in(gw, host)
	service := netip.MustParseAddr(serviceB)
	if e.vip.Is6() {
		service = netip.MustParseAddr(serviceB6)
	}
	other := twoHosts(gw, host, service)
	h.gw.stage(t, gw)
	h.a.stage(t, host)
	h.b.stage(t, other)
	send := func(port uint16, flags byte) { h.frame = tcpOf(e.client, port, e.vip, 80, flags) }
	toB := func(what string, port uint16, flags byte) {
		t.Helper()
		send(port, flags)
		if answer := h.through(h.gw, "gateway"); answer != actRedirect {
			t.Fatalf("%s: the gateway answers %#x", what, answer)
		}
		if to, target, second := h.option(); to.String() != hostAddrB || target != 8 || second != 0 {
			t.Fatalf("%s: to %v for %d, then %d", what, to, target, second)
		}
		if answer := h.through(h.b, "host_in"); answer != actNext {
			t.Fatalf("%s: the host answers %#x", what, answer)
		}
	}
	const flows = 16
	for port := uint16(5000); port < 5000+flows; port++ {
		toB("a first packet", port, tcpSyn)
		h.frame = tcpOf(service, 8080, e.client, port, tcpSyn|tcpAck)
		h.through(h.b, "host_out")
		toB("the third", port, tcpAck)
	}
	ring := *gw
	ring.Listeners = []snapshot.Listener{gw.Listeners[0]}
	ring.Listeners[0].Targets = []snapshot.TargetRef{{Num: 7, Weight: 30}, {Num: 8, Weight: 10}}
	h.gw.stage(t, &ring) // and its table is empty
	moved := 0
	for port := uint16(5000); port < 5000+flows; port++ {
		send(port, tcpAck)
		h.through(h.gw, "gateway")
		to, target, second := h.option()
		if target == 8 {
			continue
		}
		if to.String() != hostAddr || target != 7 || second != 8 {
			t.Fatalf("port %d: to %v for %d, then %d", port, to, target, second)
		}
		moved++
		asked := h.frame
		// More of the flow is under way before the first comes back.
		send(port, tcpAck)
		h.through(h.gw, "gateway")
		if _, target, second := h.option(); target != 7 || second != 8 {
			t.Errorf("port %d: a packet close behind is for %d, then %d", port, target, second)
		}
		h.frame = asked
		if answer := h.through(h.a, "host_in"); answer != actRedirect {
			t.Fatalf("port %d: the host that does not know it answers %#x", port, answer)
		}
		if to, target, second := h.option(); to.String() != gwAddr || target != 8 || second != 0 {
			t.Fatalf("port %d: sent back to %v for %d, then %d", port, to, target, second)
		}
		if answer := h.through(h.gw, "gateway"); answer != actRedirect {
			t.Fatalf("port %d: the gateway answers %#x to what came back, %v", port, answer, (&siege{h.gw, t, nil}).lastTold().Verdict)
		}
		if to, target, second := h.option(); to.String() != hostAddrB || target != 8 || second != 0 {
			t.Fatalf("port %d: sent on to %v for %d, then %d", port, to, target, second)
		}
		if answer := h.through(h.b, "host_in"); answer != actNext {
			t.Fatalf("port %d: the host that knows it answers %#x", port, answer)
		}
		if src, dst, err := endsOf(h.frame); err != nil || src != netip.AddrPortFrom(e.client, port) || dst != netip.AddrPortFrom(service, 8080) {
			t.Errorf("port %d: came to %v from %v, %v", port, dst, src, err)
		}
		toB("the next", port, tcpAck)
	}
	if moved < flows/4 {
		t.Errorf("the ring moved %d of %d flows: too few to tell", moved, flows)
	}
	h.refused(e, send)
	h.errors(e, service)
}

// errors about flows that the second target knows come to it by the first, also
// when they quote a packet with further headers, and none goes round.
func (h *hopper) errors(e ends, service netip.Addr) {
	t := h.t
	first := uint16(7000) // a flow of the second host's, at a gateway that has no entry of it
	for ; ; first++ {
		h.frame = tcpOf(e.client, first, e.vip, 80, tcpAck)
		h.through(h.gw, "gateway")
		if _, target, second := h.option(); target == 7 && second == 8 {
			break
		}
	}
	h.frame = inTunnel(tcpOf(e.client, first, e.vip, 80, tcpSyn), gwAddr, hostAddrB, uint32(h.b.rev), 8)
	h.through(h.b, "host_in")
	quotes := map[string][]byte{"plain": tcpOf(e.vip, 80, e.client, first, tcpAck)}
	if e.vip.Is6() {
		quotes["with destination options"] = extended(tcpOf(e.vip, 80, e.client, first, tcpAck), 60)
	}
	for name, q := range quotes {
		h.frame = icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, q[14:])
		if answer := h.through(h.gw, "gateway"); answer != actRedirect {
			t.Fatalf("error, %s: the gateway answers %#x, %v", name, answer, (&siege{h.gw, t, nil}).lastTold().Verdict)
		}
		if _, target, second := h.option(); target != 7 || second != 8 {
			t.Fatalf("error, %s: for %d, then %d", name, target, second)
		}
		if answer := h.through(h.a, "host_in"); answer != actRedirect {
			t.Fatalf("error, %s: the host that does not know its flow answers %#x", name, answer)
		}
		back := h.frame
		if answer := h.through(h.gw, "gateway"); answer != actRedirect {
			t.Fatalf("error, %s: the gateway answers %#x to what came back, %v", name, answer, (&siege{h.gw, t, nil}).lastTold().Verdict)
		}
		if to, target, second := h.option(); to.String() != hostAddrB || target != 8 || second != 0 {
			t.Fatalf("error, %s: sent on to %v for %d, then %d", name, to, target, second)
		}
		on := h.frame
		if answer := h.through(h.b, "host_in"); answer != actNext {
			t.Errorf("error, %s: the host that knows its flow answers %#x", name, answer)
		}
		if !bytes.Contains(h.frame, service.AsSlice()) {
			t.Errorf("error, %s: not about what the instance sent: %x", name, h.frame[:120])
		}
		checkSums(t, h.frame[:len(icmpOf(e.router, e.vip, unreachable4, unreachable6, 1400, q[14:]))])
		h.frame = append([]byte{}, back...)
		copy(h.frame[26:], netip.MustParseAddr(hostAddrB).AsSlice())
		if answer := h.through(h.gw, "gateway"); answer != actShot {
			t.Errorf("error, %s, sent back by another host: %#x", name, answer)
		}
		h.frame = append([]byte{}, on...)
		copy(h.frame[30:], netip.MustParseAddr(hostAddr).AsSlice())
		h.frame[14+28+8+8+3] = 7
		if answer := h.through(h.a, "host_in"); answer != actShot {
			t.Errorf("error, %s, about a flow that nobody knows: %#x", name, answer)
		}
	}
}

// refused are packets that are sent back to nobody, or by somebody whom the
// gateway did not ask.
func (h *hopper) refused(e ends, send func(uint16, byte)) {
	t := h.t
	port := uint16(6000)
	for ; ; port++ { // one that nobody knows
		send(port, tcpAck)
		h.through(h.gw, "gateway")
		if _, target, second := h.option(); target == 7 && second == 8 {
			break
		}
	}
	asked := h.frame
	if answer := h.through(h.a, "host_in"); answer != actRedirect {
		t.Fatalf("one that nobody knows: %#x", answer)
	}
	back := h.frame
	for what, spoil := range map[string]func(f []byte){
		"sent back by another host": func(f []byte) { copy(f[26:], netip.MustParseAddr(hostAddrB).AsSlice()) },
		"for the target itself":     func(f []byte) { f[14+28+8+8+3] = 7 },
		"for no target":             func(f []byte) { f[14+28+8+8+3] = 9 },
	} {
		h.frame = append([]byte{}, back...)
		spoil(h.frame)
		if answer := h.through(h.gw, "gateway"); answer != actShot {
			t.Errorf("%s: the gateway answers %#x", what, answer)
		}
	}
	h.frame = back
	h.through(h.gw, "gateway")
	if answer := h.through(h.b, "host_in"); answer != actNext {
		t.Errorf("one that nobody knows is not left to the last one's stack: %#x", answer)
	}
	// Who knows it keeps it, whatever else is named.
	h.frame = inTunnel(tcpOf(e.client, port, e.vip, 80, tcpSyn), gwAddr, hostAddr, uint32(h.a.rev), 7)
	h.through(h.a, "host_in")
	h.frame = asked
	if answer := h.through(h.a, "host_in"); answer != actNext {
		t.Errorf("a flow that is known is sent elsewhere: %#x", answer)
	}
}

// With real TCP: connections outlive a change of the ring together with the loss
// of the gateway's table, though the ring now says another host.
func TestConnectionsOutliveRingAndTable(t *testing.T) {
	w := newWorld(t)
	w.host("dp-host2", hostAddrB, serviceB)
	gw, a := w.pairOpen()
	b := w.open("dp-host2", Options{Node: "ins-2", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddrB)})
	w.serve("dp-host", service+":8080")
	w.serve("dp-host2", serviceB+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	stageCommit(t, b, twoHosts(s1, s2, netip.MustParseAddr(serviceB)))
	put(t, gw, a, s1, s2)
	var open []talk
	for range 8 {
		c, err := w.dial("dp-a", vip+":80", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		k := talk{c: c, owed: len(c.LocalAddr().String()) + 1} // the line that says hello
		if !k.alive(5 * time.Second) {
			t.Fatal("a new connection says nothing")
		}
		open = append(open, k)
	}
	next := *s1
	next.Revision++
	next.Listeners = []snapshot.Listener{s1.Listeners[0]}
	next.Listeners[0].Targets = []snapshot.TargetRef{{Num: 7, Weight: 100}, {Num: 8, Weight: 1}}
	stageCommit(t, gw, &next)
	(&chooser{gw: gw}).flush()
	for i := range open {
		if !open[i].alive(5 * time.Second) {
			t.Fatalf("connection %d broke; the nodes counted %v, %v and %v", i, reasonsOf(t, gw), reasonsOf(t, a), reasonsOf(t, b))
		}
	}
	back, on := reasonsOf(t, a)[policy.PassedOn], reasonsOf(t, gw)[policy.PassedOn]
	if t.Logf("%d packets were sent back, %d passed on", back, on); back == 0 || on == 0 {
		t.Error("nobody counted what was passed on")
	}
}

// reasonsOf are the packets of a node by reason.
func reasonsOf(t *testing.T, d *Datapath) map[policy.Reason]uint64 {
	t.Helper()
	r, err := d.Reasons()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[policy.Reason]uint64{}
	for reason, n := range r.Packets {
		if n > 0 {
			seen[reason] = n
		}
	}
	return seen
}
