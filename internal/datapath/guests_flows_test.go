// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// greeted reads what a server says first, and gives the connection to talk on.
func greeted(t *testing.T, c net.Conn, err error) (talk, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReaderSize(c, 64).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return talk{c: c}, line
}

// former writes a host's flows as the release before last did, in the place of
// its tables, as an upgrade finds them.
func (w *world) former(t *testing.T, host *Datapath) {
	w.t.Helper()
	var all []HostHostFlow
	for i := range host.hostFlows {
		for _, s := range host.hostFlows[i].Slot {
			if s.State == 2 {
				all = append(all, s)
			}
		}
	}
	dir := host.opts.PinDir
	host.Close()
	p := predecessor{t: t, m: pinFormer(t, dir), key: host.key}
	defer p.m.Close()
	for _, s := range all {
		f := HostFormerFlow{Revision: s.Revision, Remote: s.Remote, Local: s.Local, RemotePort: s.RemotePort, LocalPort: s.LocalPort, Proto: s.Proto,
			Opener: s.Opener, State: s.State, Flags: s.Flags & 63, Vip: s.Vip, Vport: s.Vport, Target: s.Target, Counter: s.Counter, Seen: s.Seen}
		if s.Gateway != 0 {
			f.Gateway = rawAddr(netip.MustParseAddr(gwAddr)).W[0]
		}
		p.put(f)
	}
	for _, name := range []string{"host_flows_3", "host_flows6_3"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// A guest's flows are moved like the machine's own: by an upgrade out of the table
// of the former layout, whichever way they go, and to another port where a
// client's one port comes to the guest by the VIP and directly.
func TestMovedFlowsAtAGuestsPort(t *testing.T) {
	w := newWorld(t)
	options := Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)}
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host := w.open("dp-host", options)
	w.guestHost("veth")
	w.serve("dp-guest", guestAddr+":8080")
	w.serve("dp-a", clientA+":9000")
	nobody, onlyA := compiled(t, "sg-none"), compiled(t, "sg-a", accept(clientA+"/32", 0))
	s1, s2 := withGuest(t, 1, nobody, onlyA, onlyA, nil)
	put(t, gw, host, s1, s2)
	if _, err := w.ask("dp-a", vip+":80", 5*time.Second); err != nil { // its port is guarded
		t.Fatal(err)
	}
	open := map[string]*talk{}
	begin := func(name string, c net.Conn, err error) string {
		t.Helper()
		k, line := greeted(t, c, err)
		open[name] = &k
		return line
	}
	through, err := w.dialFrom("dp-a", 45000, vip+":80")
	begin("through the VIP", through, err)
	dialled, err := w.dial("dp-guest", clientA+":9000", 2*time.Second)
	begin("the guest's own", dialled, err)
	alive := func(when string) {
		t.Helper()
		for name, k := range open {
			if !k.alive(5 * time.Second) {
				t.Errorf("%s: the connection %s broke: %v", when, name, reasonsOf(t, host))
			}
		}
	}
	alive("before")
	w.former(t, host)
	host = w.open("dp-host", options)
	again := *s2
	again.Revision++
	stageCommit(t, host, &again) // and soon the guest's port has the new programs
	for until := time.Now().Add(10 * time.Second); ; {
		alive("out of the former table")
		flows, err := host.Flows(flow.Query{})
		if err == nil && flows.Total == len(open) {
			break
		}
		if err != nil || time.Now().After(until) || t.Failed() {
			t.Fatalf("in the new table: %+v, %v", flows, err)
		}
	}
	// Nobody whose flow was in no table gets in.
	if _, err := w.ask("dp-b", guestAddr+":8080", 300*time.Millisecond); err == nil {
		t.Error("a stranger is served")
	}

	direct, err := w.dialFrom("dp-a", 45000, guestAddr+":8080")
	if line := begin("directly, from the same port", direct, err); line == clientA+":45000\n" {
		t.Errorf("the guest knows both by %s", line)
	}
	alive("with the same port twice")
	host.Close()
	host = w.open("dp-host", options)
	alive("with another agent")
	again.Revision++
	stageCommit(t, host, &again)
	alive("at another revision")
}

// What a guest answers and does not fit into the tunnel back to its gateway, whose
// underlay turns out narrower than the guest's link, is told to the guest, and its
// transfer goes on.
func TestGuestIsToldASize(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.guestHost("veth")
	w.serve("dp-guest", guestAddr+":8080")
	any := compiled(t, "sg-any", accept("0.0.0.0/0", 0))
	s1, s2 := withGuest(t, 1, compiled(t, "sg-none"), any, compiled(t, "sg-out"), func(x *snapshot.Target) { x.ReturnVia = true })
	put(t, gw, host, s1, s2)
	c, err := w.dial("dp-a", vip+":80", 5*time.Second)
	k, _ := greeted(t, c, err)
	w.in("dp-fabric", "ip", "link", "set", "dp-gw", "mtu", "1400")
	w.in("dp-gw", "ip", "link", "set", "eth0", "mtu", "1400")
	const n = 1 << 20
	began := time.Now()
	k.c.SetDeadline(began.Add(20 * time.Second))
	if _, err = fmt.Fprintf(k.c, "send %d\n", n); err == nil {
		_, err = io.CopyN(io.Discard, k.c, n)
	}
	told := reason(t, host, policy.TooBig)
	t.Logf("1 MB in %v, %d packets of the guest were too big", time.Since(began).Round(time.Millisecond), told)
	if err != nil || told == 0 {
		t.Errorf("%v; the host counted %v, the gateway %v", err, reasonsOf(t, host), reasonsOf(t, gw))
	}
}
