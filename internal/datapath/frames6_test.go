// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
)

// The IPv6 addresses of the same nodes as IPv4's.
const (
	gwAddr6   = "2001:db8:0:1::129"
	hostAddr6 = "2001:db8:0:1::130"
	service6  = "2001:db8:10::4"
	clientA6  = "2001:db8:a::10"
	clientB6  = "2001:db8:b::20"
)

// extended puts extension headers behind the IPv6 header. kinds are their
// numbers; each is 8 bytes of nothing.
func extended(frame []byte, kinds ...byte) []byte {
	f := slices.Clone(frame)
	next := f[20]
	for i := len(kinds) - 1; i >= 0; i-- {
		header := []byte{next, 0, 1, 4, 0, 0, 0, 0} // PadN
		if kinds[i] != 0 && kinds[i] != 60 {
			header = []byte{next, 0, 0, 0, 0, 0, 0, 0}
		}
		f = slices.Insert(f, 54, header...)
		next = kinds[i]
	}
	f[20] = next
	binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	return f
}

// solicitation asks for an address, from a source; an unspecified one claims it.
func solicitation(target, source string) []byte {
	a, src := netip.MustParseAddr(target), netip.MustParseAddr(source)
	raw := a.As16()
	group := netip.MustParseAddr("ff02::1:ff00:0").As16()
	copy(group[13:], raw[13:])
	f := frameOf(lb.Packet{Proto: lb.ICMPv6, Src: src, Dst: netip.AddrFrom16(group)}, 0)[:62]
	f[21] = 255
	f[54] = 135
	f = append(f, raw[:]...)
	if !src.IsUnspecified() {
		f = append(f, 1, 1, 2, 0, 0, 0, 0, 9)
	}
	copy(f[6:], []byte{2, 0, 0, 0, 0, 9})
	binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	return f
}

// goodFrames6 are goodFrames of IPv6.
func goodFrames6() map[string][]byte {
	packet := func(proto lb.Proto, src, dst string, port uint16) lb.Packet {
		return lb.Packet{Proto: proto, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), SrcPort: 40000, DstPort: port}
	}
	syn := frameOf(packet(lb.TCP, clientA6, vip6, 80), 2)
	const hopByHop, routing, fragmented, authentication, destination = 0, 43, 44, 51, 60
	fragment := extended(syn, fragmented)
	fragment[54+3] = 1
	unreachable := frameOf(packet(lb.ICMPv6, clientA6, service6, 0), 0)
	unreachable[54], unreachable[55] = 1, 4
	unreachable = append(unreachable, frameOf(packet(lb.TCP, service6, clientA6, 80), 2)[14:]...)
	binary.BigEndian.PutUint16(unreachable[18:], uint16(len(unreachable)-54))
	return map[string][]byte{
		"6 syn": syn, "6 udp": frameOf(packet(lb.UDP, clientA6, service6, 53), 0), "6 ping": frameOf(packet(lb.ICMPv6, clientA6, service6, 0), 0),
		"6 hop by hop": extended(syn, hopByHop), "6 options": extended(syn, hopByHop, destination, routing, destination), "6 fragment": fragment,
		"6 atomic fragment": extended(syn, fragmented), "6 authentication": extended(syn, authentication), "6 eight headers": extended(syn, 60, 60, 60, 60, 60, 60, 60, 60),
		"6 nine headers": extended(syn, 60, 60, 60, 60, 60, 60, 60, 60, 60), "6 late hop by hop": extended(syn, destination, hopByHop),
		"6 unreachable": unreachable, "6 solicitation": solicitation(service6, clientA6), "6 gre": frameOf(packet(lb.GRE, clientA6, service6, 0), 0),
		"6 in the tunnel": inTunnel(syn, gwAddr, hostAddr, 1, 7), "6 fragment in the tunnel": inTunnel(fragment, gwAddr, hostAddr, 1, 7),
	}
}
