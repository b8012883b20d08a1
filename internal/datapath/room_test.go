// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// The API bounds the state by the same numbers that the programs' maps have.
func TestRoomIsWhatTheMapsHave(t *testing.T) {
	gateway, err1 := LoadGateway()
	host, err2 := LoadHost()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for name, want := range map[string]uint32{"listeners": lb.ListenerRows, "targets": lb.TargetRows, "vips": lb.VIPRows, "peers": lb.PeerRows,
		"counters": lb.CounterSlots, "counter_names": lb.CounterSlots} {
		if got := gateway.Maps[name].MaxEntries; got != want {
			t.Errorf("gateway: %s has %d entries, lb says %d", name, got, want)
		}
	}
	for name, want := range map[string]uint32{"instances": lb.InstanceRows, "targets": lb.TargetRows, "vips": lb.VIPRows, "peers": lb.PeerRows,
		"counters": lb.CounterSlots, "counter_names": lb.CounterSlots} {
		if got := host.Maps[name].MaxEntries; got != want {
			t.Errorf("host: %s has %d entries, lb says %d", name, got, want)
		}
	}
	if most := 2 * policy.MaxWords(); most > lb.MaxHostWords {
		t.Errorf("the greatest policies of both directions take %d words, room on a host is for %d", most, lb.MaxHostWords)
	}
}

// What the API counts is what the arena takes.
func TestWordsAreWhatIsPlaced(t *testing.T) {
	d := rand.New(rand.NewPCG(3, 5))
	for i := range 50 {
		c := compiledGroups(t, policytest.RandomGroups(d, 100))
		w, err := policyWords(c, func(policy.RuleRef) (uint32, error) { return 1, nil })
		if err != nil {
			t.Fatal(err)
		}
		if len(w)+int(blobHeader) != c.Words() {
			t.Errorf("policy %d takes %d words, Words says %d", i, len(w)+int(blobHeader), c.Words())
		}
	}
	var ranges []snapshot.Listener
	at := netip.MustParseAddr(vip)
	for n := range 50 {
		ranges = append(ranges, snapshot.Listener{VIPs: []netip.Addr{at}, Port: uint16(100 * n), EndPort: uint16(100*n + 5)})
		if w := len(rangeWords(ranges, at)) + int(blobHeader); w > len(ranges)*lb.RangeWords {
			t.Errorf("%d listeners of several ports take %d words, RangeWords says %d", len(ranges), w, len(ranges)*lb.RangeWords)
		}
	}
	for n := range 130 {
		var refs []snapshot.TargetRef
		for i := range n {
			refs = append(refs, snapshot.TargetRef{Num: uint32(i + 1), Weight: 10})
		}
		words := 0
		if ring, roster := ringOf(refs); len(ring) > 0 {
			words = len(ringWords(ring, roster)) + int(blobHeader)
		}
		if words != lb.RingWords(n) {
			t.Errorf("the table of %d targets takes %d words, RingWords says %d", n, words, lb.RingWords(n))
		}
	}
}

// filled is content of n words that no other number has.
func filled(n int, mark uint64) []uint64 {
	w := make([]uint64, n)
	w[0] = mark
	return w
}

// Whatever came and went before: the blobs of a revision that takes a third of
// the arena have a place beside those of the one in force, at the latest after
// packing, and what was moved is whole.
func TestArenaPacksWhateverCame(t *testing.T) {
	const words = 24000
	packings := 0
	for seed := range uint64(25) {
		d := rand.New(rand.NewPCG(seed, 7))
		a := &arena{words: make([]uint64, words), byHash: map[uint64]uint32{}, spans: []span{{0, blobHeader}}}
		now, mark, base := map[uint32]uint64{}, uint64(0), 1+d.IntN(40)
		live := func() map[uint32]bool {
			all := map[uint32]bool{}
			for off := range now {
				all[off] = true
			}
			return all
		}
		for range 25 {
			var sizes []int // of the next revision: some of the present one stays
			next, left := map[uint32]uint64{}, words/3
			for off, m := range now { // of the present one the small blobs stay, with gaps between them
				if a.words[off-blobHeader] < 10 && left > words/6 {
					next[off] = m
					left -= int(a.words[off-blobHeader])
				}
			}
			base = base*(5+d.IntN(3))/4 + 1
			if base > 3000 {
				base = 1 + d.IntN(40)
			}
			for {
				n := []int{1 + d.IntN(4), base}[len(sizes)%2]
				if left -= n + int(blobHeader); left < 0 {
					break
				}
				sizes = append(sizes, n)
			}
			for try := 0; ; try++ {
				fresh, failed := map[uint32]uint64{}, error(nil)
				for _, n := range sizes {
					mark++
					off, err := a.put(filled(n, mark))
					if failed = errors.Join(failed, err); err != nil {
						break
					}
					fresh[off] = mark
				}
				if failed == nil {
					maps.Copy(next, fresh)
					break
				}
				if try > 0 {
					t.Fatalf("seed %d, after packing: %v", seed, failed)
				}
				packings++
				a.retain(live())
				a.pack(func(moved map[uint32]uint32) { now, next = relocated(now, moved), relocated(next, moved) })
			}
			now = next
			a.retain(live())
			for off, m := range now {
				if a.words[off] != m {
					t.Fatalf("seed %d: the blob at %d holds %d, want %d", seed, off, a.words[off], m)
				}
			}
		}
	}
	if t.Logf("packed %d times", packings); packings < 30 {
		t.Error("there was hardly anything to pack")
	}
}

