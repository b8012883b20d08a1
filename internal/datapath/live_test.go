// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A world is four namespaces around a router: two clients, a gateway and an
// instance's host.
type world struct {
	t      testing.TB
	dirs   map[string]string
	shares bool // its datapaths take programs that are loaded already
}

const (
	vip      = "192.0.2.1"
	gwAddr   = "192.0.2.129"
	hostAddr = "192.0.2.130"
	service  = "10.0.1.4"
	clientA  = "203.0.113.10"
	clientB  = "198.51.100.20"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces")
	}
	sweepOnce()
	w := &world{t: t, dirs: map[string]string{}}
	w.run("ip", "netns", "add", filepath.Base(path("dp-fabric")))
	t.Cleanup(func() { exec.Command("ip", "netns", "del", filepath.Base(path("dp-fabric"))).Run() })
	w.in("dp-fabric", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	w.in("dp-fabric", "ip", "link", "set", "lo", "up")
	w.host("dp-gw", gwAddr)
	w.host("dp-host", hostAddr, service)
	w.host("dp-a", clientA)
	w.host("dp-b", clientB)
	w.in("dp-fabric", "ip", "route", "add", "192.0.2.0/26", "via", gwAddr, "dev", "dp-gw", "onlink")
	return w
}

// path is the file of a namespace. Its name holds our pid: what a killed run
// left behind, or another one at the same time, is in nobody's way.
func path(ns string) string { return "/run/netns/" + ofProcess(ns, os.Getpid()) }

func (w *world) run(name string, arg ...string) string {
	w.t.Helper()
	out, err := exec.Command(name, arg...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %s: %v\n%s", name, strings.Join(arg, " "), err, out)
	}
	return string(out)
}

func (w *world) in(ns string, cmd ...string) string {
	w.t.Helper()
	if loaded.quiet && ns == quietName() { // changed: nobody else's any more
		loaded.quiet = false
		w.t.Cleanup(func() { exec.Command("ip", "netns", "del", filepath.Base(path(ns))).Run() })
	}
	return w.run("nsenter", append([]string{"--net=" + path(ns)}, cmd...)...)
}

func (w *world) host(ns string, addrs ...string) {
	w.t.Helper()
	w.run("ip", "netns", "add", filepath.Base(path(ns)))
	w.t.Cleanup(func() { exec.Command("ip", "netns", "del", filepath.Base(path(ns))).Run() })
	w.in("dp-fabric", "ip", "link", "add", ns, "type", "veth", "peer", "name", "eth0", "netns", filepath.Base(path(ns)))
	w.in("dp-fabric", "ip", "addr", "add", "192.0.2.254/32", "dev", ns)
	w.in("dp-fabric", "ip", "link", "set", ns, "up")
	w.in(ns, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0")
	w.in(ns, "ip", "link", "set", "lo", "up")
	for _, a := range addrs {
		w.in(ns, "ip", "addr", "add", a+"/32", "dev", "eth0")
	}
	w.in(ns, "ip", "link", "set", "eth0", "up")
	w.in(ns, "ip", "route", "add", "192.0.2.254", "dev", "eth0")
	w.in(ns, "ip", "route", "add", "default", "via", "192.0.2.254", "src", addrs[len(addrs)-1])
	for _, a := range addrs {
		w.in("dp-fabric", "ip", "route", "add", a, "dev", ns)
	}
	w.in(ns, "ethtool", "-K", "eth0", "tx", "off")
}

// inside runs fn on a thread that is in the namespace.
func inside[T any](w *world, ns string, fn func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	c := make(chan result)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine: nobody inherits its namespace
		var r result
		h, err := netns.GetFromPath(path(ns))
		if err == nil {
			defer h.Close()
			err = netns.Set(h)
		}
		if err == nil {
			r.v, err = fn()
		}
		r.err = err
		c <- r
	}()
	r := <-c
	return r.v, r.err
}

func (w *world) open(ns string, o Options) *Datapath {
	w.t.Helper()
	dir, ok := w.dirs[ns]
	if !ok {
		dir = w.t.TempDir()
		if err := mountPins(dir, os.Getpid()); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
		w.dirs[ns] = dir
	}
	o.Device, o.PinDir = "eth0", filepath.Join(dir, "pins")
	switch {
	case o.objects != nil:
	case mutating():
		reuse(w.t, &o)
	case w.shares:
		share(w.t, &o)
	}
	d, err := inside(w, ns, func() (*Datapath, error) { return Open(o) })
	if err != nil {
		w.t.Fatalf("open %s: %+v", ns, err)
	}
	w.t.Cleanup(func() { d.Close() })
	return d
}

