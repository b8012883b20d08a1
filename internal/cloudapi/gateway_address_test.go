// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A gateway's own addresses are handed out to nothing else.
func TestGatewaysAddressIsNoVIP(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.VIPPool = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/29"), netip.MustParsePrefix("2001:db8::/126")}
	})
	b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr("198.51.100.1"), Other: netip.MustParseAddr("2001:db8::1")})
	})
	b.refused("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","Vip":"198.51.100.1"}`, "InvalidParameterValue", "Vip: 198.51.100.1 is the address of gateway-1")
	id := lb.BalancerID(b.openBalancer())
	vip := b.Store.State().Balancers.Get(id).VIPs[0]
	if vip != netip.MustParseAddr("198.51.100.2") {
		t.Errorf("handed out %v", vip)
	}
}

// A gateway does not join with an address that a load balancer or an instance has.
func TestGatewayJoinsWithAFreeAddress(t *testing.T) {
	b := newBench(t)
	addr := netip.MustParseAddr
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000001", Name: "web-1", Private: addr("10.0.0.1")})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-00000001", VIPs: []netip.Addr{addr("192.0.2.1")}})
		tx.PutAddress(&lb.Address{ID: "eip-00000001", IP: addr("192.0.2.65")})
	})
	for _, c := range []struct{ address, other, want string }{
		{"192.0.2.1", "", "address 192.0.2.1 is the VIP of lb-00000001"}, {"10.0.0.9", "192.0.2.1", "address 192.0.2.1 is the VIP of lb-00000001"},
		{"10.0.0.1", "", "address 10.0.0.1 belongs to ins-00000001"}, {"192.0.2.65", "", "address 192.0.2.65 is the EIP eip-00000001"}, {"10.0.0.9", "10.0.0.8", ""},
	} {
		m := control.Machine{Name: "gateway-1", Address: addr(c.address)}
		if c.other != "" {
			m.Others = []netip.Addr{addr(c.other)}
		}
		err := b.admit(m)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s and %s: %v, want %q", c.address, c.other, err, c.want)
		}
	}
	if n := b.Store.State().Instances.Len(); n != 1 {
		t.Errorf("a gateway became an instance: %d", n)
	}
}
