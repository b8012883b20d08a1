// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	vip6     = "2001:db8:ffff::1"
	ownAddr4 = "172.16.0.1"
	ownAddr6 = "2001:db8:fffe::1"
)

// A policyCase is one policy of the corpus.
type policyCase struct {
	name   string
	groups []policy.Group
}

// corpus are the policies that the twin walks edge by edge: by hand, and that
// many of each size by chance. The hardest that fit come with hard.
func corpus(t *testing.T, d *rand.Rand, each, most int, hard bool) []policyCase {
	t.Helper()
	cases := handMade()
	cases = append(cases, resolvedCases()...)
	for _, size := range policytest.Sizes() {
		for i := range each {
			if size <= most {
				cases = append(cases, policyCase{fmt.Sprintf("random %d/%d", size, i), policytest.RandomGroups(d, size)})
			}
		}
	}
	if hard {
		cases = append(cases, hardCases(d)...)
	}
	for i := 0; i < len(cases); i++ {
		if _, err := policy.Compile(cases[i].groups); err != nil {
			t.Logf("%s is left out: %v", cases[i].name, err)
			cases = append(cases[:i], cases[i+1:]...)
			i--
		}
	}
	return cases
}

func ruleOf(action lb.Action, proto lb.Proto, ports string, peers ...string) policy.Rule {
	r := policy.Rule{Action: action, Proto: proto}
	for _, p := range peers {
		r.Peers = append(r.Peers, netip.MustParsePrefix(p))
	}
	var first, last uint16
	switch n, _ := fmt.Sscanf(ports, "%d-%d", &first, &last); n {
	case 1:
		r.Ports = []lb.PortRange{{First: first, Last: first}}
	case 2:
		r.Ports = []lb.PortRange{{First: first, Last: last}}
	}
	return r
}

