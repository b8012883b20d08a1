// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// The machine's own gate stands also between it and its guests.
func TestGuestAndItsMachine(t *testing.T) {
	for _, kind := range []string{"veth", "bridge"} {
		for _, every := range []bool{false, true} {
			t.Run(kind+map[bool]string{true: " every"}[every], func(t *testing.T) {
				w := newWorld(t)
				gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
				host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Every: every})
				w.guestHost(kind)
				w.serve("dp-host", service+":8080")
				w.serve("dp-host", hostAddr+":2222")
				w.serve("dp-guest", guestAddr+":8080")
				nobody, any := compiled(t, "sg-none"), toAll(t, "sg-any")
				s1, s2 := withGuest(t, 1, nobody, any, any, nil) // the machine: nothing in, nothing out
				put(t, gw, host, s1, s2)
				if _, err := w.ask("dp-a", guestAddr+":8080", 5*time.Second); err != nil {
					t.Fatal(err)
				}
				if _, err := w.ask("dp-a", service+":8080", 300*time.Millisecond); err == nil {
					t.Error("the machine serves a client")
				}
				for _, to := range []string{service + ":8080", hostAddr + ":2222"} {
					if seen, err := w.ask("dp-guest", to, 300*time.Millisecond); err == nil {
						t.Errorf("a guest reaches %s of the machine, whose rules let nobody in: seen as %s", to, seen)
					}
				}
				asked := func() error {
					conn, err := inside(w, "dp-host", func() (net.Conn, error) {
						from := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(service + ":0"))
						return (&net.Dialer{LocalAddr: from, Timeout: 300 * time.Millisecond}).Dial("tcp", guestAddr+":8080")
					})
					if err == nil {
						conn.Close()
					}
					return err
				}
				if asked() == nil {
					t.Error("the machine, whose rules let nothing out, reaches its guest")
				}
				s1, s2 = withGuest(t, 2, any, any, any, nil)
				s2.Instances[0].Egress = any.Hash
				put(t, gw, host, s1, s2)
				if _, err := w.ask("dp-guest", service+":8080", 5*time.Second); err != nil {
					t.Errorf("with rules that let everybody in, the guest does not reach its machine: %v; %v", err, reasonsOf(t, host))
				}
				if err := asked(); err != nil {
					t.Errorf("with rules that let everything out, the machine does not reach its guest: %v; %v", err, reasonsOf(t, host))
				}
			})
		}
	}
}
