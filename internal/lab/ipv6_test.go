// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
)

// An instance without an IPv6 address of its own still sends its answers to
// gateways, and speaks with the server, through the underlay's IPv6.
func TestEveryHostReachesAnIPv6Underlay(t *testing.T) {
	lock := acquire(t)
	defer lock.Release()
	if !hasIPv6() {
		t.Skip("skipped: the kernel has no IPv6")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(lock, Options{DataDir: t.TempDir(), API: "http://127.0.0.1:1", Region: "local", Executable: exe, IPv6Underlay: true, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.AddInstance("ins-aaaaaaaa", "web-1", private(1), public(1), six(1)); err != nil {
		t.Fatal(err)
	}
	if err := l.AddInstance("ins-bbbbbbbb", "web-2", private(2), netip.Addr{}, netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	for host, under := range map[string]string{"ins-aaaaaaaa": "2001:db8:0:2::130", "ins-bbbbbbbb": "2001:db8:0:2::131"} {
		for name, to := range map[string]string{"the gateway": "2001:db8:0:2::129", "the server": "2001:db8:0:2::253"} {
			err := inside(Namespace(host), func() error {
				routes, err := netlink.RouteGet(net.ParseIP(to))
				if err != nil {
					t.Errorf("%s has no route to %s at %s: %v", host, name, to, err)
				} else if got := routes[0].Src.String(); got != under {
					t.Errorf("%s goes to %s from %s, want %s", host, name, got, under)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
