// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"net/netip"
	"testing"
	"time"

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

// Whoever has read all verdicts is not woken by the very next one: each waking
// costs the packet that it is told of more than all else about it.
func TestVerdictsGather(t *testing.T) {
	d, began := &Datapath{}, time.Now()
	if !d.gather(t.Context()) || time.Since(began) < gatherFor {
		t.Errorf("went on after %v, want %v", time.Since(began), gatherFor)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if d.gather(ended) {
		t.Error("goes on reading for nobody")
	}
}
