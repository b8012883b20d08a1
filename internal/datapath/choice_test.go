// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A chooser is a gateway with n targets behind its one listener.
type chooser struct {
	t    *testing.T
	gw   *Datapath
	snap *snapshot.Snapshot
}

func newChooser(t *testing.T, weights ...int) *chooser { return chooserOf(t, 0, weights...) }

// chooserOf makes one whose flow table has so many buckets; 0: as many as ever.
func chooserOf(t *testing.T, buckets uint32, weights ...int) *chooser {
	w := newWorld(t)
	c := &chooser{t: t, gw: w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: buckets})}
	c.snap, _ = pair(t, 1, nil, compiled(t, "sg-2"))
	first := c.snap.Targets[0]
	c.snap.Targets, c.snap.Listeners[0].Targets = nil, nil
	for i, weight := range weights {
		t := first
		t.Num, t.Service = uint32(i+1), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 2, byte(i + 1)}), 8080)
		c.snap.Targets = append(c.snap.Targets, t)
		c.snap.Listeners[0].Targets = append(c.snap.Listeners[0].Targets, snapshot.TargetRef{Num: t.Num, Weight: weight})
	}
	stageCommit(t, c.gw, c.snap)
	return c
}

// change edits the snapshot and puts it in force as the next revision.
func (c *chooser) change(edit func(s *snapshot.Snapshot)) {
	c.t.Helper()
	next := *c.snap
	next.Revision++
	next.Listeners = []snapshot.Listener{c.snap.Listeners[0]}
	edit(&next)
	c.snap = &next
	stageCommit(c.t, c.gw, c.snap)
}

// The flags of a first packet and of a later one.
const (
	flagSYN = 2
	flagACK = 16
)

// send is one packet of the i-th flow: the target and the second one that the
// tunnel names, both 0 when the packet is dropped.
func (c *chooser) send(i int, flags byte) (target, second uint32) {
	c.t.Helper()
	client := netip.AddrFrom4([4]byte{203, 0, 113, byte(i >> 12)})
	return c.from(client, uint16(20000+i&0xfff), flags)
}

func (c *chooser) from(client netip.Addr, port uint16, flags byte) (target, second uint32) {
	c.t.Helper()
	opts := &ebpf.RunOptions{Data: tcpPacket(client, netip.MustParseAddr(vip), port, 80, flags), DataOut: make([]byte, 256)}
	got, err := c.gw.progs["gateway"].Run(opts)
	if err != nil {
		c.t.Fatal(err)
	}
	if got != actRedirect {
		return 0, 0
	}
	at := 14 + 28 + 8 + 4 + 4
	return binary.BigEndian.Uint32(opts.DataOut[at:]), binary.BigEndian.Uint32(opts.DataOut[at+4:])
}

// flush empties the flow table, as a gateway has it that took over.
func (c *chooser) flush() {
	for i := range c.gw.gatewayFlows {
		c.gw.gatewayFlows[i] = GatewayGatewayBucket{}
	}
}

// New flows are spread as the weights say; the table that the issue asks for is
// in the log.
func TestSharesFollowWeights(t *testing.T) {
	weights := []int{1, 2, 5, 10, 10, 20, 50, 100}
	c := newChooser(t, weights...)
	const flows = 20000
	sum, got := 0, map[uint32]int{}
	for _, w := range weights {
		sum += w
	}
	for i := range flows {
		target, _ := c.send(i, flagSYN)
		got[target]++
	}
	t.Logf("%d new flows, %d targets", flows, len(weights))
	chi := 0.0
	for i, w := range weights {
		due := float64(flows) * float64(w) / float64(sum)
		n := float64(got[uint32(i+1)])
		chi += (n - due) * (n - due) / due
		t.Logf("weight %3d: %6.0f flows, due %8.1f, off %+5.1f %%", w, n, due, 100*(n-due)/due)
	}
	// 7 degrees of freedom: chance alone exceeds 24.3 once in a thousand. The
	// ring's own error, a place more or less of 1009, adds to it.
	t.Logf("chi-square %.1f", chi)
	if chi > 60 || got[0] > 0 {
		t.Errorf("chi-square %.1f, %d without target", chi, got[0])
	}
}

// When one of N targets leaves or comes, only its flows move: those that are
// tracked exactly; on a gateway that has lost its table, the tunnel names where
// the others may be known.
func TestOnlyItsFlowsMove(t *testing.T) {
	for _, n := range []int{3, 10, 50} {
		t.Run(fmt.Sprint(n), func(t *testing.T) { oneLeaves(t, n) })
	}
}

