// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net"
	"net/netip"
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// inNamespace moves the test into a network namespace of its own. The locked
// thread is never unlocked, so it and its namespace die with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: a network namespace needs root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("unshare: %v", err)
	}
}

// Neither the client's address nor the VIP belongs to the namespace: only
// transparent sockets and the policy route let the two meet.
func TestTransparentBothWays(t *testing.T) {
	for _, c := range []struct {
		name, client, vip string
	}{
		{"IPv4", "203.0.113.10", "192.0.2.1"},
		{"IPv6", "2001:db8::10", "2001:db8:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNamespace(t)
			if err := PolicyRoute("lo"); err != nil {
				t.Fatal(err)
			}
			// Here both ends share one kernel: the answers need the mark too.
			if err := os.WriteFile("/proc/sys/net/ipv4/tcp_fwmark_accept", []byte("1"), 0o644); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			vip := netip.AddrPortFrom(netip.MustParseAddr(c.vip), 80)
			listener, err := TransparentListen(ctx, vip)
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			second, err := TransparentListen(ctx, vip)
			if err != nil {
				t.Fatalf("an upgraded process could not open the same address: %v", err)
			}
			second.Close()

			dialer := TransparentDialer{First: 40000, Last: 40010}
			from := netip.AddrPortFrom(netip.MustParseAddr(c.client), 0)
			conn, err := dialer.Dial(ctx, from, vip, snapshot.MarkLocal)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			accepted, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer accepted.Close()
			saw := accepted.RemoteAddr().(*net.TCPAddr).AddrPort()
			if saw.Addr().Unmap() != from.Addr() {
				t.Errorf("server saw %v, want %v", saw.Addr(), from.Addr())
			}
			if saw.Port() < 40000 || saw.Port() > 40010 {
				t.Errorf("source port %d is outside the slice", saw.Port())
			}
			if got := accepted.LocalAddr().(*net.TCPAddr).AddrPort(); got.Addr().Unmap() != vip.Addr() || got.Port() != 80 {
				t.Errorf("local address %v, want %v", got, vip)
			}
			if got := markOf(t, conn); got != snapshot.MarkLocal {
				t.Errorf("mark %#x, want %#x", got, snapshot.MarkLocal)
			}
		})
	}
}

func TestPolicyRouteTwiceIsOnce(t *testing.T) {
	inNamespace(t)
	for range 2 {
		if err := PolicyRoute("lo"); err != nil {
			t.Fatal(err)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		rules, err := netlink.RuleList(family)
		if err != nil {
			t.Fatal(err)
		}
		ours := 0
		for _, r := range rules {
			if r.Table == snapshot.LocalTable {
				ours++
			}
		}
		if ours != 1 {
			t.Errorf("family %d: %d rules lead to table %d, want 1", family, ours, snapshot.LocalTable)
		}
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: snapshot.LocalTable}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		if len(routes) != 1 || routes[0].Type != unix.RTN_LOCAL {
			t.Errorf("family %d: routes %v, want one local route", family, routes)
		}
	}
	if got, err := os.ReadFile("/proc/sys/net/ipv4/conf/lo/rp_filter"); err != nil || string(got) != "0\n" {
		t.Errorf("rp_filter %q, %v", got, err)
	}
}

func TestPolicyRouteNamesTheMissingDevice(t *testing.T) {
	inNamespace(t)
	if err := PolicyRoute("eth9"); err == nil {
		t.Fatal("a missing device was accepted")
	}
}

func TestDialRefusesMixedFamilies(t *testing.T) {
	_, err := TransparentDialer{}.Dial(t.Context(), netip.MustParseAddrPort("[2001:db8::1]:0"), netip.MustParseAddrPort("192.0.2.1:80"), 0)
	if err == nil {
		t.Fatal("want an error")
	}
}

func markOf(t *testing.T, conn net.Conn) uint32 {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var mark int
	if err := control(raw, func(fd int) (err error) {
		mark, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return uint32(mark)
}