func relocated(at map[uint32]uint64, moved map[uint32]uint32) map[uint32]uint64 {
	out := map[uint32]uint64{}
	for off, m := range at {
		if to, ok := moved[off]; ok {
			off = to
		}
		out[off] = m
	}
	return out
}

// A gateway whose listeners, targets and tables are the most that the API lets
// be takes revision after revision of others, with ones between that are never
// committed, and goes on sending where the one in force says.
func TestNodesTakeWhateverTheDoorLetsIn(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	addr := netip.MustParseAddr
	state := func(turn int) *snapshot.Snapshot {
		s := &snapshot.Snapshot{Role: lb.RoleGateway, VIPs: []netip.Addr{addr(vip)}, Policies: map[policy.Hash]*policy.Compiled{},
			Peers: []snapshot.Peer{{Node: "ins-1", Num: 2, Addr: addr(hostAddr), Keys: [2]uint64{0xfeedfacecafebeef, 0}}}}
		num, words := uint32(turn*1_000_000), 0
		each := []int{4, 3, 41, 1}[turn%4]
		for k := 0; len(s.Listeners) < lb.MaxListenerRows && len(s.Targets)+each <= lb.MaxTargetRows; k++ {
			if words += lb.RingWords(each); words > lb.MaxGatewayWords {
				break
			}
			num++
			l := snapshot.Listener{Num: num, ID: "lbl-1", Balancer: "lb-1", BalancerNum: 1, VIPs: s.VIPs, Proto: lb.TCP, Port: uint16(1 + (turn*20011+k)%65535)}
			for range each {
				num++
				l.Targets = append(l.Targets, snapshot.TargetRef{Num: num, Weight: 10})
				s.Targets = append(s.Targets, snapshot.Target{Num: num, Host: addr(hostAddr), Service: netip.MustParseAddrPort("172.31.0.1:8080"), VIPs: s.VIPs, Proto: lb.TCP})
			}
			s.Listeners = append(s.Listeners, l)
		}
		return s
	}
	check := func(s *snapshot.Snapshot) {
		t.Helper()
		out := make([]byte, 256)
		for _, l := range []snapshot.Listener{s.Listeners[0], s.Listeners[len(s.Listeners)-1]} {
			got, err := b.run("gateway", syn(lb.Packet{Proto: lb.TCP, Src: addr(clientA), Dst: addr(vip), SrcPort: 1000, DstPort: l.Port}), out)
			if err != nil || got != actRedirect {
				t.Fatalf("listener %d on port %d: answer %d, %v", l.Num, l.Port, got, err)
			}
			if target := tunnelled(out).target; target < l.Targets[0].Num || target > l.Targets[len(l.Targets)-1].Num {
				t.Fatalf("listener %d sends to target %d", l.Num, target)
			}
		}
	}
	sizes := ""
	now := state(0)
	b.stage(t, now)
	for turn := 1; turn < 6; turn++ {
		next := state(turn)
		if turn%3 == 0 { // this one is overtaken before it counts
			b.rev++
			next.Revision = b.rev
			if err := b.Stage(t.Context(), next); err != nil {
				t.Fatalf("turn %d: %v", turn, err)
			}
			check(now)
			continue
		}
		b.stage(t, next)
		now = next
		check(now)
		sizes += fmt.Sprintf(" %d/%d", len(now.Listeners), len(now.Targets))
	}
	t.Logf("listeners/targets taken one after the other:%s", sizes)
}
