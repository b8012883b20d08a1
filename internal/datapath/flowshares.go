// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"cmp"
	"slices"
	"sync/atomic"
	"unsafe"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// flowTables are the flow tables as the programs write them, mapped.
type flowTables struct {
	gatewayFlows  []GatewayGatewayBucket // nil on a host
	gatewayFlows6 []GatewayGatewayBucket6
	hostFlows     []HostHostBucket // nil on a gateway; the probes' buckets come last
	hostFlows6    []HostHostBucket6
	upgraded      bool               // an earlier release's table of flows was found
	formerFlows   []HostFormerBucket // that table; nil when nothing in it is left to move
	shares        []HostShare        // of both families; nil on a gateway
	numbers       shareNumbers
}

// Each family's flows are in a table of their own: 0 is IPv4's, 1 is IPv6's.
const flowFamilies = 2

// buckets is how many buckets a family's table has.
func (t *flowTables) buckets(family int) int {
	if t.hostFlows != nil {
		return t.allBuckets(family) - probeBuckets
	}
	return t.allBuckets(family)
}

// allBuckets counts those of probes too.
func (t *flowTables) allBuckets(family int) int {
	if family == 0 {
		return len(t.gatewayFlows) + len(t.hostFlows)
	}
	return len(t.gatewayFlows6) + len(t.hostFlows6)
}

// read reads one slot of a family's table.
func (t *flowTables) read(family, bucket, n int) (raw, bool) {
	switch {
	case family == 0 && t.hostFlows != nil:
		return readHostSlot(&t.hostFlows[bucket].Slot[n], nil)
	case family == 0:
		return readGatewaySlot(&t.gatewayFlows[bucket].Slot[n], nil)
	case t.hostFlows6 != nil:
		s := &t.hostFlows6[bucket].Slot[n]
		return readHostSlot(&s.Head, s)
	}
	s := &t.gatewayFlows6[bucket].Slot[n]
	return readGatewaySlot(&s.Head, s)
}

// slotBytes is the memory of one flow.
func (d *Datapath) slotBytes(family int) uint64 {
	size := [...][flowFamilies]uintptr{
		{unsafe.Sizeof(HostHostBucket{}), unsafe.Sizeof(HostHostBucket6{})},
		{unsafe.Sizeof(GatewayGatewayBucket{}), unsafe.Sizeof(GatewayGatewayBucket6{})},
	}
	role := 0
	if d.opts.Role == lb.RoleGateway {
		role = 1
	}
	return uint64(size[role][family]) / 2
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

// The programs' shares by number, of each family; bpf/host.h says the same.
const (
	shareDirect = 0   // what comes by no load balancer
	shareProbes = 254 // no limit
	shareHalf   = 255 // half-open flows of all others, counted once more
	shareCount  = 256

	probeBuckets = 512 // behind all others of a host's table; a test compares
)

// budget corrects the counts of the programs, which miss flows that expired, and
// sets the limits by them: a load balancer's flows may hold half of what all
// others leave of a table: so each that is flooded leaves half of what it found.
// Half-open ones beyond a quarter of it take each other's places. d.mu is held.
func (d *Datapath) budget(family int, slots uint64, held [shareCount]uint64) {
	if d.shares == nil || slots == 0 {
		return
	}
	rows := d.shares[family*shareCount:][:shareCount]
	var all uint64
	for i, n := range held {
		if i != shareHalf {
			all += n
		}
	}
	for i := range rows {
		limit := max((slots-min(slots, all-held[i]))/2, 1)
		switch i {
		case shareHalf:
			limit = slots / 4
		case shareProbes:
			limit = 0
		}
		atomic.StoreUint32(&rows[i].Flows, uint32(held[i]))
		atomic.StoreUint32(&rows[i].Limit, uint32(limit))
	}
}

// takeOverFlows maps the flow tables, to look at them.
func (d *Datapath) takeOverFlows() (err error) {
	if d.opts.Role == lb.RoleGateway {
		if d.gatewayFlows, err = mapped[GatewayGatewayBucket](d, "gateway_flows_2"); err != nil {
			return err
		}
		d.gatewayFlows6, err = mapped[GatewayGatewayBucket6](d, "gateway_flows6_2")
		return err
	}
	if d.shares, err = mapped[HostShare](d, "shares"); err != nil {
		return err
	}
	if d.hostFlows, err = mapped[HostHostBucket](d, "host_flows_3"); err != nil {
		return err
	}
	if d.hostFlows6, err = mapped[HostHostBucket6](d, "host_flows6_3"); err != nil {
		return err
	}
	// Until the first count: the programs go on counting while no agent runs, so what an
	// earlier one set up stands.
	for family := range flowFamilies {
		if atomic.LoadUint32(&d.shares[family*shareCount].Limit) == 0 {
			d.budget(family, 2*uint64(d.buckets(family)), [shareCount]uint64{})
		}
	}
	if d.upgraded {
		d.formerFlows, err = mapped[HostFormerBucket](d, formerFlows)
	}
	return err
}