// handMade are the sets that the vendor's page recommends for backends, and
// small ones about order, nesting and the ends of the lines.
func handMade() []policyCase {
	const a, b, everyone, everyone6 = "203.0.113.10/32", "198.51.100.20/32", "0.0.0.0/0", "::/0"
	yes, no, tcp := lb.Accept, lb.Drop, lb.TCP
	one := func(name string, rules ...policy.Rule) policyCase {
		return policyCase{name, []policy.Group{policytest.Number("sg-a", rules...)}}
	}
	return []policyCase{
		one("recommended: chosen clients", ruleOf(yes, tcp, "8080", a), ruleOf(yes, tcp, "8080", b), ruleOf(yes, tcp, "8080", vip+"/32"), ruleOf(no, tcp, "8080", everyone)),
		one("recommended: everyone", ruleOf(yes, tcp, "8080", everyone)),
		one("recommended: only through the load balancer", ruleOf(yes, tcp, "80", vip+"/32"), ruleOf(no, tcp, "80", everyone)),
		one("recommended: classic private", ruleOf(yes, tcp, "8080", a), ruleOf(yes, tcp, "8080", b), ruleOf(no, tcp, "8080", everyone)),
		one("recommended: block list", ruleOf(no, tcp, "8080", a), ruleOf(no, tcp, "8080", b), ruleOf(yes, tcp, "8080", everyone)),
		one("empty"),
		one("everything, both families", ruleOf(yes, lb.AnyProto, "", everyone), ruleOf(yes, lb.AnyProto, "", everyone6)),
		one("nothing, both families", ruleOf(no, lb.AnyProto, "", everyone), ruleOf(no, lb.AnyProto, "", everyone6)),
		one("ends of the lines", ruleOf(yes, tcp, "0", "0.0.0.0/32", "::/128"), ruleOf(yes, tcp, "65535", "255.255.255.255/32", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"), ruleOf(yes, lb.UDP, "0-65535", "0.0.0.0/1", "8000::/1")),
		one("middles of IPv6 words", ruleOf(yes, tcp, "443", "2001:db8:0:ffff::/64"), ruleOf(no, tcp, "443", "2001:db8:1::/48"), ruleOf(yes, tcp, "443", "2001:db8::/32"), ruleOf(no, tcp, "442-444", "2001:db8::ffff:ffff:0:0/96")),
		one("nested", ruleOf(no, tcp, "80", "10.1.2.3/32"), ruleOf(yes, tcp, "80-81", "10.1.2.0/24"), ruleOf(no, tcp, "79-82", "10.1.0.0/16"), ruleOf(yes, lb.AnyProto, "", "10.0.0.0/8")),
		{"the first group wins", []policy.Group{policytest.Number("sg-a", ruleOf(no, tcp, "80", "10.0.0.0/8", "2001:db8::/32")), policytest.Number("sg-b", ruleOf(yes, tcp, "", "10.0.0.0/8", "2001:db8::/32"))}},
		one("protocols", ruleOf(yes, lb.ICMP, "", everyone), ruleOf(no, lb.ICMPv6, "", "2001:db8::/32"), ruleOf(yes, lb.ICMPv6, "", everyone6), ruleOf(yes, lb.GRE, "", "10.0.0.0/8", "2001:db8::/48"), ruleOf(yes, 132, "", "10.0.0.0/9")),
	}
}

// resolvedCases are groups as the state has them: with rules that name groups
// and templates.
func resolvedCases() []policyCase {
	addr := netip.MustParseAddr
	st := &lb.State{}
	for i, a := range []string{"10.0.1.4", "10.0.1.5", "10.0.2.9"} {
		id := lb.InstanceID(fmt.Sprintf("ins-%08d", i))
		st.Instances.Put(id, &lb.Instance{ID: id, Private: addr(a), Groups: []lb.GroupID{"sg-members"}})
	}
	st.Templates.Put("ipm-1", &lb.Template{ID: "ipm-1", Members: []lb.TemplateMember{
		{Peers: lb.AddressRange{First: addr("192.0.2.5"), Last: addr("192.0.2.77")}}, {Peers: lb.AddressRange{First: addr("2001:db8::5"), Last: addr("2001:db8::1:0")}}}})
	st.Templates.Put("ppm-1", &lb.Template{ID: "ppm-1", Members: []lb.TemplateMember{
		{Service: lb.Service{Proto: lb.TCP, Ports: []lb.PortRange{{First: 80, Last: 80}, {First: 443, Last: 450}}}}, {Service: lb.Service{Proto: lb.ICMP}}}})
	rules := []lb.PolicyRule{
		{ID: "pol-1", Action: lb.Drop, Proto: lb.TCP, PeerGroup: "sg-members", Ports: []lb.PortRange{{First: 22, Last: 22}}},
		{ID: "pol-2", Action: lb.Accept, PeerTemplate: "ipm-1", Service: "ppm-1"},
		{ID: "pol-3", Action: lb.Accept, Proto: lb.AnyProto, PeerGroup: "sg-members"},
		{ID: "pol-4", Action: lb.Accept, Proto: lb.UDP, PeerGroup: "sg-nobody"},
	}
	for _, id := range []lb.GroupID{"sg-members", "sg-edge"} {
		st.Groups.Put(id, &lb.SecurityGroup{ID: id, Ingress: rules, Egress: rules[1:]})
	}
	return []policyCase{
		{"groups and templates", policy.Resolve(st, []lb.GroupID{"sg-edge"}, policy.In)},
		{"groups and templates, twice and one that is gone", policy.Resolve(st, []lb.GroupID{"sg-edge", "sg-gone", "sg-members"}, policy.In)},
		{"a private load balancer's", policy.NewResolver(st).Gate1(&lb.LoadBalancer{Type: lb.Internal, VIPs: []netip.Addr{addr("10.0.0.9")}, Groups: []lb.GroupID{"sg-edge"}}, addr("10.0.0.9"))},
	}
}

// hardCases are 512 rules × 5 groups of the kinds that make tables large.
func hardCases(d *rand.Rand) []policyCase {
	kinds := map[string]func(i int) policy.Rule{
		"wide ranges, own sources": func(i int) policy.Rule {
			return ruleOf(lb.Accept, lb.TCP, fmt.Sprintf("%d-%d", i+1, 65535-i), fmt.Sprintf("10.%d.%d.%d/32", d.IntN(256), d.IntN(256), d.IntN(256)))
		},
		"nested, both families": func(i int) policy.Rule {
			if i%2 == 0 {
				return ruleOf(lb.Action(1+i%4/2), lb.TCP, fmt.Sprintf("%d-%d", i+1, i+40), fmt.Sprintf("2001:db8::/%d", 32+i%97))
			}
			return ruleOf(lb.Action(1+i%4/2), lb.UDP, fmt.Sprintf("%d-%d", i+1, i+40), fmt.Sprintf("10.0.0.0/%d", 8+i%25))
		},
		"ranges by chance": func(int) policy.Rule {
			first := d.IntN(60000)
			return ruleOf(lb.Action(1+d.IntN(2)), lb.TCP, fmt.Sprintf("%d-%d", first, first+d.IntN(5000)), fmt.Sprintf("10.%d.%d.0/%d", d.IntN(4), d.IntN(256), 16+d.IntN(9)))
		},
	}
	var cases []policyCase
	for name, rule := range kinds {
		var groups []policy.Group
		for g := range 5 {
			var rules []policy.Rule
			for i := range 512 {
				r := rule(g*512 + i)
				for k, p := range r.Peers {
					r.Peers[k] = p.Masked()
				}
				rules = append(rules, r)
			}
			groups = append(groups, policytest.Number(lb.GroupID(fmt.Sprintf("sg-%d", g)), rules...))
		}
		cases = append(cases, policyCase{"512 rules × 5 groups: " + name, groups})
	}
	return cases
}

// frame6 is an Ethernet frame of an IPv6 packet, checksums left 0. ICMPv6 is an
// echo request.
func frame6(p lb.Packet, flags byte) []byte {
	f := make([]byte, 14+40+20)
	f[12], f[13] = 0x86, 0xdd
	ip := f[14:]
	ip[0], ip[6], ip[7] = 0x60, byte(p.Proto), 64
	binary.BigEndian.PutUint16(ip[4:], 20)
	s, d := p.Src.As16(), p.Dst.As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	switch l4 := ip[40:]; p.Proto {
	case lb.TCP:
		l4[12], l4[13] = 0x50, flags
		fallthrough
	case lb.UDP:
		binary.BigEndian.PutUint16(l4, p.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], p.DstPort)
		if p.Proto == lb.UDP {
			binary.BigEndian.PutUint16(l4[4:], 20)
		}
	case lb.ICMPv6:
		l4[0] = 128
	}
	return f
}

// wholeFrame is the first packet of a flow in either family.
func wholeFrame(p lb.Packet) []byte {
	if p.Src.Is4() {
		return frameOf(p, 2)
	}
	return frame6(p, 2)
}

// piecesOf are fragments of a packet, in an order that shows each way in which
// one is judged: a later one before its first, both in order, one that reaches
// back into the first, and a first without its whole header with one after it.
func piecesOf(p lb.Packet, id uint32) []policy.Piece {
	all := []policy.Piece{{ID: id, Offset: 40, Length: 24}, {ID: id, Length: 40}, {ID: id, Offset: 40, Length: 24}, {ID: id, Offset: 32, Length: 24}}
	if p.Proto.HasPorts() {
		all = append(all, policy.Piece{ID: id, Length: 7}, policy.Piece{ID: id, Offset: 40, Length: 24})
	}
	return all
}

// longFrame is the same packet with 64 bytes of content.
func longFrame(p lb.Packet) []byte {
	f := append(wholeFrame(p), make([]byte, 64)...)
	if p.Src.Is4() {
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	} else {
		binary.BigEndian.PutUint16(f[18:], uint16(len(f)-54))
	}
	return f
}

// An edgeSide is a side of one family, with all that its packets need.
type edgeSide struct {
	side
	family4 bool
	protos  map[lb.Proto]bool // that the program judges; nil: all
	early   bool              // passes fragments on
}

func (s edgeSide) own() netip.Addr {
	switch {
	case s.role == lb.RoleGateway && s.family4:
		return netip.MustParseAddr(vip)
	case s.role == lb.RoleGateway:
		return netip.MustParseAddr(vip6)
	case s.family4:
		return netip.MustParseAddr(ownAddr4)
	}
	return netip.MustParseAddr(ownAddr6)
}

func (s edgeSide) String() string {
	if s.family4 {
		return s.program + " IPv4"
	}
	return s.program + " IPv6"
}

// extension are the protocols that IPv6 reads as headers before the transport.
func extension(p lb.Proto) bool { return p == 0 || p == 43 || p == 44 || p == 60 }

// packet is an edge as the side's program meets it; false when it never does:
// what only the load balancer may send is dropped before any rule.
func (s edgeSide) packet(e policytest.Edge) (lb.Packet, bool) {
	special := func(cidr string) bool { return netip.MustParsePrefix(cidr).Contains(e.Peer) }
	if s.dir == policy.In && (e.Peer == netip.MustParseAddr(vip) || e.Peer == netip.MustParseAddr(vip6) || e.Peer == netip.MustParseAddr(gwAddr) ||
		special("100.64.0.0/16") || special("100.127.0.0/16")) || s.protos != nil && !s.protos[e.Proto] || !s.family4 && extension(e.Proto) || e.Peer == s.own() {
		return lb.Packet{}, false
	}
	p := lb.Packet{Proto: e.Proto, Src: e.Peer, Dst: s.own(), DstPort: e.Port}
	if s.dir == policy.Out {
		p.Src, p.Dst = p.Dst, p.Src
	}
	if p.Proto.HasPorts() {
		p.SrcPort = 40000
	}
	return p, true
}

// bound is the snapshot that has the policy where the side looks for it.
func (s edgeSide) bound(c, other *policy.Compiled, ports map[uint16]bool) *snapshot.Snapshot {
	out := s.side.snapshot(c, other, nil)
	if s.role == lb.RoleHost {
		out.Instances[0].Addrs = []netip.Addr{s.own()}
		return out
	}
	out.VIPs = []netip.Addr{s.own()}
	for i := range out.Targets {
		out.Targets[i].VIPs = out.VIPs
		if !s.family4 {
			out.Targets[i].Service = netip.MustParseAddrPort("[2001:db8:fffd::1]:8080")
		}
	}
	for port := range ports {
		for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
			if s.protos[proto] {
				out.Listeners = append(out.Listeners, snapshot.Listener{Num: uint32(proto)<<16 | uint32(port) + 1, ID: "lbl-1", Balancer: "lb-1", BalancerNum: 1, VIPs: out.VIPs,
					Proto: proto, Port: port, Gate1: c.Hash, Targets: []snapshot.TargetRef{{Num: 7, Weight: 10}}})
			}
		}
	}
	return out
}

