// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// TCP flags as frameOf takes them.
const (
	fin    = 0x01
	first  = 0x02
	reset  = 0x04
	later  = 0x10
	second = 0x12
)

// A siege is a host whose flows outlive changes of its rules, unlike a bench's.
type siege struct {
	*bench
	t   *testing.T
	out []byte
}

func newSiege(t *testing.T) *siege {
	t.Helper()
	return &siege{newQuiet(t).benchOf(lb.RoleHost, nil), t, make([]byte, 2048)}
}

// force puts rules in force without touching a flow. change edits the snapshot.
func (s *siege) force(in, out *policy.Compiled, change func(*snapshot.Snapshot)) {
	s.t.Helper()
	s.rev++
	_, host := pair(s.t, s.rev, nil, in)
	host.Policies[out.Hash] = out
	host.Instances[0].Egress = out.Hash
	if change != nil {
		change(host)
	}
	if err := s.Stage(s.t.Context(), host); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Commit(s.t.Context(), s.rev); err != nil {
		s.t.Fatal(err)
	}
}

// passes runs a frame and reports whether it was let through.
func (s *siege) passes(program string, frame []byte) bool {
	s.t.Helper()
	answer, err := s.run(program, frame, s.out)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer == actNext || answer == actRedirect
}

// want checks what becomes of one frame.
func (s *siege) want(what string, passes bool, program string, frame []byte) {
	s.t.Helper()
	if got := s.passes(program, frame); got != passes {
		s.t.Errorf("%s: let through: %v, want %v", what, got, passes)
	}
}

func frameBetween(proto lb.Proto, src string, sport uint16, dst string, dport uint16, flags byte) []byte {
	return frameOf(lb.Packet{Proto: proto, Src: netip.MustParseAddr(src), SrcPort: sport, Dst: netip.MustParseAddr(dst), DstPort: dport}, flags)
}

// inbound is a segment from client A to the instance, outbound the other way.
func inbound(sport, dport uint16, flags byte) []byte {
	return frameBetween(lb.TCP, clientA, sport, service, dport, flags)
}

func outbound(sport, dport uint16, flags byte) []byte {
	return frameBetween(lb.TCP, service, sport, clientA, dport, flags)
}

// through is client A's segment for the VIP, as the gateway sends it.
func (s *siege) through(sport uint16, flags byte) []byte {
	return inTunnel(frameBetween(lb.TCP, clientA, sport, vip, 80, flags), gwAddr, hostAddr, uint32(s.rev), 7)
}

// told empties the ring of verdicts and gives the last.
func (s *siege) lastTold() (last flow.Event) {
	for {
		e, err := s.next()
		if err != nil {
			return last
		}
		last = e
	}
}

// echo is an ICMP echo request, or the reply to one.
func echo(src, dst string, id uint16, reply bool) []byte {
	f := frameOf(lb.Packet{Proto: lb.ICMP, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}, 0)
	if reply {
		f[34] = 0
	}
	f[38], f[39] = byte(id>>8), byte(id)
	return f
}

