// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// What `join` writes, `run` reads; what is not of ours is refused with the
// file's name and the repair.
func TestConfig(t *testing.T) {
	dir := t.TempDir()
	off := false
	c := &config{Name: "gateway-1", Role: "gateway", Server: "198.51.100.1:7781", Device: "eth0", Metrics: "127.0.0.1:7782", Attach: "tc", ARP: &off}
	if err := c.write(dir); err != nil {
		t.Fatal(err)
	}
	read, err := readConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := &runFlags{attach: "auto", data: dir}
	f.fill(read)
	s, err := f.checked()
	if err != nil || s.node.Name != "gateway-1" || s.node.Role != lb.RoleGateway || s.device != "eth0" || s.metrics != c.Metrics || s.attach != "tc" ||
		s.pin != filepath.Join(pinRoot, "gateway-1") || f.arp || !f.joined {
		t.Errorf("settings %+v, %v", s, err)
	}
	said := &runFlags{attach: "xdp", device: "eth1", metrics: "", metricsSaid: true}
	said.fill(read)
	if said.device != "eth1" || said.metrics != "" || said.attach != "xdp" {
		t.Errorf("the command line does not stand above the config: %+v", said)
	}
	for text, want := range map[string]string{`{"name":"x","colour":"red"}`: "colour", `{`: "mend it"} {
		if err := os.WriteFile(filepath.Join(dir, configFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readConfig(dir); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), configFile) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Where a machine stands: the interface on the way to the server, its first
// address and the others; and where it stood last when that is gone.
func TestPlace(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("skipped: a network namespace needs root")
	}
	runtime.LockOSThread() // the thread ends with the test, and its namespace with it
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	address := func(text string, edit func(netlink.Link, *netlink.Addr) error) {
		t.Helper()
		a, err := netlink.ParseAddr(text)
		if err == nil {
			err = edit(link, a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	add := func(text string) { address(text, netlink.AddrAdd) }
	server, dir := netip.MustParseAddr("198.51.100.1"), t.TempDir()
	if _, err := wayTo(server); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("without a network: %v", err)
	}
	add("169.254.1.1/16")
	add("198.51.100.11/24")
	add("198.51.100.13/24")
	add("198.51.100.12/24")
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	p, err := wayTo(server)
	if err != nil || p.device != "eth0" || p.address.String() != "198.51.100.11" || len(p.others) != 2 || p.others[0].String() != "198.51.100.12" {
		t.Fatalf("the way to the server: %+v, %v", p, err)
	}
	if q := (place{device: p.device, address: p.address, others: append([]netip.Addr{}, p.others...)}); !q.equal(p) {
		t.Error("equal places are not")
	} else if q.prefer(p.others[0]); q.equal(p) || q.address != p.others[0] || q.others[0] != p.address {
		t.Errorf("preferring another address: %+v", q)
	}
	// IPv6 addresses are the machine's as well; what is not to be had yet is not.
	six := place{device: p.device, address: p.address, others: append(append([]netip.Addr{}, p.others...), netip.MustParseAddr("2001:db8::11"))}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		address("2001:db8::11/64", func(link netlink.Link, a *netlink.Addr) error {
			a.Flags = unix.IFA_F_NODAD
			return netlink.AddrAdd(link, a)
		})
		if q, err := standing("eth0"); err != nil || !q.equal(six) {
			t.Errorf("with IPv6: %+v, %v", q, err)
		}
		passing := func(text string, edit func(netlink.Link, *netlink.Addr) error) {
			address(text, func(link netlink.Link, a *netlink.Addr) error {
				a.Flags, a.PreferedLft, a.ValidLft = unix.IFA_F_NODAD, 0, 600 // deprecated from the start
				return edit(link, a)
			})
		}
		passing("2001:db8::5/64", netlink.AddrAdd)
		if q, err := standing("eth0"); err != nil || q.second() != netip.MustParseAddr("2001:db8::11") || len(q.others) != 4 {
			t.Errorf("tunnels over IPv6 end at %v of %+v, %v", q.second(), q, err)
		}
		if q, err := find(t.Context(), "eth0", "2001:db8::11", dir, false, nil); err != nil || q.device != "eth0" || q.second() != netip.MustParseAddr("198.51.100.11") {
			t.Errorf("with an IPv6 address said: %+v, %v", q, err)
		}
		passing("2001:db8::5/64", netlink.AddrDel)
		address("2001:db8::11/64", netlink.AddrDel)
	}
	if p.second().IsValid() {
		t.Errorf("of IPv4 only, and yet a second %v", p.second())
	}
	if found, err := find(t.Context(), "eth0", "", dir, false, nil); err != nil || !found.equal(p) {
		t.Errorf("found %+v, %v", found, err)
	}
	if found, err := find(t.Context(), "eth0", "198.51.100.13", dir, false, nil); err != nil || found.address.String() != "198.51.100.13" || len(found.others) != 2 {
		t.Errorf("with an address said: %+v, %v", found, err)
	}
	// At the next boot the gate stands before the network is up.
	for _, text := range []string{"198.51.100.11/24", "198.51.100.13/24", "198.51.100.12/24"} {
		a, _ := netlink.ParseAddr(text)
		_ = netlink.AddrDel(link, a) // secondaries may go with their first
	}
	if found, err := find(t.Context(), "eth0", "", dir, false, nil); err != nil || found.address.String() != "198.51.100.11" || len(found.others) != 0 {
		t.Errorf("without a network: %+v, %v", found, err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wayTo(netip.MustParseAddr("127.0.0.1")); err == nil || !strings.Contains(err.Error(), "--device") {
		t.Errorf("a server on the machine itself: %v", err)
	}
	var missing *net.OpError
	if _, err := resolve(t.Context(), "198.51.100.1"); err == nil || errors.As(err, &missing) {
		t.Errorf("a server without port: %v", err)
	}
	if at, err := resolve(t.Context(), "198.51.100.1:7781"); err != nil || at != netip.MustParseAddrPort("198.51.100.1:7781") {
		t.Errorf("a server: %v, %v", at, err)
	}
}
