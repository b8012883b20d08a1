// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	vipB  = "192.0.2.2"
	vipB6 = "2001:db8:f::2"
)

// source is the source port of the IPv4 frame that came out last.
func (s *siege) source() uint16 { return binary.BigEndian.Uint16(s.out[34:]) }

// fill takes every tuple that the flow of a frame could have: that it has by
// itself is taken already, and of the others each is asked for in an empty table.
func (s *siege) fill(frame []byte) {
	s.t.Helper()
	var taken []uint16
	for range 4 {
		s.want("a flow that is moved", true, "host_in", frame)
		taken = append(taken, s.source())
		s.bench.forget(s.t)
		for _, port := range append([]uint16{5000}, taken...) {
			s.want("a connection", true, "host_in", inbound(port, 8080, first))
			s.want("its answer", true, "host_out", outbound(8080, port, second))
			s.want("its third", true, "host_in", inbound(port, 8080, later))
		}
	}
}

// sameService gives a second target at the same service, of another VIP.
func sameService(s *snapshot.Snapshot, vip netip.Addr, back bool) {
	other := s.Targets[0]
	other.Num, other.VIPs, other.ReturnVia = 8, []netip.Addr{vip}, back
	other.ID.Listener = "lbl-2"
	s.Targets, s.VIPs = append(s.Targets, other), append(s.VIPs, vip)
}

// A crossing is one client port that comes to a service by two VIPs and
// directly, on a host's programs.
type crossing struct {
	*bench
	t     *testing.T
	e     ends
	vipB  netip.Addr
	proto lb.Proto
}

func (c *crossing) frame(src, dst netip.AddrPort, flags byte) []byte {
	if c.proto == lb.TCP {
		return tcpFrame(src, dst, flags)
	}
	if src.Addr().Is6() {
		p := make([]byte, 8)
		binary.BigEndian.PutUint16(p, src.Port())
		binary.BigEndian.PutUint16(p[2:], dst.Port())
		p[5] = 8
		return ipv6Frame(lb.UDP, src.Addr(), dst.Addr(), p, 6)
	}
	return udpFrame(src, dst)
}

// run gives what one frame becomes: its ends, or none when it is dropped.
func (c *crossing) run(program string, frame []byte, length int) (src, dst netip.AddrPort, out []byte) {
	c.t.Helper()
	out = make([]byte, 2048)
	answer, err := c.bench.run(program, frame, out)
	if err != nil {
		c.t.Fatal(err)
	}
	if answer == actShot {
		return src, dst, nil
	}
	if answer == actRedirect { // back through the tunnel
		inner := append(append([]byte{}, out[:12]...), out[44], out[45])
		out = append(inner, out[14+tunnelOverhead:]...)
	}
	if src, dst, err = endsOf(out[:length]); err != nil {
		c.t.Error(err)
	}
	return src, dst, out[:length]
}

// in is the port by which the instance gets to know the client that sends to
// a VIP or to the service.
func (c *crossing) in(to netip.AddrPort, flags byte) uint16 {
	c.t.Helper()
	f := c.frame(netip.AddrPortFrom(c.e.client, 5000), to, flags)
	length := len(f)
	if target := map[netip.Addr]uint32{c.e.vip: 7, c.vipB: 8}[to.Addr()]; target != 0 {
		f = inTunnel(f, gwAddr, hostAddr, uint32(c.rev), target)
	}
	src, dst, _ := c.run("host_in", f, length)
	if want := netip.AddrPortFrom(c.e.service, 8080); src.Addr() != c.e.client || dst != want {
		c.t.Fatalf("to %v: came to %v from %v", to, dst, src)
	}
	return src.Port()
}

// out checks as what the instance's answer to a port leaves.
func (c *crossing) out(port uint16, as netip.AddrPort, flags byte) {
	c.t.Helper()
	f := c.frame(netip.AddrPortFrom(c.e.service, 8080), netip.AddrPortFrom(c.e.client, port), flags)
	src, dst, _ := c.run("host_out", f, len(f))
	if src != as || dst != netip.AddrPortFrom(c.e.client, 5000) {
		c.t.Errorf("the answer to port %d left from %v to %v, want from %v to port 5000", port, src, dst, as)
	}
}

