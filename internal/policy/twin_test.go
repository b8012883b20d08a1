// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
)

// A dice is where the generators take their choices from: math/rand for the
// long plain loop, rapid for one that shrinks.
type dice interface{ IntN(n int) int }

type rapidDice struct{ t *rapid.T }

func (d rapidDice) IntN(n int) int { return rapid.IntRange(0, n-1).Draw(d.t, "n") }

var protos = []lb.Proto{lb.AnyProto, lb.TCP, lb.TCP, lb.TCP, lb.UDP, lb.UDP, lb.ICMP, lb.ICMPv6, lb.GRE}

func randomPrefix(d dice) netip.Prefix {
	var b [16]byte
	for i := range b {
		b[i] = byte(d.IntN(256))
	}
	if d.IntN(3) > 0 {
		a := netip.AddrFrom4([4]byte{10, byte(d.IntN(3)), b[2] & 3, b[3]})
		return netip.PrefixFrom(a, []int{0, 1, 8, 15, 16, 22, 24, 24, 30, 31, 32, 32}[d.IntN(12)]).Masked()
	}
	copy(b[:], []byte{0x20, 0x01, 0x0d, 0xb8, 0, byte(d.IntN(3)), 0, byte(d.IntN(3))})
	return netip.PrefixFrom(netip.AddrFrom16(b), []int{0, 1, 32, 47, 48, 63, 64, 65, 127, 128}[d.IntN(10)]).Masked()
}

func randomRule(d dice) Rule {
	r := Rule{Action: lb.Accept, Proto: protos[d.IntN(len(protos))]}
	if d.IntN(3) == 0 {
		r.Action = lb.Drop
	}
	for range []int{0, 1, 1, 1, 1, 2, 5}[d.IntN(7)] {
		r.Peers = append(r.Peers, randomPrefix(d))
	}
	for range []int{0, 1, 1, 2}[d.IntN(4)] {
		first := []int{0, 1, 22, 80, 443, 8000, 65535, d.IntN(65536)}[d.IntN(8)]
		last := min(first+[]int{0, 0, 10, 1000, 65535}[d.IntN(5)], 65535)
		r.Ports = append(r.Ports, lb.PortRange{First: uint16(first), Last: uint16(last)})
	}
	return r
}

func randomGroups(d dice, most int) []Group {
	groups := make([]Group, 1+d.IntN(5))
	total := d.IntN(most + 1)
	for i := range groups {
		var rules []Rule
		for range total / len(groups) {
			rules = append(rules, randomRule(d))
		}
		groups[i] = number(lb.GroupID([]string{"sg-a", "sg-b", "sg-c", "sg-d", "sg-e"}[i]), rules...)
	}
	return groups
}

// edgeAddr is the first or last address of a prefix or the one beside it.
func edgeAddr(d dice, prefix netip.Prefix) netip.Addr {
	b := prefix.Addr().As16()
	host := prefix.Addr().BitLen() - prefix.Bits()
	if d.IntN(2) == 0 { // the last one
		for i := range host {
			b[15-i/8] |= 1 << (i % 8)
		}
	}
	a := netip.AddrFrom16(b)
	if prefix.Addr().Is4() {
		a = a.Unmap()
	}
	step := []netip.Addr{a, a, a, a.Prev(), a.Next()}[d.IntN(5)]
	if !step.IsValid() {
		return a
	}
	return step
}

// randomPacket lies on a boundary of a random rule, or anywhere.
func randomPacket(d dice, groups []Group, dir Direction) lb.Packet {
	p := lb.Packet{Proto: []lb.Proto{lb.TCP, lb.UDP, lb.ICMP, lb.ICMPv6, lb.GRE, lb.Proto(d.IntN(256))}[d.IntN(6)], DstPort: uint16(d.IntN(65536)), SrcPort: uint16(d.IntN(65536))}
	peer := edgeAddr(d, randomPrefix(d))
	if rules := groups[d.IntN(len(groups))].Rules; len(rules) > 0 && d.IntN(4) > 0 {
		r := rules[d.IntN(len(rules))]
		if len(r.Peers) > 0 {
			peer = edgeAddr(d, r.Peers[d.IntN(len(r.Peers))])
		}
		if r.Proto != lb.AnyProto {
			p.Proto = r.Proto
		}
		if len(r.Ports) > 0 {
			edge := r.Ports[d.IntN(len(r.Ports))]
			p.DstPort = []uint16{edge.First, edge.Last, edge.First - 1, edge.Last + 1}[d.IntN(4)]
		}
	}
	if !p.Proto.HasPorts() {
		p.SrcPort, p.DstPort = 0, 0
	}
	other := netip.AddrFrom4([4]byte{10, 200, 0, byte(d.IntN(256))})
	if peer.Is6() {
		other = netip.MustParseAddr("2001:db8:ffff::1")
	}
	p.Src, p.Dst = peer, other
	if dir == Out {
		p.Src, p.Dst = other, peer
	}
	return p
}

