// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/scenario"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// kernel is the engine `bpf`: the API changes a state in memory, snapshots of
// it are put in force in the programs of one gateway and of one host an
// instance, and packets are walked from program to program by test runs. It is
// a network without wires: real frames, real programs, nothing in between.
type kernel struct {
	*scenario.Ref
	w        *world
	gateway  *bench
	hosts    map[lb.InstanceID]*bench
	idle     []*bench // hosts whose instance is gone
	nums     map[lb.NodeID]uint32
	compiler *snapshot.Compiler
	now      *snapshot.Snapshot // the gateway's, in force
	flows    map[string]held    // that a story holds open, by name
	early    bool               // the gateway's XDP program stands before the one at TC
	port     uint16
	packets  int
	finished int // frames that the XDP program sent on by itself
}

func newKernel(t *testing.T, early bool, flags ...string) *kernel {
	return newKernelAt(t, early, netip.MustParseAddr(gwAddr), flags...)
}

// newKernelAt is newKernel with the gateway's end of the tunnel at an address,
// whose family the hosts' ends have too.
func newKernelAt(t *testing.T, early bool, gateway netip.Addr, flags ...string) *kernel {
	k := &kernel{Ref: scenario.NewRef(flags...), w: newQuiet(t), early: early, hosts: map[lb.InstanceID]*bench{}, nums: map[lb.NodeID]uint32{}, flows: map[string]held{}, compiler: snapshot.NewCompiler(), port: 20000}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	k.gateway = k.w.benchAt(Options{Node: "gateway-1", Role: lb.RoleGateway, Address: gateway})
	return k
}

// enrol gives every instance a host: one whose instance is gone, since opening
// programs is dear, or a new one.
func (k *kernel) enrol(state *lb.State) {
	for id, h := range k.hosts {
		if state.Instances.Get(id) == nil {
			delete(k.hosts, id)
			k.idle = append(k.idle, h)
		}
	}
	for id := range state.Instances.All() {
		if k.hosts[id] != nil {
			continue
		}
		if len(k.idle) == 0 {
			num := 2 + uint32(len(k.nums))
			address := netip.AddrFrom4([4]byte{192, 0, 2, 128 + byte(num)})
			if k.gateway.opts.Address.Is6() {
				address = netip.MustParseAddr(fmt.Sprintf("2001:db8:0:2::%d", 128+num))
			}
			name := lb.NodeID(fmt.Sprintf("host-%d", num))
			k.nums[name] = num
			k.idle = append(k.idle, k.w.benchAt(Options{Node: name, Role: lb.RoleHost, Address: address}))
		}
		last := len(k.idle) - 1
		k.hosts[id], k.idle = k.idle[last], k.idle[:last]
	}
}

// nodes are the hosts that have an instance, and the gateway.
func (k *kernel) nodes() lb.Table[lb.NodeID, lb.Node] {
	gateway := lb.Node{ID: "gateway-1", Num: 1, Role: lb.RoleGateway, Address: k.gateway.opts.Address}
	all := map[lb.NodeID]*lb.Node{gateway.ID: &gateway}
	for id, h := range k.hosts {
		o := h.opts
		all[o.Node] = &lb.Node{ID: o.Node, Num: k.nums[o.Node], Role: lb.RoleHost, Instance: id, Address: o.Address}
	}
	return lb.TableOf(all)
}

// Settle puts the newest state in force as the control plane does: hosts stage
// first, then the gateway stages and commits, then the hosts commit.
func (k *kernel) Settle(ctx context.Context) error {
	if k.now != nil && k.now.Revision == k.State().Revision {
		return nil
	}
	state := *k.State()
	k.enrol(&state)
	state.Nodes = k.nodes()
	assemble := func(node lb.NodeID) (*snapshot.Snapshot, error) {
		return snapshot.Assemble(&state, node, func(gateway, host uint32) [2]uint64 { return [2]uint64{uint64(gateway)<<32 | uint64(host), 0} }, k.compiler.Compile)
	}
	var staged []chan error
	for id := range state.Instances.All() {
		s, err := assemble(k.hosts[id].opts.Node)
		if err != nil {
			return err
		}
		done := make(chan error, 1)
		staged = append(staged, done)
		go func() { done <- k.hosts[id].Stage(ctx, s) }()
	}
	var errs []error
	for _, done := range staged {
		errs = append(errs, <-done)
	}
	gw, err := assemble("gateway-1")
	if err != nil {
		return err
	}
	errs = append(errs, k.gateway.Stage(ctx, gw), k.gateway.Commit(ctx, state.Revision))
	for _, h := range k.hosts {
		errs = append(errs, h.Commit(ctx, state.Revision))
	}
	k.now = gw
	return errors.Join(errs...)
}

