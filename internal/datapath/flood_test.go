// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
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

// A flood of first packets, and one of half-made connections that the flooder
// goes on with, leave established flows, probes and, at last, new clients of a
// load balancer alive, on real packets.
func TestFloods(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Buckets: 512})
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	c, err := w.dial("dp-a", vip+":80", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	k := talk{c: c}
	flood := func(what string, flags byte, port uint16) {
		t.Helper()
		var frames [][]byte
		for i := range 20_000 {
			src := netip.AddrFrom4([4]byte{198, 51, byte(100 + i%2), byte(i >> 8)}).String()
			frames = append(frames, frameBetween(lb.TCP, src, uint16(1024+i), service, port, flags))
		}
		w.shoot("dp-b", service, frames)
		if !k.alive(3 * time.Second) {
			t.Fatalf("%s: the open connection broke", what)
		}
		use, err := host.Tables()
		if err != nil {
			t.Fatal(err)
		}
		table, reasons := use.Tables[0], fmt.Sprint(use.Full)
		t.Logf("%s of 20,000: %d of %d slots live, %d half-open, %s packets found no room", what, table.Live, table.Slots, table.Half, reasons)
		if table.Half > table.Slots/4 {
			t.Errorf("%s: %d of %d slots are half-open, more than a quarter", what, table.Half, table.Slots)
		}
		if table.Live > table.Slots*3/4 {
			t.Errorf("%s: %d of %d slots are taken: no room is left for others", what, table.Live, table.Slots)
		}
	}
	flood("SYN flood", 2, 8080)
	flood("table flood", 16, 8080) // to the gate, a connection in progress
	news := 0
	for range 20 {
		if _, err := w.ask("dp-a", vip+":80", 2*time.Second); err == nil {
			news++
		}
	}
	t.Logf("%d of 20 new clients of the load balancer are served", news)
	if news < 10 { // some find all four of their slots taken in a table that is half full
		t.Errorf("%d of 20 new clients of the load balancer are served", news)
	}
	reasons, err := host.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] == 0 {
		t.Errorf("nothing was refused for want of room: %v, %v", reasons.Packets, err)
	}
}
