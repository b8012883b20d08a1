// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// frameOf is an Ethernet frame of a packet, checksums left 0. ICMP is an echo
// request.
func frameOf(p lb.Packet, flags byte) []byte {
	size := map[lb.Proto]int{lb.TCP: 20, lb.UDP: 8}[p.Proto]
	if size == 0 {
		size = 8
	}
	header := headerOf(p.Src)
	f := make([]byte, 14+header+size)
	ip := f[14:]
	if p.Src.Is4() {
		f[12] = 8
		ip[0], ip[8], ip[9] = 0x45, 64, byte(p.Proto)
		binary.BigEndian.PutUint16(ip[2:], uint16(header+size))
		copy(ip[12:], p.Src.AsSlice())
		copy(ip[16:], p.Dst.AsSlice())
	} else {
		f[12], f[13] = 0x86, 0xdd
		ip[0], ip[6], ip[7] = 0x60, byte(p.Proto), 64
		binary.BigEndian.PutUint16(ip[4:], uint16(size))
		copy(ip[8:], p.Src.AsSlice())
		copy(ip[24:], p.Dst.AsSlice())
	}
	switch l4 := ip[header:]; p.Proto {
	case lb.TCP:
		l4[12], l4[13] = 0x50, flags
		l4[11] = flags >> 4 & 1 // acknowledges the SYN that was numbered 0
		fallthrough
	case lb.UDP:
		binary.BigEndian.PutUint16(l4, p.SrcPort)
		binary.BigEndian.PutUint16(l4[2:], p.DstPort)
		if p.Proto == lb.UDP {
			binary.BigEndian.PutUint16(l4[4:], uint16(size))
		}
	case lb.ICMP:
		l4[0] = 8
	case lb.ICMPv6:
		l4[0] = 128
	}
	return f
}

// headerOf is the length of an IP header without options of the address's family.
func headerOf(a netip.Addr) int {
	if a.Is4() {
		return 20
	}
	return 40
}

// A bench runs one program of a datapath on frames and reads what it told.
// Every refused packet and every new flow is told, in the order of the runs.
type bench struct {
	*Datapath
	told  *ringbuf.Reader
	rev   lb.Revision
	quiet bool // nothing tells but runs
}

func newBench(t testing.TB, d *Datapath) *bench {
	t.Helper()
	r, err := ringbuf.NewReader(d.maps["events"])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return &bench{Datapath: d, told: r}
}

// run gives a program's answer to a frame. out takes the frame as it leaves.
func (b *bench) run(program string, frame, out []byte) (uint32, error) {
	p, err := b.loadProgram(program)
	if err != nil {
		return 0, err
	}
	return p.Run(&ebpf.RunOptions{Data: frame, DataOut: out})
}

// next is the next event; it errs when none was told.
func (b *bench) next() (flow.Event, error) {
	wait := 500 * time.Millisecond
	if b.quiet {
		wait = 0 // a run has told what it tells when it is over
	}
	b.told.SetDeadline(time.Now().Add(wait))
	rec, err := b.told.Read()
	if err != nil {
		return flow.Event{}, err
	}
	return b.event((*GatewayEvent)(unsafe.Pointer(unsafe.SliceData(rec.RawSample)))), nil
}

// forget empties the flow table.
func (b *bench) forget(t testing.TB) {
	t.Helper()
	clear(b.gatewayFlows)
	clear(b.gatewayFlows6)
	clear(b.hostFlows)
	clear(b.hostFlows6)
	clear(b.shares) // what the slots were counted in, and the limits too: a campaign's flows are all half-open
}

// stage puts a snapshot in force as the next revision.
func (b *bench) stage(t testing.TB, s *snapshot.Snapshot) {
	t.Helper()
	b.rev++
	s.Revision = b.rev
	if err := b.Stage(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if err := b.Commit(t.Context(), s.Revision); err != nil {
		t.Fatal(err)
	}
	b.forget(t)
}

// What else than to pass an XDP program can answer.
const (
	xdpDrop     = 1
	xdpRedirect = 4
)

// A side is one program that judges, and how its packets look.
type side struct {
	program string
	role    lb.NodeRole
	gate    policy.Gate
	dir     policy.Direction
	passes  uint32 // the program's answer to a packet that it lets through
	drops   uint32 // and to one that it refuses
}

func sides() []side {
	return []side{
		{"gateway", lb.RoleGateway, policy.GateCLB, policy.In, actRedirect, actShot},
		{"gateway_xdp", lb.RoleGateway, policy.GateCLB, policy.In, xdpRedirect, xdpDrop},
		{"host_in", lb.RoleHost, policy.GateCVM, policy.In, actNext, actShot},
		{"host_out", lb.RoleHost, policy.GateCVM, policy.Out, actNext, actShot},
	}
}

// Protocols without ports have nothing but addresses to tell their flows
// apart by, so the twin's instance has many.
const ownAddresses = 600

func ownAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, 16, byte(i / 200), byte(1 + i%200)})
}

