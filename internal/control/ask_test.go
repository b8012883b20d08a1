// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// a table is a node's flows.
type table []flow.Flow

func (k table) Flows(q flow.Query) (flow.Flows, error) {
	return flow.Flows{Flows: k, Total: len(k)}, nil
}

func (k table) Tables() (flow.Tables, error) {
	return flow.Tables{Tables: []flow.Table{{Name: "flows", Slots: 10, Live: 9}}}, nil
}

// Connected nodes tell of their flows, under the names that their streams say;
// of others it is said why they do not.
func TestAskForFlows(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	peer := netip.MustParseAddrPort("203.0.113.10:5000")
	for _, a := range []*agent{
		r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", r.token(lb.RoleGateway, "gateway-1", "")),
		r.agent(lb.RoleHost, "ins-aaaaaaaa", "192.0.2.130", r.token(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa")),
	} {
		gate := policy.GateCVM
		if a.options.Role == lb.RoleGateway {
			gate = policy.GateCLB
		}
		a.options.Flows = table{{Node: "somebody-else", Gate: gate, Peer: peer}}
		a.start()
	}
	absent := r.token(lb.RoleGateway, "gateway-2", "")
	gone := r.agent(lb.RoleGateway, "gateway-2", "192.0.2.131", absent)
	gone.start()
	eventually(t, "three nodes", func() bool {
		return r.status("gateway-1").Connected && r.status("gateway-2").Connected && r.status("ins-aaaaaaaa").Connected
	})
	if err := gone.stop(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one has left", func() bool { return !r.status("gateway-2").Connected })
	got := r.Flows(context.Background(), flow.Query{})
	if len(got.Flows) != 2 || got.Total != 2 || got.Flows[0].Node != "gateway-1" || got.Flows[1].Node != "ins-aaaaaaaa" {
		t.Errorf("told %+v", got)
	}
	if len(got.Silent) != 1 || got.Silent[0].Node != "gateway-2" {
		t.Errorf("silent: %+v, want gateway-2", got.Silent)
	}
	if one := r.Flows(context.Background(), flow.Query{Gate: policy.GateCVM}); one.Total != 1 || len(one.Silent) != 0 {
		t.Errorf("hosts alone: %+v", one)
	}
	eventually(t, "how full the tables are", func() bool {
		s := r.status("gateway-1")
		return len(s.Tables.Tables) == 1 && len(s.Tables.Alarms) == 1 && s.Tables.Node == "gateway-1"
	})
	r.stop()
	if none := r.Flows(context.Background(), flow.Query{}); none.Total != 0 || len(none.Silent) != 3 {
		t.Errorf("without a server: %+v", none)
	}
}