// A walk is one side going through the corpus.
type walk struct {
	edgeSide
	*bench
	out                        []byte
	packets, fragments, byRule int
	id                         uint32 // of the last packet in pieces
}

// judgeAll runs packets whose policy is in force and gives the first difference.
func (w *walk) judgeAll(c *policy.Compiled, groups []policy.Group, packets []lb.Packet) string {
	answers := make([]uint32, len(packets))
	for i, p := range packets {
		var err error
		if answers[i], err = w.run(w.program, wholeFrame(p), w.out); err != nil {
			return fmt.Sprintf("%v: %v", p, err)
		}
	}
	for i, p := range packets {
		want := policy.Decide(w.side.gate, w.dir, groups, p)
		if want.Reason == policy.RuleMatched {
			w.byRule++
		}
		if got := c.Judge(w.side.gate, w.dir, p); got != want {
			return fmt.Sprintf("%v: the compiled form says %+v, Decide %+v", p, got, want)
		}
		e, err := w.next()
		answer := w.drops
		if want.Action == lb.Accept {
			answer = w.passes
		}
		switch {
		case err != nil:
			return fmt.Sprintf("%v: nothing was told, answer %d: %v", p, answers[i], err)
		case e.Src.Addr() != p.Src || e.Dst.Addr() != p.Dst || e.Proto != p.Proto || e.Revision != w.rev:
			return fmt.Sprintf("%v: the program told of %+v", p, e)
		case e.Verdict != want || answers[i] != answer:
			return fmt.Sprintf("%v: the program says %+v with answer %d, Decide %+v", p, e.Verdict, answers[i], want)
		}
	}
	w.packets += len(packets)
	return ""
}

