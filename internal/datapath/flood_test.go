// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// shoot sends IPv4 packets from a namespace, whatever source they name.
func (w *world) shoot(ns, to string, frames [][]byte) {
	w.t.Helper()
	_, err := inside(w, ns, func() (bool, error) {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
		if err != nil {
			return false, err
		}
		defer unix.Close(s)
		for _, f := range frames {
			if err := unix.Sendto(s, f[14:], 0, &unix.SockaddrInet4{Addr: netip.MustParseAddr(to).As4()}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Vitals are what no flood may hurt, each a thing that can be done once more: a
// client's open connection, both agents' control streams, a probe.
type vitals map[string]func() error

const server = "192.0.2.250:7781" // where control streams lead

// vitals opens the connections, between gateway and host as pair has them. The
// host's rules let none of its own out: its control stream passes by the system
// rule alone.
func (w *world) vitals() vitals {
	w.t.Helper()
	w.host("dp-server", "192.0.2.250")
	w.serve("dp-server", server)
	w.in("dp-gw", "ip", "rule", "add", "fwmark", fmt.Sprintf("%#x/%#x", snapshot.MarkLocal, snapshot.MarkMask), "lookup", fmt.Sprint(snapshot.LocalTable))
	w.in("dp-gw", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", fmt.Sprint(snapshot.LocalTable))
	v := vitals{"probe": w.probe}
	for name, way := range map[string][3]string{"open connection": {"dp-a", clientA, vip + ":80"},
		"gateway's control stream": {"dp-gw", gwAddr, server}, "host's control stream": {"dp-host", hostAddr, server}} {
		d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(way[1])}}
		c, err := inside(w, way[0], func() (net.Conn, error) { return d.Dial("tcp", way[2]) })
		if err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		w.t.Cleanup(func() { c.Close() })
		if _, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil {
			w.t.Fatalf("%s: %v", name, err)
		}
		k := talk{c: c}
		v[name] = func() error {
			if !k.alive(3 * time.Second) {
				return errors.New("it broke")
			}
			return nil
		}
	}
	return v
}

// probe connects to the target as the prober does: from the VIP, by its mark, within
// the least that a check waits.
func (w *world) probe() error {
	d := net.Dialer{Timeout: 2 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(vip)}, Control: func(_, _ string, c syscall.RawConn) error {
		var err1, err2 error
		err := c.Control(func(fd uintptr) {
			err1 = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1)
			err2 = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(snapshot.TargetMark(7)))
		})
		return errors.Join(err, err1, err2)
	}}
	c, err := inside(w, "dp-gw", func() (net.Conn, error) { return d.Dial("tcp", service+":8080") })
	if err != nil {
		return err
	}
	c.(*net.TCPConn).SetLinger(0)
	return c.Close()
}

// during does all of them over and over while a flood runs, and once after it.
func (v vitals) during(t *testing.T, what string, flood func()) {
	t.Helper()
	over := make(chan struct{})
	var all sync.WaitGroup
	for name, once := range v {
		all.Go(func() {
			pace := time.NewTicker(25 * time.Millisecond) // more probes would be a flood of their own
			defer pace.Stop()
			var slowest time.Duration
			n := 0
			for last := false; !last; n++ {
				select {
				case <-over:
					last = true
				default:
				}
				<-pace.C
				began := time.Now()
				if err := once(); err != nil {
					t.Errorf("%s: %s, time %d: %v", what, name, n+1, err)
					return
				}
				slowest = max(slowest, time.Since(began))
			}
			t.Logf("%s: %s: %d times, never lost, the slowest took %v", what, name, n, slowest.Round(time.Microsecond))
		})
	}
	flood()
	close(over)
	all.Wait()
}

// A flood of first packets, and one of half-made connections that the flooder
// goes on with, leave established flows, probes, both control streams and new
// clients of the flooded load balancer alive, each of them, on real packets.
func TestFloods(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: 512})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Buckets: 512, Control: netip.MustParseAddrPort(server)})
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	v := w.vitals()
	flood := func(what string, flags byte, to string, port uint16) {
		t.Helper()
		var frames [][]byte
		for i := range 20_000 {
			src := netip.AddrFrom4([4]byte{198, 51, byte(100 + i%2), byte(i >> 8)}).String()
			frames = append(frames, frameBetween(lb.TCP, src, uint16(1024+i), to, port, flags))
		}
		v.during(t, what, func() { w.shoot("dp-b", to, frames) })
		use, err := host.Tables()
		if err != nil {
			t.Fatal(err)
		}
		table := use.Tables[0]
		t.Logf("%s of 20,000: %d of %d slots live, %d half-open, %d packets found no room", what, table.Live, table.Slots, table.Half, use.Full)
		if table.Half < table.Slots/2 {
			t.Errorf("%s: %d of %d slots are half-open: that is no flood", what, table.Half, table.Slots)
		}
	}
	newcomers := func(what string) {
		t.Helper()
		news := 0
		for range 20 {
			if _, err := w.ask("dp-a", vip+":80", 2*time.Second); err == nil {
				news++
			}
		}
		t.Logf("%s: %d of 20 new clients of the load balancer are served", what, news)
		if news < 20 {
			t.Errorf("%s: only %d of 20 new clients of the load balancer are served", what, news)
		}
	}
	flood("SYN flood", 2, service, 8080)
	newcomers("SYN flood")
	flood("table flood", 16, service, 8080) // to the gate, a connection in progress
	newcomers("table flood")
	flood("SYN flood of the VIP", 2, vip, 80)
	newcomers("SYN flood of the VIP")
	reasons, err := host.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] != 0 {
		t.Errorf("packets of flows that anybody may replace were refused for want of room: %v, %v", reasons.Packets, err)
	}
}