// drain reads what was told so far.
func (b *bench) drain() (verdicts []string, err error) {
	b.told.SetDeadline(time.Unix(1, 0))
	for {
		rec, err := b.told.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return verdicts, nil
		}
		if err != nil {
			return nil, err
		}
		e := b.event((*GatewayEvent)(unsafe.Pointer(unsafe.SliceData(rec.RawSample))))
		verdicts = append(verdicts, scenario.VerdictText(e.Verdict, e.Direction))
	}
}

// A place is where a packet is: at an instance, at the gateway's own sockets,
// or with a client; "" is nowhere, it was dropped.
type place string

const (
	nowhere  place = ""
	gateway1 place = "gateway"
	client   place = "client"
)

// A trip is one attempt and what the programs told of it.
type trip struct {
	*kernel
	verdicts []string
}

// skb are the words of struct __sk_buff; the third is the mark.
type skb [48]uint32

// through runs a frame through a program and gives the frame and mark as they
// leave it; no frame when it was dropped.
func (t *trip) through(b *bench, program string, frame []byte, mark uint32) ([]byte, uint32, uint32, error) {
	out := skb{}
	opts := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, 2048)}
	p, err := b.loadProgram(program)
	if err != nil {
		return nil, 0, 0, err
	}
	if p.Type() == ebpf.SchedCLS {
		opts.Context, opts.ContextOut = skb{2: mark}, &out
	}
	answer, err := p.Run(opts)
	if err != nil {
		return nil, 0, 0, fmt.Errorf("%s: %w", program, err)
	}
	t.packets++
	told, err := b.drain()
	for _, v := range told {
		if !slices.Contains(t.verdicts, v) {
			t.verdicts = append(t.verdicts, v)
		}
	}
	return opts.DataOut, answer, out[2], err
}

// host is the host that an address belongs to: where its tunnel ends or its
// instance's own.
func (t *trip) host(a netip.Addr) (place, *bench) {
	for id, h := range t.hosts {
		i := t.State().Instances.Get(id)
		if h.opts.Address == a || i != nil && slices.Contains(i.Addresses(), a) {
			return place(id), h
		}
	}
	return nowhere, nil
}

// travel takes a frame on the wire to where it ends up.
func (t *trip) travel(frame []byte) (place, []byte, error) {
	for range 4 {
		to := destination(frame)
		if at, h := t.host(to); h != nil {
			out, answer, _, err := t.through(h, "host_in", frame, 0)
			if err != nil || answer != actNext {
				return nowhere, nil, err
			}
			return at, out, nil
		}
		if to != t.gateway.opts.Address && !slices.Contains(t.now.VIPs, to) {
			return client, frame, nil
		}
		if t.early {
			out, answer, _, err := t.through(t.gateway, "gateway_xdp", frame, 0)
			if err != nil || answer == xdpDrop {
				return nowhere, nil, err
			}
			if frame = out; answer != xdpPass {
				t.finished++
				continue
			}
		}
		out, answer, mark, err := t.through(t.gateway, "gateway", frame, 0)
		switch {
		case err != nil || answer == actShot:
			return nowhere, nil, err
		case answer == actNext && mark == snapshot.MarkLocal:
			return gateway1, out, nil
		case answer != actRedirect:
			return nowhere, nil, fmt.Errorf("gateway: answer %#x with mark %#x to a frame for %v", answer, mark, to)
		}
		frame = out
	}
	return nowhere, nil, errors.New("the packet goes in circles")
}

// leave sends a frame off from a place, marked as its socket is.
func (t *trip) leave(from place, frame []byte, mark uint32) (place, []byte, error) {
	b, program := t.hosts[lb.InstanceID(from)], "host_out"
	if from == gateway1 {
		b, program = t.gateway, "gateway_out"
	}
	if b != nil {
		out, answer, _, err := t.through(b, program, frame, mark)
		if err != nil || answer == actShot {
			return nowhere, nil, err
		}
		frame = out
	}
	return t.travel(frame)
}

// An opening is how a flow begins: who dials whom, and how its socket is marked.
type opening struct {
	from     place
	src, dst netip.AddrPort
	mark     uint32
	icmp     bool
	udp      bool
	cut      bool // its first packet comes in fragments
}

