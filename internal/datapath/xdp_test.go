// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// Both hooks of the gateway make the same tunnel packet of the same segment.
func TestBothHooksTunnelAlike(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	w.in("dp-gw", "ping", "-c1", "-W2", "192.0.2.254") // so that the neighbour is known
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	if err := gw.Stage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := gw.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	frame := tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 4000, 80, 2)
	run := func(program string, want uint32) []byte {
		opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, 256)}
		got, err := gw.loaded(t, program).Run(opts)
		if err != nil || got != want {
			t.Fatalf("%s answered %d (%v), want %d", program, got, err, want)
		}
		return opts.DataOut
	}
	const xdpRedirect = 4 // a test run's packet comes from another device than the peer's
	late, early := run("gateway", actRedirect), run("gateway_xdp", xdpRedirect)
	if !bytes.Equal(late, early) {
		t.Errorf("TC made\n%x\nXDP made\n%x", late, early)
	}
}

// A flow weighs on its target once, though the early hook leaves its packet to
// the other one, and not at all while nothing of it was sent.
func TestFlowWeighsOnce(t *testing.T) {
	c := newChooser(t, 10)
	c.change(func(s *snapshot.Snapshot) { s.Listeners[0].Scheduler = lb.SchedulerLeast })
	load := func() uint32 { return atomic.LoadUint32(&c.gw.targets.rows[c.gw.targets.at[1]].Load) }
	const xdpPass = 2
	great := append(tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 4000, 80, flagSYN), make([]byte, 1500)...)
	binary.BigEndian.PutUint16(great[16:], uint16(len(great)-14)) // too much for the tunnel
	if got, err := c.gw.loaded(t, "gateway_xdp").Run(&ebpf.RunOptions{Data: great}); err != nil || got != xdpPass {
		t.Fatalf("the early hook answered %d (%v), want %d", got, err, xdpPass)
	}
	if _, err := c.gw.progs["gateway"].Run(&ebpf.RunOptions{Data: great, DataOut: make([]byte, 4096)}); err != nil {
		t.Fatal(err)
	}
	if got := load(); got != 0 {
		t.Errorf("what was not sent weighs %d", got)
	}
	c.send(0, flagSYN)
	once := load()
	c.send(0, flagSYN)
	c.send(0, flagACK)
	if got := load(); once == 0 || got != once {
		t.Errorf("one flow weighs %d, with its further packets %d", once, got)
	}
}

// A packet whose host is reached by another device than it came by is the other
// hook's, which every device sends out: unbooked here, and sent there.
func TestEarlyHookKeepsToItsDevice(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	b.stage(t, gw)
	frame := tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 4000, 80, flagSYN)
	answers := func(program string) uint32 {
		answer, err := b.run(program, frame, make([]byte, 256))
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	const xdpPass, xdpRedirect = 2, 4
	if got := answers("gateway_xdp"); got != xdpRedirect {
		t.Fatalf("by its own device: answer %d, want %d", got, xdpRedirect)
	}
	for i := range b.peers.rows {
		if p := &b.peers.rows[i]; p.Num != 0 {
			p.V[p.Which&1].Ifindex = 1
		}
	}
	before := reasonsOf(t, b.Datapath)
	if got := answers("gateway_xdp"); got != xdpPass || !maps.Equal(before, reasonsOf(t, b.Datapath)) {
		t.Errorf("by another device: answer %d, want %d; counted %v, then %v", got, xdpPass, before, reasonsOf(t, b.Datapath))
	}
	if got := answers("gateway"); got != actRedirect {
		t.Errorf("the other hook answers %#x", got)
	}
}
