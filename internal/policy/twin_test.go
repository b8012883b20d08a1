// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	. "github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
)

type rapidDice struct{ t *rapid.T }

func (d rapidDice) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

// campaign compares Decide with judge on random packets of random policies and
// returns the first difference.
func campaign(d policytest.Dice, policies, packets int, judge func(*Compiled, []Group, Direction, lb.Packet) Verdict) (compared, byRule int, difference string) {
	sizes := policytest.Sizes()
	for i := range policies {
		groups := policytest.RandomGroups(d, sizes[i%len(sizes)])
		c, err := Compile(groups)
		if err != nil {
			return compared, byRule, err.Error()
		}
		for range packets {
			dir := Direction(1 + d.IntN(2))
			p := policytest.RandomPacket(d, groups, dir)
			want, got := Decide(GateCVM, dir, groups, p), judge(c, groups, dir, p)
			compared++
			if want.Reason == RuleMatched {
				byRule++
			}
			if want != got {
				return compared, byRule, p.String()
			}
		}
	}
	return compared, byRule, ""
}

func judge(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
	return c.Judge(GateCVM, dir, p)
}

func TestTwin(t *testing.T) {
	compared, byRule, difference := campaign(rand.New(rand.NewPCG(1, 2)), 240, 600, judge)
	if difference != "" {
		t.Fatalf("Decide and Judge differ on %s", difference)
	}
	t.Logf("%d packets compared, %d (%d%%) decided by a rule", compared, byRule, 100*byRule/compared)
	if compared < 100_000 || byRule*2 < compared {
		t.Errorf("too few: %d packets, %d decided by a rule", compared, byRule)
	}
}

func TestTwinShrinking(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := rapidDice{t}
		groups := policytest.RandomGroups(d, 12)
		c, err := Compile(groups)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			dir := Direction(1 + d.IntN(2))
			p := policytest.RandomPacket(d, groups, dir)
			if want, got := Decide(GateCLB, dir, groups, p), c.Judge(GateCLB, dir, p); want != got {
				t.Fatalf("%v\nDecide %+v\nJudge  %+v\ngroups %+v", p, want, got, groups)
			}
		}
	})
}

// The comparison above is worth something only if it catches faults.
func TestTwinCatchesPlantedFaults(t *testing.T) {
	find := func(intervals []Interval, key uint32, equal bool) uint16 {
		class := intervals[0].Class
		for _, i := range intervals {
			if i.Start < key || i.Start == key && equal {
				class = i.Class
			}
		}
		return class
	}
	address := func(a netip.Addr) uint32 { b := a.As4(); return binary.BigEndian.Uint32(b[:]) }
	verdict := func(c *Compiled, cell uint16) Verdict {
		if cell == 0 {
			return Verdict{Gate: GateCVM, Action: lb.Drop, Reason: NoMatch}
		}
		r := c.Rules[cell-1]
		return Verdict{GateCVM, r.Action, RuleMatched, r.Group, r.Rule, r.Pos}
	}
	recompiled := func(change func([]Group) []Group) func(*Compiled, []Group, Direction, lb.Packet) Verdict {
		var of *Compiled
		var wrong *Compiled
		return func(c *Compiled, groups []Group, dir Direction, p lb.Packet) Verdict {
			if of != c {
				of = c
				var err error
				if wrong, err = Compile(change(groups)); err != nil {
					t.Fatal(err)
				}
			}
			return wrong.Judge(GateCVM, dir, p)
		}
	}
	for name, wrong := range map[string]func(*Compiled, []Group, Direction, lb.Packet) Verdict{
		"< for <= in ports": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			if !Peer(dir, p).Is4() {
				return c.Judge(GateCVM, dir, p)
			}
			class := find(c.Src4, address(Peer(dir, p)), true)
			return verdict(c, find(c.Slice(class), PortKey(p.Proto, p.DstPort), false))
		},
		"< for <= in sources": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			if !Peer(dir, p).Is4() {
				return c.Judge(GateCVM, dir, p)
			}
			class := find(c.Src4, address(Peer(dir, p)), false)
			return verdict(c, find(c.Slice(class), PortKey(p.Proto, p.DstPort), true))
		},
		"port bytes swapped": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			p.DstPort = p.DstPort<<8 | p.DstPort>>8
			return c.Judge(GateCVM, dir, p)
		},
		"source port for destination port": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			p.SrcPort, p.DstPort = p.DstPort, p.SrcPort
			return c.Judge(GateCVM, dir, p)
		},
		"directions swapped": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			return c.Judge(GateCVM, In+Out-dir, p)
		},
		"order of groups ignored": recompiled(func(groups []Group) []Group {
			reversed := make([]Group, len(groups))
			for i, group := range groups {
				reversed[len(groups)-1-i] = group
			}
			return reversed
		}),
		"last group skipped": recompiled(func(groups []Group) []Group { return groups[:max(1, len(groups)-1)] }),
		"rule id of the neighbour": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			v := c.Judge(GateCVM, dir, p)
			if v.Reason == RuleMatched {
				v.Pos++
			}
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			compared, _, difference := campaign(rand.New(rand.NewPCG(3, 4)), 60, 400, wrong)
			if difference == "" {
				t.Errorf("not caught in %d packets", compared)
			}
		})
	}
}

// Every boundary of every class, of both families, one policy after another.
func TestTwinAtEveryBoundary(t *testing.T) {
	d := rand.New(rand.NewPCG(5, 6))
	compared := 0
	for range 20 {
		groups := policytest.RandomGroups(d, 40)
		c, err := Compile(groups)
		if err != nil {
			t.Fatal(err)
		}
		policytest.Boundaries(c, func(p lb.Packet) bool {
			compared++
			if want, got := Decide(GateCLB, In, groups, p), c.Judge(GateCLB, In, p); want != got {
				t.Errorf("%v: Decide %+v, Judge %+v", p, want, got)
			}
			return !t.Failed()
		})
	}
	t.Logf("%d packets on boundaries", compared)
}

func BenchmarkCompile512(b *testing.B) {
	d := rand.New(rand.NewPCG(7, 8))
	var rules []Rule
	for range 512 {
		rules = append(rules, policytest.RandomRule(d))
	}
	groups := []Group{policytest.Number("sg-a", rules...)}
	for b.Loop() {
		if _, err := Compile(groups); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJudge512(b *testing.B) {
	d := rand.New(rand.NewPCG(7, 8))
	var rules []Rule
	for range 512 {
		rules = append(rules, policytest.RandomRule(d))
	}
	groups := []Group{policytest.Number("sg-a", rules...)}
	c, err := Compile(groups)
	if err != nil {
		b.Fatal(err)
	}
	var packets [256]lb.Packet
	for i := range packets {
		packets[i] = policytest.RandomPacket(d, groups, In)
	}
	for i := 0; b.Loop(); i++ {
		c.Judge(GateCLB, In, packets[i%256])
	}
}
