// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// withTags puts VLAN tags in front of a frame's packet, the outermost first.
func withTags(frame []byte, types ...uint16) []byte {
	f := slices.Clone(frame)
	for _, ether := range slices.Backward(types) {
		f = slices.Insert(f, 12, 0, 0, 0, 5)
		binary.BigEndian.PutUint16(f[12:], ether)
	}
	return f
}

// No frame of another VLAN gets past a gate unjudged: hosts drop them all, and
// gateways what is for a VIP or cannot be read.
func TestTags(t *testing.T) {
	w := newQuiet(t)
	everyone := toAll(t, "sg-1")
	for family, e := range families() {
		toVIP, toInstance, past := tcpOf(e.client, 40000, e.vip, 80, tcpSyn), tcpOf(e.client, 40000, e.service, 8080, tcpSyn), tcpOf(e.client, 40000, e.router, 80, tcpSyn)
		gw, host := pair(t, 1, everyone, everyone)
		e.in(gw, host)
		at := map[string]*bench{"gateway": w.benchOf(lb.RoleGateway, nil)}
		at["gateway"].stage(t, gw)
		at["host_in"] = w.benchOf(lb.RoleHost, nil)
		at["host_in"].stage(t, host)
		at["host_out"] = at["host_in"]
		for _, c := range []struct {
			name, program string
			frame         []byte
			passes        bool
		}{
			{"no tag", "gateway", toVIP, true},
			{"a tag", "gateway", withTags(toVIP, 0x8100), false},
			{"a provider's tag", "gateway", withTags(toVIP, 0x88a8), false},
			{"an old provider's tag", "gateway", withTags(toVIP, 0x9100), false},
			{"two tags", "gateway", withTags(toVIP, 0x88a8, 0x8100), false},
			{"four tags", "gateway", withTags(toVIP, 0x8100, 0x8100, 0x8100, 0x8100), false},
			{"more tags than are walked", "gateway", withTags(past, 0x8100, 0x8100, 0x8100, 0x8100, 0x8100), false},
			{"half a packet", "gateway", withTags(toVIP, 0x8100)[:40], false},
			{"for somebody else", "gateway", withTags(past, 0x88a8, 0x8100), true},
			{"tagged ARP", "gateway", withTags(arpFor(1, clientA, vip), 0x8100), true},
			{"no tag", "host_in", toInstance, true},
			{"a tag", "host_in", withTags(toInstance, 0x8100), false},
			{"two tags", "host_in", withTags(toInstance, 0x88a8, 0x8100), false},
			{"tagged ARP", "host_in", withTags(arpFor(1, clientA, service), 0x8100), false},
			{"a tag", "host_out", withTags(tcpOf(e.service, 8080, e.client, 40000, tcpSyn|tcpAck), 0x8100), false},
		} {
			answer, err := at[c.program].run(c.program, c.frame, make([]byte, 2048))
			if err != nil {
				t.Fatal(err)
			}
			if passes := answer != actShot; passes != c.passes {
				t.Errorf("%s, %s, %s: passes: %v, want %v", family, c.program, c.name, passes, c.passes)
			}
			if !c.passes {
				at[c.program].wantDrop(t, family+", "+c.program+", "+c.name, policy.Unsupported)
			}
		}
	}
}

// Where every interface is judged, a VLAN's own judges its frames, without the
// tag: the one below leaves them alone.
func TestTagsAreLeftToTheirInterface(t *testing.T) {
	w := newQuiet(t)
	nobody := compiled(t, "sg-none")
	_, s := pair(t, 1, nil, nobody)
	host := w.benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Every: true})
	host.stage(t, s)
	client, own := netip.MustParseAddr(clientA), netip.MustParseAddr(service)
	in, out := tcpOf(client, 40000, own, 8080, tcpSyn), tcpOf(own, 8080, client, 40000, tcpSyn)
	for _, c := range []struct {
		program string
		frame   []byte
		passes  bool
	}{{"host_in", in, false}, {"host_in", withTags(in, 0x8100), true}, {"host_out", out, false}, {"host_out", withTags(out, 0x8100), true}} {
		answer, err := host.run(c.program, c.frame, make([]byte, 2048))
		if err != nil || (answer != actShot) != c.passes {
			t.Errorf("%s, %d bytes: %d, %v; passes: want %v", c.program, len(c.frame), answer, err, c.passes)
		}
	}
}

// arpFor is ARP about IPv4 addresses, from the MAC of test runs.
func arpFor(operation byte, from, to string) []byte {
	f := append(make([]byte, 12), 8, 6, 0, 1, 8, 0, 6, 4, 0, operation)
	mac := []byte{2, 0, 0, 0, 0, 1}
	copy(f[6:], mac)
	s, d := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	f = append(append(f, mac...), s[:]...)
	return append(append(f, make([]byte, 6)...), d[:]...)
}

// A tag that the kernel has taken out of the frame is seen like one that is in
// it, and one without a VLAN is none.
func TestTagsLive(t *testing.T) {
	w := newQuiet(t)
	b := w.benchOf(lb.RoleHost, nil)
	b.quiet = false
	everyone := compiled(t, "sg-2", anyProto(lb.AnyProto))
	_, host := pair(t, 1, nil, everyone)
	b.stage(t, host)
	segment := tcpOf(netip.MustParseAddr(clientA), 40000, netip.MustParseAddr(service), 8080, tcpSyn)
	send := func(frame []byte) policy.Reason {
		t.Helper()
		_, err := inside(w, quietName(), func() (bool, error) {
			dev, err := net.InterfaceByName("eth1")
			if err != nil {
				return false, err
			}
			fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return false, err
			}
			defer unix.Close(fd)
			return true, unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: dev.Index, Halen: 6})
		})
		if err != nil {
			t.Fatal(err)
		}
		return (&siege{b, t, nil}).lastTold().Verdict.Reason
	}
	priority := withTags(segment, 0x8100)
	priority[15] = 0
	for name, c := range map[string]struct {
		frame []byte
		want  policy.Reason
	}{
		"a tag": {withTags(segment, 0x8100), policy.Unsupported}, "two tags": {withTags(segment, 0x88a8, 0x8100), policy.Unsupported},
		"a priority": {priority, policy.RuleMatched},
	} {
		if got := send(c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
