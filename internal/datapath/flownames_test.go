// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A gateway tells of a ping to a VIP as what it is.
func TestGatewayTellsOfPings(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	gw.Fronts = append(gw.Fronts, snapshot.Front{Addr: netip.MustParseAddr(vip), Balancer: "lb-1", BalancerNum: 1})
	b.stage(t, gw)
	s := &siege{b, t, make([]byte, 2048)}
	s.want("a ping", true, "gateway", echo(clientA, vip, 77, false))
	told, err := b.Flows(flow.Query{})
	if err != nil || told.Total != 1 {
		t.Fatalf("%+v, %v", told, err)
	}
	if f := told.Flows[0]; f.Proto != lb.ICMP || f.Dialled != netip.MustParseAddrPort(vip+":0") || f.Balancer != "lb-1" || f.Peer.Addr() != netip.MustParseAddr(clientA) {
		t.Errorf("told as %+v", f)
	}
	if tables, err := b.Tables(); err != nil || len(tables.Tables[0].Shares) != 1 || tables.Tables[0].Shares[0].Balancer != "lb-1" {
		t.Errorf("tables %+v, %v: want the ping as its load balancer's", tables, err)
	}
}

// A gateway's entry of a UDP listener lives as long as a flow of UDP does, so that
// many of one packet each raise no alarm hours later.
func TestGatewayCountsNoIdleDatagrams(t *testing.T) {
	b := newQuiet(t).benchOf(lb.RoleGateway, nil)
	gw, _ := udpPair(t, 1, compiled(t, "sg-2"))
	b.stage(t, gw)
	s := &siege{b, t, make([]byte, 2048)}
	s.want("a datagram", true, "gateway", frameBetween(lb.UDP, clientA, 4000, vip, gw.Listeners[0].Port, 0))
	live := func() uint64 {
		tables, err := b.Tables()
		if err != nil {
			t.Fatal(err)
		}
		return tables.Tables[0].Live
	}
	for _, aged := range []struct{ by, live int }{{0, 1}, {udpLife - 1, 1}, {2, 0}} {
		for i := range b.gatewayFlows {
			for n := range b.gatewayFlows[i].Slot {
				if at := &b.gatewayFlows[i].Slot[n]; at.Seq != 0 {
					at.Seen -= uint32(aged.by)
				}
			}
		}
		if n := live(); n != uint64(aged.live) {
			t.Errorf("%d units later: %d live flows, want %d", aged.by, n, aged.live)
		}
	}
}
