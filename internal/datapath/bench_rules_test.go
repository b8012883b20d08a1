// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	figures "github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// benchRules are n rules that refuse: sources of /24 to /32 that do not
// overlap, so that nftables can express them in every form, and as many
// different port ranges, a third of them more than one port.
func benchRules(n, ranges int) []policy.Rule {
	d := rand.New(rand.NewPCG(3, 1))
	ports := make([]lb.PortRange, ranges)
	for i := range ports {
		first := uint16(1000 + d.IntN(60000))
		ports[i] = lb.PortRange{First: first, Last: first}
		if i%3 == 0 {
			ports[i].Last += uint16(d.IntN(1000))
		}
	}
	rules := make([]policy.Rule, n)
	for i := range rules {
		peer := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24+d.IntN(9))
		rules[i] = policy.Rule{ID: lb.RuleID(fmt.Sprintf("pol-%d", i)), Pos: i + 1, Action: lb.Drop, Proto: lb.TCP,
			Peers: []netip.Prefix{peer}, Ports: []lb.PortRange{ports[d.IntN(ranges)]}}
	}
	return rules
}

// onePort gives all rules the same port.
func onePort(rules []policy.Rule, port uint16) []policy.Rule {
	for i := range rules {
		rules[i].Ports = []lb.PortRange{{First: port, Last: port}}
	}
	return rules
}

// nftChain is a chain at prerouting with the same rules in the same order, and
// a last one that drops what none matches, as the implicit refusal does.
func nftChain(rules []policy.Rule) string {
	var t strings.Builder
	t.WriteString("flush ruleset\ntable ip bench {\nchain pre {\ntype filter hook prerouting priority -150; policy accept;\n")
	for _, r := range rules {
		fmt.Fprintf(&t, "ip saddr %v tcp dport %d-%d drop\n", r.Peers[0], r.Ports[0].First, r.Ports[0].Last)
	}
	t.WriteString("drop\n}\n}\n")
	return t.String()
}

// nft loads a script into a namespace.
func (w *world) nft(ns, script string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "nft")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.in(ns, "nft", "-f", file)
}

// aimAt fills the pool with tuples from inside random rules.
func (d *Datapath) aimAt(b testing.TB, rules []policy.Rule, dst netip.Addr) {
	b.Helper()
	dice := rand.New(rand.NewPCG(5, 1))
	for i := range uint32(4096) {
		r := rules[dice.IntN(len(rules))]
		src := r.Peers[0].Addr().As4()
		src[3] += byte(dice.IntN(1 << (32 - r.Peers[0].Bits())))
		ports := r.Ports[0]
		t := benchTuple{src: src, dst: dst.As4()}
		binary.BigEndian.PutUint16(t.sport[:], uint16(0x4000+i))
		binary.BigEndian.PutUint16(t.dport[:], ports.First+uint16(dice.IntN(int(ports.Last-ports.First)+1)))
		if err := d.maps["bench_pool"].Put(i, t); err != nil {
			b.Fatal(err)
		}
	}
	d.aim(b, 0xffffffff)
}

// benchTuple is struct bench_tuple of testdata/bench.bpf.c.
type benchTuple struct {
	src, dst     [4]byte
	sport, dport [2]byte
}

// MarshalBinary writes it as the kernel reads it.
func (t benchTuple) MarshalBinary() ([]byte, error) {
	return append(append(append(t.src[:], t.dst[:]...), t.sport[:]...), t.dport[:]...), nil
}

