// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// What a TC program can answer.
const (
	actShot     = 2
	actRedirect = 7
	actNext     = 0xffffffff
)

// tcpPacket is an Ethernet frame with a TCP segment, checksums left 0.
func tcpPacket(src, dst netip.Addr, sport, dport uint16, flags byte) []byte {
	f := make([]byte, 14+40)
	f[12] = 8
	ip := f[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(ip[2:], 40)
	s, d := src.As4(), dst.As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[20:], sport)
	binary.BigEndian.PutUint16(ip[22:], dport)
	ip[32], ip[33] = 0x50, flags
	return f
}

// pinTo runs the calling goroutine on one CPU.
func pinTo(t *testing.T, cpu int) {
	runtime.LockOSThread()
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		t.Error(err)
	}
}

// Two CPUs fight for the slots of a tiny flow table. Even clients are admitted
// to listener 80 only and odd ones to 81 only, each listener has a target of
// its own: a verdict or target taken from somebody else's slot shows at once.
func TestHammerFindsNoForeignVerdict(t *testing.T) {
	w := newWorld(t)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: 2, Events: 1})
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	var even, odd policy.Rule
	for i := range 64 {
		a := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 32)
		if i%2 == 0 {
			even.Peers = append(even.Peers, a)
		} else {
			odd.Peers = append(odd.Peers, a)
		}
	}
	for i, r := range []policy.Rule{even, odd} {
		r.ID, r.Pos, r.Action, r.Proto = "pol-1", 1, lb.Accept, lb.TCP
		c := compiled(t, []string{"sg-even", "sg-odd"}[i], r)
		s.Policies[c.Hash] = c
		l, tgt := s.Listeners[0], s.Targets[0]
		l.Num, l.Port, l.Gate1, l.Targets = uint32(100+i), uint16(80+i), c.Hash, []snapshot.TargetRef{{Num: uint32(7 + i), Weight: 1}}
		tgt.Num = uint32(7 + i)
		if i == 0 {
			s.Listeners, s.Targets = nil, nil
		}
		s.Listeners, s.Targets = append(s.Listeners, l), append(s.Targets, tgt)
	}
	if err := gw.Stage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := gw.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	const rounds = 40_000
	var wg sync.WaitGroup
	for cpu := range min(2, runtime.NumCPU()) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			pinTo(t, cpu)
			out := make([]byte, 256)
			for i := range rounds {
				client, listener := byte((i*7+cpu)%64), i/64%2
				f := tcpPacket(netip.AddrFrom4([4]byte{203, 0, 113, client}), netip.MustParseAddr(vip), uint16(1000+i%8), uint16(80+listener), 0x10)
				opts := &ebpf.RunOptions{Data: f, DataOut: out}
				got, err := gw.progs["gateway"].Run(opts)
				if err != nil {
					t.Error(err)
					return
				}
				want := uint32(actShot)
				if int(client)%2 == listener {
					want = actRedirect
				}
				if got != want {
					t.Errorf("client %d on port %d: answer %d, want %d", client, 80+listener, got, want)
					return
				}
				if target := binary.BigEndian.Uint32(out[14+28+8+4+4:]); want == actRedirect && target != uint32(7+listener) {
					t.Errorf("client %d on port %d went to target %d", client, 80+listener, target)
					return
				}
			}
		}()
	}
	wg.Wait()
	t.Logf("%d packets on 2 CPUs through 4 slots", 2*rounds)
}
