// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/sallyport/sallyport/internal/lb"
)

// The doctor says for a veth that TC is used and why, and names what to mend.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.in("dp-gw", "ip", "link", "set", "eth0", "mtu", "1400")
	pins := t.TempDir()
	findings, err := inside(w, "dp-gw", func() ([]Finding, error) { return Doctor(lb.RoleGateway, "eth0", pins+"/x/y"), nil })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		ok   bool
		text string
	}{
		"kernel":    {true, "Linux "},
		"privilege": {true, "root"},
		"programs":  {true, "ring buffers"},
		"attach":    {true, "TC only: on driver veth"},
		"mtu":       {true, "raise the MTU to 1560"},
		"pins":      {false, "mount -t bpf"},
	}
	for _, f := range findings {
		expect, ok := want[f.What]
		if !ok || f.OK != expect.ok || !strings.Contains(f.Text, expect.text) {
			t.Errorf("finding %+v, want ok %v and %q", f, expect.ok, expect.text)
		}
		delete(want, f.What)
	}
	for what := range want {
		t.Errorf("nothing was found about %s", what)
	}
	if f := Doctor(lb.RoleHost, "no-such-dev", pins); f[len(f)-1].OK || !strings.Contains(f[len(f)-1].Text, "--device") {
		t.Errorf("a device that is not there: %+v", f[len(f)-1])
	}
}

// The doctor says which interfaces of a host are judged, and what VLANs on the
// device mean: where the card takes their tags off, XDP would not know them.
func TestDoctorExplainsLinks(t *testing.T) {
	w := newWorld(t)
	attrs := func(index int, name string, master int) netlink.LinkAttrs {
		return netlink.LinkAttrs{Index: index, Name: name, MasterIndex: master, EncapType: "ether"}
	}
	judged := judgedFinding([]netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 1, Name: "lo", EncapType: "loopback"}}, &netlink.Device{LinkAttrs: attrs(2, "eth0", 0)},
		&netlink.Bridge{LinkAttrs: attrs(3, "br-vm", 0)}, &netlink.Tuntap{LinkAttrs: attrs(4, "tap1", 3)},
		&netlink.Bridge{LinkAttrs: attrs(5, "br-lan", 0)}, &netlink.Device{LinkAttrs: attrs(6, "nic1", 5)},
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 7, Name: "wg0", EncapType: "none"}}, &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: 8, Name: "ib0", EncapType: "infiniband"}},
	})
	want := "a machine that joins judges br-lan, eth0, wg0; nic1 by the bridge or bond that each belongs to; not br-vm: bridges to which only virtual machines and containers belong"
	if !judged.OK || !strings.HasPrefix(judged.Text, want) {
		t.Errorf("of a host: %+v", judged)
	}
	up := func(name, kind string) netlink.Link {
		return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: name, EncapType: kind, Flags: net.FlagUp}}
	}
	past := unjudgedFindings([]netlink.Link{up("lo", "loopback"), up("eth0", "ether"), up("wg0", "none"), up("ppp0", "ppp"), up("ib0", "infiniband"), up("can0", "can"),
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "ib1", EncapType: "infiniband"}}})
	if len(past) != 1 || past[0].OK || !strings.Contains(past[0].Text, " of can0, ib0;") {
		t.Errorf("of interfaces that gate 2 cannot read: %+v", past)
	}
	for role, want := range map[lb.NodeRole]string{lb.RoleHost: "a machine that joins judges eth0", lb.RoleGateway: ""} {
		findings, err := inside(w, "dp-gw", func() ([]Finding, error) { return linkFindings(role, "eth0"), nil })
		if err != nil || len(findings) != min(len(want), 1) || len(findings) == 1 && findings[0].Text != want {
			t.Errorf("of a %s without VLANs: %v, %v; want %q", role, findings, err, want)
		}
	}
	vlans := vlansOn("eth0", []netlink.Link{
		&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "eth0", Index: 2}},
		&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth0.5", Index: 4, ParentIndex: 2}, VlanId: 5},
		&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: "eth1.6", Index: 5, ParentIndex: 3}, VlanId: 6},
	})
	if !slices.Equal(vlans, []string{"eth0.5 (VLAN 5)"}) {
		t.Errorf("VLANs on eth0: %v", vlans)
	}
	for role, want := range map[lb.NodeRole]string{lb.RoleHost: "eth0.5 (VLAN 5) on eth0: each is judged", lb.RoleGateway: "except what is for a VIP"} {
		if f := vlanFindings(role, "eth0", vlans); len(f) != 1 || !strings.Contains(f[0].Text, want) {
			t.Errorf("of a %s's VLANs: %v", role, f)
		}
	}
	for _, c := range []struct {
		vlans  []string
		strips bool
		hides  bool
	}{{nil, true, false}, {[]string{"eth0.5 (VLAN 5)"}, false, false}, {[]string{"eth0.5 (VLAN 5)"}, true, true}} {
		if why := hidesVLANs("eth0", c.vlans, c.strips); (why != "") != c.hides || c.hides && !strings.Contains(why, "ethtool -K eth0 rxvlan off") {
			t.Errorf("VLANs %v, tags taken off %v: %q", c.vlans, c.strips, why)
		}
	}
	strips := func() bool {
		got, err := inside(w, "dp-gw", func() (bool, error) { return stripsTags("eth0"), nil })
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if !strips() {
		t.Error("a veth takes tags off unless told otherwise")
	}
	if _, err := exec.LookPath("ethtool"); err == nil {
		w.in("dp-gw", "ethtool", "-K", "eth0", "rxvlan", "off")
		if strips() {
			t.Error("tags are said to be taken off after that was switched off")
		}
	}
}
