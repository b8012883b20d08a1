// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	figures "github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// benchRounds is how often every case is measured; rounds are interleaved.
const benchRounds = 5

// A benchCase is one kind of packet at gate 1.
type benchCase struct {
	id, name string
	port     uint16 // which listener: 80 has ten rules, 81 has 512, 82 refuses
	mask     uint32 // of the source address: how many flows
	warm, n  int    // runs before and within the measurement
}

var benchCases = []benchCase{
	{"hit-1", "established flow, one", 80, 0, 1, 1_000_000},
	{"hit-64k", "established flow, 64 k of them", 80, 0xffff, 1_000_000, 1_000_000},
	{"hit-1m", "established flow, 1 M of them", 80, 0xfffff, 8_000_000, 1_000_000},
	{"new-10", "new flow, 10 rules", 80, 0xffffffff, 0, 500_000},
	{"new-512", "new flow, 512 rules", 81, 0xffffffff, 0, 500_000},
	{"refuse-10", "refused, 10 rules", 82, 0xffffffff, 0, 500_000},
}

// cpu is the calling thread's CPU time in nanoseconds.
func cpu(b *testing.B) int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		b.Fatal(err)
	}
	return ts.Nano()
}

// benchObjects compiles the programs of testdata/bench.bpf.c beside the gateway's.
func benchObjects(b *testing.B) func() (*ebpf.CollectionSpec, error) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		b.Skip("needs clang-19: compiles the programs for repeated test runs")
	}
	object := filepath.Join(b.TempDir(), "bench.o")
	cmd := exec.Command("clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-Wall", "-Werror", "-Wno-unused-function", "-target", "bpfel",
		"-Ibpf", "-c", "testdata/bench.bpf.c", "-o", object)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec(object) }
}

// benchPolicy has n rules, the last of which decides for every client.
func benchPolicy(b *testing.B, n int, action lb.Action) *policy.Compiled {
	var rules []policy.Rule
	for i := range n {
		r := policy.Rule{ID: lb.RuleID(fmt.Sprintf("pol-%d", i)), Pos: i + 1, Action: lb.Drop, Proto: lb.TCP,
			Peers: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{240, byte(i >> 8), byte(i), 0}), 24)},
			Ports: []lb.PortRange{{First: uint16(1000 + i%32), Last: uint16(2000 + i)}}}
		if i == n-1 {
			r.Action, r.Peers, r.Ports = action, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, nil
		}
		rules = append(rules, r)
	}
	return compiled(b, "sg-bench", rules...)
}

func benchGateway(b *testing.B) *Datapath {
	w := newWorld(b)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: 1 << 20, Events: 1,
		objects: benchObjects(b)})
	s, _ := pair(b, 1, nil, compiled(b, "sg-2"))
	base := s.Listeners[0]
	s.Listeners = nil
	for i, c := range []*policy.Compiled{benchPolicy(b, 10, lb.Accept), benchPolicy(b, 512, lb.Accept), benchPolicy(b, 10, lb.Drop)} {
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

// run gives the CPU time of one of n runs of a program.
func (d *Datapath) run(b *testing.B, program string, port uint16, n int) float64 {
	b.Helper()
	f := tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 4000, port, 0x10)
	before := cpu(b)
	if _, err := d.progs[program].Run(&ebpf.RunOptions{Data: f, Repeat: uint32(n)}); err != nil {
		b.Fatal(program, err)
	}
	return float64(cpu(b)-before) / float64(n)
}

// What one packet costs at gate 1, in both forms: parsing, flow table,
// judgement, choice of target and counters. The tunnel's headers are pushed
// and undone in every run, and that is subtracted.
func BenchmarkGateOne(b *testing.B) {
	gw := benchGateway(b)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var rows []figures.Row
	for _, form := range []string{"tc", "xdp"} {
		net := map[string][]float64{}
		for round := range benchRounds {
			for _, c := range benchCases {
				base := "bench_" + form + "_base"
				if c.port == 82 {
					base = "bench_" + form + "_empty"
				}
				empty := gw.runAimed(b, base, c, 0)
				warm := c.warm
				if round > 0 && c.mask != 0xfffff {
					warm = min(warm, 1)
				}
				net[c.id] = append(net[c.id], gw.runAimed(b, "bench_"+form, c, warm)-empty)
			}
		}
		for _, c := range benchCases {
			slices.Sort(net[c.id])
			v := net[c.id]
			rows = append(rows, figures.Row{ID: c.id + "-" + form, Name: "gate 1 by test run, " + c.name + ", " + form, Unit: "ns/packet",
				Ours: v[len(v)/2], Peer: "prototype", Spread: [2]float64{v[0], v[len(v)-1]}})
			b.Logf("%-4s %-32s median %6.1f ns, %6.1f to %6.1f", form, c.name, v[len(v)/2], v[0], v[len(v)-1])
		}
	}
	figures.Write(b, rows...)
}

// runAimed draws sources from as many as the case has flows, from the same
// beginning each time, and warms the table up first.
func (d *Datapath) runAimed(b *testing.B, program string, c benchCase, warm int) float64 {
	b.Helper()
	for name, value := range map[string]any{"bench_mask": c.mask, "bench_source": uint32(0x0b000001) &^ c.mask, "bench_seed": uint64(0x9E3779B97F4A7C15)} {
		if err := d.vars[name].Set(value); err != nil {
			b.Fatal(name, err)
		}
	}
	if warm > 0 {
		d.run(b, program, c.port, warm)
	}
	return d.run(b, program, c.port, c.n)
}