// packet is a random one as the side's program meets it, the i-th of its
// policy: a flow of its own.
func (s side) packet(d policytest.Dice, groups []policy.Group, i int) lb.Packet {
	for {
		p := policytest.RandomPacket(d, groups, s.dir)
		if !policy.Peer(s.dir, p).Is4() || s.role == lb.RoleGateway && p.Proto != lb.TCP {
			continue
		}
		own := ownAddress(i)
		if s.role == lb.RoleGateway {
			own = netip.MustParseAddr(vip)
		}
		if s.dir == policy.In {
			p.Dst = own
		} else {
			p.Src = own
		}
		if p.Proto.HasPorts() {
			p.SrcPort = uint16(1024 + i)
		}
		return p
	}
}

// snapshot binds the policy where the side's program looks for it: at a
// listener on every port of the packets, or at the instance, in one direction.
func (s side) snapshot(c, other *policy.Compiled, packets []lb.Packet) *snapshot.Snapshot {
	out := &snapshot.Snapshot{Role: s.role, Policies: map[policy.Hash]*policy.Compiled{c.Hash: c, other.Hash: other}}
	if s.role == lb.RoleHost {
		i := snapshot.Instance{ID: "ins-1", Ingress: c.Hash, Egress: other.Hash}
		if s.dir == policy.Out {
			i.Ingress, i.Egress = i.Egress, i.Ingress
		}
		for n := range packets {
			i.Addrs = append(i.Addrs, ownAddress(n))
		}
		out.Instances = []snapshot.Instance{i}
		return out
	}
	addr := netip.MustParseAddr
	out.VIPs = []netip.Addr{addr(vip)}
	out.Peers = []snapshot.Peer{{Node: "ins-1", Num: 2, Addr: addr(hostAddr), Keys: [2]uint64{0xfeedfacecafebeef, 0}}}
	out.Targets = []snapshot.Target{{Num: 7, Host: addr(hostAddr), Service: netip.MustParseAddrPort("172.31.0.1:8080"), VIPs: out.VIPs, Proto: lb.TCP}}
	ports := map[uint16]bool{}
	for _, p := range packets {
		if !ports[p.DstPort] {
			ports[p.DstPort] = true
			out.Listeners = append(out.Listeners, snapshot.Listener{Num: uint32(len(ports)), ID: "lbl-1", Balancer: "lb-1", BalancerNum: 1, VIPs: out.VIPs,
				Proto: lb.TCP, Port: p.DstPort, Gate1: c.Hash, Targets: []snapshot.TargetRef{{Num: 7, Weight: 10}}})
		}
	}
	return out
}

