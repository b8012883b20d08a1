// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
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
		got, err := gw.progs[program].Run(opts)
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
