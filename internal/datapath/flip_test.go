// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A flipper turns gateway and host between two policies. At even revisions gate
// 1 refuses and gate 2 would accept, at odd ones the reverse: whoever is judged
// by one revision is refused, and any mixture admits.
type flipper struct {
	*world
	gw, host *Datapath
	sent     atomic.Uint64
	steps    [4]time.Duration // that staging host and gateway and committing both took
	mixed    []string         // verdicts that one revision does not give
	told     int
	mu       sync.Mutex
}

func newFlipper(t *testing.T, attach Attach, objects func() (*ebpf.CollectionSpec, error)) *flipper {
	t.Helper()
	f := &flipper{world: newWorld(t)}
	if attach == AttachXDP {
		pass, err := inside(f.world, "dp-fabric", func() (io.Closer, error) { return PassAll("dp-gw") })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { pass.Close() })
	}
	f.gw = f.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Attach: attach})
	f.host = f.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), objects: objects})
	// Who is admitted is counted by somebody else than our programs.
	f.in("dp-host", "nft", "add table ip seen; add chain ip seen in { type filter hook input priority 0; }; add rule ip seen in ip daddr "+service+" tcp dport 8080 counter")
	ctx, stop := context.WithCancel(context.Background())
	var reading sync.WaitGroup
	for _, d := range []*Datapath{f.gw, f.host} {
		reading.Go(func() { d.Events(ctx, f.hear) })
	}
	t.Cleanup(func() { stop(); reading.Wait() })
	return f
}

// hear looks for verdicts of a mixture.
func (f *flipper) hear(e flow.Event) {
	if e.Proto != lb.TCP { // the kernels look for routers
		return
	}
	refusedAt := policy.GateCLB
	if e.Revision%2 == 1 {
		refusedAt = policy.GateCVM
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told++
	gate2 := e.Verdict.Gate == policy.GateCVM
	if (e.Verdict.Action == lb.Drop) == (e.Verdict.Gate == refusedAt) && !(gate2 && (e.Revision%2 == 0 || e.Stamped != 0)) {
		return
	}
	f.mixed = append(f.mixed, fmt.Sprintf("%+v", e))
}

// flood sends connections' first packets, and ones from the middle of others,
// as fast as it can until ctx ends.
func (f *flipper) flood(ctx context.Context, sending *sync.WaitGroup) {
	fd, err := inside(f.world, "dp-a", func() (int, error) { return unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW) })
	if err != nil {
		f.t.Fatal(err)
	}
	to := &unix.SockaddrInet4{Addr: netip.MustParseAddr(vip).As4()}
	sending.Go(func() {
		defer unix.Close(fd)
		for i := 0; ctx.Err() == nil; i++ {
			flags := byte(2)
			if i%4 == 3 {
				flags = 0x10
			}
			p := tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), uint16(1024+i%60000), 80, flags)
			if unix.Sendto(fd, p[14:], 0, to) == nil {
				f.sent.Add(1)
			}
		}
	})
}

// admitted is how many packets the host's own firewall saw after gate 2.
func (f *flipper) admitted() int {
	out := f.in("dp-host", "nft", "list", "table", "ip", "seen")
	m := regexp.MustCompile(`counter packets (\d+)`).FindStringSubmatch(out)
	if m == nil {
		f.t.Fatalf("no counter in %s", out)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		f.t.Fatal(err)
	}
	return n
}

// leastFlips are what a run has to make on each hook to prove anything, flipsTime
// is what it takes for as many as fit, and flipsMore what it adds on a busy machine.
const (
	leastFlips = 60
	flipsTime  = 7 * time.Second
	flipsMore  = 30 * time.Second
)

