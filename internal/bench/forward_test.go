// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/e2e"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	rounds  = 3
	stretch = 500 * time.Millisecond // one measurement
)

// A meter reads the CPU time of this process, of what it starts and of the
// kernel's work that runs in threads of its own.
type meter struct {
	usage string
	ksoft []string
}

func newMeter(b *testing.B) *meter {
	b.Helper()
	const root = "/sys/fs/cgroup/cpuacct"
	group := filepath.Join(root, "sallyport-bench")
	m := &meter{usage: filepath.Join(group, "cpuacct.usage")}
	pid := []byte(strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(group, 0o755); err != nil {
		b.Skipf("needs the cpuacct controller of cgroup v1: %v", err)
	}
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), pid, 0o644); err != nil {
		b.Skipf("needs the cpuacct controller of cgroup v1: %v", err)
	}
	b.Cleanup(func() {
		_ = os.WriteFile(filepath.Join(root, "cgroup.procs"), pid, 0o644)
		_ = os.Remove(group)
	})
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, comm := range comms {
		if name, _ := os.ReadFile(comm); bytes.HasPrefix(name, []byte("ksoftirqd")) {
			m.ksoft = append(m.ksoft, filepath.Join(filepath.Dir(comm), "schedstat"))
		}
	}
	return m
}