func (o opening) frame(src, dst netip.AddrPort, flags byte) []byte {
	if o.icmp {
		return echoFrame(src, dst, flags&tcpAck != 0)
	}
	if o.udp {
		return udpFrame(src, dst)
	}
	return tcpFrame(src, dst, flags)
}

const (
	tcpSyn = 0x02
	tcpAck = 0x10
)

// open opens a flow: the opener goes, the answer comes back, the third packet
// follows the first. It gives where the flow ended, nowhere when its opener
// was refused, and what broke after that.
func (t *trip) open(o opening) (at place, end netip.AddrPort, fault string, err error) {
	at, arrived, err := t.opener(o)
	if err != nil || at == nowhere {
		return nowhere, end, "", err
	}
	src, dst, err := endsOf(arrived)
	if err != nil {
		return at, dst, "", err
	}
	if o.icmp && at == client && slices.Contains(t.now.VIPs, o.dst.Addr()) { // the gateway has answered
		if src != o.dst || dst != o.src {
			return at, dst, fmt.Sprintf("the echo came from %v to %v", src, dst), nil
		}
		return at, dst, "", nil
	}
	if src != o.src {
		return at, dst, fmt.Sprintf("%s sees %v, not %v", at, src, o.src), nil
	}
	mark := uint32(0)
	if at == gateway1 && o.mark != 0 {
		return at, dst, "the gateway's own flow came back to it", nil
	}
	back, answer, err := t.leave(at, o.frame(dst, src, tcpSyn|tcpAck), mark)
	if err != nil {
		return at, dst, "", err
	}
	if back != o.from {
		return at, dst, fmt.Sprintf("the answer went to %q, not to %q", back, o.from), nil
	}
	asrc, adst, err := endsOf(answer)
	if err != nil || asrc != o.dst || adst != o.src {
		return at, dst, fmt.Sprintf("the answer came from %v to %v, not from %v to %v", asrc, adst, o.dst, o.src), err
	}
	if o.icmp {
		return at, dst, "", nil
	}
	again, third, err := t.leave(o.from, o.frame(o.src, o.dst, tcpAck), o.mark)
	if err != nil || again != at {
		return at, dst, fmt.Sprintf("the third packet went to %q, not to %q", again, at), err
	}
	if s, d, err := endsOf(third); err != nil || s != src || d != dst {
		return at, dst, fmt.Sprintf("the third packet went from %v to %v", s, d), err
	}
	return at, dst, "", nil
}