// compare runs every packet through the program and compares what it answers
// and tells with Decide and with the compiled form. It gives the number of
// packets that a rule decided, and the first difference. frame says how a
// packet travels, at is the revision that it has to be judged at.
func (s side) compare(b *bench, c *policy.Compiled, groups []policy.Group, packets []lb.Packet, at lb.Revision, frame func(lb.Packet) []byte) (byRule int, difference string) {
	out := make([]byte, 256)
	answers := make([]uint32, len(packets))
	for i, p := range packets {
		var err error
		if answers[i], err = b.run(s.program, frame(p), out); err != nil {
			return byRule, fmt.Sprintf("%v: %v", p, err)
		}
		stamped := tunnelled(out)
		if s.role == lb.RoleGateway && answers[i] == s.passes && (stamped.target != 7 || stamped.revision != uint32(at)) {
			return byRule, fmt.Sprintf("%v: tunnelled to target %d at revision %d", p, stamped.target, stamped.revision)
		}
	}
	for i, p := range packets {
		want := policy.Decide(s.gate, s.dir, groups, p)
		if want.Reason == policy.RuleMatched {
			byRule++
		}
		e, err := b.next()
		if err != nil {
			return byRule, fmt.Sprintf("packet %d, %v: no verdict was told: %v", i, p, err)
		}
		answer := s.drops
		if want.Action == lb.Accept {
			answer = s.passes
		}
		switch {
		case e.Src.Addr() != p.Src || e.Dst.Addr() != p.Dst || e.Proto != p.Proto || e.Revision != at || e.Direction != s.dir:
			return byRule, fmt.Sprintf("packet %d, %v: the program told of %+v", i, p, e)
		case e.Verdict != want:
			return byRule, fmt.Sprintf("packet %d, %v: the program says %+v, Decide %+v", i, p, e.Verdict, want)
		case answers[i] != answer:
			return byRule, fmt.Sprintf("packet %d, %v: answer %d where Decide says %+v", i, p, answers[i], want)
		}
		if got := c.Judge(s.gate, s.dir, p); got != want {
			return byRule, fmt.Sprintf("packet %d, %v: Judge says %+v, Decide %+v", i, p, got, want)
		}
	}
	return byRule, ""
}

// stamp is what a frame in the tunnel says.
type stamp struct{ revision, target uint32 }

func tunnelled(frame []byte) stamp {
	option := frame[14+20+8+8+4:]
	return stamp{binary.BigEndian.Uint32(option), binary.BigEndian.Uint32(option[4:])}
}

// campaign compares on packets of random policies until a difference shows.
// bound is what the program gets for the groups: their compiled form, or in
// the planted cases that of other groups.
func (s side) campaign(t *testing.T, b *bench, d policytest.Dice, policies, each int, bound func([]policy.Group) []policy.Group) (compared, byRule int, difference string) {
	t.Helper()
	sizes := policytest.Sizes()
	for i := range policies {
		groups := policytest.RandomGroups(d, sizes[i%len(sizes)])
		packets := make([]lb.Packet, each)
		for k := range packets {
			packets[k] = s.packet(d, groups, k)
		}
		b.stage(t, s.snapshot(compiledGroups(t, bound(groups)), compiledGroups(t, policytest.RandomGroups(d, 4)), packets))
		n, difference := s.compare(b, compiledGroups(t, groups), groups, packets, b.rev, syn)
		byRule += n
		compared += len(packets)
		if difference != "" {
			return compared, byRule, fmt.Sprintf("policy %d: %s", i, difference)
		}
	}
	return compared, byRule, ""
}

// syn is the frame of a packet; of TCP the first of a connection.
func syn(p lb.Packet) []byte { return frameOf(p, 2) }

func asBound(groups []policy.Group) []policy.Group { return groups }

// newQuiet is a world of one namespace where nobody sends: nothing comes by
// but what a test runs. Its router's MAC address is known, so programs may send
// straight out.
func newQuiet(t testing.TB) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: loads programs into the kernel")
	}
	sweepOnce()
	w := &world{t: t, dirs: map[string]string{}, shares: true}
	ns := quietName()
	if mutating() && loaded.quiet {
		return w
	}
	w.run("ip", "netns", "add", filepath.Base(path(ns)))
	if !mutating() {
		t.Cleanup(func() { exec.Command("ip", "netns", "del", filepath.Base(path(ns))).Run() })
	}
	w.in(ns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
	for _, step := range []string{
		"link add eth0 address 02:00:00:00:00:81 type veth peer name eth1", "link set eth1 up", "link set eth0 up", "addr add 192.0.2.200/32 dev eth0",
		"route add 192.0.2.254 dev eth0", "route add default via 192.0.2.254", "neigh add 192.0.2.254 lladdr 02:00:00:00:00:fe dev eth0 nud permanent",
	} {
		w.in(ns, append([]string{"ip"}, strings.Fields(step)...)...)
	}
	loaded.quiet = mutating()
	return w
}

// quietName is of this process: a fuzzer's workers each have their own.
func quietName() string { return "dp-quiet" }