func (m *meter) read(b *testing.B) time.Duration {
	b.Helper()
	total := time.Duration(0)
	for _, file := range append([]string{m.usage}, m.ksoft...) {
		data, err := os.ReadFile(file)
		if err != nil {
			b.Fatal(err)
		}
		n, err := strconv.ParseInt(strings.Fields(string(data))[0], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		total += time.Duration(n)
	}
	return total
}

// A bed is a lab without a server, in which one thing at a time forwards from
// client-1 by the gateway to one instance. Everything goes over the same links.
type bed struct {
	*testing.B
	dir      string
	instance netip.Addr
	compiled *policy.Compiled // ten rules that accept client-1 at the last
}

const (
	instanceID  = "ins-aaaaaaaa"
	ourVIP      = "192.0.2.1"
	peerVIP     = "192.0.2.60" // of nftables
	gatewayAddr = "192.0.2.129"
	hostAddr    = "192.0.2.130"
)

func newBed(b *testing.B) *bed {
	b.Helper()
	f := &bed{B: b, dir: b.TempDir(), instance: netip.MustParseAddr("10.0.1.4")}
	if err := e2e.Build(b.Context(), "../..", f.dir); err != nil {
		b.Fatal(err)
	}
	lock, err := lab.Acquire("none: a benchmark runs")
	for deadline := time.Now().Add(5 * time.Minute); err != nil && time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		lock, err = lab.Acquire("none: a benchmark runs")
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = lock.Release() })
	l, err := lab.Open(lock, lab.Options{DataDir: filepath.Join(f.dir, "data"), Executable: filepath.Join(f.dir, "sallyport")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	if err := l.AddInstance(instanceID, "web", f.instance, netip.Addr{}); err != nil {
		b.Fatal(err)
	}
	var rules []policy.Rule
	for i := range 10 {
		rules = append(rules, policy.Rule{ID: lb.RuleID(fmt.Sprintf("pol-%d", i)), Pos: i + 1, Action: lb.Accept, Proto: lb.TCP,
			Peers: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", i+1))}})
	}
	if f.compiled, err = policy.Compile([]policy.Group{{ID: "sg-bench", Rules: rules}}); err != nil {
		b.Fatal(err)
	}
	for _, host := range []string{"client-1", lab.DefaultGateway, instanceID} {
		f.in(host, "sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_max_tw_buckets=200000 net.core.somaxconn=4096")
	}
	return f
}

// in runs a shell script in a host's namespace.
func (f *bed) in(host, script string) {
	f.Helper()
	err := e2e.Inside(host, func() error {
		out, err := exec.Command("sh", "-ec", script).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s", script, err, out)
		}
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
}

// through sends what client-1 and the instance send each other to the gateway,
// as a router in the way or NAT needs it.
func (f *bed) through() (off func()) {
	f.in("fabric", `ip route add default via `+gatewayAddr+` dev gateway-1 onlink table 100
		ip rule add iif client-1 to `+f.instance.String()+` lookup 100
		ip rule add iif `+instanceID+` to `+client+` lookup 100`)
	f.in(lab.DefaultGateway, "sysctl -qw net.ipv4.ip_forward=1")
	return func() {
		f.in("fabric", "ip rule del lookup 100; ip rule del lookup 100; ip route flush table 100")
		f.in(lab.DefaultGateway, "sysctl -qw net.ipv4.ip_forward=0")
	}
}

// start runs a program in the gateway's namespace until off.
func (f *bed) start(port uint16, name string, args ...string) (off func()) {
	cmd := exec.Command(name, args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := e2e.Inside(lab.DefaultGateway, cmd.Start); err != nil {
		f.Fatal(err)
	}
	err := e2e.Until(f.Context(), name+" listens", func() (bool, error) {
		c, err := lab.Dial("client-1", "tcp4", netip.AddrPortFrom(netip.MustParseAddr(gatewayAddr), port).String(), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil || cmd.ProcessState != nil, nil
	})
	if err != nil {
		f.Fatalf("%v: %s", err, said.String())
	}
	return func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	}
}

func (f *bed) write(name, text string) string {
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.Fatal(err)
	}
	return path
}

// A way is one thing that forwards. on returns where clients go and how to end it.
type way struct {
	name, program string // program: what must be installed
	on            func(f *bed) (to string, off func())
}

func ways() []way {
	return []way{
		{"direct", "", func(f *bed) (string, func()) { return f.instance.String(), func() {} }},
		{"plain forwarding", "", func(f *bed) (string, func()) { return f.instance.String(), f.through() }},
		{"nftables DNAT", "nft", func(f *bed) (string, func()) {
			off := f.through()
			f.in(lab.DefaultGateway, fmt.Sprintf("nft -f %s", f.write("nft", fmt.Sprintf(`table ip bench {
				map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %[1]s . tcp . %[2]d : goto svc, %[1]s . tcp . %[3]d : goto svc } }
				chain svc { dnat to numgen random mod 1 map { 0 : %[4]v }; }
				chain pre { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }
				}`, peerVIP, echoPort, streamPort, f.instance))))
			return peerVIP, func() {
				f.in(lab.DefaultGateway, "nft flush ruleset")
				off()
			}
		}},
		{"HAProxy TCP", "haproxy", func(f *bed) (string, func()) {
			text := "global\n nbthread 1\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
			for _, port := range []int{echoPort, streamPort} {
				text += fmt.Sprintf("listen l%d\n bind %s:%d\n server s %v:%d\n", port, gatewayAddr, port, f.instance, port)
			}
			return gatewayAddr, f.start(echoPort, "haproxy", "-db", "-f", f.write("haproxy", text))
		}},
		{"nginx stream", "nginx", func(f *bed) (string, func()) {
			text := fmt.Sprintf("worker_processes 1; daemon off; pid %s/nginx.pid; error_log %s/nginx.log; load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nevents { worker_connections 4000; }\nstream {\n", f.dir, f.dir)
			for _, port := range []int{echoPort, streamPort} {
				text += fmt.Sprintf("server { listen %s:%d; proxy_pass %v:%d; tcp_nodelay on; }\n", gatewayAddr, port, f.instance, port)
			}
			return gatewayAddr, f.start(echoPort, "nginx", "-c", f.write("nginx", text+"}\n"))
		}},
		{ours, "", (*bed).sallyport},
	}
}

const ours = "Sallyport layer 4 (TC)"

// sallyport attaches both gates with ten rules each.
func (f *bed) sallyport() (string, func()) {
	addr := netip.MustParseAddr
	keys := [2]uint64{0xfeedfacecafebeef, 0}
	gw := &snapshot.Snapshot{Revision: 1, Node: lab.DefaultGateway, Role: lb.RoleGateway, VIPs: []netip.Addr{addr(ourVIP)},
		Policies: map[policy.Hash]*policy.Compiled{f.compiled.Hash: f.compiled},
		Peers:    []snapshot.Peer{{Node: instanceID, Num: 2, Addr: addr(hostAddr), Keys: keys}}}
	for i, port := range []uint16{echoPort, streamPort} {
		num := uint32(10 + i)
		gw.Targets = append(gw.Targets, snapshot.Target{Num: num, ID: snapshot.TargetID{Balancer: "lb-1", Listener: lb.ListenerID(fmt.Sprintf("lbl-%d", i)), Instance: instanceID, Port: port},
			Host: addr(hostAddr), Service: netip.AddrPortFrom(f.instance, port), VIPs: gw.VIPs, VPort: port, Proto: lb.TCP})
		gw.Listeners = append(gw.Listeners, snapshot.Listener{Num: uint32(20 + i), ID: gw.Targets[i].ID.Listener, Balancer: "lb-1", BalancerNum: 1, VIPs: gw.VIPs,
			Proto: lb.TCP, Port: port, Gate1: f.compiled.Hash, Targets: []snapshot.TargetRef{{Num: num, Weight: 10}}})
	}
	host := &snapshot.Snapshot{Revision: 1, Node: instanceID, Role: lb.RoleHost, VIPs: gw.VIPs, Targets: gw.Targets, Policies: gw.Policies,
		Instances: []snapshot.Instance{{ID: instanceID, Addrs: []netip.Addr{f.instance}, Ingress: f.compiled.Hash, Egress: f.compiled.Hash}},
		Peers:     []snapshot.Peer{{Node: lab.DefaultGateway, Num: 1, Addr: addr(gatewayAddr), Keys: keys}}}
	var opened []*datapath.Datapath
	for _, s := range []*snapshot.Snapshot{host, gw} {
		o := datapath.Options{Node: s.Node, Role: s.Role, Device: "eth0", PinDir: lab.PinDir(string(s.Node)), Address: addr(hostAddr)}
		if s.Role == lb.RoleGateway {
			o.Address = addr(gatewayAddr)
		}
		err := e2e.Inside(string(s.Node), func() error {
			d, err := datapath.Open(o)
			if err != nil {
				return err
			}
			opened = append(opened, d)
			return errors.Join(d.Stage(f.Context(), s), d.Commit(f.Context(), s.Revision))
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	return ourVIP, func() {
		for _, d := range opened {
			d.Close()
		}
		for _, s := range []*snapshot.Snapshot{host, gw} {
			if err := datapath.Detach(lab.PinDir(string(s.Node))); err != nil {
				f.Error(err)
			}
		}
	}
}

// BenchmarkForwarding compares what a request, a connection and a megabyte
// cost in all, by whatever forwards them. Rounds are interleaved.
func BenchmarkForwarding(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root: the lab makes network namespaces")
	}
	f := newBed(b)
	m := newMeter(b)
	serve(b, instanceID)
	costs, rates := map[string][]float64{}, map[string][]float64{}
	for range rounds {
		for _, w := range ways() {
			if _, err := exec.LookPath(w.program); w.program != "" && err != nil {
				continue
			}
			to, off := w.on(f)
			warmUp(b, netip.MustParseAddr(to))
			for _, j := range jobs() {
				cost, rate := j.cost(b, m, "client-1", netip.MustParseAddr(to), stretch)
				key := j.name + " " + w.name
				costs[key], rates[key] = append(costs[key], cost), append(rates[key], rate)
			}
			off()
			if b.Failed() {
				return
			}
		}
	}
	for _, j := range jobs() {
		report(b, j, costs, rates)
	}
	b.ReportMetric(0, "ns/op")
}

// warmUp makes sure that the way carries traffic: neighbours are known, peers
// have started, before anything is measured.
func warmUp(b *testing.B, to netip.Addr) {
	b.Helper()
	err := e2e.Until(b.Context(), "the way carries traffic", func() (bool, error) {
		err := e2e.Inside("client-1", func() error {
			fd, err := connect(netip.AddrPortFrom(to, echoPort))
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return exchange(fd, make([]byte, message))
		})
		return err == nil, nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

func report(b *testing.B, j job, costs, rates map[string][]float64) {
	middle := func(key string) float64 {
		slices.Sort(costs[key])
		return costs[key][len(costs[key])/2]
	}
	mine := costs[j.name+" "+ours]
	value := middle(j.name + " " + ours)
	b.Logf("%s (%d rounds, median [lowest..highest]):", j.unit, rounds)
	for _, w := range ways() {
		key := j.name + " " + w.name
		r := Row{ID: "l4-" + j.name + "-" + strings.ReplaceAll(strings.ToLower(w.name), " ", "-"), Name: "layer 4, CPU of one " + j.name, Unit: "µs",
			Ours: value, Peer: w.name, Spread: [2]float64{mine[0], mine[len(mine)-1]}}
		if len(costs[key]) == 0 {
			b.Logf("  %-24s not installed", w.name)
		} else {
			theirs := middle(key)
			ratio := value / theirs
			r.Theirs, r.Ratio = &theirs, &ratio
			slices.Sort(rates[key])
			b.Logf("  %-24s %8.1f [%.1f..%.1f]  ours ÷ this %.2f  (%.0f/s)", w.name, theirs, costs[key][0], costs[key][len(costs[key])-1], ratio, rates[key][len(rates[key])/2])
		}
		if w.name != ours {
			Write(b, r)
		}
	}
}
