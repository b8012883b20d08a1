// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// Every interface of a machine is judged, also one that comes while the agent
// runs, but for those that are left alone and those of containers' bridges.
func TestEveryInterface(t *testing.T) {
	w := newWorld(t)
	second := func(device, own, other string) {
		t.Helper()
		w.in("dp-host", "ip", "link", "add", device, "type", "veth", "peer", "name", device, "netns", filepath.Base(path("dp-b")))
		for ns, addr := range map[string]string{"dp-host": own, "dp-b": other} {
			w.in(ns, "ip", "addr", "add", addr+"/24", "dev", device)
			w.in(ns, "ip", "link", "set", device, "up")
			w.in(ns, "ethtool", "-K", device, "tx", "off")
		}
	}
	second("eth1", "10.71.0.1", "10.71.0.2")
	second("spare", "10.72.0.1", "10.72.0.2")
	w.in("dp-host", "ip", "link", "add", "docker0", "type", "bridge")
	w.in("dp-host", "ip", "link", "set", "docker0", "up")
	host := w.open("dp-host", Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr), Every: true, Except: []string{"spare"}})
	gw := w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	s1, s2 := pair(t, 1, nil, compiled(t, "sg-2", accept("10.71.0.2/32", 8081)))
	for _, a := range []string{"10.71.0.1", "10.72.0.1", "10.73.0.1"} {
		s2.Instances[0].Addrs = append(s2.Instances[0].Addrs, netip.MustParseAddr(a))
	}
	put(t, gw, host, s1, s2)
	for _, port := range []string{"8080", "8081"} {
		w.serve("dp-host", "0.0.0.0:"+port)
	}
	check := func(to string, want bool) {
		t.Helper()
		if _, err := w.ask("dp-b", to, 500*time.Millisecond); (err == nil) != want {
			t.Errorf("%s: served %v, want %v (%v)", to, err == nil, want, err)
		}
	}
	check("10.71.0.1:8081", served)
	check("10.71.0.1:8080", silent)
	check("10.72.0.1:8080", served) // left alone
	second("eth2", "10.73.0.1", "10.73.0.2")
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := w.ask("dp-b", "10.73.0.1:8080", 100*time.Millisecond); err != nil {
			break
		}
	}
	check("10.73.0.1:8080", silent)
	host.mu.Lock()
	defer host.mu.Unlock()
	if len(host.guarded) != 2 || host.guarded["eth1"].index == 0 || host.guarded["eth2"].index == 0 {
		t.Errorf("judged beside eth0: %v", host.guarded)
	}
}
