// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// dualStack gives every node of the world an IPv6 address too.
func (w *world) dualStack() {
	w.t.Helper()
	w.in("dp-fabric", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
	for ns, addrs := range map[string][]string{"dp-gw": {gwAddr6}, "dp-host": {hostAddr6, service6}, "dp-a": {clientA6}, "dp-b": {clientB6}} {
		w.in(ns, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.eth0.disable_ipv6=0")
		w.in("dp-fabric", "ip", "addr", "add", "fe80::fe/64", "dev", ns, "nodad")
		for _, a := range addrs {
			w.in(ns, "ip", "addr", "add", a+"/128", "dev", "eth0", "nodad")
			w.in("dp-fabric", "ip", "-6", "route", "add", a, "dev", ns)
		}
		w.in(ns, "ip", "-6", "route", "add", "default", "via", "fe80::fe", "dev", "eth0", "src", addrs[len(addrs)-1])
	}
	w.in("dp-fabric", "ip", "-6", "route", "add", vip6, "via", gwAddr6, "dev", "dp-gw", "onlink")
}

// over gives pair's snapshots with the VIP, client and service of one family and
// the tunnel over another.
func over(t *testing.T, rev lb.Revision, inner, outer int) (gw, host *snapshot.Snapshot) {
	t.Helper()
	gw, host = pair(t, rev, compiled(t, "sg-1", accept("0.0.0.0/0", 80), accept("::/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080), accept("::/0", 8080)))
	addr := netip.MustParseAddr
	for _, s := range []*snapshot.Snapshot{gw, host} {
		if outer == 6 {
			s.Targets[0].Host = addr(hostAddr6)
			s.Peers[0].Addr = addr(map[lb.NodeRole]string{lb.RoleGateway: hostAddr6, lb.RoleHost: gwAddr6}[s.Role])
		}
		if inner == 6 {
			s.VIPs = []netip.Addr{addr(vip6)}
			s.Targets[0].VIPs, s.Targets[0].Service, s.Targets[0].ProbeSource = s.VIPs, netip.AddrPortFrom(addr(service6), 8080), addr(vip6)
		}
	}
	if inner == 6 {
		gw.Listeners[0].VIPs = gw.VIPs
	}
	host.Instances[0].Addrs = []netip.Addr{addr(service), addr(service6)}
	return gw, host
}

// Both families through the tunnel over both, with real TCP, at MTU 1500
// everywhere and at full size in both directions; neighbours find each other
// through gate 2 that knows nothing of them, and no strange flow gets in.
func TestBothFamiliesLive(t *testing.T) {
	w := newWorld(t)
	w.dualStack()
	addr := netip.MustParseAddr
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: addr(gwAddr), Other: addr(gwAddr6)})
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: addr(hostAddr), Other: addr(hostAddr6)})
	w.serve("dp-host", net.JoinHostPort(service, "8080"))
	w.serve("dp-host", net.JoinHostPort(service6, "8080"))
	rev := lb.Revision(0)
	for _, way := range []struct {
		name         string
		inner, outer int
		back         bool
	}{{"6 in 4", 6, 4, false}, {"6 in 6", 6, 6, false}, {"4 in 6", 4, 6, false}, {"4 in 4", 4, 4, false}, {"6 in 6, back by the gateway", 6, 6, true}, {"6 in 4, back by the gateway", 6, 4, true}} {
		t.Run(way.name, func(t *testing.T) {
			rev++
			s1, s2 := over(t, rev, way.inner, way.outer)
			for _, s := range []*snapshot.Snapshot{s1, s2} {
				s.Targets[0].ReturnVia = way.back
			}
			put(t, gw, host, s1, s2)
			front, client, direct := vip, clientA, service
			if way.inner == 6 {
				front, client, direct = vip6, clientA6, service6
			}
			seen, err := w.ask("dp-a", net.JoinHostPort(front, "80"), 3*time.Second)
			if err != nil || !strings.HasPrefix(seen, strings.TrimSuffix(net.JoinHostPort(client, "0"), "0")) {
				t.Fatalf("the server saw %q, %v", seen, err)
			}
			w.bulkFrom("dp-a", net.JoinHostPort(front, "80"))
			if _, err := w.ask("dp-a", net.JoinHostPort(direct, "8081"), 300*time.Millisecond); err == nil {
				t.Error("a port that no rule of gate 2 admits was reached")
			}
		})
	}
}