// loaded gives a program, also one that nothing but the test runs.
func (d *Datapath) loaded(t testing.TB, program string) *ebpf.Program {
	t.Helper()
	p, err := d.loadProgram(program)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// serve answers every connection to addr in ns with its peer's address.
func (w *world) serve(ns, addr string) {
	w.t.Helper()
	l, err := inside(w, ns, func() (net.Listener, error) { return net.Listen("tcp", addr) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%v\n", c.RemoteAddr())
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if n := 0; strings.HasPrefix(line, "send ") {
						fmt.Sscanf(line, "send %d", &n)
						c.Write(make([]byte, n))
					}
					if n := 0; strings.HasPrefix(line, "take ") {
						fmt.Sscanf(line, "take %d", &n)
						io.CopyN(io.Discard, r, int64(n))
						fmt.Fprintln(c, "took")
					}
				}
			}()
		}
	}()
}

// ask dials addr from ns and gives what the server saw as its peer.
func (w *world) ask(ns, addr string, wait time.Duration) (string, error) {
	c, err := w.dial(ns, addr, wait)
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(wait))
	line, err := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line), err
}

func (w *world) dial(ns, addr string, wait time.Duration) (net.Conn, error) {
	return inside(w, ns, func() (net.Conn, error) { return net.DialTimeout("tcp", addr, wait) })
}

func accept(cidr string, port uint16) policy.Rule {
	r := policy.Rule{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.TCP, Peers: []netip.Prefix{netip.MustParsePrefix(cidr)}}
	if port != 0 {
		r.Ports = []lb.PortRange{{First: port, Last: port}}
	}
	return r
}