// cut runs packets in pieces, as the first packets of their flows, and gives the
// first difference. What comes after a first that was let in belongs to a flow
// that is known, so nothing is told of it.
func (w *walk) cut(c *policy.Compiled, groups []policy.Group, packets []lb.Packet) string {
	for _, p := range packets {
		w.id++
		var reference, compiled policy.Fragments
		frame, pieces := longFrame(p), piecesOf(p, w.id)
		for _, one := range pieces {
			want := reference.Judge(w.side.gate, p, one, func(p lb.Packet) policy.Verdict { return policy.Decide(w.side.gate, w.dir, groups, p) })
			if got := compiled.Judge(w.side.gate, p, one, func(p lb.Packet) policy.Verdict { return c.Judge(w.side.gate, w.dir, p) }); got != want {
				return fmt.Sprintf("%v, %+v: the compiled form says %+v, Decide %+v", p, one, got, want)
			}
			answer, err := w.run(w.program, piece(frame, uint16(one.ID), one.Offset, one.Length), w.out)
			if err != nil {
				return fmt.Sprintf("%v, %+v: %v", p, one, err)
			}
			w.fragments++
			expected := w.drops
			if want.Action == lb.Accept {
				expected = w.passes
			}
			if w.early { // which leaves them to the other hook
				expected = xdpPass
			}
			if answer != expected {
				return fmt.Sprintf("%v, %+v: answer %d, the reference says %+v", p, one, answer, want)
			}
			if w.early || want.Action == lb.Accept && one.Offset > 0 {
				continue
			}
			if e, err := w.next(); err != nil || e.Verdict != want || e.Src.Addr() != p.Src || e.Revision != w.rev {
				return fmt.Sprintf("%v, %+v: the program told of %+v, %v, the reference says %+v", p, one, e, err, want)
			}
		}
	}
	return ""
}