// benchOf opens the role's programs.
func (w *world) benchOf(role lb.NodeRole, objects func() (*ebpf.CollectionSpec, error)) *bench {
	w.t.Helper()
	o := Options{Node: "gateway-1", Role: role, Address: netip.MustParseAddr(gwAddr), objects: objects}
	if role == lb.RoleHost {
		o.Node, o.Address = "ins-1", netip.MustParseAddr(hostAddr)
	}
	return w.benchAt(o)
}

// benchAt opens a node's programs, with a small flow table and every verdict
// told.
func (w *world) benchAt(o Options) *bench {
	w.t.Helper()
	o.Buckets, o.Events = 1024, 1<<30
	delete(w.dirs, quietName())
	b := newBench(w.t, w.open(quietName(), o))
	b.quiet = true
	return b
}

// The third of the twins: policy.Decide, the compiled form and the programs in
// the kernel say the same of every packet. IPv4 only: the programs judge
// nothing else, IPv6 is compared in Go forms by package policy.
func TestKernelTwin(t *testing.T) {
	w := newQuiet(t)
	total, decided := 0, 0
	for n, s := range sides() {
		begin := time.Now()
		compared, byRule, difference := s.campaign(t, w.benchOf(s.role, nil), rand.New(rand.NewPCG(11, uint64(n))), 36, ownAddresses, asBound)
		if difference != "" {
			t.Fatalf("%s: %s", s.program, difference)
		}
		t.Logf("%s: %d packets compared, %d (%d%%) decided by a rule, in %v", s.program, compared, byRule, 100*byRule/compared, time.Since(begin).Round(time.Millisecond))
		total, decided = total+compared, decided+byRule
	}
	if total < 80_000 || decided*2 < total {
		t.Errorf("too few: %d packets, %d decided by a rule", total, decided)
	}
}

// What comes through the tunnel is judged at the revision that the gateway
// stamped, whether that is in force here or only staged.
func TestKernelTwinAtStampedRevision(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleHost, nil)
	s := side{"host_in", lb.RoleHost, policy.GateCVM, policy.In, actNext, actShot}
	d := rand.New(rand.NewPCG(37, 41))
	const each = 300
	total, decided := 0, 0
	for range 40 {
		var lists [2][]policy.Group
		var packets [2][]lb.Packet
		var forms [2]*policy.Compiled
		for n := range lists {
			lists[n] = policytest.RandomGroups(d, 64)
			forms[n] = compiledGroups(t, lists[n])
			for len(packets[n]) < each {
				p := s.packet(d, lists[n], n*each+len(packets[n]))
				if p.Proto == lb.TCP {
					p.Dst = ownAddress(0)
					packets[n] = append(packets[n], p)
				}
			}
		}
		targets := map[uint16]uint32{}
		var rows []snapshot.Target
		for _, p := range slices.Concat(packets[0], packets[1]) {
			if targets[p.DstPort] == 0 {
				targets[p.DstPort] = uint32(len(targets) + 1)
				rows = append(rows, snapshot.Target{Num: targets[p.DstPort], Host: netip.MustParseAddr(hostAddr), Service: netip.AddrPortFrom(p.Dst, p.DstPort),
					VIPs: []netip.Addr{netip.MustParseAddr(vip)}, Proto: lb.TCP, ViaGateway: true})
			}
		}
		bound := func(n int) *snapshot.Snapshot {
			out := s.snapshot(forms[n], forms[n], packets[0][:1])
			out.Targets, out.Peers = rows, []snapshot.Peer{{Node: "gateway-1", Num: 1, Addr: netip.MustParseAddr(gwAddr), Keys: [2]uint64{tunnelKey, 0}}}
			return out
		}
		b.stage(t, bound(0))
		next := bound(1)
		next.Revision = b.rev + 1
		if err := b.Stage(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		for n := range lists {
			at := b.rev + lb.Revision(n)
			byRule, difference := s.compare(b, forms[n], lists[n], packets[n], at, func(p lb.Packet) []byte {
				return inTunnel(syn(p), gwAddr, hostAddr, uint32(at), targets[p.DstPort])
			})
			if difference != "" {
				t.Fatalf("stamped with revision %d, %d in force: %s", at, b.rev, difference)
			}
			total, decided = total+each, decided+byRule
		}
		if b.rev++; b.Commit(t.Context(), b.rev) != nil {
			t.Fatal("the staged revision was not committed")
		}
	}
	t.Logf("host_in, tunnelled: %d packets compared at two revisions at once, %d (%d%%) decided by a rule", total, decided, 100*decided/total)
}

