// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	figures "github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// benchRounds is how often every case is measured; rounds are interleaved.
const benchRounds = 7

// gateRounds is the same where a round takes less time than neighbours come and
// go in: each subtracts what it measured right before.
const gateRounds, baseRuns = 3 * benchRounds, 100_000

// A benchCase is one kind of packet at gate 1.
type benchCase struct {
	id      string
	port    uint16 // which listener: 80 has ten rules, 81 has 512, 82 refuses, 83 has 2,560
	mask    uint32 // of the source address: how many flows
	warm, n int    // runs before and within the measurement
}

var benchCases = []benchCase{
	{"hit-1", 80, 0, 1, 150_000},
	{"hit-64k", 80, 0xffff, 1_000_000, 150_000},
	{"hit-1m", 80, 0xfffff, 8_000_000, 150_000},
	{"new-512", 81, 0xffffffff, 0, 100_000},
}

// cpu is the calling thread's CPU time in nanoseconds: a test run waits for
// others, and neighbours share the core.
func cpu(b testing.TB) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

// benchObjects compiles the programs of testdata/bench.bpf.c beside the gateway's.
func benchObjects(b testing.TB) func() (*ebpf.CollectionSpec, error) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		b.Skip("needs clang-19: compiles the programs for repeated test runs")
	}
	object := filepath.Join(b.TempDir(), "bench.o")
	cmd := exec.Command("clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-Wall", "-Werror", "-Wno-unused-function", "-target", "bpfel", targetArch(),
		"-Ibpf", "-c", "testdata/bench.bpf.c", "-o", object)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec(object) }
}

// targetArch tells the sources which machine they are for, as the generator does.
func targetArch() string {
	return "-D__TARGET_ARCH_" + map[string]string{"amd64": "x86", "arm64": "arm64"}[runtime.GOARCH]
}

// benchPolicy has n rules, the last of which decides for every client.
func benchPolicy(b testing.TB, n int, action lb.Action) *policy.Compiled {
	rules := benchRules(n, 32)
	rules[n-1] = policy.Rule{ID: rules[n-1].ID, Pos: n, Action: action, Proto: lb.TCP, Peers: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
	return compiled(b, "sg-bench", rules...)
}

// benchGateway has the listeners of the cases. buckets of 0 are as many as by default.
func benchGateway(b testing.TB, w *world, ns string, buckets uint32) *Datapath {
	gw := w.open(ns, Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: buckets, Events: 1,
		objects: benchObjects(b)})
	s, _ := pair(b, 1, nil, compiled(b, "sg-2"))
	base := s.Listeners[0]
	s.Listeners = nil
	for i, c := range []*policy.Compiled{benchPolicy(b, 10, lb.Accept), benchPolicy(b, 512, lb.Accept),
		compiled(b, "sg-refuse", onePort(benchRules(10, 32), 82)...), benchPolicy(b, 2560, lb.Accept)} {
		l := base
		l.Num, l.Port, l.Gate1 = uint32(10+i), uint16(80+i), c.Hash
		s.Policies[c.Hash] = c
		s.Listeners = append(s.Listeners, l)
	}
	stageCommit(b, gw, s)
	return gw
}

func stageCommit(t testing.TB, d *Datapath, s *snapshot.Snapshot) {
	t.Helper()
	if err := d.Stage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(t.Context(), s.Revision); err != nil {
		t.Fatal(err)
	}
}

// timed gives the CPU time of one of n runs of a program.
func timed(b testing.TB, p *ebpf.Program, frame []byte, n int) float64 {
	b.Helper()
	before := cpu(b)
	if _, err := p.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(n)}); err != nil {
		b.Fatal(p, err)
	}
	return float64(cpu(b)-before) / float64(n)
}

// aim draws sources from as many as the case has flows, from the same
// beginning each time.
func (d *Datapath) aim(b testing.TB, mask uint32) {
	b.Helper()
	for name, value := range map[string]any{"bench_mask": mask, "bench_source": uint32(0x0b000001) &^ mask, "bench_seed": uint64(0x9E3779B97F4A7C15)} {
		if err := d.vars[name].Set(value); err != nil {
			b.Fatal(name, err)
		}
	}
}