// One port of a client's that comes to the same service by two VIPs and
// directly is three flows, of which the instance knows two by other ports, and
// everybody else by the client's own.
func TestSameClientPort(t *testing.T) {
	host := newQuiet(t).benchOf(lb.RoleHost, nil)
	for family, e := range families() {
		for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
			for _, back := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %v back %v", family, proto, back), func(t *testing.T) {
					c := &crossing{bench: host, t: t, e: e, vipB: netip.MustParseAddr(vipB), proto: proto}
					if e.vip.Is6() {
						c.vipB = netip.MustParseAddr(vipB6)
					}
					rule := policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: proto, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
					gw, s := pair(t, 1, nil, compiled(t, "sg-2", rule))
					e.in(gw, s)
					s.Targets[0].Proto = proto
					sameService(s, c.vipB, back)
					c.stage(t, s)
					if _, err := c.drain(); err != nil {
						t.Fatal(err)
					}
					c.meet()
					c.errors()
				})
			}
		}
	}
}

func (c *crossing) meet() {
	t := c.t
	t.Helper()
	a, b, direct := netip.AddrPortFrom(c.e.vip, 80), netip.AddrPortFrom(c.vipB, 80), netip.AddrPortFrom(c.e.service, 8080)
	ports := map[netip.AddrPort]uint16{}
	for _, to := range []netip.AddrPort{a, b, direct} {
		ports[to] = c.in(to, tcpSyn)
		if again := c.in(to, tcpSyn); again != ports[to] {
			t.Errorf("to %v: port %d, and %d when sent again", to, ports[to], again)
		}
		if e, err := c.next(); err != nil || e.Src.Port() != 5000 || e.Verdict.Reason != policy.RuleMatched {
			t.Errorf("to %v: told as %+v, %v", to, e, err)
		}
		c.out(ports[to], to, tcpSyn|tcpAck)
		if later := c.in(to, tcpAck); later != ports[to] {
			t.Errorf("to %v: port %d, and later %d", to, ports[to], later)
		}
	}
	if ports[a] != 5000 || ports[b] == 5000 || ports[direct] == 5000 || ports[b] == ports[direct] {
		t.Fatalf("the instance knows the client by %v", ports)
	}
	flows, err := c.Flows(flow.Query{})
	if err != nil || flows.Total != 3 {
		t.Fatalf("flows: %+v, %v", flows, err)
	}
	for _, f := range flows.Flows {
		if f.Peer.Port() != 5000 || ports[f.Dialled] == 0 {
			t.Errorf("listed as from %v to %v", f.Peer, f.Dialled)
		}
	}
	// When the first is gone, the others are what they were.
	c.in(a, tcpAck|0x04)
	c.drop(5000)
	for _, to := range []netip.AddrPort{b, direct} {
		if later := c.in(to, tcpAck); later != ports[to] {
			t.Errorf("to %v: port %d, and %d after the first flow's end", to, ports[to], later)
		}
		c.out(ports[to], to, tcpAck)
	}
	if again := c.in(a, tcpSyn); again != 5000 {
		t.Errorf("the first, begun again, has port %d", again)
	}
	for _, to := range []netip.AddrPort{b, direct} {
		if last := c.in(to, tcpAck|fin); last != ports[to] {
			t.Errorf("to %v: port %d, and %d at its end", to, ports[to], last)
		}
		c.out(ports[to], to, tcpAck|fin)
	}
}

// drop takes the slot of the flow that the instance knows by a port.
func (c *crossing) drop(port uint16) {
	for i := range c.hostFlows {
		for n := range c.hostFlows[i].Slot {
			if s := &c.hostFlows[i].Slot[n]; s.RemotePort == port {
				s.State = 0
			}
		}
	}
	for i := range c.hostFlows6 {
		for n := range c.hostFlows6[i].Slot {
			if s := &c.hostFlows6[i].Slot[n].Head; s.RemotePort == port {
				s.State = 0
			}
		}
	}
}

