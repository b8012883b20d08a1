// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// ipv6Frame is a packet with that payload, whose checksum is at that place of it.
func ipv6Frame(proto lb.Proto, src, dst netip.Addr, payload []byte, checksum int) []byte {
	f := make([]byte, 14+40, 14+40+len(payload))
	binary.BigEndian.PutUint16(f[12:], etherIPv6)
	f[14], f[20], f[21] = 0x60, byte(proto), 64
	binary.BigEndian.PutUint16(f[18:], uint16(len(payload)))
	s, d := src.As16(), dst.As16()
	copy(f[22:], s[:])
	copy(f[38:], d[:])
	f = append(f, payload...)
	binary.BigEndian.PutUint16(f[54+checksum:], ^sum16(pseudo6(f), f[54:]))
	return f
}

// pseudo6 is the sum of the pseudo header that every IPv6 transport covers.
func pseudo6(f []byte) uint32 {
	return uint32(sum16(0, f[22:54])) + uint32(f[20]) + uint32(len(f)-54)
}

func tcpFrame6(src, dst netip.AddrPort, flags byte) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	tcp[11], tcp[12], tcp[13] = flags>>4&1, 0x50, flags
	if flags&tcpSyn != 0 {
		tcp[12] = 0x60
		tcp = append(tcp, 2, 4, 0x05, 0xa0)
	}
	return ipv6Frame(lb.TCP, src.Addr(), dst.Addr(), tcp, 16)
}

func echoFrame6(src, dst netip.AddrPort, reply bool) []byte {
	echo := make([]byte, 8)
	if echo[0] = 128; reply {
		echo[0] = 129
	}
	return ipv6Frame(lb.ICMPv6, src.Addr(), dst.Addr(), echo, 2)
}

// endsOf6 is endsOf for IPv6, whose header has no checksum.
func endsOf6(f []byte) (src, dst netip.AddrPort, err error) {
	if len(f) < 62 || f[14]>>4 != 6 || int(binary.BigEndian.Uint16(f[18:])) != len(f)-54 {
		return src, dst, fmt.Errorf("%x does not parse", f)
	}
	from, to, proto := netip.AddrFrom16([16]byte(f[22:])), netip.AddrFrom16([16]byte(f[38:])), lb.Proto(f[20])
	if sum16(pseudo6(f), f[54:]) != 0xffff {
		err = fmt.Errorf("%x has a wrong checksum", f)
	}
	if !proto.HasPorts() {
		return netip.AddrPortFrom(from, 0), netip.AddrPortFrom(to, 0), err
	}
	return netip.AddrPortFrom(from, binary.BigEndian.Uint16(f[54:])), netip.AddrPortFrom(to, binary.BigEndian.Uint16(f[56:])), err
}

// destination is where a frame goes.
func destination(f []byte) netip.Addr {
	if binary.BigEndian.Uint16(f[12:]) == etherIPv6 {
		return netip.AddrFrom16([16]byte(f[38:54]))
	}
	return netip.AddrFrom4([4]byte(f[30:34]))
}
