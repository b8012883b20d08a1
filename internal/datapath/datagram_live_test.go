// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// echo answers every datagram in a namespace with what it says and its peer.
func (w *world) echo(ns, addr string) {
	w.t.Helper()
	conn, err := inside(w, ns, func() (net.PacketConn, error) { return net.ListenPacket("udp4", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	go func() {
		for buf := make([]byte, 2048); ; {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			conn.WriteTo(fmt.Appendf(nil, "%s from %v", buf[:n], from), from)
		}
	}()
}

// say sends a datagram from a namespace and gives the answer.
func (w *world) say(ns, to string, wait time.Duration, options ...int) (string, error) {
	return inside(w, ns, func() (string, error) {
		dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
			var err error
			for _, option := range options {
				c.Control(func(fd uintptr) { err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, 1)) })
			}
			return err
		}}
		conn, err := dialer.Dial("udp4", to)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(wait))
		if _, err := conn.Write([]byte("hello")); err != nil {
			return "", err
		}
		buf := make([]byte, 2048)
		n, err := conn.Read(buf)
		return string(buf[:n]), err
	})
}

// udpPair is pair for a UDP listener on the ports 8080 to 8090, probed at 8080.
func udpPair(t *testing.T, rev lb.Revision, gate2 *policy.Compiled) (gw, host *snapshot.Snapshot) {
	gw, host = pair(t, rev, nil, gate2)
	gw.Fronts = []snapshot.Front{{Addr: gw.VIPs[0], Balancer: "lb-1", BalancerNum: 1}}
	l := &gw.Listeners[0]
	l.Proto, l.Port, l.EndPort = lb.UDP, 8080, 8090
	for _, s := range []*snapshot.Snapshot{gw, host} {
		row := &s.Targets[0]
		row.Proto, row.VPort, row.VPortEnd, row.ProbePing = lb.UDP, 8080, 8090, true
	}
	return gw, host
}

// Real datagrams through both gates and the tunnel, and the prober's own.
func TestDatagramsLive(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.in("dp-gw", "ip", "rule", "add", "fwmark", fmt.Sprintf("%#x/%#x", snapshot.MarkLocal, snapshot.MarkMask), "lookup", fmt.Sprint(snapshot.LocalTable))
	w.in("dp-gw", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", fmt.Sprint(snapshot.LocalTable))
	w.in("dp-gw", "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.eth0.rp_filter=0")
	w.echo("dp-host", ":8080")
	w.echo("dp-host", ":8085")
	open := policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.UDP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	ping := policy.Rule{ID: "pol-2", Pos: 2, Action: lb.Accept, Proto: lb.ICMP, Peers: []netip.Prefix{netip.MustParsePrefix(vip + "/32")}}
	s1, s2 := udpPair(t, 1, compiled(t, "sg-2", open, ping))
	put(t, gw, host, s1, s2)

	for _, port := range []string{"8080", "8085"} {
		said, err := w.say("dp-a", vip+":"+port, 3*time.Second)
		if err != nil || said[:15] != "hello from "+clientA[:4] {
			t.Errorf("port %s: %q, %v", port, said, err)
		}
	}
	// A datagram without a checksum stays one: a made-up one would be wrong.
	if said, err := w.say("dp-a", vip+":8080", 3*time.Second, unix.SO_NO_CHECK); err != nil {
		t.Errorf("without a checksum: %q, %v", said, err)
	}
	if said, err := w.say("dp-a", vip+":8091", 300*time.Millisecond); err == nil {
		t.Errorf("a port that the listener has not answered %q", said)
	}

	dialer := node.TransparentDialer{}
	from, to, mark := netip.MustParseAddr(vip), netip.MustParseAddr(service), snapshot.TargetMark(7)
	checked := uint16(8080)
	probe := func(wait time.Duration) (pinged, answered error) {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		_, pinged = inside(w, "dp-gw", func() (bool, error) { return true, dialer.Ping(ctx, from, to, mark) })
		_, answered = inside(w, "dp-gw", func() (bool, error) {
			conn, err := dialer.Datagram(t.Context(), netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, checked), mark)
			if err != nil {
				return false, err
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(wait))
			if _, err := conn.Write([]byte("probe")); err != nil {
				return false, err
			}
			_, err = conn.Read(make([]byte, 100))
			return true, err
		})
		return pinged, answered
	}
	if pinged, answered := probe(3 * time.Second); pinged != nil || answered != nil {
		t.Errorf("healthy: ping %v, datagram %v", pinged, answered)
	}
	// A closed port says so, and the word finds the prober's socket.
	s1, s2 = udpPair(t, 2, compiled(t, "sg-2", open, ping))
	for _, s := range []*snapshot.Snapshot{s1, s2} {
		s.Targets[0].ProbePort = 8087
	}
	put(t, gw, host, s1, s2)
	checked = 8087
	if pinged, answered := probe(3 * time.Second); pinged != nil || !errors.Is(answered, syscall.ECONNREFUSED) {
		t.Errorf("closed port: ping %v, datagram %v", pinged, answered)
	}
	checked = 8080
	// Gate 2 refuses the ping, and then everything.
	s1, s2 = udpPair(t, 3, compiled(t, "sg-2", open))
	put(t, gw, host, s1, s2)
	if pinged, answered := probe(300 * time.Millisecond); !timedOut(pinged) || answered != nil {
		t.Errorf("without the ping's rule: ping %v, datagram %v", pinged, answered)
	}
	s1, s2 = udpPair(t, 4, compiled(t, "sg-2"))
	put(t, gw, host, s1, s2)
	if pinged, answered := probe(300 * time.Millisecond); !timedOut(pinged) || !timedOut(answered) {
		t.Errorf("without rules: ping %v, datagram %v", pinged, answered)
	}
	// A system rule lets both in, and no client.
	s1, s2 = udpPair(t, 5, compiled(t, "sg-2"))
	for _, s := range []*snapshot.Snapshot{s1, s2} {
		s.Targets[0].ProbeExempt = true
	}
	put(t, gw, host, s1, s2)
	if pinged, answered := probe(3 * time.Second); pinged != nil || answered != nil {
		t.Errorf("exempt: ping %v, datagram %v", pinged, answered)
	}
	if said, err := w.say("dp-a", vip+":8080", 300*time.Millisecond); err == nil {
		t.Errorf("a client was let in with the probes: %q", said)
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
