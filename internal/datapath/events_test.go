// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A verdict about a VIP's port without listener names the load balancer.
func TestVerdictWithoutListenerNamesBalancer(t *testing.T) {
	d := &Datapath{names: newNames()}
	at := netip.MustParseAddr(vip)
	d.names.learn(&snapshot.Snapshot{Fronts: []snapshot.Front{{Addr: at, Balancer: "lb-1", BalancerNum: 1}}}, nil)
	got := d.event(&GatewayEvent{Family: 4, Dst: rawAddr(at), DstPort: 81, Reason: uint8(policy.NoListener)})
	if got.Balancer != "lb-1" || got.Listener != "" {
		t.Errorf("told as of %q and %q, want lb-1 and no listener", got.Balancer, got.Listener)
	}
}