// errors has ICMP errors about the moved flows told to each side in its words.
func (c *crossing) errors() {
	t, e := c.t, c.e
	t.Helper()
	b, direct := netip.AddrPortFrom(c.vipB, 80), netip.AddrPortFrom(e.service, 8080)
	client := netip.AddrPortFrom(e.client, 5000)
	say := func(from, to netip.Addr, quote []byte) []byte {
		return icmpOf(from, to, unreachable4, unreachable6, 1400, quote[14:])
	}
	quoted := func(out []byte) (src, dst uint16) {
		at := 34 + 8 + 20
		if e.vip.Is6() {
			at = 54 + 8 + 40
		}
		checkSums(t, out)
		return binary.BigEndian.Uint16(out[at:]), binary.BigEndian.Uint16(out[at+2:])
	}
	for _, to := range []netip.AddrPort{b, direct} {
		port := c.in(to, tcpAck)
		f := say(e.router, to.Addr(), c.frame(to, client, tcpAck))
		length := len(f)
		if to == b {
			f = inTunnel(f, gwAddr, hostAddr, uint32(c.rev), 8)
		}
		if _, _, out := c.run("host_in", f, length); out == nil {
			t.Errorf("an error about what was sent as %v is dropped", to)
		} else if src, dst := quoted(out); src != 8080 || dst != port {
			t.Errorf("an error about what was sent as %v quotes ports %d and %d, want 8080 and %d", to, src, dst, port)
		}
		f = say(e.service, e.client, c.frame(netip.AddrPortFrom(e.client, port), direct, tcpAck))
		if _, _, out := c.run("host_out", f, len(f)); out == nil {
			t.Errorf("the instance's error about what came for %v is dropped", to)
		} else if src, dst := quoted(out); src != 5000 || dst != to.Port() {
			t.Errorf("the instance's error about what came for %v quotes ports %d and %d", to, src, dst)
		}
	}
}

// A datagram without a checksum still has none when its port was changed.
func TestNoChecksumStaysNone(t *testing.T) {
	e := families()["IPv4"]
	c := &crossing{bench: newQuiet(t).benchOf(lb.RoleHost, nil), t: t, e: e, vipB: netip.MustParseAddr(vipB), proto: lb.UDP}
	_, host := pair(t, 1, nil, compiled(t, "sg-2", anyProto(lb.UDP)))
	host.Targets[0].Proto = lb.UDP
	sameService(host, c.vipB, false)
	c.stage(t, host)
	c.in(netip.AddrPortFrom(e.vip, 80), 0)
	f := udpFrame(netip.AddrPortFrom(e.client, 5000), netip.AddrPortFrom(c.vipB, 80))
	f[40], f[41] = 0, 0
	out := make([]byte, 2048)
	if answer, err := c.bench.run("host_in", inTunnel(f, gwAddr, hostAddr, uint32(c.rev), 8), out); err != nil || answer != actNext {
		t.Fatalf("answer %#x, %v", answer, err)
	}
	if binary.BigEndian.Uint16(out[34:]) == 5000 || out[40] != 0 || out[41] != 0 {
		t.Errorf("%x", out[:len(f)])
	}
}

// With real TCP: one client port talks to two VIPs and to the instance itself,
// which are the same service, at once.
func TestSameClientPortLive(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	b := netip.MustParseAddr(vipB)
	sameService(s1, b, false)
	sameService(s2, b, true)
	s1.Targets[1].ReturnVia = true
	second := s1.Listeners[0]
	second.Num, second.ID, second.VIPs, second.Targets = 6, "lbl-2", []netip.Addr{b}, []snapshot.TargetRef{{Num: 8, Weight: 10}}
	s1.Listeners = append(s1.Listeners, second)
	put(t, gw, host, s1, s2)
	conns, seen := map[string]net.Conn{}, map[string]string{}
	for _, to := range []string{vip + ":80", vipB + ":80", service + ":8080"} {
		c, err := w.dialFrom("dp-a", 45000, to)
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		defer c.Close()
		conns[to] = c
	}
	for to, c := range conns {
		c.SetDeadline(time.Now().Add(5 * time.Second))
		r := bufio.NewReader(c)
		peer, err := r.ReadString('\n')
		if err == nil {
			fmt.Fprintf(c, "take %d\n", 100_000)
			c.Write(make([]byte, 100_000))
			_, err = r.ReadString('\n')
		}
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		if at := netip.MustParseAddrPort(peer[:len(peer)-1]); at.Addr().String() != clientA || seen[peer] != "" {
			t.Errorf("%s: the server saw %s", to, peer)
		}
		seen[peer] = to
	}
	flows, err := host.Flows(flow.Query{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range flows.Flows {
		if f.Peer.Port() == 45000 {
			delete(conns, f.Dialled.String())
		}
	}
	if len(conns) != 0 {
		t.Errorf("not listed under the client's port: %v in %+v", conns, flows.Flows)
	}
}

// dialFrom dials from a port that other connections may have too.
func (w *world) dialFrom(ns string, port int, to string) (net.Conn, error) {
	return inside(w, ns, func() (net.Conn, error) {
		d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(clientA), Port: port}, Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			return err
		}}
		return d.Dial("tcp4", to)
	})
}
