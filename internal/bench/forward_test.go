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
	gated    netip.Addr       // of one that only gate 2 is in the way of, while we forward
	compiled *policy.Compiled // ten rules that accept client-1 at the last
	opened   map[lb.NodeID]*datapath.Datapath
	echoes   map[netip.Addr]*echo
	filtered [2]netip.Addr // by gate 2, by the conntrack filter if there is nft
	swapped  bool
}

const (
	instanceID  = "ins-aaaaaaaa"
	baseID      = "ins-bbbbbbbb"
	gatedID     = "ins-cccccccc"
	ourVIP      = "192.0.2.1"
	peerVIP     = "192.0.2.60" // of nftables
	gatewayAddr = "192.0.2.129"
	hostAddr    = "192.0.2.130"
	gatedHost   = "192.0.2.132" // the third that the lab made
)

func newBed(b *testing.B) *bed {
	b.Helper()
	f := &bed{B: b, dir: b.TempDir(), instance: netip.MustParseAddr("10.0.1.4"), base: netip.MustParseAddr("10.0.1.5"), gated: netip.MustParseAddr("10.0.1.6"),
		opened: map[lb.NodeID]*datapath.Datapath{}}
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
		l.AddInstance(baseID, "base", f.base, netip.Addr{}, netip.Addr{}),
		l.AddInstance(gatedID, "gated", f.gated, netip.Addr{}, netip.Addr{}))
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
	for _, host := range []string{"client-1", lab.DefaultGateway, instanceID, baseID, gatedID} {
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
		{gateTwo, "", (*bed).filters},
	}
}

// sallyport attaches both gates with ten rules each, and gate 2 alone before the
// instance whose cost is subtracted.
func (f *bed) sallyport() (string, func()) {
	gw, host := f.snapshots()
	return ourVIP, f.attach(host, gw, f.guarded(gatedID, f.gated))
}

// filters attaches gate 2 at one instance and the conntrack filter at another, at
// the third when it is on again: both are measured at once, since what they add is
// less than what the machine's other work adds and takes away from round to round.
func (f *bed) filters() (string, func()) {
	nodes, at := [2]lb.NodeID{gatedID, instanceID}, [2]netip.Addr{f.gated, f.instance}
	if f.swapped = !f.swapped; f.swapped {
		slices.Reverse(nodes[:])
		slices.Reverse(at[:])
	}
	f.filtered[0], f.filtered[1] = at[0], netip.Addr{}
	off := f.attach(f.guarded(nodes[0], at[0]))
	if _, err := exec.LookPath("nft"); err != nil {
		return at[0].String(), off
	}
	f.filtered[1] = at[1]
	rules := ""
	for i := range 10 {
		rules += fmt.Sprintf("ip saddr 203.0.113.%d meta l4proto tcp accept\n", i+1)
	}
	f.in(string(nodes[1]), fmt.Sprintf("nft -f %s", f.write("nft", `table ip bench {
		chain in { type filter hook input priority filter; policy drop
		ct state established,related accept
		`+rules+` }
		chain out { type filter hook output priority filter; policy drop
		ct state established,related accept
		}
		}`)))
	return at[0].String(), func() {
		f.in(string(nodes[1]), "nft flush ruleset")
		off()
	}
}

// guarded is the snapshot of a host that has nothing but gate 2.
func (f *bed) guarded(node lb.NodeID, at netip.Addr) *snapshot.Snapshot {
	gw, host := f.snapshots()
	host.Node, host.Targets = node, nil
	host.VIPs = gw.VIPs
	host.Instances = []snapshot.Instance{{ID: lb.InstanceID(node), Addrs: []netip.Addr{at}, Ingress: f.compiled.Hash, Egress: f.compiled.Hash}}
	return host
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
	ctx, end := context.WithCancel(f.Context())
	for _, s := range snapshots {
		o := datapath.Options{Node: s.Node, Role: s.Role, Device: "eth0", PinDir: lab.PinDir(string(s.Node)), Address: netip.MustParseAddr(hostAddr)}
		if s.Role == lb.RoleGateway {
			o.Address = netip.MustParseAddr(gatewayAddr)
		} else if s.Node == gatedID {
			o.Address = netip.MustParseAddr(gatedHost)
		}
		err := e2e.Inside(string(s.Node), func() error {
			d, err := datapath.Open(o)
			if err != nil {
				return err
			}
			f.opened[s.Node] = d
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
		for _, s := range snapshots {
			f.opened[s.Node].Close()
			delete(f.opened, s.Node)
			if err := datapath.Detach(lab.PinDir(string(s.Node))); err != nil {
				f.Error(err)
			}
		}
	}
}
