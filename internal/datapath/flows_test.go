// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func (w *world) pairOpen() (gw, host *Datapath) {
	gw = w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host = w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)})
	return gw, host
}

// A talk is an open connection that asks for bytes. What it asked for in vain
// arrives once the way is free again.
type talk struct {
	c    net.Conn
	owed int
}

// alive reports whether everything asked for so far arrives in time.
func (k *talk) alive(wait time.Duration) bool {
	k.c.SetDeadline(time.Now().Add(wait))
	fmt.Fprintf(k.c, "send 3\n")
	k.owed += 3
	n, err := io.ReadFull(k.c, make([]byte, k.owed))
	k.owed -= n
	return err == nil
}

// A rule change reaches established flows, at either gate, and gives them back
// when it is taken back; restarts of both nodes' processes go unnoticed.
func TestEstablishedFlows(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	open1, open2 := compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080))
	onlyB1, onlyB2 := compiled(t, "sg-1", accept(clientB+"/32", 80)), compiled(t, "sg-2", accept(clientB+"/32", 8080))
	rev := lb.Revision(0)
	set := func(g1, g2 *policy.Compiled) {
		rev++
		s1, s2 := pair(t, rev, g1, g2)
		put(t, gw, host, s1, s2)
	}
	set(open1, open2)
	c, err := w.dial("dp-a", vip+":80", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	k := talk{c: c}
	for i, step := range []struct {
		g1, g2 *policy.Compiled
		alive  bool
	}{{onlyB1, open2, false}, {open1, open2, true}, {open1, onlyB2, false}, {open1, open2, true}} {
		set(step.g1, step.g2)
		wait := 400 * time.Millisecond
		if step.alive {
			wait = 5 * time.Second // the stack's own retransmission brings the lost bytes
		}
		if got := k.alive(wait); got != step.alive {
			t.Fatalf("step %d: the open connection lives: %v, want %v", i, got, step.alive)
		}
	}
	gw.Close()
	host.Close()
	for i := range 20 { // nobody at home: the kernel goes on
		if !k.alive(2 * time.Second) {
			t.Fatalf("round %d without a process: the connection broke", i)
		}
	}
	gw, host = w.pairOpen()
	if gw.Revision() != rev || host.Revision() != rev {
		t.Fatalf("revisions after the restart: %d and %d, want %d", gw.Revision(), host.Revision(), rev)
	}
	s1, s2 := pair(t, rev, open1, open2)
	put(t, gw, host, s1, s2)
	if !k.alive(2 * time.Second) {
		t.Fatal("the connection broke when the processes came back")
	}
	set(onlyB1, open2)
	if k.alive(400 * time.Millisecond) {
		t.Fatal("a change after the restart did not reach the open connection")
	}
	counters, err := gw.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range counters {
		if k.Rule == "pol-1" && (k.Packets < 20 || k.NewFlows != 2 || k.LastHit.IsZero()) {
			t.Errorf("gate 1's rule counted %+v, want more than 20 packets, the flow as new when it began and when it was let in again, and a last hit", k)
		}
		if k.Object == "lb-1" && k.Packets == 0 {
			t.Errorf("the implicit refusal counted nothing: %+v", k)
		}
	}
}

// tunnelConn opens a connection as the gateway's proxy and prober do: from an
// address that is not the gateway's, marked with the target.
func (w *world) tunnelConn(from, to string, target uint32, wait time.Duration) (net.Conn, error) {
	return inside(w, "dp-gw", func() (net.Conn, error) {
		d := net.Dialer{Timeout: wait, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
			Control: func(_, _ string, c syscall.RawConn) error {
				var err error
				c.Control(func(fd uintptr) {
					if err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_TRANSPARENT, 1); err == nil {
						err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(snapshot.TargetMark(target)))
					}
				})
				return err
			}}
		return d.Dial("tcp4", to)
	})
}

