// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// neighbour is a message of neighbour discovery from src about target, with a MAC address
// that the others on the link shall take for its.
func neighbour(kind byte, src, target string, mac []byte) []byte {
	f := frameOf(lb.Packet{Proto: lb.ICMPv6, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr("ff02::1")}, 0)[:62]
	f[21], f[54] = 255, kind
	f[58] = 0x20 // of an advertisement: whatever you knew before
	raw := netip.MustParseAddr(target).As16()
	f = append(append(f, raw[:]...), 2, 1)
	copy(f[6:], mac)
	binary.BigEndian.PutUint16(f[18:], uint16(len(f)+6-54))
	return append(f, mac...)
}

// Who claims another's address by neighbour discovery gets its traffic: a guest that of
// its router, a machine that of a VIP.
func TestNobodyClaimsAnothersIPv6Address(t *testing.T) {
	s := newSiege(t)
	mac, err := net.ParseMAC(guestMAC)
	if err != nil {
		t.Fatal(err)
	}
	const own, ownLink, elsewhere = "2001:db8:10::9", "fe80::ff:fe00:9", "2001:db8:10::77"
	dark := compiled(t, "sg-dark")
	s.force(dark, dark, func(h *snapshot.Snapshot) {
		h.Instances = append(h.Instances, snapshot.Instance{ID: "ins-2", Addrs: []netip.Addr{netip.MustParseAddr(guestAddr), netip.MustParseAddr(own)}, Ingress: dark.Hash, Egress: dark.Hash, Port: guestPort, MAC: guestMAC})
		h.Instances[0].Addrs = append(h.Instances[0].Addrs, netip.MustParseAddr(service6))
		h.VIPs = append(h.VIPs, netip.MustParseAddr(vip6))
	})
	// Frames of a test run come by one of the first interfaces. Nothing is at any, so the rows
	// would be cleared by and by.
	run := func(name string, passes bool, program string, frame []byte) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range uint32(8) {
			if err := s.maps["guest_ports"].Put(i, &HostGuestPort{Mac: [6]byte(mac)}); err != nil {
				t.Fatal(err)
			}
		}
		s.want(name, passes, program, frame)
	}
	const solicits, adverts = 135, 136
	for _, tt := range []struct {
		name, program string
		kind          byte
		src, about    string
		passes        bool
	}{
		{"a guest says where it is itself", "guest_out", adverts, ownLink, ownLink, true},
		{"a guest asks for its router", "guest_out", solicits, ownLink, "fe80::1", true},
		{"a guest asks whether an address is free", "guest_out", solicits, "::", ownLink, true},
		{"a guest is its router", "guest_out", adverts, "fe80::1", "fe80::1", false},
		{"a guest says that its router is here", "guest_out", adverts, ownLink, "fe80::1", false},
		{"a guest is another machine", "guest_out", adverts, ownLink, elsewhere, false},
		{"a guest asks as its router", "guest_out", solicits, "fe80::1", ownLink, false},
		{"a machine says where it is itself", "host_out", adverts, service6, service6, true},
		{"a machine answers by its link's address", "host_out", adverts, "fe80::4", service6, true},
		{"a machine asks for another", "host_out", solicits, service6, elsewhere, true},
		{"a machine asks whether an address is free", "host_out", solicits, "::", service6, true},
		{"a machine is a VIP", "host_out", adverts, service6, vip6, false},
		{"a machine is another one", "host_out", adverts, service6, elsewhere, false},
		{"a machine asks as another one", "host_out", solicits, elsewhere, service6, false},
		{"a machine asks as a VIP", "host_out", solicits, vip6, service6, false},
	} {
		run(tt.name, tt.passes, tt.program, neighbour(tt.kind, tt.src, tt.about, mac))
		if !tt.passes && s.lastTold().Verdict.Reason != policy.Spoofed {
			t.Errorf("%s: it is %v, want spoofed", tt.name, s.lastTold().Verdict.Reason)
		}
	}
}

// What one end of a link says to the other is no instance's, and says nothing of one:
// without it a port with 802.1X, or a bond, loses its network. A guest has no link of the machine's.
func TestLinksOwnFramesPass(t *testing.T) {
	s := newSiege(t)
	dark := compiled(t, "sg-dark")
	s.force(dark, dark, nil)
	frame := func(to string, kind uint16) []byte {
		f := make([]byte, 64)
		mac, err := net.ParseMAC(to)
		if err != nil {
			t.Fatal(err)
		}
		copy(f, mac)
		binary.BigEndian.PutUint16(f[12:], kind)
		return f
	}
	for _, tt := range []struct {
		name, to string
		kind     uint16
		passes   bool
	}{
		{"EAPOL", "01:80:c2:00:00:03", 0x888e, true},
		{"LLDP", "01:80:c2:00:00:0e", 0x88cc, true},
		{"LACP", "01:80:c2:00:00:02", 0x8809, true},
		{"beyond the link's own", "01:80:c2:00:00:10", 0x88cc, false},
		{"to everybody", "ff:ff:ff:ff:ff:ff", 0x88cc, false},
		{"PPPoE", "02:00:00:00:00:01", 0x8864, false},
		{"IPv4, addressed to the link", "01:80:c2:00:00:03", 0x0800, false},
	} {
		f := frame(tt.to, tt.kind)
		if tt.kind == 0x0800 {
			copy(f[14:], inbound(4000, 8080, first)[14:])
		}
		s.want(tt.name+" in", tt.passes, "host_in", f)
		if tt.kind != 0x0800 {
			s.want(tt.name+" out", tt.passes, "host_out", f)
			s.want(tt.name+" of a guest", false, "guest_out", f)
		}
	}
}