// campaign compares Decide with judge on random packets of random policies and
// returns the first difference.
func campaign(d dice, policies, packets int, judge func(*Compiled, []Group, Direction, lb.Packet) Verdict) (compared, byRule int, difference string) {
	for i := range policies {
		groups := randomGroups(d, []int{0, 4, 16, 64, 128, 512}[i%6])
		c, err := Compile(groups)
		if err != nil {
			return compared, byRule, err.Error()
		}
		for range packets {
			dir := Direction(1 + d.IntN(2))
			p := randomPacket(d, groups, dir)
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
		groups := randomGroups(d, 12)
		c, err := Compile(groups)
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			dir := Direction(1 + d.IntN(2))
			p := randomPacket(d, groups, dir)
			if want, got := Decide(GateCLB, dir, groups, p), c.Judge(GateCLB, dir, p); want != got {
				t.Fatalf("%v\nDecide %+v\nJudge  %+v\ngroups %+v", p, want, got, groups)
			}
		}
	})
}

// The comparison above is worth something only if it catches faults.
func TestTwinCatchesPlantedFaults(t *testing.T) {
	strict := func(intervals []Interval, key uint32) uint16 { // < for <=
		class := intervals[0].Class
		for _, i := range intervals {
			if i.Start < key {
				class = i.Class
			}
		}
		return class
	}
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
			return verdict(c, c.Table[int(c.source(Peer(dir, p)))*c.NPorts+int(strict(c.Ports, PortKey(p.Proto, p.DstPort)))])
		},
		"< for <= in sources": func(c *Compiled, _ []Group, dir Direction, p lb.Packet) Verdict {
			class := c.source(Peer(dir, p))
			if a := Peer(dir, p); a.Is4() {
				b := a.As4()
				class = strict(c.Src4, binary.BigEndian.Uint32(b[:]))
			}
			return verdict(c, c.Table[int(class)*c.NPorts+int(find(c.Ports, PortKey(p.Proto, p.DstPort)))])
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
		groups := randomGroups(d, 40)
		c, err := Compile(groups)
		if err != nil {
			t.Fatal(err)
		}
		var peers []netip.Addr
		for _, i := range c.Src4 {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], i.Start)
			peers = append(peers, netip.AddrFrom4(b), netip.AddrFrom4(b).Prev())
		}
		for _, i := range c.Src6 {
			peers = append(peers, netip.AddrFrom16(i.Start), netip.AddrFrom16(i.Start).Prev())
		}
		for _, peer := range peers {
			if !peer.IsValid() {
				continue
			}
			for _, i := range c.Ports {
				for _, key := range []uint32{i.Start, max(i.Start, 1) - 1} {
					p := lb.Packet{Proto: lb.Proto(key >> 16), Src: peer, DstPort: uint16(key)}
					compared++
					if want, got := Decide(GateCLB, In, groups, p), c.Judge(GateCLB, In, p); want != got {
						t.Fatalf("%v: Decide %+v, Judge %+v", p, want, got)
					}
				}
			}
		}
	}
	t.Logf("%d packets on boundaries", compared)
}

func BenchmarkCompile512(b *testing.B) {
	d := rand.New(rand.NewPCG(7, 8))
	var rules []Rule
	for range 512 {
		rules = append(rules, randomRule(d))
	}
	groups := []Group{number("sg-a", rules...)}
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
		rules = append(rules, randomRule(d))
	}
	groups := []Group{number("sg-a", rules...)}
	c, err := Compile(groups)
	if err != nil {
		b.Fatal(err)
	}
	var packets [256]lb.Packet
	for i := range packets {
		packets[i] = randomPacket(d, groups, In)
	}
	for i := 0; b.Loop(); i++ {
		c.Judge(GateCLB, In, packets[i%256])
	}
}