// What judging alone costs, beside an nftables chain of the same rules on the
// same tuples: there, what a chain with nothing but `drop` costs is subtracted.
func BenchmarkJudge(b *testing.B) {
	if !figures.Wanted("judge-512", "judge-2560", "judge-proto-512", "judge-proto-2560") {
		b.Skip("not asked for")
	}
	w := newWorld(b)
	gw := benchGateway(b, w, "dp-gw", 0)
	for _, n := range []int{512, 2560} {
		if !figures.Wanted(fmt.Sprintf("judge-%d", n), fmt.Sprintf("judge-proto-%d", n)) {
			continue
		}
		rules := benchRules(n, 512)
		c := compiled(b, "sg-judge", rules...)
		s, _ := pair(b, lb.Revision(n), c, compiled(b, "sg-2"))
		stageCommit(b, gw, s)
		listener := gw.listeners.at[GatewayListenerKey{Addr: rawAddr(netip.MustParseAddr(vip)), Port: 80, Proto: 6}]
		row, _ := gw.listeners.newest(listener)
		mustSet(b, gw.vars, "bench_policy", row.Policy)
		gw.aimAt(b, rules, netip.MustParseAddr(vip))
		var ours, theirs []float64
		for range benchRounds {
			cost, err := inside(w, "dp-gw", func() (float64, error) {
				f := frameBetween(6, clientA, 4000, vip, 80, 0x10)
				base := timed(b, gw.loaded(b, "bench_judge_base"), f, 500_000)
				return timed(b, gw.loaded(b, "bench_judge"), f, 500_000) - base, nil
			})
			if err != nil {
				b.Fatal(err)
			}
			ours = append(ours, cost)
			w.nft("dp-a", nftChain(nil))
			empty := gw.carry(b, w, "dp-a", "live_pass", 2)
			w.nft("dp-a", nftChain(rules))
			theirs = append(theirs, gw.carry(b, w, "dp-a", "live_pass", 2)-empty)
		}
		figures.Write(b, figures.Fill(fmt.Sprintf("judge-%d", n), ours, theirs, ""))
		bare, why := prototypeJudge(b, n)
		figures.Write(b, figures.Fill(fmt.Sprintf("judge-proto-%d", n), ours, bare, why))
	}
	b.ReportMetric(0, "ns/op")
}

// prototypeJudge runs the prototype classifier of the anchors on rules of its
// own with as many port ranges: the compact search, ports by search too.
func prototypeJudge(b *testing.B, n int) (net []float64, why string) {
	object, why := buildAnchor(b, "cls.bpf.c")
	if why != "" {
		return nil, why
	}
	program := filepath.Join(b.TempDir(), "bpfbench")
	build := exec.Command("go", "build", "-o", program, "./cmd/bpfbench")
	build.Dir = os.Getenv("ANCHORS")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Sprintf("the prototype's harness does not build: %s", strings.TrimSpace(string(out)))
	}
	out, err := exec.Command(program, "-obj", object, "-rules", strconv.Itoa(n), "-ports", "512", "-rounds", "5", "-linear=false").CombinedOutput()
	if err != nil {
		return nil, "the prototype does not load: " + strings.TrimSpace(string(out))
	}
	cost := map[string]float64{}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 2 {
			cost[f[0]], _ = strconv.ParseFloat(f[1], 64)
		}
	}
	return []float64{cost["c_x_bsbs"] - cost["c_base"]}, ""
}

// How long it takes until every packet is judged by 2,560 other rules, from
// the rules to the commit, beside loading the same chain. Both replace what is
// in force at once.
func BenchmarkSwap(b *testing.B) {
	if !figures.Wanted("swap-2560") {
		b.Skip("not asked for")
	}
	w := newWorld(b)
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	var ours, theirs []float64
	for round := range 2*benchRounds + 1 {
		rules := benchRules(2560, 512)
		rules[0].Peers[0] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(round)}), 32) // other rules each time
		s, _ := pair(b, lb.Revision(round+1), nil, compiled(b, "sg-2"))
		runtime.GC()
		began := time.Now()
		c, err := policy.Compile([]policy.Group{{ID: "sg-swap", Rules: rules}})
		if err != nil {
			b.Fatal(err)
		}
		s.Policies[c.Hash] = c
		s.Listeners[0].Gate1 = c.Hash
		stageCommit(b, gw, s)
		took := time.Since(began)
		script := nftChain(rules)
		began = time.Now()
		w.nft("dp-a", script)
		if round > 0 { // the first is no replacement
			ours, theirs = append(ours, float64(took.Microseconds())/1000), append(theirs, float64(time.Since(began).Microseconds())/1000)
		}
	}
	figures.Write(b, figures.Fill("swap-2560", ours, theirs, ""))
	b.ReportMetric(0, "ns/op")
}
