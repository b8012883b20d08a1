// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A gateway that is asked to answers solicitations for its IPv6 VIPs, and no
// others: VIPs are addresses of no interface.
func TestGatewayAnswersSolicitations(t *testing.T) {
	w := newQuiet(t)
	b := w.benchAt(Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), ARP: true})
	gw, _ := over(t, 1, 6, 4)
	b.stage(t, gw)
	dev, err := inside(w, quietName(), func() (*net.Interface, error) { return net.InterfaceByName("eth0") })
	if err != nil {
		t.Fatal(err)
	}
	unicast := solicitation(vip6, clientA6)
	copy(unicast[38:54], netip.MustParseAddr(vip6).AsSlice())
	far, other := solicitation(vip6, clientA6), solicitation(vip6, clientA6)
	far[21] = 254
	other[54] = 136
	for _, tt := range []struct {
		name     string
		frame    []byte
		answered bool
		to       string
		mac      net.HardwareAddr
	}{
		{"for the VIP", solicitation(vip6, clientA6), true, clientA6, net.HardwareAddr{2, 0, 0, 0, 0, 9}},
		{"whether it is still there", unicast, true, clientA6, net.HardwareAddr{2, 0, 0, 0, 0, 9}},
		{"without the asker's MAC", solicitation(vip6, clientA6)[:78], true, clientA6, net.HardwareAddr{2, 0, 0, 0, 0, 9}},
		{"by who wants it for himself", solicitation(vip6, "::"), true, "ff02::1", net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}},
		{"for another address", solicitation(service6, clientA6), false, "", nil},
		{"from afar", far, false, "", nil},
		{"no solicitation", other, false, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame := append([]byte(nil), tt.frame...)
			binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
			out := make([]byte, 256)
			answer, err := b.run("gateway", frame, out)
			if err != nil {
				t.Fatal(err)
			}
			if (answer == actRedirect) != tt.answered {
				t.Fatalf("answer %#x, want an advertisement: %v", answer, tt.answered)
			}
			if !tt.answered {
				return
			}
			f := out[:86]
			r, ok := readIPv6(f[14:])
			sum := uint32(sum16(0, f[22:54])) + 58 + 32
			switch {
			case !ok || r.proto != lb.ICMPv6 || r.src != netip.MustParseAddr(vip6) || r.dst != netip.MustParseAddr(tt.to) || f[21] != 255:
				t.Errorf("%x is no advertisement from the VIP to %s", f, tt.to)
			case sum16(sum, f[54:]) != 0xffff:
				t.Errorf("%x has a wrong checksum", f)
			case f[54] != 136 || f[58]&0x20 == 0 || (f[58]&0x40 != 0) != (tt.to != "ff02::1"):
				t.Errorf("%x: flags %x", f, f[58])
			case !bytes.Equal(f[62:78], netip.MustParseAddr(vip6).AsSlice()) || f[78] != 2 || !bytes.Equal(f[80:86], dev.HardwareAddr):
				t.Errorf("%x does not name the VIP and %v", f, dev.HardwareAddr)
			case !bytes.Equal(f[:6], tt.mac) || !bytes.Equal(f[6:12], dev.HardwareAddr):
				t.Errorf("%x goes to a wrong station", f)
			}
		})
	}
}

// Neighbour discovery passes gate 2 whatever the rules, from neighbours alone and
// as a machine takes part in it that is no router.
func TestDiscoveryPassesGate2(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleHost, nil)
	_, host := over(t, 1, 6, 4)
	host.Instances[0].Ingress, host.Instances[0].Egress = compiled(t, "sg-none").Hash, compiled(t, "sg-none").Hash
	host.Policies[host.Instances[0].Ingress] = compiled(t, "sg-none")
	b.stage(t, host)
	message := func(kind, hops byte, src, dst string) []byte {
		f := frameOf(lb.Packet{Proto: lb.ICMPv6, Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst)}, 0)
		f[21], f[54] = hops, kind
		if kind == 135 || kind == 136 { // about the sender itself
			f = append(f, netip.MustParseAddr(src).AsSlice()...)
			f[19] += 16
		}
		return f
	}
	dhcp := func(src, dst string, from, to uint16) []byte { return frameBetween(lb.UDP, src, from, dst, to, 0) }
	const near, router = "fe80::4", "fe80::fe"
	for _, tt := range []struct {
		name, program string
		frame         []byte
		passes        bool
	}{
		{"solicitation", "host_in", message(135, 255, router, "ff02::1:ff00:4"), true},
		{"solicitation from afar", "host_in", message(135, 254, clientA6, service6), false},
		{"advertisement", "host_in", message(136, 255, router, near), true},
		{"router advertisement", "host_in", message(134, 255, router, "ff02::1"), true},
		{"router solicitation from outside", "host_in", message(133, 255, router, near), false},
		{"listener query", "host_in", extended(message(130, 1, router, "ff02::1"), 0), true},
		{"ping", "host_in", message(128, 255, clientA6, service6), false},
		{"DHCP answer", "host_in", dhcp(router, near, 547, 546), true},
		{"DHCP answer from afar", "host_in", dhcp(clientA6, service6, 547, 546), false},
		{"own solicitation", "host_out", message(135, 255, service6, "ff02::1:ff00:fe"), true},
		{"own advertisement", "host_out", message(136, 255, service6, router), true},
		{"own router solicitation", "host_out", message(133, 255, near, "ff02::2"), true},
		{"own router advertisement", "host_out", message(134, 255, near, "ff02::1"), false},
		{"own listener report", "host_out", extended(message(143, 1, near, "ff02::16"), 0), true},
		{"DHCP question", "host_out", dhcp(near, "ff02::1:2", 546, 547), true},
		{"a question to anybody", "host_out", dhcp(near, "ff02::1:2", 546, 53), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answer, err := b.run(tt.program, tt.frame, make([]byte, 256))
			if err != nil {
				t.Fatal(err)
			}
			if (answer == actNext) != tt.passes {
				t.Errorf("answer %#x, want it passed: %v", answer, tt.passes)
			}
		})
	}
}