func oneLeaves(t *testing.T, n int) {
	weights := make([]int, n)
	for i := range weights {
		weights[i] = 10
	}
	c := newChooser(t, weights...)
	const flows = 8000
	home := make([]uint32, flows)
	for i := range home {
		home[i], _ = c.send(i, flagSYN)
	}
	c.change(func(s *snapshot.Snapshot) { // target 1 leaves
		s.Targets = s.Targets[1:]
		s.Listeners[0].Targets = s.Listeners[0].Targets[1:]
	})
	held, moved, its, evicted := 0, 0, 0, 0
	for i, was := range home {
		is, second := c.send(i, flagACK)
		switch {
		case was == 1:
			its++
			if is == 1 || is == 0 {
				t.Fatalf("flow %d of the target that left is at %d", i, is)
			}
		case is != was && second == was:
			evicted++ // two flows that had its slots in mind came later
		case is != was:
			moved++
		default:
			held++
		}
	}
	c.flush()
	elsewhere, lost := 0, 0
	for i, was := range home {
		is, second := c.send(i, flagACK)
		if was == 1 || is == was {
			continue
		}
		elsewhere++
		if second != was {
			lost++
		}
	}
	t.Logf("1 of %2d targets leaves: its %4d flows move; of the %d others %d move; with the table lost the ring moves %d of them (%.1f %%), and names no second for %d",
		n, its, held+moved, moved, elsewhere, 100*float64(elsewhere)/float64(held+moved), lost)
	if moved > 0 || lost > 0 || evicted > 8 {
		t.Errorf("of %d targets: %d tracked flows moved, %d were lost", n, moved, lost)
	}
}

// Stickiness and IP_HASH ask nothing but the client's address.
func TestByAddress(t *testing.T) {
	for name, edit := range map[string]func(*snapshot.Listener){
		"IP_HASH": func(l *snapshot.Listener) { l.Scheduler = lb.SchedulerHash },
		"sticky":  func(l *snapshot.Listener) { l.Choice.Session = 60 },
	} {
		t.Run(name, func(t *testing.T) { byAddress(t, edit) })
	}
}

func byAddress(t *testing.T, edit func(*snapshot.Listener)) {
	c := newChooser(t, 10, 10, 10, 10)
	c.change(func(s *snapshot.Snapshot) { edit(&s.Listeners[0]) })
	got := map[uint32]int{}
	for i := range 400 {
		client := netip.AddrFrom4([4]byte{203, 0, byte(i), 7})
		first, _ := c.from(client, 1000, flagSYN)
		for port := range uint16(4) {
			if again, _ := c.from(client, 2000+port, flagSYN); again != first {
				t.Fatalf("%v went to %d and to %d", client, first, again)
			}
		}
		got[first]++
	}
	for target, n := range got {
		if n < 60 || n > 145 || target == 0 {
			t.Errorf("target %d has %d of 400 clients", target, n)
		}
	}
}

// With no healthy target, all are taken or none, as the listener says.
func TestNoHealthyTarget(t *testing.T) {
	c := newChooser(t, 10, 10)
	for num := range uint32(2) {
		if err := c.gw.SetHealth(num+1, false); err != nil {
			t.Fatal(err)
		}
	}
	if target, _ := c.send(1, flagSYN); target == 0 {
		t.Error("with all dead nobody was taken")
	}
	c.change(func(s *snapshot.Snapshot) { s.Listeners[0].Choice.HealthyOnly = true })
	was := reason(t, c.gw, policy.NoHealthyTarget)
	if target, _ := c.send(2, flagSYN); target != 0 || reason(t, c.gw, policy.NoHealthyTarget) != was+1 {
		t.Errorf("%d was taken, or dropped for another reason, and only healthy ones may be", target)
	}
	if target, _ := c.send(1, flagACK); target == 0 {
		t.Error("a flow that goes on lost its dead target")
	}
	if err := c.gw.SetHealth(1, true); err != nil {
		t.Fatal(err)
	}
	if target, _ := c.send(3, flagSYN); target != 1 {
		t.Errorf("%d was taken, and 1 is healthy", target)
	}
}

