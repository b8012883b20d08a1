// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A gateway's parcel has the private keys of what its listeners show, a host's
// has none, and a server that opens none sends nothing.
func TestPrivateKeysGoToGateways(t *testing.T) {
	state := &lb.State{Revision: 3}
	state.Certificates.Put("cert-a", &lb.Certificate{ID: "cert-a", Chain: "chain", Sealed: []byte("sealed")})
	state.Balancers.Put("lb-1", &lb.LoadBalancer{ID: "lb-1", Num: 1, Type: lb.Open, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
	state.Listeners.Put("lbl-1", &lb.Listener{ID: "lbl-1", Num: 2, Balancer: "lb-1", Protocol: lb.ListenHTTPS, Port: 443, Certificate: "cert-a"})
	state.Nodes.Put("gateway-1", &lb.Node{ID: "gateway-1", Num: 3, Role: lb.RoleGateway, Address: netip.MustParseAddr("192.0.2.129")})
	state.Nodes.Put("ins-1", &lb.Node{ID: "ins-1", Num: 4, Role: lb.RoleHost, Instance: "ins-1", Address: netip.MustParseAddr("192.0.2.130")})
	secret := make([]byte, 32)
	holds := func(node lb.NodeID) bool {
		p, err := newEncoder(secret, func(*lb.Certificate) (string, error) { return "the key", nil }).encode(state, node)
		if err != nil {
			t.Fatal(err)
		}
		for _, blob := range p.blobs {
			if strings.Contains(string(blob), "the key") {
				return true
			}
		}
		return false
	}
	if !holds("gateway-1") || holds("ins-1") {
		t.Errorf("the gateway has the key: %v, the host: %v", holds("gateway-1"), holds("ins-1"))
	}
	if _, err := newEncoder(secret, nil).encode(state, "gateway-1"); err == nil || !strings.Contains(err.Error(), "opens no private keys") {
		t.Errorf("sent without a key: %v", err)
	}
}
