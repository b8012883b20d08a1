// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// No rule cuts a machine off from its server or its lease, whichever of its own
// addresses it speaks from and whatever its tunnel runs over; a guest is another
// machine.
func TestControlFromAnyOwnAddress(t *testing.T) {
	const server, other, guest = "172.16.0.250", "172.16.0.4", "10.0.2.9"
	for name, own := range map[string]string{"tunnel over IPv4": hostAddr, "tunnel over IPv6 only": "2001:db8:9::2"} {
		t.Run(name, func(t *testing.T) {
			s := &siege{newQuiet(t).benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(own),
				Control: netip.AddrPortFrom(netip.MustParseAddr(server), 7781)}), t, make([]byte, 2048)}
			out := func(src string) []byte { return frameBetween(lb.TCP, src, 45000, server, 7781, first) }
			in := func(dst string) []byte { return frameBetween(lb.TCP, server, 7781, dst, 45000, second) }
			s.want("the stream before anything is known", true, "host_out", out(other))
			s.want("its answer", true, "host_in", in(other))
			dark := compiled(t, "sg-e")
			s.force(compiled(t, "sg-2"), dark, func(h *snapshot.Snapshot) {
				h.Instances[0].Addrs = append(h.Instances[0].Addrs, netip.MustParseAddr(other))
				h.Instances = append(h.Instances, snapshot.Instance{ID: "ins-2", Addrs: []netip.Addr{netip.MustParseAddr(guest)},
					Ingress: dark.Hash, Egress: dark.Hash, Port: guestPort, MAC: guestMAC})
			})
			for _, addr := range []string{service, other} {
				s.want("the stream from "+addr, true, "host_out", out(addr))
				s.want("its answer to "+addr, true, "host_in", in(addr))
				s.want("a dial to "+addr, false, "host_in", frameBetween(lb.TCP, server, 7781, addr, 45000, first))
				s.want("a lease renewed from "+addr, true, "host_out", frameBetween(lb.UDP, addr, 68, "172.16.0.1", 67, 0))
				s.want("renewed for "+addr, true, "host_in", frameBetween(lb.UDP, "172.16.0.1", 67, addr, 68, 0))
				s.want("another port from "+addr, false, "host_out", frameBetween(lb.TCP, addr, 45000, server, 7782, first))
			}
			s.want("from nobody's address", false, "host_out", out("172.16.0.5"))
			s.want("from a guest's", false, "host_out", out(guest))
		})
	}
}
