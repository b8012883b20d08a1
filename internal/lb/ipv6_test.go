// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"slices"
	"testing"
)

func TestInstanceAddressesByFamily(t *testing.T) {
	a := func(s string) netip.Addr { return netip.MustParseAddr(s) }
	four := &LoadBalancer{VIPs: []netip.Addr{a("192.0.2.1")}}
	six := &LoadBalancer{VIPs: []netip.Addr{a("2001:db8::1")}}
	none := netip.Addr{}
	for _, tc := range []struct {
		name       string
		i          Instance
		four, six  netip.Addr
		all, rules []netip.Addr
	}{
		{"IPv4 alone", Instance{Private: a("10.0.0.5"), Public: a("192.0.2.65")}, a("10.0.0.5"), none,
			[]netip.Addr{a("10.0.0.5"), a("192.0.2.65")}, []netip.Addr{a("10.0.0.5")}},
		{"both", Instance{Private: a("10.0.0.5"), IPv6: a("2001:db8:1::5")}, a("10.0.0.5"), a("2001:db8:1::5"),
			[]netip.Addr{a("10.0.0.5"), a("2001:db8:1::5")}, []netip.Addr{a("10.0.0.5"), a("2001:db8:1::5")}},
		{"a machine that joined", Instance{Joined: true, Private: a("198.51.100.5"), Others: []netip.Addr{a("10.9.9.9"), a("2001:db8:2::5"), a("2001:db8:2::6")}},
			a("198.51.100.5"), a("2001:db8:2::5"), []netip.Addr{a("198.51.100.5"), a("10.9.9.9"), a("2001:db8:2::5"), a("2001:db8:2::6")},
			[]netip.Addr{a("198.51.100.5"), a("2001:db8:2::5")}},
		{"one with IPv6 alone", Instance{Joined: true, Private: a("2001:db8:2::5")}, none, a("2001:db8:2::5"), []netip.Addr{a("2001:db8:2::5")}, []netip.Addr{a("2001:db8:2::5")}},
		{"none yet", Instance{}, none, none, nil, nil},
	} {
		if got := tc.i.ServiceFor(four); got != tc.four {
			t.Errorf("%s: IPv4 at %v", tc.name, got)
		}
		if got := tc.i.ServiceFor(six); got != tc.six {
			t.Errorf("%s: IPv6 at %v", tc.name, got)
		}
		if got := tc.i.Addresses(); !slices.Equal(got, tc.all) {
			t.Errorf("%s: has %v", tc.name, got)
		}
		if got := tc.i.Internals(); !slices.Equal(got, tc.rules) {
			t.Errorf("%s: rules know %v", tc.name, got)
		}
	}
	if four.IPv6() || !six.IPv6() || (&LoadBalancer{}).IPv6() {
		t.Error("the family of a load balancer is its VIPs'")
	}
	v := &VPC{Cidr: netip.MustParsePrefix("10.0.0.0/8"), Cidr6: netip.MustParsePrefix("2001:db8:200::/56")}
	if got := v.networks(nil); !slices.Equal(got, []netip.Prefix{v.Cidr, v.Cidr6}) {
		t.Errorf("the network is %v", got)
	}
}

func TestChecksOverIPv6(t *testing.T) {
	four := &LoadBalancer{VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}
	six := &LoadBalancer{VIPs: []netip.Addr{netip.MustParseAddr("2001:db8::1")}}
	for _, tc := range []struct {
		interval, source int
		four, six        bool
	}{{5, 0, true, true}, {4, 0, true, false}, {300, 0, true, true}, {5, 1, true, false}} {
		h := DefaultCheck(ListenTCP)
		h.IntervalTime, h.SourceIPType = tc.interval, tc.source
		if got := h.ValidateOn("HealthCheck.", four); (got == nil) != tc.four {
			t.Errorf("%+v on IPv4: %v", tc, got)
		}
		if got := h.ValidateOn("HealthCheck.", six); (got == nil) != tc.six {
			t.Errorf("%+v on IPv6: %v", tc, got)
		}
	}
}