// A target that starts slowly takes its share, and weight 0 takes no new flow
// while its flows go on.
func TestSlowStartAndDrain(t *testing.T) {
	c := newChooser(t, 10, 10)
	count := func(from int) (n int) {
		for i := range 2000 {
			if target, _ := c.send(from+i, flagSYN); target == 2 {
				n++
			}
		}
		return n
	}
	for _, share := range []uint32{16, 64, 128, 256} {
		if err := c.gw.SetShare(2, share); err != nil {
			t.Fatal(err)
		}
		n, due := count(int(share)*100), 1000*float64(share)/256
		t.Logf("share %3d of 256: %4d of 2000 flows, due %4.0f", share, n, due)
		if math.Abs(float64(n)-due) > 100 {
			t.Errorf("share %d: %d flows, due %.0f", share, n, due)
		}
	}
	mine := -1
	for i := range 64 {
		if target, _ := c.send(i, flagSYN); target == 2 {
			mine = i
		}
	}
	c.change(func(s *snapshot.Snapshot) {
		s.Listeners[0].Targets = []snapshot.TargetRef{{Num: 1, Weight: 10}, {Num: 2, Weight: 0}}
	})
	if n := count(50000); n != 0 {
		t.Errorf("at weight 0 it took %d new flows", n)
	}
	if target, _ := c.send(mine, flagACK); target != 2 {
		t.Errorf("at weight 0 its flow went to %d", target)
	}
	c.flush()
	if target, second := c.send(mine, flagACK); target != 2 && second != 2 {
		t.Errorf("with the table lost its flow went to %d, and %d is named besides", target, second)
	}
}

// LEAST_CONN balances connections of uneven length where WRR does not, and two
// gateways do so together. A second's flows pass between two reports.
func TestLeastConnBalances(t *testing.T) {
	spread := map[string]float64{}
	for name, scheduler := range map[string]string{"WRR": "", "LEAST_CONN": lb.SchedulerLeast} {
		t.Run(name, func(t *testing.T) { spread[name] = widestGap(t, scheduler) })
	}
	if spread["LEAST_CONN"] > spread["WRR"]/2 {
		t.Errorf("LEAST_CONN's gap is %.2f, WRR's %.2f", spread["LEAST_CONN"], spread["WRR"])
	}
}

// widestGap runs a minute of connections, one in ten of them long, and gives
// the widest gap between the busiest and the idlest target as a part of the
// mean.
func widestGap(t *testing.T, scheduler string) (widest float64) {
	const targets, seconds, rate = 8, 60, 100
	c := newChooser(t, 10, 10, 10, 10, 10, 10, 10, 10)
	c.change(func(s *snapshot.Snapshot) { s.Listeners[0].Scheduler = scheduler })
	open, ends := make([]int, targets), map[int][]uint32{}
	for second := range seconds {
		for _, target := range ends[second] {
			open[target-1]--
		}
		var told []flow.Load
		for i, n := range open {
			told = append(told, flow.Load{Target: uint32(i + 1), Connections: uint32(n)})
		}
		if err := c.gw.SetLoads(told); err != nil {
			t.Fatal(err)
		}
		for i := range rate {
			target, _ := c.send(second*rate+i, flagSYN)
			length := 1
			if i%10 == 0 {
				length = 30
			}
			open[target-1]++
			ends[second+length] = append(ends[second+length], target)
		}
		if second >= seconds/2 {
			sum := 0
			for _, n := range open {
				sum += n
			}
			widest = max(widest, float64(slices.Max(open)-slices.Min(open))/(float64(sum)/targets))
		}
	}
	t.Logf("widest gap %.0f %% of the mean; at the end %v", 100*widest, open)
	return widest
}

// Loads are compared for the weight.
func TestLeastConnWeighs(t *testing.T) {
	c := newChooser(t, 10, 30)
	c.change(func(s *snapshot.Snapshot) { s.Listeners[0].Scheduler = lb.SchedulerLeast })
	for _, tc := range []struct {
		a, b uint32
		want uint32 // who gets nearly all that both were drawn for
	}{{10, 0, 2}, {0, 10, 1}, {10, 29, 2}, {10, 31, 1}} {
		got := map[uint32]int{}
		for i := range 300 {
			if err := c.gw.SetLoads([]flow.Load{{Target: 1, Connections: tc.a}, {Target: 2, Connections: tc.b}}); err != nil {
				t.Fatal(err)
			}
			target, _ := c.send(int(tc.a)*5000+int(tc.b)*300+i, flagSYN)
			got[target]++
		}
		// Both draws fall on 1 in 1/16 of cases, on 2 in 9/16.
		least := map[uint32]int{1: 300 * 5 / 16, 2: 300 * 13 / 16}[tc.want]
		if got[tc.want] < least {
			t.Errorf("%s: %v, want at least %d for %d", fmt.Sprint(tc.a, " and ", tc.b, " connections"), got, least, tc.want)
		}
	}
}
