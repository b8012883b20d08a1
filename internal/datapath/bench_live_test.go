// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	figures "github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// stateRounds are more: a difference of two like figures is wanted.
const stateRounds = 2*benchRounds + 1

// liveFrames is how many frames one measurement injects.
const liveFrames = 64 * 5000

// carry injects frames of the pool on a namespace's eth0, where they go the
// way of received ones, and gives the CPU time of one.
func (d *Datapath) carry(b testing.TB, w *world, ns, program string, scale int) float64 {
	b.Helper()
	return d.carryAs(b, w, ns, program, 6, liveFrames/scale)
}

func (d *Datapath) carryAs(b testing.TB, w *world, ns, program string, proto lb.Proto, n int) float64 {
	b.Helper()
	cost, err := inside(w, ns, func() (float64, error) {
		dev, err := net.InterfaceByName("eth0")
		if err != nil {
			return 0, err
		}
		word := func(mac []byte) (w uint64) {
			for i, m := range mac {
				w |= uint64(m) << (8 * i)
			}
			return w
		}
		f := append(frameBetween(proto, clientA, 4000, vip, 82, 2), make([]byte, 64)...)
		mustSet(b, d.vars, "bench_dst_mac", word(dev.HardwareAddr))
		mustSet(b, d.vars, "bench_src_mac", word([]byte{2, 0, 0, 0, 0, 0xfe}))
		return inject(b, d.loaded(b, program), f[:64], dev.Index, n)
	})
	if err != nil {
		b.Fatal(err)
	}
	return cost
}