// tunnelDial opens one so and gives the first line that comes by it.
func (w *world) tunnelDial(from, to string, target uint32, wait time.Duration) (string, error) {
	c, err := w.tunnelConn(from, to, target, wait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

// Connections of the gateway's own proxy and prober pass gate 2 under the
// client's address or the VIP, and their answers return through the gateway.
func TestGatewaysOwnConnections(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	w.in("dp-gw", "ip", "rule", "add", "fwmark", fmt.Sprintf("%#x/%#x", snapshot.MarkLocal, snapshot.MarkMask), "lookup", fmt.Sprint(snapshot.LocalTable))
	w.in("dp-gw", "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", fmt.Sprint(snapshot.LocalTable))
	wait := 700 * time.Millisecond
	for i, row := range []struct {
		name   string
		gate2  *policy.Compiled
		proxy  bool
		probe  bool
		exempt bool
		pass   bool
	}{
		{"everyone", compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), true, true, false, false},
		{"the client only", compiled(t, "sg-2", accept(clientA+"/32", 8080)), true, false, false, false},
		{"the VIP only", compiled(t, "sg-2", accept(vip+"/32", 8080)), false, true, false, false},
		{"nobody", compiled(t, "sg-2"), false, false, false, false},
		{"nobody, probes exempt", compiled(t, "sg-2"), false, true, true, false},
		{"nobody, passed to target", compiled(t, "sg-2"), true, true, false, true},
	} {
		s1, s2 := pair(t, lb.Revision(i+1), nil, row.gate2)
		s2.Targets[0].ProbeExempt, s2.Targets[0].PassToTarget = row.exempt, row.pass
		put(t, gw, host, s1, s2)
		for _, c := range []struct {
			from   string
			served bool
		}{{clientA, row.proxy}, {vip, row.probe}} {
			seen, err := w.tunnelDial(c.from, service+":8080", 7, wait)
			if c.served != (err == nil) {
				t.Fatalf("%s: from %s: served %v, want %v (%v)", row.name, c.from, err == nil, c.served, err)
			}
			if c.served && !strings.HasPrefix(seen, c.from+":") {
				t.Errorf("%s: the server saw %s, want %s", row.name, seen, c.from)
			}
		}
	}
	// Probes of SourceIpType 1 come from an address for each gateway, and a host
	// lets in those of all of them.
	s1, s2 := pair(t, 100, nil, compiled(t, "sg-2"))
	s2.Targets[0].ProbeExempt, s2.Targets[0].ProbeSource = true, snapshot.ProbeAddress(0)
	put(t, gw, host, s1, s2)
	for from, served := range map[string]bool{"100.64.0.1": true, "100.64.0.2": true, "100.64.255.9": true, "100.65.0.1": false, clientA: false, vip: false} {
		if _, err := w.tunnelDial(from, service+":8080", 7, wait); served != (err == nil) {
			t.Errorf("SourceIpType 1: from %s: served %v, want %v (%v)", from, err == nil, served, err)
		}
	}
	if _, err := w.tunnelDial(clientA, service+":8080", 99, wait); err == nil {
		t.Error("a target that does not exist was reached")
	}
	t.Run("a target is taken away", func(t *testing.T) { w.takenAway(t, gw, host, 100) })
}

// Traffic straight to the instance passes gate 2 alone; what the instance
// begins follows its outbound rules, and replies follow their flow.
func TestDirectTraffic(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":22")
	w.serve("dp-host", service+":8081")
	w.serve("dp-a", clientA+":9000")
	wait := 600 * time.Millisecond
	icmp := policy.Rule{ID: "pol-2", Pos: 2, Action: lb.Accept, Proto: lb.ICMP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	out := accept("0.0.0.0/0", 9000)
	rev := lb.Revision(0)
	set := func(in *policy.Compiled, eg *policy.Compiled) {
		rev++
		s1, s2 := pair(t, rev, nil, in)
		s2.Policies[eg.Hash] = eg
		s2.Instances[0].Egress = eg.Hash
		put(t, gw, host, s1, s2)
	}
	ping := func(ns, to string) bool {
		return exec.Command("nsenter", "--net="+path(ns), "ping", "-c1", "-W1", to).Run() == nil
	}
	for _, row := range []struct {
		name                           string
		in, eg                         *policy.Compiled
		ssh, other, ping, out, pingOut bool
	}{
		{"22 and ping", compiled(t, "sg-2", accept("0.0.0.0/0", 22), icmp), compiled(t, "sg-e"), true, false, true, false, false},
		{"nothing in, all out", compiled(t, "sg-2"), compiled(t, "sg-e", out, icmp), false, false, false, true, true},
		{"8081 from another client", compiled(t, "sg-2", accept(clientB+"/32", 8081)), compiled(t, "sg-e"), false, false, false, false, false},
	} {
		set(row.in, row.eg)
		_, ssh := w.ask("dp-a", service+":22", wait)
		_, other := w.ask("dp-a", service+":8081", wait)
		_, dialled := w.ask("dp-host", clientA+":9000", wait)
		got := []bool{ssh == nil, other == nil, ping("dp-a", service), dialled == nil, ping("dp-host", clientA)}
		want := []bool{row.ssh, row.other, row.ping, row.out, row.pingOut}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: ssh, other port, ping, dialling out, pinging out are %v, want %v", row.name, got, want)
		}
	}
}

// What pretends to come from a VIP, or through the tunnel without the key,
// never reaches the instance.
func TestStrangersStayOutside(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, nil, compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	s1.Peers[0].Keys[0] = 0xbad
	put(t, gw, host, s1, s2)
	if _, err := w.ask("dp-a", vip+":80", 500*time.Millisecond); err == nil {
		t.Error("a tunnel packet with a wrong key was delivered")
	}
	reasons, err := host.Reasons()
	if err != nil || reasons.Packets[policy.UnknownGateway] == 0 {
		t.Errorf("reasons %v (%v): want packets of an unknown gateway", reasons.Packets, err)
	}
	w.in("dp-b", "ip", "addr", "add", vip+"/32", "dev", "eth0")
	inside(w, "dp-b", func() (bool, error) {
		d := net.Dialer{Timeout: 300 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(vip)}}
		_, err := d.Dial("tcp4", service+":8080")
		return false, err
	})
	if reasons, _ = host.Reasons(); reasons.Packets[policy.Spoofed] == 0 {
		t.Errorf("reasons %v: want spoofed packets", reasons.Packets)
	}
	if err := host.Commit(context.Background(), 9); err == nil {
		t.Error("a revision that was never staged was committed")
	}
}