// runAimed runs a program on the case's packets. seed moves on by itself, so
// that new flows are new in every round.
func (d *Datapath) runAimed(b testing.TB, program string, c benchCase, n int) float64 {
	b.Helper()
	f := tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 4000, c.port, 0x10)
	if c.mask != 0xffffffff {
		d.aim(b, c.mask)
	}
	return timed(b, d.loaded(b, program), f, n)
}

// pushed is what pushing the tunnel's room in front of a frame costs in XDP: half of
// pushing and taking it off again.
func (d *Datapath) pushed(b testing.TB, c benchCase) (base, push float64) {
	base = d.runAimed(b, "bench_xdp_base", c, baseRuns)
	return base, (base - d.runAimed(b, "bench_xdp_empty", c, baseRuns)) / 2
}

// What one packet costs at gate 1: parsing, flow table, judgement, choice of
// target, counters and the tunnel's header. The empty program, what draws
// sources and what takes the header off again is subtracted, in the prototype
// too. XDP's push of the frame's beginning belongs to the work and is counted
// on both sides. At TC the kernel's making of room in the packet's buffer is
// subtracted too, and as much as XDP's push costs is counted for it: the headers
// are written by the program itself, which is ours. Of the two ways of making room
// a repeated run takes both, here as in what is subtracted: the first one fails
// for a packet that was in a tunnel once.
func BenchmarkGateOne(b *testing.B) {
	wanted := func(c benchCase) bool { return figures.Wanted(c.id, c.id+"-tc") }
	if !figures.Wanted("hit-1", "hit-64k", "hit-1m", "new-512", "hit-1-tc", "hit-64k-tc", "hit-1m-tc", "new-512-tc", "grow") {
		b.Skip("not asked for")
	}
	// Room for as many flows as the prototype: 2 M.
	gw := benchGateway(b, newQuiet(b), quietName(), 1<<20)
	proto, why := newPrototype(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for _, c := range benchCases {
		if !wanted(c) {
			continue
		}
		gw.aim(b, c.mask)
		if c.warm > 0 {
			gw.runAimed(b, "bench_xdp", c, c.warm)
			proto.warm(b, c)
		}
		var xdp, tc, theirs []float64
		for range gateRounds {
			base, push := gw.pushed(b, c)
			xdp = append(xdp, gw.runAimed(b, "bench_xdp", c, c.n)-base+push)
			if proto != nil {
				theirs = append(theirs, proto.run(b, c))
			}
			base = gw.runAimed(b, "bench_tc_base", c, baseRuns)
			tc = append(tc, gw.runAimed(b, "bench_tc", c, c.n)-base+push)
		}
		figures.Write(b, figures.Fill(c.id, xdp, theirs, why), figures.Fill(c.id+"-tc", tc, theirs, why))
	}
	if figures.Wanted("grow") {
		grow(b, gw)
	}
	b.ReportMetric(0, "ns/op")
}

// grow compares an established flow under 2,560 rules with one under ten.
func grow(b *testing.B, gw *Datapath) {
	var cost [2][]float64
	few, many := benchCase{port: 80}, benchCase{port: 83}
	for range 6*benchRounds + 1 {
		base, push := gw.pushed(b, few)
		for i, c := range []benchCase{many, few} {
			cost[i] = append(cost[i], gw.runAimed(b, "bench_xdp", c, 200_000)-base+push)
		}
	}
	figures.Write(b, figures.Fill("grow", cost[0], cost[1], ""))
}

func mustSet(b testing.TB, vars map[string]*ebpf.Variable, name string, value any) {
	b.Helper()
	v := vars[name]
	if v == nil {
		b.Fatalf("the programs have no variable %s", name)
	}
	if err := v.Set(value); err != nil {
		b.Fatal(fmt.Errorf("%s: %w", name, err))
	}
}
