// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// advertisement is the frame that says by IPv6: vip is at mac, whatever you knew
// (RFC 4861, 7.2.6). It comes from the VIP and goes to all nodes of the segment.
func advertisement(mac net.HardwareAddr, vip netip.Addr) []byte {
	const etherIPv6, icmpv6, hops, neighbourAdvertisement, override, ownLinkLayer = 0x86dd, 58, 255, 136, 0x20, 2
	allNodes := netip.MustParseAddr("ff02::1")
	body := append([]byte{neighbourAdvertisement, 0, 0, 0, override, 0, 0, 0}, vip.AsSlice()...)
	body = append(append(body, ownLinkLayer, 1), mac...)
	length := make([]byte, 2)
	binary.BigEndian.PutUint16(length, uint16(len(body)))
	pseudo := append(append(vip.AsSlice(), allNodes.AsSlice()...), 0, 0, length[0], length[1], 0, 0, 0, icmpv6)
	binary.BigEndian.PutUint16(body[2:], onesComplement(append(pseudo, body...)))

	frame := append([]byte{0x33, 0x33, 0, 0, 0, 1}, mac...)
	frame = binary.BigEndian.AppendUint16(frame, etherIPv6)
	frame = append(frame, 6<<4, 0, 0, 0, length[0], length[1], icmpv6, hops)
	frame = append(append(frame, vip.AsSlice()...), allNodes.AsSlice()...)
	return append(frame, body...)
}

// onesComplement is the Internet checksum of an even number of bytes.
func onesComplement(data []byte) uint16 {
	var sum uint32
	for i := 0; i < len(data); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(data[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