// The programs go on counting flows while no agent runs; the next one neither
// forgets what they counted nor lets a count below zero refuse anybody.
func TestBudgetsOutliveAnAgent(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.mu.Lock() // the agent does not count meanwhile: it would miss some until it counts again
	for port := range uint16(100) {
		s.want("a first packet", true, "host_in", inbound(5000+port, 8080, first))
		if port < 60 {
			s.want("its answer", true, "host_out", outbound(8080, 5000+port, second))
			s.want("what follows", true, "host_in", inbound(5000+port, 8080, later))
		}
	}
	s.mu.Unlock()
	s.restart()
	for what, want := range map[string][2]uint32{"established": {shareDirect, 60}, "half-open": {shareHalf, 40}} {
		if row := s.shares[want[0]]; row.Flows != want[1] || row.Limit == 0 {
			t.Errorf("after a restart %+v %s flows are counted, want %d and a limit", row, what, want[1])
		}
	}
	for _, i := range []int{shareDirect, shareHalf} {
		atomic.StoreUint32(&s.shares[i].Flows, ^uint32(4))
	}
	for port := range uint16(100) {
		s.want("a first packet where a count is below zero", true, "host_in", inbound(6000+port, 8080, first))
	}
	for port := range uint16(300) { // too many half-open ones, but the share has room
		atomic.StoreUint32(&s.shares[shareHalf].Flows, s.shares[shareHalf].Limit)
		atomic.StoreUint32(&s.shares[shareDirect].Flows, 0)
		s.want("a first packet among too many", true, "host_in", inbound(7000+port, 8080, first))
	}
}

// Flows that have ended, or that nobody answered, may be replaced by anybody: however
// many one load balancer has, its next client finds a place.
func TestEndedAndHalfOpenFlowsRefuseNobody(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	half := uint16(s.buckets(0)) // as many as a load balancer may have established
	for port := range half * 3 / 2 {
		s.want("a first packet", true, "host_in", s.through(5000+port, first))
		if port%2 == 0 {
			s.want("a reset", true, "host_in", s.through(5000+port, reset))
		}
	}
	refused := 0
	for port := range 4 * half {
		if !s.passes("host_in", s.through(20000+port, first)) {
			refused++
		}
	}
	if refused > 0 {
		t.Errorf("%d of %d new clients found no place beside ended and half-open flows", refused, 4*half)
	}
}

// Established flows of one load balancer hold half of a table, whatever it sends:
// the rest takes in others.
func TestEstablishedFlowsOfOneLeaveRoom(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.mu.Lock()
	slots, open := uint16(2*s.buckets(0)), uint16(0)
	for port := range 4 * slots {
		if s.passes("host_in", s.through(5000+port, first)) && s.passes("host_out", frameBetween(lb.TCP, service, 8080, clientA, 5000+port, second)) && s.passes("host_in", s.through(5000+port, later)) {
			open++
		}
	}
	s.mu.Unlock()
	if open < slots/2 || open > slots*5/8 {
		t.Errorf("%d flows of one load balancer are established in a table of %d, want a half", open, slots)
	}
	reasons, err := s.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] == 0 {
		t.Errorf("no flow was refused for want of room: %v, %v", reasons.Packets[policy.TableFull], err)
	}
	if _, err := s.Tables(); err != nil { // the agent counts, and sets the others' budgets
		t.Fatal(err)
	}
	news := 0
	for port := range slots / 8 {
		if s.passes("host_in", frameBetween(lb.TCP, clientB, 5000+port, service, 8080, first)) {
			news++
		}
	}
	if news < int(slots)/8-3 { // a few find that nobody can give way
		t.Errorf("%d of %d direct clients found a place", news, slots/8)
	}
}