func anyProto(proto lb.Proto) policy.Rule {
	return policy.Rule{ID: "pol-9", Pos: 1, Action: lb.Accept, Proto: proto, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
}

// Whom the instance has dialled may answer, and no more: a connection of
// their own, from the port that was dialled to the port that dialled, is a new
// one and inbound rules judge it, whatever became of the first.
func TestDialledPeerDialsBack(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e", accept("0.0.0.0/0", 443)), nil)
	for i, end := range []struct {
		name  string
		frame []byte
	}{
		{"closed by the instance", outbound(40001, 443, fin|later)},
		{"closed by the peer", inbound(443, 40002, fin|later)},
		{"reset", inbound(443, 40003, reset)},
		{"still open", inbound(443, 40004, later)},
	} {
		port := uint16(40001 + i)
		s.want("dialling", true, "host_out", outbound(port, 443, first))
		s.want("the answer", true, "host_in", inbound(443, port, second))
		s.want("its acknowledgement", true, "host_out", outbound(port, 443, later))
		program := "host_in"
		if i == 0 {
			program = "host_out"
		}
		s.want(end.name, true, program, end.frame)
		s.want(end.name+", then dialled back", false, "host_in", inbound(443, port, first))
		s.want(end.name+", then the rest of the first", true, "host_in", inbound(443, port, later))
		s.want(end.name+", then dialled again", true, "host_out", outbound(port, 443, first))
	}
	// When both dial at once, the answer to the instance's own first packet makes the connection.
	s.want("dialling", true, "host_out", outbound(40010, 443, first))
	s.want("dialling at the same time", false, "host_in", inbound(443, 40010, first))
	s.want("the answer", true, "host_in", inbound(443, 40010, second))
}

// A ping that the instance sends admits its replies, not the other's pings;
// nor does a reply that nobody asked for let the instance ping.
func TestPingIsNotAnswerToPing(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e", anyProto(lb.ICMP)), nil)
	s.want("ping out", true, "host_out", echo(service, clientA, 0, false))
	s.want("its reply", true, "host_in", echo(clientA, service, 0, true))
	s.want("the other's ping with the same id", false, "host_in", echo(clientA, service, 0, false))
	s.want("the reply still", true, "host_in", echo(clientA, service, 0, true))
	s.force(compiled(t, "sg-2", anyProto(lb.ICMP)), compiled(t, "sg-e"), nil)
	s.want("a reply that nobody asked for", true, "host_in", echo(clientA, service, 9, true))
	s.want("ping out on top of it", false, "host_out", echo(service, clientA, 9, false))
}

// What was refused and is allowed again works again, also without connections.
func TestRefusedThenAllowed(t *testing.T) {
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP, lb.ICMP} {
		t.Run(proto.String(), func(t *testing.T) {
			s := newSiege(t)
			open, shut, none := compiled(t, "sg-2", anyProto(proto)), compiled(t, "sg-2"), compiled(t, "sg-e")
			ask, answer := frameBetween(proto, clientA, 5000, service, 53, later), frameBetween(proto, service, 53, clientA, 5000, later)
			if proto == lb.ICMP {
				ask, answer = echo(clientA, service, 7, false), echo(service, clientA, 7, true)
			}
			for round := range 2 {
				s.force(open, none, nil)
				s.want(fmt.Sprintf("round %d: a question", round), true, "host_in", ask)
				s.want(fmt.Sprintf("round %d: its answer", round), true, "host_out", answer)
				s.force(shut, none, nil)
				s.want(fmt.Sprintf("round %d: a refused question", round), false, "host_in", ask)
				s.want(fmt.Sprintf("round %d: an answer to it", round), false, "host_out", answer)
			}
		})
	}
}