// flowsAtOnce is how many flows begin before the table is emptied: half-open
// ones have a part of it only.
const flowsAtOnce = 150

// portsAtOnce is how many listeners a side stages for its packets at a time.
const portsAtOnce = 900

// policy walks one policy's edges, at most that many packets.
func (w *walk) policy(t *testing.T, one policyCase, most int) string {
	c := compiledGroups(t, one.groups)
	other := compiledGroups(t, policytest.RandomGroups(rand.New(rand.NewPCG(1, 2)), 4))
	var packets []lb.Packet
	ports, staged := map[uint16]bool{}, false
	flush := func() (difference string) {
		if w.role == lb.RoleGateway || !staged {
			w.stage(t, w.bound(c, other, ports))
			staged = true
		}
		for at := 0; at < len(packets) && difference == ""; at += flowsAtOnce {
			chunk := packets[at:min(at+flowsAtOnce, len(packets))]
			w.forget(t)
			if difference = w.judgeAll(c, one.groups, chunk); difference == "" {
				if w.early { // which only leaves them to the other hook
					chunk = chunk[:(len(chunk)+7)/8]
				}
				w.forget(t)
				difference = w.cut(c, one.groups, chunk)
			}
		}
		packets = packets[:0]
		clear(ports)
		return difference
	}
	var difference string
	n := 0
	// By port first, so that few listeners serve many packets.
	byPort := map[uint16][]lb.Packet{}
	var order []uint16
	policytest.Edges(one.groups, w.family4, func(e policytest.Edge) bool {
		if p, ok := w.packet(e); ok {
			if byPort[p.DstPort] == nil {
				order = append(order, p.DstPort)
			}
			byPort[p.DstPort] = append(byPort[p.DstPort], p)
			n++
		}
		return n < most
	})
	for _, port := range order {
		packets = append(packets, byPort[port]...)
		if ports[port] = true; len(ports) < portsAtOnce {
			continue
		}
		if difference = flush(); difference != "" {
			return difference
		}
	}
	if len(packets) > 0 {
		difference = flush()
	}
	return difference
}

