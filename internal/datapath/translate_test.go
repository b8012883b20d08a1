// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// withIPOptions puts four bytes of options that mean nothing into a frame's IPv4 header.
func withIPOptions(f []byte) []byte {
	out := append(append(append([]byte{}, f[:34]...), 1, 1, 1, 0), f[34:]...)
	out[14] = 0x46
	binary.BigEndian.PutUint16(out[16:], uint16(len(out)-14))
	out[24], out[25] = 0, 0
	binary.BigEndian.PutUint16(out[24:], ^sum16(0, out[14:38]))
	return out
}

// What the host translates, each way, with another port and with the same, at
// once or field by field where options are in the way, keeps its checksums right
// and the rest of it as it was.
func TestTranslationKeepsSums(t *testing.T) {
	e := families()["IPv4"]
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		for _, vport := range []uint16{80, 8080} {
			for _, options := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v %d options %v", proto, vport, options), func(t *testing.T) {
					b := newQuiet(t).benchOf(lb.RoleHost, nil)
					_, host := pair(t, 1, nil, compiled(t, "sg-2", anyProto(proto)))
					host.Targets[0].Proto, host.Targets[0].VPort = proto, vport
					b.stage(t, host)
					client, vip, service := netip.AddrPortFrom(e.client, 5000), netip.AddrPortFrom(e.vip, vport), netip.AddrPortFrom(e.service, 8080)
					frame := func(src, dst netip.AddrPort, flags byte) []byte {
						f := (&crossing{proto: proto}).frame(src, dst, flags)
						if options {
							f = withIPOptions(f)
						}
						return f
					}
					for _, flags := range []byte{tcpSyn, tcpAck} {
						was, want := frame(client, vip, flags), frame(client, service, flags)
						becomes(t, b, "host_in", inTunnel(was, gwAddr, hostAddr, uint32(host.Revision), 7), want)
					}
					becomes(t, b, "host_out", frame(service, client, tcpAck), frame(vip, client, tcpAck))
				})
			}
		}
	}
}

// becomes runs a program, and wants it to make of a frame one like another.
func becomes(t *testing.T, b *bench, program string, frame, want []byte) {
	t.Helper()
	out := make([]byte, 2048)
	answer, err := b.run(program, frame, out)
	if err != nil || answer != actNext {
		t.Fatalf("%s answers %#x, %v", program, answer, err)
	}
	if string(out[14:len(want)]) != string(want[14:]) {
		t.Errorf("%s made\n%x, want\n%x", program, out[14:len(want)], want[14:])
	}
}

// The sums that a translation's shortcut cannot tell by: of a VIP with its
// service's own sum, by whose change nothing moves, and of a datagram whose sum
// comes to zero, which would say that it has none.
func TestTranslationOfOddSums(t *testing.T) {
	e := families()["IPv4"]
	s := e.service.As4()
	twin := netip.AddrFrom4([4]byte{s[2], s[3], s[0], s[1]})
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		for _, vip := range []netip.Addr{e.vip, twin} {
			t.Run(fmt.Sprintf("%v %v", proto, vip), func(t *testing.T) {
				b := newQuiet(t).benchOf(lb.RoleHost, nil)
				_, host := pair(t, 1, nil, compiled(t, "sg-2", anyProto(proto)))
				host.Targets[0].Proto, host.Targets[0].VIPs = proto, []netip.Addr{vip}
				b.stage(t, host)
				front, service := netip.AddrPortFrom(vip, 80), netip.AddrPortFrom(e.service, 8080)
				frame := (&crossing{proto: proto}).frame
				port := uint16(5000)
				if proto == lb.UDP {
					for ; sum16(0, frame(netip.AddrPortFrom(e.client, port), service, 0)[40:42])%0xffff != 0; port++ {
					}
				}
				client := netip.AddrPortFrom(e.client, port)
				for _, flags := range []byte{tcpSyn, tcpAck} {
					want := frame(client, service, flags)
					if proto == lb.UDP {
						want[40], want[41] = 0xff, 0xff
					}
					becomes(t, b, "host_in", inTunnel(frame(client, front, flags), gwAddr, hostAddr, uint32(host.Revision), 7), want)
				}
				answer := frame(service, client, tcpAck)
				if proto == lb.UDP {
					answer[40], answer[41] = 0xff, 0xff
				}
				becomes(t, b, "host_out", answer, frame(front, client, tcpAck))
			})
		}
	}
}