// Pass-to-target that is taken back stops what it let in, in both directions
// and before the client sends again. Its packets are booked on no rule.
func TestVouchedNoLonger(t *testing.T) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	vouch := func(on bool) func(*snapshot.Snapshot) {
		return func(h *snapshot.Snapshot) { h.Targets[0].PassToTarget = on }
	}
	ruled := func() uint64 {
		all, err := s.Counters()
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Rule == "pol-1" {
				return c.Packets
			}
		}
		return 0
	}
	s.force(open, none, nil)
	s.want("by the rule", true, "host_in", s.through(5000, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	booked := ruled()
	s.force(shut, none, vouch(true))
	s.want("by pass to target", true, "host_in", s.through(5000, later))
	s.want("its answer", true, "host_out", outbound(8080, 5000, later))
	if now := ruled(); now != booked {
		t.Errorf("the rule is not in force and counted %d packets more", now-booked)
	}
	s.force(shut, none, vouch(true))
	s.want("an answer after a change elsewhere", true, "host_out", outbound(8080, 5000, later))
	s.force(shut, none, vouch(false))
	s.want("an answer after the change", false, "host_out", outbound(8080, 5000, later))
	s.want("a packet after the change", false, "host_in", s.through(5000, later))
	s.force(open, none, vouch(false))
	s.want("a packet when a rule allows it", true, "host_in", s.through(5000, later))
	s.want("its answer", true, "host_out", outbound(8080, 5000, later))
}

// A connection straight to the instance is not lost to one that the proxy
// makes from the same client port, nor the other way round.
func TestProxyMeetsDirectConnection(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) { h.Targets[0].ViaGateway = true })
	proxied := func(flags byte) []byte {
		return inTunnel(inbound(5000, 8080, flags), gwAddr, hostAddr, uint32(s.rev), 7)
	}
	s.want("direct", true, "host_in", inbound(5000, 8080, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("its third", true, "host_in", inbound(5000, 8080, later))
	s.want("the proxy's", true, "host_in", proxied(first))
	if _, to, _ := endsOf(s.out[:len(inbound(5000, 8080, first))]); to.Port() != 8080 || s.source() == 5000 {
		t.Errorf("the proxy's came to %v from port %d, which is the direct one's", to, s.source())
	}
	s.want("direct, after it", true, "host_in", inbound(5000, 8080, later))
	if s.source() != 5000 {
		t.Errorf("the direct one came from port %d", s.source())
	}
}

// A connection that one side has closed is still one: the other may send for
// as long as it likes.
func TestHalfClosedIsOpen(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.want("the first", true, "host_in", s.through(5000, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("the client's last", true, "host_in", s.through(5000, fin|later))
	s.age(100)
	s.want("the server's data", true, "host_out", outbound(8080, 5000, later))
	s.want("the server's last", true, "host_out", outbound(8080, 5000, fin|later))
	s.age(100)
	s.want("nothing is left", false, "host_out", outbound(8080, 5000, later))
}

// age makes every flow as old as if nothing had come by for that many seconds.
func (s *siege) age(seconds uint32) {
	s.t.Helper()
	m := s.maps["host_flows_3"]
	for i := range m.MaxEntries() {
		var b HostHostBucket
		if err := m.Lookup(i, &b); err != nil {
			s.t.Fatal(err)
		}
		for n := range b.Slot {
			b.Slot[n].Seen -= min(b.Slot[n].Seen, seconds)
		}
		if err := m.Put(i, b); err != nil {
			s.t.Fatal(err)
		}
	}
}

// The control plane's address opens nothing but the connection that the node
// itself made to it.
func TestControlAddressIsNoKey(t *testing.T) {
	control := netip.MustParseAddrPort("192.0.2.250:7781")
	b := newQuiet(t).benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Control: control})
	s := &siege{b, t, make([]byte, 2048)}
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), nil)
	to := func(port uint16, flags byte) []byte {
		return frameBetween(lb.TCP, "192.0.2.250", 7781, hostAddr, port, flags)
	}
	s.want("the node's stream", true, "host_out", frameBetween(lb.TCP, hostAddr, 45000, "192.0.2.250", 7781, first))
	s.want("its answer", true, "host_in", to(45000, second))
	s.want("a connection to the node's ssh", false, "host_in", to(22, first))
}

// Nobody outside sends from an address of the load balancer's own: its probes
// would lend them their exemption.
func TestGatewayRefusesItsOwnAddresses(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	s := &siege{b, t, make([]byte, 2048)}
	for _, from := range []string{"100.64.0.1", "100.127.255.254", vip, gwAddr} {
		for _, program := range []string{"gateway", "gateway_xdp"} {
			frame := frameBetween(lb.TCP, from, 4000, vip, 80, first)
			answer, err := s.run(program, frame, s.out)
			if err != nil {
				t.Fatal(err)
			}
			if drops := map[string]uint32{"gateway": actShot, "gateway_xdp": xdpDrop}[program]; answer != drops {
				t.Errorf("%s: from %s: answer %d, want a drop", program, from, answer)
			} else if e := s.lastTold(); e.Verdict.Reason != policy.Spoofed {
				t.Errorf("%s: from %s: dropped as %v, want spoofed", program, from, e.Verdict.Reason)
			}
		}
	}
	s.want("the neighbours of those ranges", true, "gateway", frameBetween(lb.TCP, "100.65.0.1", 4000, vip, 80, first))
}