// edgeSides are the four programs, each for the families and protocols that it
// judges: a policy that admits everything shows which.
func edgeSides(t *testing.T, w *world) []*walk {
	t.Helper()
	var all []*walk
	benches := map[lb.NodeRole]*bench{}
	for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
		benches[role] = w.benchOf(role, nil)
	}
	open := policyCase{"open", []policy.Group{policytest.Number("sg-a", ruleOf(lb.Accept, lb.AnyProto, "", "0.0.0.0/0", "::/0"))}}
	for _, s := range sides() {
		for _, family4 := range []bool{true, false} {
			one := &walk{edgeSide: edgeSide{side: s, family4: family4, early: s.program == "gateway_xdp"}, bench: benches[s.role], out: make([]byte, 512)}
			if s.role == lb.RoleGateway {
				one.protos = map[lb.Proto]bool{lb.TCP: true, lb.UDP: true}
			}
			c := compiledGroups(t, open.groups)
			one.stage(t, one.bound(c, c, map[uint16]bool{80: true}))
			peer := netip.MustParseAddr(map[bool]string{true: "203.0.113.1", false: "2001:db8::1"}[family4])
			judged := map[lb.Proto]bool{}
			for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
				p, _ := one.packet(policytest.Edge{Peer: peer, Proto: proto, Port: 80})
				if answer, err := one.run(one.program, wholeFrame(p), one.out); err == nil && answer == one.passes {
					judged[proto] = true
				}
				one.next()
			}
			if len(judged) == 0 {
				if family4 || !one.early {
					t.Fatalf("%v judges nothing", one.edgeSide)
				}
				t.Logf("%v judges nothing of it yet", one.edgeSide)
				continue
			}
			if one.protos != nil {
				one.protos = judged
			}
			all = append(all, one)
		}
	}
	return all
}

// all walks the corpus and says what it saw.
func (w *walk) all(t *testing.T, cases []policyCase, most int) {
	began := time.Now()
	for _, c := range cases {
		if difference := w.policy(t, c, most); difference != "" {
			t.Errorf("%v, policy %q: %s", w.edgeSide, c.name, difference)
			return
		}
	}
	t.Logf("%-17v %d policies: %d packets at edges, %d (%d%%) decided by a rule, and %d fragments, in %v", w.edgeSide, len(cases), w.packets, w.byRule,
		100*w.byRule/max(w.packets, 1), w.fragments, time.Since(began).Round(time.Millisecond))
}

// The third of the twins, exhaustive: at every edge of every rule, in every
// program and family, whole and in fragments, policy.Decide, the compiled form
// and the kernel say the same. TWIN says how many random policies of each size
// are walked, without any bound and with the hardest that fit.
func TestKernelTwinAtEveryEdge(t *testing.T) {
	each, largest, most, hard := 5, 64, 6000, false
	if mutating() {
		each, most = 1, 400
	}
	if text := os.Getenv("TWIN"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		each, largest, most, hard = n, 512, 1<<40, true
	}
	w := newJumbo(t) // where fragments pass
	cases := corpus(t, rand.New(rand.NewPCG(71, 73)), each, largest, hard)
	walks := edgeSides(t, w)
	var wg sync.WaitGroup
	for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
		wg.Go(func() {
			for _, one := range walks {
				if one.role == role {
					one.all(t, cases, most)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for _, one := range walks {
		total += one.packets + one.fragments
	}
	if total < 60_000 && !mutating() {
		t.Error("that is hardly every edge")
	}
	t.Logf("%d packets of %d policies through %d programs and families: no difference", total, len(cases), len(walks))
}