func compiledGroups(t testing.TB, groups []policy.Group) *policy.Compiled {
	t.Helper()
	c, err := policy.Compile(groups)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A fault is one edit of the C sources.
type fault struct {
	name, file, old, new string
}

// touches reports whether the side's program judges by the line: the gateway
// names the port it judges in packet.h and the host in its own file.
func (f fault) touches(s side) bool {
	switch f.file {
	case "packet.h":
		return s.role == lb.RoleGateway
	case "host.bpf.c":
		return s.role == lb.RoleHost
	}
	return true
}

// Every fault is compiled into the programs it touches, and the twin sees it.
func TestKernelTwinCatchesPlantedFaults(t *testing.T) {
	if _, err := exec.LookPath("clang-19"); err != nil {
		t.Skip("needs clang-19: compiles the programs with faults planted in them")
	}
	w := newQuiet(t)
	catch := func(t *testing.T, b *bench, s side, bound func([]policy.Group) []policy.Group) {
		t.Helper()
		compared, _, difference := s.campaign(t, b, rand.New(rand.NewPCG(13, 17)), 24, 200, bound)
		if difference == "" {
			t.Errorf("%s: not caught in %d packets", s.program, compared)
		}
		t.Logf("%s: %s", s.program, difference)
	}
	for _, f := range []fault{
		{"nothing", "judge.h", "POLICY_HEADER = 2", "POLICY_HEADER = 2"},
		{"< for <=", "judge.h", "(__s64)value - 1)", "(__s64)value)"},
		{"source port for destination port at gate 1", "packet.h", "IPPROTO_UDP ? p->dst_port : 0", "IPPROTO_UDP ? p->src_port : 0"},
		{"source port for destination port at gate 2", "host.bpf.c", "opener == DIRECTION_IN ? t->local_port : t->remote_port", "opener != DIRECTION_IN ? t->local_port : t->remote_port"},
		{"port bytes swapped", "judge.h", ">> 40), key)", ">> 40), (key & 0xff0000) | ((key & 0xff) << 8) | ((key >> 8) & 0xff))"},
		{"the neighbour's rule", "judge.h", "word_at(w, segments + segment)", "word_at(w, segments + (segment ? segment - 1 : 1))"},
		{"stale revision", "layout.h", "(!ok0 || f1 > f0) ? 1 : ok0 ? 0 : -1", "(!ok0 || f1 < f0) ? 1 : ok0 ? 0 : -1"},
	} {
		t.Run(f.name, func(t *testing.T) {
			objects := map[lb.NodeRole]func() (*ebpf.CollectionSpec, error){}
			for _, s := range sides() {
				if !f.touches(s) {
					continue
				}
				if objects[s.role] == nil {
					objects[s.role] = f.objects(t, s.role)
				}
				b := w.benchOf(s.role, objects[s.role])
				if f.old != f.new {
					catch(t, b, s, asBound)
					continue
				}
				if _, _, difference := s.campaign(t, b, rand.New(rand.NewPCG(13, 17)), 24, 200, asBound); difference != "" {
					t.Errorf("a difference without any fault: %s", difference)
				}
			}
		})
	}
	t.Run("a group skipped", func(t *testing.T) {
		for _, s := range sides() {
			catch(t, w.benchOf(s.role, nil), s, func(groups []policy.Group) []policy.Group { return groups[:max(1, len(groups)-1)] })
		}
	})
}

// objects compiles the role's programs with the fault in them.
func (f fault) objects(t *testing.T, role lb.NodeRole) func() (*ebpf.CollectionSpec, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, f.file)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), f.old) != 1 {
		t.Fatalf("%q stands %d times in %s: it must be one place", f.old, strings.Count(string(text), f.old), f.file)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), f.old, f.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	object := filepath.Join(dir, string(role)+".o")
	cmd := exec.Command("clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-Wall", "-Werror", "-Wno-unused-function", "-target", "bpfel",
		"-c", filepath.Join(dir, string(role)+".bpf.c"), "-o", object)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(errors.Join(err, errors.New(string(out))))
	}
	return func() (*ebpf.CollectionSpec, error) { return ebpf.LoadCollectionSpec(object) }
}
