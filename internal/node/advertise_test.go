// SPDX-License-Identifier: Apache-2.0

package node

import (
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// Whoever knew an IPv6 VIP elsewhere knows it at the gateway after one
// advertisement: the judge is the kernel's own neighbour table.
func TestAnnouncerIPv6(t *testing.T) {
	inNamespace(t)
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		t.Skip("skipped: the kernel has no IPv6")
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "far"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("0"), 0o644); err != nil {
			t.Fatal(err)
		}
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	own, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	far, err := netlink.LinkByName("far")
	if err != nil {
		t.Fatal(err)
	}
	vip := netip.MustParseAddr("2001:db8::1")
	elsewhere := []byte{2, 0, 0, 0, 0, 9}
	if err := netlink.NeighSet(&netlink.Neigh{LinkIndex: far.Attrs().Index, Family: netlink.FAMILY_V6, State: unix.NUD_STALE, IP: vip.AsSlice(), HardwareAddr: elsewhere}); err != nil {
		t.Fatal(err)
	}
	a, err := NewAnnouncer("eth0", "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Stage(t.Context(), &snapshot.Snapshot{Revision: 1, VIPs: []netip.Addr{vip}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		neighbours, err := netlink.NeighList(far.Attrs().Index, netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(neighbours, func(n netlink.Neigh) bool {
			return n.IP.Equal(vip.AsSlice()) && n.HardwareAddr.String() == own.Attrs().HardwareAddr.String()
		}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the segment knows %v", neighbours)
		}
	}
}
