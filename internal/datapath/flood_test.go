// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"fmt"
	"net/netip"
	"sync/atomic"
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
		if table.Half > table.Slots/2 {
			t.Errorf("%s: %d of %d slots are half-open, more than half", what, table.Half, table.Slots)
		}
		if table.Live > table.Slots*3/4 {
			t.Errorf("%s: %d of %d slots are taken: no room is left for others", what, table.Live, table.Slots)
		}
	}
	newcomers := func(what string, least int) {
		t.Helper()
		news := 0
		for range 20 {
			if _, err := w.ask("dp-a", vip+":80", 2*time.Second); err == nil {
				news++
			}
		}
		t.Logf("%s: %d of 20 new clients of the load balancer are served", what, news)
		if news < least {
			t.Errorf("%s: %d of 20 new clients of the load balancer are served, want %d", what, news, least)
		}
	}
	flood("SYN flood", 2, 8080)
	newcomers("SYN flood", 20)
	flood("table flood", 16, 8080) // to the gate, a connection in progress
	newcomers("table flood", 10)   // some find all four of their slots taken in a table that is half full
	reasons, err := host.Reasons()
	if err != nil || reasons.Packets[policy.TableFull] == 0 {
		t.Errorf("nothing was refused for want of room: %v, %v", reasons.Packets, err)
	}
}

// The programs go on counting flows while no agent runs; the next one neither
// forgets what they counted nor lets a count below zero refuse anybody.
func TestBudgetsOutliveAnAgent(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	for port := range uint16(100) {
		s.want("a first packet", true, "host_in", inbound(5000+port, 8080, first))
	}
	s.restart()
	for what, i := range map[string]int{"direct": shareDirect, "half-open": shareHalf} {
		if row := s.shares[i]; row.Flows != 100 || row.Limit == 0 {
			t.Errorf("after a restart %+v %s flows are counted, want 100 and a limit", row, what)
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