// A flow that a rule let in is not booked on that rule once no group is bound.
func TestUnboundGroupCountsNothing(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	s := &siege{b, t, make([]byte, 2048)}
	for i, gate1 := range []*policy.Compiled{compiled(t, "sg-1", accept("0.0.0.0/0", 80)), nil} {
		gw, _ := pair(t, lb.Revision(i+1), gate1, compiled(t, "sg-2"))
		if err := b.Stage(t.Context(), gw); err != nil {
			t.Fatal(err)
		}
		if err := b.Commit(t.Context(), gw.Revision); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			s.want("a packet", true, "gateway", frameBetween(lb.TCP, clientA, 4000, vip, 80, later))
		}
	}
	if n := s.booked("pol-1"); n != 3 {
		t.Errorf("the rule counted %d packets, want the 3 that it let in", n)
	}
}

// booked is how many packets a rule has counted.
func (s *siege) booked(rule lb.RuleID) (n uint64) {
	s.t.Helper()
	all, err := s.Counters()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range all {
		if c.Rule == rule {
			n += c.Packets
		}
	}
	return n
}

// Rules come and go, many more than there are counters: each change is put in
// force all the same, and the rule that stays keeps its counts.
func TestCountersNeverRunOut(t *testing.T) {
	s := newSiege(t)
	none := compiled(t, "sg-e")
	size := s.maps["counters"].MaxEntries()
	id := 0
	for range 2*size/500 + 1 {
		rules := []policy.Rule{accept(clientA+"/32", 22)}
		for len(rules) < 500 {
			r := accept(netip.AddrFrom4([4]byte{10, 9, byte(len(rules) >> 8), byte(len(rules))}).String()+"/32", 22)
			r.ID, r.Pos = lb.RuleID(fmt.Sprintf("pol-x%d", id)), len(rules)+1
			id++
			rules = append(rules, r)
		}
		s.force(compiled(t, "sg-2", rules...), none, nil)
		s.want("the first rule's packet", true, "host_in", inbound(5000, 22, first))
		s.want("the last rule's packet", true, "host_in", frameBetween(lb.TCP, "10.9.1.243", 5000, service, 22, first))
		last := lb.RuleID(fmt.Sprintf("pol-x%d", id-1))
		if n := s.booked(last); n != 1 {
			t.Fatalf("%d rules so far: %s counted %d packets, want 1", id, last, n)
		}
		if s.rev == 20 {
			s.restart()
		}
	}
	if n := s.booked("pol-1"); n != uint64(s.rev) {
		t.Errorf("the rule that stayed counted %d packets, want %d", n, s.rev)
	}
}

// restart closes the datapath and opens it again on what it had pinned.
func (s *siege) restart() {
	s.t.Helper()
	o := s.opts
	s.told.Close()
	s.Close()
	d, err := inside(&world{t: s.t}, quietName(), func() (*Datapath, error) { return Open(o) })
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { d.Close() })
	s.bench = newBench(s.t, d)
	s.bench.rev = d.Revision()
}

// A state restored from a backup reaches the number that is in force with
// another content: that is an error, not the same thing.
func TestSameRevisionOtherContent(t *testing.T) {
	s := newSiege(t)
	none := compiled(t, "sg-e")
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 22)), none, nil)
	_, same := pair(t, s.rev, nil, compiled(t, "sg-2", accept("0.0.0.0/0", 22)))
	_, other := pair(t, s.rev, nil, compiled(t, "sg-2"))
	for range 2 {
		if err := s.Stage(t.Context(), same); err != nil {
			t.Errorf("what is in force was staged again: %v", err)
		}
		if err := s.Commit(t.Context(), same.Revision); err != nil {
			t.Fatal(err)
		}
		if err := s.Stage(t.Context(), other); err == nil {
			t.Error("another content of the revision in force was taken for what is in force")
		}
		s.restart()
	}
	s.want("a packet", true, "host_in", inbound(5000, 22, first))
}

// A host's key opens the way for answers of its targets to the gateway's
// sockets, not for connections to them.
func TestHostsReachNoSocketOfTheGateway(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	s := &siege{b, t, make([]byte, 2048)}
	from := func(port uint16, flags byte) []byte {
		return inTunnel(frameBetween(lb.TCP, service, port, gwAddr, 22, flags), hostAddr, gwAddr, 1, 7)
	}
	s.want("an answer", true, "gateway", from(8080, second))
	s.want("a connection", false, "gateway", from(8080, first))
	s.want("from another port", false, "gateway", from(4444, later))
}
