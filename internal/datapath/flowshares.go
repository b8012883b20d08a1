// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"slices"
	"unsafe"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// flowTables are the flow tables as the programs write them, mapped.
type flowTables struct {
	gatewayFlows []GatewayGatewayBucket // nil on a host
	hostFlows    []HostHostBucket       // nil on a gateway
}

// slotBytes is the memory of one flow.
func (d *Datapath) slotBytes() uint64 {
	if d.opts.Role == lb.RoleGateway {
		return uint64(unsafe.Sizeof(GatewayGatewayBucket{})) / 2
	}
	return uint64(unsafe.Sizeof(HostHostBucket{})) / 2
}

// shares lists who holds how much, the greatest first.
func shares(held map[lb.BalancerID]uint64) []flow.Share {
	all := make([]flow.Share, 0, len(held))
	for id, n := range held {
		all = append(all, flow.Share{Balancer: id, Flows: n})
	}
	slices.SortFunc(all, func(a, b flow.Share) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Balancer, b.Balancer))
	})
	return all[:min(len(all), shareRoom)]
}

// takeOverFlows maps the flow table, to look at it.
func (d *Datapath) takeOverFlows() (err error) {
	if d.opts.Role == lb.RoleGateway {
		d.gatewayFlows, err = mapped[GatewayGatewayBucket](d, "gateway_flows_2")
		return err
	}
	d.hostFlows, err = mapped[HostHostBucket](d, "host_flows_2")
	return err
}