// flip puts revision after revision in force, in the order of control's rounds:
// the host stages first; who commits first is chance.
func (f *flipper) flip(flips int, until time.Time, enough func() bool) (done int) {
	ctx := f.t.Context()
	yes1, yes2 := accept("0.0.0.0/0", 80), accept("0.0.0.0/0", 8080)
	no1, no2 := yes1, yes2
	no1.Action, no2.Action = lb.Drop, lb.Drop
	gates := [2][2]*policy.Compiled{{compiled(f.t, "sg-1", no1), compiled(f.t, "sg-2", yes2)}, {compiled(f.t, "sg-1", yes1), compiled(f.t, "sg-2", no2)}}
	d := rand.New(rand.NewPCG(2, 9))
	more := func() bool { // a machine that is busy gets the time it needs
		return time.Now().Before(until) || done < leastFlips && time.Now().Before(until.Add(flipsMore))
	}
	for done < flips && more() && (enough == nil || done%10 != 9 || !enough()) {
		done++
		rev := lb.Revision(done + 1)
		s1, s2 := pair(f.t, rev, gates[rev%2][0], gates[rev%2][1])
		steps := []func() error{
			func() error { return f.host.Stage(ctx, s2) }, func() error { return f.gw.Stage(ctx, s1) },
			func() error { return f.gw.Commit(ctx, rev) }, func() error { return f.host.Commit(ctx, rev) },
		}
		order := []int{0, 1, 2, 3}
		if d.IntN(2) == 0 {
			order[2], order[3] = 3, 2
		}
		for _, i := range order {
			began := time.Now()
			if err := steps[i](); err != nil {
				f.t.Fatalf("revision %d: %v", rev, err)
			}
			f.steps[i] += time.Since(began)
		}
		if d.IntN(2) == 0 { // else the next Stage says it
			f.host.Passed(rev)
		}
	}
	return done
}

// refusals are how many packets a node dropped by rules.
func refusals(t *testing.T, d *Datapath, group lb.GroupID) (n uint64) {
	t.Helper()
	all, err := d.Counters()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if c.Group == group {
			n += c.Packets
		}
	}
	return n
}

// Two policies that contradict each other take turns under full load: no packet
// gets through, and no verdict is one of both. FLIPS says how many turns, on each
// hook; without it there are as many as fit into a few seconds. A turn takes what
// packets of the revision before may need to be through: the host waits for those
// under way and for the programs that run.
func TestFlipsAreAtomic(t *testing.T) {
	flips, limit := 1000, flipsTime
	if text := os.Getenv("FLIPS"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		flips, limit = n, time.Hour
	}
	for _, attach := range []Attach{AttachTC, AttachXDP} {
		t.Run(string(attach), func(t *testing.T) {
			f := newFlipper(t, attach, nil)
			f.flip(1, time.Now().Add(time.Hour), nil)
			ctx, stop := context.WithCancel(t.Context())
			var sending sync.WaitGroup
			f.flood(ctx, &sending)
			began := time.Now()
			done := f.flip(flips, began.Add(limit), nil)
			took := time.Since(began)
			stop()
			sending.Wait()
			one, two := refusals(t, f.gw, "sg-1"), refusals(t, f.host, "sg-2")
			if n := f.admitted(); n != 0 {
				t.Errorf("%d packets were admitted by a mixture", n)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			for i, m := range f.mixed {
				if i == 5 {
					break
				}
				t.Errorf("a verdict of a mixture: %s", m)
			}
			each := func(i int) time.Duration { return (f.steps[i] / time.Duration(done+1)).Round(time.Microsecond) }
			t.Logf("%d flips in %v under %d packets (%.0f a second): gate 1 judged %d, gate 2 %d, %d verdicts read; %d admitted, %d mixed",
				done, took.Round(time.Millisecond), f.sent.Load(), float64(f.sent.Load())/took.Seconds(), one, two, f.told, f.admitted(), len(f.mixed))
			t.Logf("a flip: stage host %v, gateway %v, commit gateway %v, host %v", each(0), each(1), each(2), each(3))
			if done < min(flips, leastFlips) || two < f.sent.Load()/50 || f.told < 100 {
				t.Error("too little happened to prove anything")
			}
		})
	}
}

// A host that judges at its own revision instead of the stamped one is seen.
func TestFlipsCatchAMixture(t *testing.T) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		t.Skip("needs clang-19: compiles the host with a fault planted in it")
	}
	broken := fault{"newest", "host.bpf.c", "\t\treturn stamp;", "\t\treturn READ_ONCE(r->revision);"}
	f := newFlipper(t, AttachTC, broken.objects(t, lb.RoleHost))
	f.flip(1, time.Now().Add(time.Hour), nil)
	ctx, stop := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	f.flood(ctx, &sending)
	done := f.flip(5000, time.Now().Add(time.Minute), func() bool { return f.admitted() > 0 })
	stop()
	sending.Wait()
	n := f.admitted()
	t.Logf("after %d flips %d packets were admitted by a mixture, %d verdicts told of one", done, n, len(f.mixed))
	if n == 0 {
		t.Error("the planted mixture was not seen: the test proves nothing")
	}
}