// inject runs a program on frames that the kernel then treats as received on
// the interface.
func inject(b testing.TB, p *ebpf.Program, frame []byte, ifindex, n int) (float64, error) {
	const liveFrame, run = 2, 10 // BPF_F_TEST_XDP_LIVE_FRAMES, BPF_PROG_TEST_RUN
	type context struct{ data, end, meta, ifindex, queue, egress uint32 }
	ctx := context{end: uint32(len(frame)), ifindex: uint32(ifindex)}
	attr := struct {
		fd, answer, sizeIn, sizeOut uint32
		dataIn, dataOut             uint64
		repeat, duration            uint32
		ctxIn, ctxOut               uint32
		ctx, ctxTo                  uint64
		flags, cpu, batch, _        uint32
	}{fd: uint32(p.FD()), sizeIn: uint32(len(frame)), dataIn: uint64(uintptr(unsafe.Pointer(&frame[0]))), repeat: uint32(n),
		ctxIn: uint32(unsafe.Sizeof(ctx)), ctx: uint64(uintptr(unsafe.Pointer(&ctx))), flags: liveFrame, batch: 64}
	before := cpu(b)
	_, _, e := unix.Syscall(unix.SYS_BPF, run, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	used := cpu(b) - before
	runtime.KeepAlive(frame)
	runtime.KeepAlive(&ctx)
	if e != 0 {
		return 0, fmt.Errorf("inject frames: %w", e)
	}
	return float64(used) / float64(n), nil
}

// What a refused packet costs in all, the frame included, and what gate 2's
// look at an established flow adds.
func BenchmarkLive(b *testing.B) {
	if !figures.Wanted("refuse-xdp", "refuse-tc", "state-host") {
		b.Skip("not asked for")
	}
	w := newWorld(b)
	gw := benchGateway(b, w, "dp-gw", 0)
	if figures.Wanted("refuse-xdp", "refuse-tc") {
		rules := onePort(benchRules(10, 32), 82)
		gw.aimAt(b, rules, netip.MustParseAddr(vip))
		w.nft("dp-a", nftChain(rules))
		var xdp, tc, theirs []float64
		for range benchRounds {
			xdp = append(xdp, gw.carry(b, w, "dp-gw", "live_refuse", 1))
			tc = append(tc, gw.carry(b, w, "dp-gw", "live_pass", 1))
			theirs = append(theirs, gw.carry(b, w, "dp-a", "live_pass", 1))
		}
		reasons, err := gw.Reasons()
		if err != nil {
			b.Fatal(err)
		}
		if got := reasons.Packets[policy.RuleMatched]; got < 2*benchRounds*liveFrames {
			b.Errorf("%d packets refused by a rule, want all %d: %v", got, 2*benchRounds*liveFrames, reasons.Packets)
		}
		figures.Write(b, figures.Fill("refuse-xdp", xdp, theirs, ""), figures.Fill("refuse-tc", tc, theirs, ""))
	}
	if figures.Wanted("state-host") {
		stateHost(b, w, gw)
	}
	b.ReportMetric(0, "ns/op")
}

// stateHost has 4,096 UDP flows established at a host with our gate 2, and at
// one with conntrack. Behind both checks a chain drops everything, and what
// that costs alone is subtracted.
func stateHost(b *testing.B, w *world, gw *Datapath) {
	const dropAll = "flush ruleset\ntable ip bench { chain pre { type filter hook prerouting priority -140; policy accept; drop; }\n}\n"
	rules := onePort(benchRules(10, 32), 53)
	for i := range rules {
		rules[i].Proto, rules[i].Action = lb.UDP, lb.Accept
	}
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Events: 1})
	_, s := pair(b, 1, nil, compiled(b, "sg-state", rules...))
	stageCommit(b, host, s)
	w.nft("dp-host", dropAll)
	w.conntracked("dp-b")
	gw.aimAt(b, rules, netip.MustParseAddr(service))
	frames := func(ns string) float64 { return gw.carryAs(b, w, ns, "live_pass", 17, liveFrames) }
	// A flow is established at conntrack when both sides were heard.
	frames("dp-b")
	gw.turn(b)
	frames("dp-b")
	gw.turn(b)
	w.nft("dp-a", dropAll)
	w.nft("dp-b", "flush ruleset\ntable ip bench { chain pre { type filter hook prerouting priority -150; policy accept; ct state established accept; counter; }\nchain last { type filter hook prerouting priority -140; policy accept; drop; }\n}\n")
	frames("dp-host")
	var ours, theirs []float64
	for range stateRounds {
		empty := frames("dp-a")
		ours = append(ours, frames("dp-host")-empty)
		theirs = append(theirs, frames("dp-b")-empty)
	}
	if rules := w.in("dp-b", "nft", "list", "ruleset"); !strings.Contains(rules, "counter packets 0 ") {
		b.Errorf("conntrack does not know all flows as established:\n%s", rules)
	}
	reasons, err := host.Reasons()
	if err != nil {
		b.Fatal(err)
	}
	if got := reasons.Packets[policy.Established]; got < stateRounds*liveFrames {
		b.Errorf("%d packets of established flows, want %d: %v", got, stateRounds*liveFrames, reasons.Packets)
	}
	figures.Write(b, figures.Fill("state-host", ours, theirs, ""))
}

// conntracked lets a namespace track and forward what is injected, back out of
// the interface it came by, to nobody.
func (w *world) conntracked(ns string) {
	for _, step := range []string{
		"sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.eth0.send_redirects=0",
		"ip link add nowhere type veth peer name nobody", "ip link set nowhere up", "ip link set nobody up",
		"ip neigh add 192.0.2.253 lladdr 02:00:00:00:00:09 dev nowhere", "ip route add 192.0.2.253 dev nowhere", "ip route add 10.0.0.0/16 via 192.0.2.253",
	} {
		w.in(ns, "sh", "-c", step)
	}
	w.nft(ns, "flush ruleset\ntable ip bench { chain pre { type filter hook prerouting priority -150; policy accept; ct state new accept; }\n}\n")
}

// turn makes sources of the pool's destinations.
func (d *Datapath) turn(b testing.TB) {
	m := d.maps["bench_pool"]
	for i := range uint32(4096) {
		var t [12]byte
		if err := m.Lookup(i, &t); err != nil {
			b.Fatal(err)
		}
		back := [12]byte{}
		copy(back[0:4], t[4:8])
		copy(back[4:8], t[0:4])
		copy(back[8:10], t[10:12])
		copy(back[10:12], t[8:10])
		if err := m.Put(i, back); err != nil {
			b.Fatal(err)
		}
	}
	d.aim(b, 0xffffffff)
}