// Send walks each attempt through the programs.
func (k *kernel) Send(_ context.Context, sends []scenario.Send) ([]scenario.Result, error) {
	var results []scenario.Result
	for _, s := range sends {
		r, err := k.send(s)
		if err != nil {
			return nil, fmt.Errorf("%s to %v: %w", s.From.Name, s.To, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (k *kernel) send(s scenario.Send) (scenario.Result, error) {
	t := &trip{kernel: k}
	k.port++
	o := opening{from: client, src: netip.AddrPortFrom(s.From.Address, k.port), dst: netip.AddrPortFrom(s.To, s.Port), icmp: s.ICMP, udp: s.UDP, cut: s.Cut}
	if s.From.Instance != "" {
		o.from = place(s.From.Instance)
	}
	if s.ICMP {
		o.src = netip.AddrPortFrom(s.From.Address, 0)
	}
	at, end, fault, err := t.open(o)
	if err == nil && fault == "" && at == gateway1 && k.redirects(s) {
		return scenario.Result{Redirected: true, Verdicts: t.verdicts}, nil
	}
	if err == nil && fault == "" && at == gateway1 {
		at, end, fault, err = t.proxied(s, o.src.Addr())
	}
	res := scenario.Result{Served: at != nowhere && fault == "", By: string(at), Detail: fmt.Sprintf("the packet ended at %q, %v", at, end), Fault: fault, Verdicts: t.verdicts}
	if res.Served && s.Target.Instance != "" && at != place(s.Target.Instance) {
		res.Fault = fmt.Sprintf("%q got what was sent to %s", at, s.Target.Name)
	}
	if err == nil && res.Served && s.Balancer != "" && !s.ICMP && !k.isTarget(s, at, end) {
		res.Fault = fmt.Sprintf("%v at %q is no target of the listener", end, at)
	}
	return res, err
}

// proxied is what the gateway's proxy does with an accepted connection: it
// dials the target from the client's address.
func (t *trip) proxied(s scenario.Send, from netip.Addr) (place, netip.AddrPort, string, error) {
	for _, target := range t.now.Targets {
		if target.ID.Listener == lb.ListenerID(s.Listener) {
			t.port++
			return t.open(opening{from: gateway1, src: netip.AddrPortFrom(from, t.port), dst: target.Service, mark: snapshot.TargetMark(target.Num)})
		}
	}
	return nowhere, netip.AddrPort{}, "", fmt.Errorf("listener %s has no target", s.Listener)
}

// redirects reports whether the gateway answers for the listener itself.
func (k *kernel) redirects(s scenario.Send) bool {
	return slices.ContainsFunc(k.now.Listeners, func(l snapshot.Listener) bool {
		return l.ID == lb.ListenerID(s.Listener) && slices.ContainsFunc(l.Rules, func(r snapshot.Rule) bool { return r.Redirect != nil })
	})
}

func (k *kernel) isTarget(s scenario.Send, at place, end netip.AddrPort) bool {
	return slices.ContainsFunc(k.now.Targets, func(t snapshot.Target) bool {
		return t.ID.Listener == lb.ListenerID(s.Listener) && t.ID.Instance == lb.InstanceID(at) && t.Service.Addr() == end.Addr() && (t.Service == end || t.VPortEnd != 0 && end.Port() == s.Port)
	})
}

// Health sends a probe as the gateway's prober does.
func (k *kernel) Health(_ context.Context, h scenario.Health) (scenario.Health, error) {
	for _, target := range k.now.Targets {
		if id := target.ID; string(id.Balancer) != h.Balancer || string(id.Instance) != h.Instance.ID || id.Port != h.Port {
			continue
		}
		t := &trip{kernel: k}
		at, err := t.probed(target)
		if err != nil {
			return h, err
		}
		h.State, h.Kind = "alive", ""
		if at == nowhere {
			h.State = "dead"
			if slices.ContainsFunc(t.verdicts, func(v string) bool { return strings.HasPrefix(v, "drop cvm ") }) {
				h.Kind = "gate"
			}
		}
		return h, nil
	}
	return h, fmt.Errorf("no target %s:%d", h.Instance.Name, h.Port)
}

// probed gives where the gateway's probes of a target end: of several the first
// that gets nowhere. Answers to datagrams it takes only where a socket waits for
// them, which the lab's stories have.
func (t *trip) probed(target snapshot.Target) (at place, err error) {
	mark := snapshot.TargetMark(target.Num)
	if target.ProbePing {
		at, _, fault, err := t.open(opening{from: gateway1, src: netip.AddrPortFrom(target.ProbeSource, 0), dst: netip.AddrPortFrom(target.Service.Addr(), 0), mark: mark, icmp: true})
		if err != nil || fault != "" || at == nowhere {
			return at, faulty(err, fault)
		}
	}
	t.port++
	src, dst := netip.AddrPortFrom(target.ProbeSource, t.port), netip.AddrPortFrom(target.Service.Addr(), target.ProbePort)
	if target.Proto == lb.UDP {
		at, _, err = t.leave(gateway1, udpFrame(src, dst), mark)
		return at, err
	}
	at, _, fault, err := t.open(opening{from: gateway1, src: src, dst: dst, mark: mark})
	return at, faulty(err, fault)
}

func faulty(err error, fault string) error {
	if err == nil && fault != "" {
		err = errors.New("the probe: " + fault)
	}
	return err
}

// tcpFrame is a TCP segment with right checksums; a SYN has an MSS option.
func tcpFrame(src, dst netip.AddrPort, flags byte) []byte {
	if src.Addr().Is6() {
		return tcpFrame6(src, dst, flags)
	}
	f := frameOf(lb.Packet{Proto: lb.TCP, Src: src.Addr(), Dst: dst.Addr(), SrcPort: src.Port(), DstPort: dst.Port()}, flags)
	if flags&tcpSyn != 0 {
		f = append(f, 2, 4, 0x05, 0xb4)
		f[14+20+12] = 0x60
		binary.BigEndian.PutUint16(f[16:], uint16(len(f)-14))
	}
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	binary.BigEndian.PutUint16(f[50:], ^sum16(pseudo(f), f[34:]))
	return f
}

// udpFrame is a datagram without content and with right checksums.
func udpFrame(src, dst netip.AddrPort) []byte {
	f := frameOf(lb.Packet{Proto: lb.UDP, Src: src.Addr(), Dst: dst.Addr(), SrcPort: src.Port(), DstPort: dst.Port()}, 0)
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	binary.BigEndian.PutUint16(f[40:], ^sum16(pseudo(f), f[34:]))
	return f
}

// echoFrame is an echo request, or a reply to one.
func echoFrame(src, dst netip.AddrPort, reply bool) []byte {
	if src.Addr().Is6() {
		return echoFrame6(src, dst, reply)
	}
	f := frameOf(lb.Packet{Proto: lb.ICMP, Src: src.Addr(), Dst: dst.Addr()}, 0)
	if reply {
		f[34] = 0
	}
	binary.BigEndian.PutUint16(f[24:], ^sum16(0, f[14:34]))
	binary.BigEndian.PutUint16(f[36:], ^sum16(0, f[34:]))
	return f
}

func sum16(sum uint32, b []byte) uint16 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// pseudo is the sum of the pseudo header that TCP's checksum covers.
func pseudo(f []byte) uint32 {
	return uint32(sum16(0, f[26:34])) + uint32(f[23]) + uint32(len(f)-34)
}

// endsOf reads a frame that has arrived. Its checksums have to be right, and a
// SYN must not ask for more than fits into the tunnel.
func endsOf(f []byte) (src, dst netip.AddrPort, err error) {
	if binary.BigEndian.Uint16(f[12:]) == etherIPv6 {
		return endsOf6(f)
	}
	r, ok := readIPv4(f[14:])
	switch {
	case !ok || r.payload != 20:
		return src, dst, fmt.Errorf("%x does not parse", f)
	case sum16(0, f[14:34]) != 0xffff:
		err = fmt.Errorf("%x has a wrong header checksum", f)
	case r.proto.HasPorts() && sum16(pseudo(f), f[34:]) != 0xffff:
		err = fmt.Errorf("%x has a wrong TCP or UDP checksum", f)
	}
	if !r.proto.HasPorts() {
		return netip.AddrPortFrom(r.src, 0), netip.AddrPortFrom(r.dst, 0), err
	}
	return netip.AddrPortFrom(r.src, binary.BigEndian.Uint16(f[34:])), netip.AddrPortFrom(r.dst, r.dstPort), err
}

// Every story on the programs in the kernel: in the TC form of the gateway also
// with each decisive rule left out, and in the XDP form with answers that return
// through the gateway.
func TestScenarios(t *testing.T) {
	scripts, err := scenario.ParseAll(os.DirFS("../scenario/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	byServer := map[string][]*scenario.Script{} // by the flags that their server needs
	for _, s := range scripts {
		flags := strings.Join(s.Server, " ")
		byServer[flags] = append(byServer[flags], s)
	}
	for _, f := range []form{{name: "tc"}, {name: "xdp", early: true, returns: "gateway"}} {
		for flags, scripts := range byServer {
			t.Run(strings.TrimSpace(f.name+" "+flags), func(t *testing.T) { play(t, f, scripts) })
		}
	}
}

// Flows of both families in a tunnel over IPv6.
func TestScenariosOverIPv6(t *testing.T) {
	scripts, err := scenario.ParseAll(os.DirFS("../scenario/testdata"))
	if err != nil {
		t.Fatal(err)
	}
	scripts = slices.DeleteFunc(scripts, func(s *scenario.Script) bool {
		return !s.IPv6() && s.Name != "seed-28-example.txtar"
	})
	play(t, form{name: "tc", six: true}, scripts)
}

// A form is how the gateway is attached, and which way answers take.
type form struct {
	name    string
	early   bool
	returns string
	six     bool // the tunnel runs over IPv6
}

// play plays stories that need the same server, one after another.
func play(t *testing.T, f form, scripts []*scenario.Script) {
	gateway := gwAddr
	if f.six {
		gateway = "2001:db8:0:2::129"
	}
	k := newKernelAt(t, f.early, netip.MustParseAddr(gateway), scripts[0].Server...)
	var count scenario.Count
	for _, s := range scripts {
		t.Run(strings.TrimSuffix(s.Name, ".txtar"), func(t *testing.T) {
			told := *s
			told.Return = f.returns
			if err := scenario.Run(t.Context(), k, "bpf", &told); err != nil {
				t.Fatal(err)
			}
			if f.early {
				return
			}
			if err := scenario.Sharp(t.Context(), k, "bpf", s); err != nil {
				t.Error(err)
			}
		})
		count.Add(s, "bpf")
	}
	t.Logf("bpf, %s form: %v; %d frames through programs, %d sent on by XDP", f.name, count, k.packets, k.finished)
	if f.early != (k.finished > 0) {
		t.Errorf("the XDP program sent %d frames on", k.finished)
	}
}
