// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// flowTable is an empty table of a host's flows of IPv4.
func flowTable(t *testing.T, buckets uint32) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 128, MaxEntries: buckets, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// Open flows that fill half of a table of another size, and more, find their place
// in it: others give way, and stand where the programs look for them.
func TestFlowsGiveWayInATableOfAnotherSize(t *testing.T) {
	const buckets = 4096
	for _, c := range []struct{ flows, most int }{{buckets, 0}, {buckets * 3 / 2, 0}, {buckets * 19 / 10, buckets / 5}} {
		m, err := moverOf("host_flows_3", flowTable(t, 2*buckets), flowTable(t, buckets+probeBuckets), 0x1234567)
		if err != nil {
			t.Fatal(err)
		}
		r := m.(*resize[HostHostFlow])
		for i := range c.flows {
			r.from[i] = HostHostFlow{Seq: 2, Remote: rawAddr(netip.AddrFrom4([4]byte{198, 51, 100, byte(i >> 8)})).W[0], Local: rawAddr(netip.MustParseAddr(service)).W[0],
				RemotePort: uint16(1024 + i), LocalPort: 8080, Proto: 6, Opener: 1, State: 2, Seen: nowUnits(), Counter: uint32(i + 1)}
		}
		rehearsed := r.rehearse(buckets)
		r.move()
		r.move() // which carries nothing twice
		moved, lost := r.told()
		t.Logf("%d open flows into %d slots: %d moved, %d lost, %d as rehearsed", c.flows, 2*buckets, moved, lost, rehearsed)
		if moved+lost != c.flows || lost > c.most || rehearsed != lost {
			t.Errorf("%d moved, %d lost, %d as rehearsed", moved, lost, rehearsed)
		}
		found := 0
		for i := range c.flows {
			for n := range 4 {
				if at := r.place(&r.from[i], n); r.same(at, &r.from[i]) && at.Counter == uint32(i+1) && at.State == 2 && at.Seq&1 == 0 {
					found++
					break // both its buckets may be the same
				}
			}
		}
		if live := 0; found != moved {
			for i := range r.to {
				if r.to[i].State != 0 {
					live++
				}
			}
			t.Errorf("%d of %d flows are found, each in one place; %d slots are in use", found, moved, live)
		}
		if err := r.close(); err != nil {
			t.Error(err)
		}
	}
}

// A host that was to start with a table that has no place for one of its open
// flows does not, and says so, before anything has changed.
func TestTableWithoutPlaceIsRefused(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	// Five flows for the four slots of two buckets, of eight.
	remote, local := rawAddr(netip.MustParseAddr(clientA)).W[0], rawAddr(netip.MustParseAddr(service)).W[0]
	var ports []uint16
	for port := uint16(1024); len(ports) < 5; port++ {
		hash := mix((uint64(remote)<<32 + (uint64(port)<<16 | 8080) + (uint64(local)<<8+6)*0x9e3779b97f4a7c15) ^ s.key)
		if one, two := hash&7, hash>>32&7; one < 2 && two < 2 && one != two {
			ports = append(ports, port)
		}
	}
	alive := func(when string) {
		t.Helper()
		for _, port := range ports {
			s.want(when, true, "host_out", outbound(8080, port, later))
		}
	}
	for _, port := range ports {
		s.want("a first packet", true, "host_in", inbound(port, 8080, first))
		s.want("its answer", true, "host_out", outbound(8080, port, second))
		s.want("the third", true, "host_in", inbound(port, 8080, later))
	}
	alive("before")
	o := s.opts
	o.Buckets = 8
	s.Close()
	d, err := inside(&world{t: t}, quietName(), func() (*Datapath, error) { return Open(o) })
	if err == nil {
		d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "1 open ones find no place among the 16 that --flows wants: give it ") {
		t.Errorf("a table without place for one of five: %v", err)
	}
	s.restart()
	alive("after the refusal")
}
