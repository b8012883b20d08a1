// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	. "github.com/sallyport/sallyport/internal/policy"
)

// adversaries are the most that five groups of 512 rules can be made to cost.
func adversaries() map[string]func(d *rand.Rand, i int) Rule {
	tcp := func(first, last int, peer netip.Prefix) Rule {
		return Rule{Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: uint16(first), Last: uint16(last)}}, Peers: []netip.Prefix{peer.Masked()}}
	}
	v4 := func(d *rand.Rand, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(d.Int()), byte(d.Int()), byte(d.Int())}), bits)
	}
	v6 := func(d *rand.Rand, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, byte(d.Int()), byte(d.Int()), byte(d.Int())}), bits)
	}
	return map[string]func(d *rand.Rand, i int) Rule{
		"wide overlapping ranges for everybody": func(_ *rand.Rand, i int) Rule { return tcp(i+1, 65535-i, v4(rand.New(rand.NewPCG(1, 1)), 0)) },
		"wide overlapping ranges, own sources":  func(d *rand.Rand, i int) Rule { return tcp(i+1, 65535-i, v4(d, 32)) },
		"nested prefixes, own ports":            func(d *rand.Rand, i int) Rule { return tcp(i+1, i+1, v4(rand.New(rand.NewPCG(1, 1)), i%33)) },
		"nested prefixes of both families": func(d *rand.Rand, i int) Rule {
			if i%2 == 0 {
				return tcp(i+1, 65535-i, v6(d, 32+i%33))
			}
			return tcp(i+1, 65535-i, v4(d, 8+i%25))
		},
		"half everybody's ports, half sources": func(d *rand.Rand, i int) Rule {
			if i%2 == 0 {
				return tcp(i+1, 65535-i, v4(d, 0))
			}
			return tcp(1, 65535, v4(d, 32))
		},
		"random": func(d *rand.Rand, i int) Rule {
			first := d.IntN(60000)
			return tcp(first, first+d.IntN(5000), v4(d, 12+d.IntN(21)))
		},
	}
}

// Whatever 512 rules × 5 groups say, compiling ends soon, takes little memory
// and gives a policy of bounded size, or says that it would not fit.
func TestAdversaries(t *testing.T) {
	for name, rule := range adversaries() {
		t.Run(name, func(t *testing.T) {
			d := rand.New(rand.NewPCG(41, 43))
			var groups []Group
			for g := range 5 {
				group := Group{ID: lb.GroupID(fmt.Sprintf("sg-%d", g))}
				for i := range 512 {
					r := rule(d, g*512+i)
					r.ID, r.Pos = lb.RuleID(fmt.Sprintf("pol-%d", i)), i+1
					group.Rules = append(group.Rules, r)
				}
				groups = append(groups, group)
			}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			c, err := Compile(groups)
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			spent := (after.TotalAlloc - before.TotalAlloc) >> 20
			var e *lb.Error
			switch {
			case err == nil && (len(c.Segments) > MaxSegments || len(c.Src4) > MaxIntervals || len(c.Src6) > MaxIntervals):
				t.Errorf("%d segments, %d and %d ranges", len(c.Segments), len(c.Src4), len(c.Src6))
			case err != nil && (!errors.As(err, &e) || e.Kind != lb.LimitExceeded || c != nil):
				t.Errorf("refused with %v", err)
			}
			if spent > 128 {
				t.Errorf("%d MiB allocated", spent)
			}
			if limit := 20 * time.Second; took > limit { // a bound on the growth, not a measurement
				t.Errorf("took %v", took)
			}
			if err != nil {
				t.Logf("%v, %d MiB: %v", took, spent, err)
				return
			}
			t.Logf("%v, %d MiB: %d classes, %d segments, %d and %d ranges", took, spent, len(c.Slices), len(c.Segments), len(c.Src4), len(c.Src6))
		})
	}
}

// Groups of the same content, resolved anew, compile to the same policy: nodes
// keep it once.
func TestIdenticalPoliciesAreOne(t *testing.T) {
	build := func() *Compiled {
		d := rand.New(rand.NewPCG(2, 3))
		group := Group{ID: "sg-1"}
		for i := range 100 {
			r := adversaries()["random"](d, i)
			r.ID, r.Pos = lb.RuleID(fmt.Sprintf("pol-%d", i)), i+1
			group.Rules = append(group.Rules, r)
		}
		c, err := Compile([]Group{group})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if a, b := build(), build(); a.Hash != b.Hash {
		t.Errorf("%s and %s", a.Hash, b.Hash)
	}
}

// The worst that is taken: as many rules of each hard kind as just fit. What it
// costs is what a write at the API's door may cost.
func TestWorstAccepted(t *testing.T) {
	for _, name := range []string{"half everybody's ports, half sources", "wide overlapping ranges, own sources", "nested prefixes of both families"} {
		build := func(n int) []Group {
			d := rand.New(rand.NewPCG(41, 43))
			group := Group{ID: "sg-1"}
			for i := range n {
				r := adversaries()[name](d, i)
				r.ID, r.Pos = lb.RuleID(fmt.Sprintf("pol-%d", i)), i+1
				group.Rules = append(group.Rules, r)
			}
			return []Group{group}
		}
		taken, refused := 1, 2561
		for refused-taken > 64 {
			n := (taken + refused) / 2
			if _, err := Compile(build(n)); err == nil {
				taken = n
			} else {
				refused = n
			}
		}
		groups := build(taken)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := time.Now()
		c, err := Compile(groups)
		took := time.Since(began)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Fatal(err)
		}
		spent := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%s: %d rules compile in %v with %d MiB to %d words of the kernel's memory, %d segments", name, taken, took.Round(100*time.Microsecond), spent, c.Words(), len(c.Segments))
		if c.Words() > MaxWords() || spent > 128 {
			t.Errorf("%d words, %d MiB", c.Words(), spent)
		}
	}
}
