// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
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
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

const (
	rounds  = 7
	repeats = 3                      // measurements of a bulk job in each round
	stretch = 200 * time.Millisecond // one of them
	pairs   = 6                      // of a way and none, of any other job in each round
	slice   = 60 * time.Millisecond  // one half of a pair
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
	base     netip.Addr       // of another instance, which nothing is ever in the way of
	compiled *policy.Compiled // ten rules that accept client-1 at the last
}

const (
	instanceID  = "ins-aaaaaaaa"
	baseID      = "ins-bbbbbbbb"
	ourVIP      = "192.0.2.1"
	peerVIP     = "192.0.2.60" // of nftables
	gatewayAddr = "192.0.2.129"
	hostAddr    = "192.0.2.130"
)

func newBed(b *testing.B) *bed {
	b.Helper()
	f := &bed{B: b, dir: b.TempDir(), instance: netip.MustParseAddr("10.0.1.4"), base: netip.MustParseAddr("10.0.1.5")}
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
	err = errors.Join(l.AddInstance(instanceID, "web", f.instance, netip.Addr{}, netip.Addr{}),
		l.AddInstance(baseID, "base", f.base, netip.Addr{}, netip.Addr{}))
	if err != nil {
		b.Fatal(err)
	}
	var rules []policy.Rule
	for i := range 10 {
		rules = append(rules, policy.Rule{ID: lb.RuleID(fmt.Sprintf("pol-%d", i)), Pos: i + 1, Action: lb.Accept, Proto: lb.TCP,
			Peers: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("203.0.113.%d/32", i+1))}})
	}
	rules = append(rules, policy.Rule{ID: "pol-udp", Pos: 11, Action: lb.Accept, Proto: lb.UDP, Peers: []netip.Prefix{netip.MustParsePrefix(client + "/32")}})
	if f.compiled, err = policy.Compile([]policy.Group{{ID: "sg-bench", Rules: rules}}); err != nil {
		b.Fatal(err)
	}
	for _, host := range []string{"client-1", lab.DefaultGateway, instanceID, baseID} {
		f.in(host, "sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_max_tw_buckets=200000 net.core.somaxconn=4096")
		// Paced by nothing but acknowledgements: the timers of others cost by chance.
		f.in(host, "sysctl -qw net.ipv4.tcp_congestion_control=reno")
		// As on a server: the lab switches segmentation off for its stories' sake,
		// and everyone's megabyte would be mostly the cost of cutting it up.
		f.in(host, "ethtool -K eth0 tx on tso on gso on gro on")
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

const (
	plain     = "plain forwarding"
	dnat      = "nftables DNAT"
	haproxy   = "HAProxy TCP"
	ours      = "Sallyport layer 4 (TC)"
	cutByUs   = "Sallyport layer 4 (TC), tunnel segmentation off"
	cutPlain  = "plain forwarding, segmentation off"
	gateTwo   = "gate 2 alone"
	conntrack = "nftables conntrack filter"
)

func ways() []way {
	return []way{
		{plain, "", func(f *bed) (string, func()) { return f.instance.String(), f.through() }},
		{dnat, "nft", func(f *bed) (string, func()) {
			off := f.through()
			elements := fmt.Sprintf("%s . udp . %d : goto svc, ", peerVIP, echoPort)
			for _, port := range tcpPorts {
				elements += fmt.Sprintf("%s . tcp . %d : goto svc, ", peerVIP, port)
			}
			f.in(lab.DefaultGateway, fmt.Sprintf("nft -f %s", f.write("nft", fmt.Sprintf(`table ip bench {
				map services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { %s } }
				chain svc { dnat to numgen random mod 1 map { 0 : %v }; }
				chain pre { type nat hook prerouting priority dstnat; ip daddr . meta l4proto . th dport vmap @services; }
				}`, elements, f.instance))))
			return peerVIP, func() {
				f.in(lab.DefaultGateway, "nft flush ruleset")
				off()
			}
		}},
		{haproxy, "haproxy", func(f *bed) (string, func()) {
			text := "global\n nbthread 1\n maxconn 2000\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
			for _, port := range tcpPorts {
				text += fmt.Sprintf("listen l%d\n bind %s:%d\n server s %v:%d\n", port, gatewayAddr, port, f.instance, port)
			}
			return gatewayAddr, f.start(echoPort, "haproxy", "-db", "-f", f.write("haproxy", text))
		}},
		{ours, "", (*bed).sallyport},
		{cutByUs, "ethtool", func(f *bed) (string, func()) {
			set := func(to string) {
				f.in(lab.DefaultGateway, "ethtool -K eth0 tx-udp_tnl-segmentation "+to+" tx-udp_tnl-csum-segmentation "+to)
			}
			set("off")
			to, off := f.sallyport()
			return to, func() {
				off()
				set("on")
			}
		}},
		{cutPlain, "ethtool", func(f *bed) (string, func()) {
			set := func(to string) { f.in(lab.DefaultGateway, "ethtool -K eth0 tso "+to+" gso "+to) }
			set("off")
			off := f.through()
			return f.instance.String(), func() {
				off()
				set("on")
			}
		}},
		{gateTwo, "", func(f *bed) (string, func()) {
			_, host := f.snapshots()
			return f.instance.String(), f.attach(host)
		}},
		{conntrack, "nft", func(f *bed) (string, func()) {
			rules := ""
			for i := range 10 {
				rules += fmt.Sprintf("ip saddr 203.0.113.%d meta l4proto tcp accept\n", i+1)
			}
			f.in(instanceID, fmt.Sprintf("nft -f %s", f.write("nft", `table ip bench {
				chain in { type filter hook input priority filter; policy drop
				ct state established,related accept
				`+rules+` }
				chain out { type filter hook output priority filter; policy drop
				ct state established,related accept
				}
				}`)))
			return f.instance.String(), func() { f.in(instanceID, "nft flush ruleset") }
		}},
	}
}

// sallyport attaches both gates with ten rules each.
func (f *bed) sallyport() (string, func()) {
	gw, host := f.snapshots()
	return ourVIP, f.attach(host, gw)
}

// snapshots are what gateway and host need for the instance's services.
func (f *bed) snapshots() (gw, host *snapshot.Snapshot) {
	addr := netip.MustParseAddr
	keys := [2]uint64{0xfeedfacecafebeef, 0}
	gw = &snapshot.Snapshot{Revision: 1, Node: lab.DefaultGateway, Role: lb.RoleGateway, VIPs: []netip.Addr{addr(ourVIP)},
		Policies: map[policy.Hash]*policy.Compiled{f.compiled.Hash: f.compiled},
		Peers:    []snapshot.Peer{{Node: instanceID, Num: 2, Addr: addr(hostAddr), Keys: keys}}}
	for i, port := range append(slices.Clone(tcpPorts), echoPort) {
		num, proto := uint32(10+i), lb.TCP
		if i == len(tcpPorts) {
			proto = lb.UDP
		}
		gw.Targets = append(gw.Targets, snapshot.Target{Num: num, ID: snapshot.TargetID{Balancer: "lb-1", Listener: lb.ListenerID(fmt.Sprintf("lbl-%d", i)), Instance: instanceID, Port: port},
			Host: addr(hostAddr), Service: netip.AddrPortFrom(f.instance, port), VIPs: gw.VIPs, VPort: port, Proto: proto})
		gw.Listeners = append(gw.Listeners, snapshot.Listener{Num: uint32(20 + i), ID: gw.Targets[i].ID.Listener, Balancer: "lb-1", BalancerNum: 1, VIPs: gw.VIPs,
			Proto: proto, Port: port, Gate1: f.compiled.Hash, Targets: []snapshot.TargetRef{{Num: num, Weight: 10}}})
	}
	host = &snapshot.Snapshot{Revision: 1, Node: instanceID, Role: lb.RoleHost, VIPs: gw.VIPs, Targets: gw.Targets, Policies: gw.Policies,
		Instances: []snapshot.Instance{{ID: instanceID, Addrs: []netip.Addr{f.instance}, Ingress: f.compiled.Hash, Egress: f.compiled.Hash}},
		Peers:     []snapshot.Peer{{Node: lab.DefaultGateway, Num: 1, Addr: addr(gatewayAddr), Keys: keys}}}
	return gw, host
}

// attach puts snapshots in force on their nodes until off.
func (f *bed) attach(snapshots ...*snapshot.Snapshot) (off func()) {
	var opened []*datapath.Datapath
	ctx, end := context.WithCancel(f.Context())
	for _, s := range snapshots {
		o := datapath.Options{Node: s.Node, Role: s.Role, Device: "eth0", PinDir: lab.PinDir(string(s.Node)), Address: netip.MustParseAddr(hostAddr)}
		if s.Role == lb.RoleGateway {
			o.Address = netip.MustParseAddr(gatewayAddr)
		}
		err := e2e.Inside(string(s.Node), func() error {
			d, err := datapath.Open(o)
			if err != nil {
				return err
			}
			opened = append(opened, d)
			// As every node does: what verdicts cost to read is the way's own cost.
			go func() { _ = d.Events(ctx, func(flow.Event) {}) }()
			return errors.Join(d.Stage(f.Context(), s), d.Commit(f.Context(), s.Revision))
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	return func() {
		end()
		for _, d := range opened {
			d.Close()
		}
		for _, s := range snapshots {
			if err := datapath.Detach(lab.PinDir(string(s.Node))); err != nil {
				f.Error(err)
			}
		}
	}
}

// A comparison is one row: what a kind of traffic costs by our way and by
// theirs; own: it is measured in pairs, and what the way itself costs is told.
type comparison struct {
	id, job      string
	ours, theirs string
	own          bool
}

var comparisons = []comparison{
	{"rr-plain", "request", ours, plain, true}, {"rr-nft", "request", ours, dnat, true}, {"rr-haproxy", "request", ours, haproxy, true},
	{"crr-plain", "connection", ours, plain, true}, {"crr-nft", "connection", ours, dnat, true}, {"crr-haproxy", "connection", ours, haproxy, true},
	{"udp-nft", "packet", ours, dnat, true},
	{"bulk-plain", "download", ours, plain, false}, {"bulk-haproxy", "download", ours, haproxy, false},
	{"bulk-up-plain", "upload", ours, plain, false}, {"bulk-up-haproxy", "upload", ours, haproxy, false},
	{"bulk-wire-plain", "upload", cutByUs, cutPlain, false},
	{"gate2-nft", "request", gateTwo, conntrack, true},
}

// BenchmarkForwarding compares what a request, a connection and a megabyte
// cost in all, by whatever forwards them. Rounds are interleaved.
func BenchmarkForwarding(b *testing.B) {
	wanted := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return !Wanted(c.id) })
	if len(wanted) == 0 {
		b.Skip("not asked for")
	}
	if os.Geteuid() != 0 {
		b.Skip("needs root: the lab makes network namespaces")
	}
	needs := func(job, way string) bool {
		return slices.ContainsFunc(wanted, func(c comparison) bool {
			return c.job == job && (way == c.ours || way == c.theirs)
		})
	}
	f := newBed(b)
	m := newMeter(b)
	alone(b)
	serve(b, instanceID)
	serve(b, baseID)
	warmUp(b, f.base)
	costs := map[string][]float64{} // by job and way, a round each
	for range rounds {
		for _, w := range ways() {
			if _, err := exec.LookPath(w.program); w.program != "" && err != nil {
				continue
			}
			if !slices.ContainsFunc(jobs(), func(j job) bool { return needs(j.name, w.name) }) {
				continue
			}
			to, off := w.on(f)
			warmUp(b, netip.MustParseAddr(to))
			for _, j := range jobs() {
				if !needs(j.name, w.name) {
					continue
				}
				for i := 0; j.poll != nil && i < pairs; i++ {
					costs[j.name+w.name] = append(costs[j.name+w.name], j.pair(f, m, netip.MustParseAddr(to), i%2 == 0))
				}
				for i := 0; j.poll == nil && i < repeats; i++ {
					cost, _ := j.cost(b, m, "client-1", netip.MustParseAddr(to), stretch)
					costs[j.name+w.name] = append(costs[j.name+w.name], cost)
				}
			}
			off()
			if b.Failed() {
				return
			}
		}
	}
	for _, c := range wanted {
		Write(b, c.row(costs))
	}
	b.ReportMetric(0, "ns/op")
}

// pair is what a unit costs more than to the instance that nothing is in the way
// of: two stretches, one right after the other, so that what slows the machine
// down meets both.
func (j job) pair(f *bed, m *meter, to netip.Addr, first bool) float64 {
	if first {
		cost := j.paced(f.B, m, "client-1", to)
		return cost - j.paced(f.B, m, "client-1", f.base)
	}
	without := j.paced(f.B, m, "client-1", f.base)
	return j.paced(f.B, m, "client-1", to) - without
}

// row gives own costs with their quartiles: what else runs on the machine meets
// one half of some pairs only.
func (c comparison) row(costs map[string][]float64) Row {
	ours, theirs := slices.Clone(costs[c.job+c.ours]), slices.Clone(costs[c.job+c.theirs])
	why := ""
	if len(theirs) == 0 {
		why = c.theirs + " is not installed"
	}
	r := Fill(c.id, ours, theirs, why)
	if c.own { // Fill has sorted them
		r.Spread = [2]float64{ours[len(ours)/4], ours[len(ours)*3/4]}
	}
	return r
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