func compiled(t testing.TB, id string, rules ...policy.Rule) *policy.Compiled {
	t.Helper()
	c, err := policy.Compile([]policy.Group{{ID: lb.GroupID(id), Rules: rules}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pair makes the snapshots of gateway and host for one TCP listener 80 → 8080.
func pair(t testing.TB, rev lb.Revision, gate1, gate2 *policy.Compiled) (gw, host *snapshot.Snapshot) {
	t.Helper()
	addr := netip.MustParseAddr
	target := snapshot.Target{Num: 7, ID: snapshot.TargetID{Balancer: "lb-1", Listener: "lbl-1", Instance: "ins-1", Port: 8080},
		Host: addr(hostAddr), Service: netip.MustParseAddrPort(service + ":8080"), VIPs: []netip.Addr{addr(vip)}, VPort: 80, Proto: lb.TCP,
		ProbePort: 8080, ProbeSource: addr(vip)}
	gw = &snapshot.Snapshot{Revision: rev, Node: "gateway-1", Role: lb.RoleGateway, Policies: map[policy.Hash]*policy.Compiled{},
		Targets: []snapshot.Target{target}, VIPs: []netip.Addr{addr(vip)},
		Peers: []snapshot.Peer{{Node: "ins-1", Num: 2, Addr: addr(hostAddr), Keys: [2]uint64{0xfeedfacecafebeef, 0}}}}
	l := snapshot.Listener{Num: 5, ID: "lbl-1", Balancer: "lb-1", BalancerNum: 1, VIPs: []netip.Addr{addr(vip)}, Proto: lb.TCP, Port: 80,
		Targets: []snapshot.TargetRef{{Num: 7, Weight: 10}}}
	if gate1 != nil {
		l.Gate1 = gate1.Hash
		gw.Policies[gate1.Hash] = gate1
	}
	gw.Listeners = []snapshot.Listener{l}
	none := compiled(t, "sg-out")
	host = &snapshot.Snapshot{Revision: rev, Node: "ins-1", Role: lb.RoleHost, Policies: map[policy.Hash]*policy.Compiled{gate2.Hash: gate2, none.Hash: none},
		Targets: []snapshot.Target{target}, VIPs: []netip.Addr{addr(vip)},
		Instances: []snapshot.Instance{{ID: "ins-1", Addrs: []netip.Addr{addr(service)}, Ingress: gate2.Hash, Egress: none.Hash}},
		Peers:     []snapshot.Peer{{Node: "gateway-1", Num: 1, Addr: addr(gwAddr), Keys: [2]uint64{0xfeedfacecafebeef, 0}}}}
	return gw, host
}

func put(t *testing.T, gw, host *Datapath, s1, s2 *snapshot.Snapshot) {
	t.Helper()
	ctx := context.Background()
	for _, step := range []error{host.Stage(ctx, s2), gw.Stage(ctx, s1), gw.Commit(ctx, s1.Revision), host.Commit(ctx, s2.Revision)} {
		if step != nil {
			t.Fatal(step)
		}
	}
}

// The document's two gates on real packets: both must accept, the client's
// address is kept, the port is translated, and changes are in force at once.
func TestTwoGatesLive(t *testing.T) {
	for _, attach := range []Attach{AttachTC, AttachXDP} {
		t.Run(string(attach), func(t *testing.T) { twoGates(t, attach) })
	}
}

func twoGates(t *testing.T, attach Attach) {
	w := newWorld(t)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		t.Fatal(err)
	}
	defer stats.Close()
	pass, err := inside(w, "dp-fabric", func() (io.Closer, error) { return PassAll("dp-gw") })
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Close()
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Attach: attach})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)})
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var events []flow.Event
	var told sync.WaitGroup
	for _, d := range []*Datapath{gw, host} {
		told.Add(1)
		go func() {
			defer told.Done()
			d.Events(ctx, func(e flow.Event) { mu.Lock(); events = append(events, e); mu.Unlock() })
		}()
	}
	defer func() {
		cancel()
		told.Wait()
		if t.Failed() {
			for _, e := range events {
				t.Logf("%+v", e)
			}
		}
	}()
	w.serve("dp-host", service+":8080")
	all80, all8080 := accept("0.0.0.0/0", 80), accept("0.0.0.0/0", 8080)
	short := 700 * time.Millisecond
	rows := []struct {
		name         string
		gate1, gate2 *policy.Compiled
		a, b         bool
	}{
		{"both accept", compiled(t, "sg-1", all80), compiled(t, "sg-2", all8080), true, true},
		{"no group at gate 1", nil, compiled(t, "sg-2", all8080), true, true},
		{"gate 1 names one client", compiled(t, "sg-1", accept(clientA+"/32", 80)), compiled(t, "sg-2", all8080), true, false},
		{"gate 2 names one client", compiled(t, "sg-1", all80), compiled(t, "sg-2", accept(clientB+"/32", 8080)), false, true},
		{"gate 2 has the listener's port", compiled(t, "sg-1", all80), compiled(t, "sg-2", all80), false, false},
		{"gate 1 has the service's port", compiled(t, "sg-1", all8080), compiled(t, "sg-2", all8080), false, false},
		{"gate 1 is empty", compiled(t, "sg-1"), compiled(t, "sg-2", all8080), false, false},
		{"both accept again", compiled(t, "sg-1", all80), compiled(t, "sg-2", all8080), true, true},
	}
	for i, row := range rows {
		s1, s2 := pair(t, lb.Revision(i+1), row.gate1, row.gate2)
		put(t, gw, host, s1, s2)
		for _, c := range []struct {
			ns, addr string
			served   bool
		}{{"dp-a", clientA, row.a}, {"dp-b", clientB, row.b}} {
			seen, err := w.ask(c.ns, vip+":80", short)
			if c.served != (err == nil) {
				t.Fatalf("%s: client %s: served %v, want %v (%v)", row.name, c.addr, err == nil, c.served, err)
			}
			if c.served && !strings.HasPrefix(seen, c.addr+":") {
				t.Errorf("%s: the server saw %s, want %s", row.name, seen, c.addr)
			}
		}
	}
	if _, err := w.ask("dp-a", vip+":81", short); err == nil {
		t.Error("a VIP's port without listener answered")
	}
	w.bulk("dp-a")
	early, late := runs(t, gw, "gateway_xdp"), runs(t, gw, "gateway")
	t.Logf("gateway_xdp ran %d times, gateway %d times", early, late)
	if attach == AttachXDP && early < 10*late || attach == AttachTC && early != 0 {
		t.Error("the packets were not handled where they should be")
	}
}

// runs counts how often a program was run since statistics were switched on.
func runs(t *testing.T, d *Datapath, program string) uint64 {
	t.Helper()
	s, err := d.loaded(t, program).Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s.RunCount
}

// bulk moves 20 MB each way through the tunnel at MTU 1500.
func (w *world) bulk(ns string) {
	w.t.Helper()
	w.bulkFrom(ns, vip+":80")
}

func (w *world) bulkFrom(ns, front string) {
	w.t.Helper()
	c, err := w.dial(ns, front, time.Second)
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	r := bufio.NewReader(c)
	if _, err := r.ReadString('\n'); err != nil {
		w.t.Fatal(err)
	}
	const n = 20 << 20
	begin := time.Now()
	fmt.Fprintf(c, "send %d\n", n)
	if _, err := io.CopyN(io.Discard, r, n); err != nil {
		w.t.Fatal("download:", err)
	}
	down := time.Since(begin)
	begin = time.Now()
	fmt.Fprintf(c, "take %d\n", n)
	if _, err := c.Write(make([]byte, n)); err != nil {
		w.t.Fatal("upload:", err)
	}
	if _, err := r.ReadString('\n'); err != nil {
		w.t.Fatal("upload:", err)
	}
	w.t.Logf("20 MB down in %v, up in %v", down, time.Since(begin))
}
