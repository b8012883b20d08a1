// SPDX-License-Identifier: Apache-2.0

package flow

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

func TestQueryMatches(t *testing.T) {
	f := Flow{Node: "ins-1", Gate: policy.GateCVM, Proto: lb.TCP, Peer: netip.MustParseAddrPort("203.0.113.10:5000"),
		Dialled: netip.MustParseAddrPort("192.0.2.1:80"), Service: netip.MustParseAddrPort("10.0.1.4:8080"),
		State: Open, Balancer: "lb-1", Listener: "lbl-1", Instance: "ins-1"}
	for name, row := range map[string]struct{ yes, no Query }{
		"gate":     {Query{Gate: policy.GateCVM}, Query{Gate: policy.GateCLB}},
		"node":     {Query{Node: "ins-1"}, Query{Node: "gateway-1"}},
		"protocol": {Query{Proto: lb.TCP}, Query{Proto: lb.UDP}},
		"client":   {Query{Client: netip.MustParsePrefix("203.0.113.0/24")}, Query{Client: netip.MustParsePrefix("2001:db8::/32")}},
		"VIP":      {Query{Dialled: netip.MustParseAddr("192.0.2.1")}, Query{Dialled: netip.MustParseAddr("192.0.2.2")}},
		"service":  {Query{Dialled: netip.MustParseAddr("10.0.1.4")}, Query{Dialled: netip.MustParseAddr("203.0.113.10")}},
		"port":     {Query{Port: 80}, Query{Port: 5000}},
		"balancer": {Query{Balancer: "lb-1"}, Query{Balancer: "lb-2"}},
		"listener": {Query{Listener: "lbl-1"}, Query{Listener: "lbl-2"}},
		"instance": {Query{Instance: "ins-1"}, Query{Instance: "ins-2"}},
		"state":    {Query{State: Open}, Query{State: Half}},
	} {
		if !row.yes.Matches(&f) {
			t.Errorf("%s: %+v does not match", name, row.yes)
		}
		if row.no.Matches(&f) {
			t.Errorf("%s: %+v matches", name, row.no)
		}
	}
	if q := (Query{}); !q.Matches(&f) || q.Room() != MaxFlows {
		t.Errorf("a query without fields matches %v and asks for %d", q.Matches(&f), q.Room())
	}
}

func TestSortFlows(t *testing.T) {
	at := func(peer string, gate policy.Gate) Flow { return Flow{Peer: netip.MustParseAddrPort(peer), Gate: gate} }
	got := SortFlows([]Flow{at("203.0.113.9:2", 2), at("203.0.113.9:1", 2), at("203.0.113.9:1", 1), at("198.51.100.1:9", 1)}, 3)
	want := []Flow{at("198.51.100.1:9", 1), at("203.0.113.9:1", 1), at("203.0.113.9:1", 2)}
	for i := range want {
		if len(got) != len(want) || CompareFlows(got[i], want[i]) != 0 {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

// An alarm begins at the upper threshold and ends below the lower one, so that
// a table at the brink does not ring all day.
func TestTableAlarm(t *testing.T) {
	for _, row := range []struct {
		live   uint64
		stands bool
		want   bool
	}{{0, false, false}, {799, false, false}, {800, false, true}, {1000, false, true}, {799, true, true}, {700, true, true}, {699, true, false}} {
		table := Table{Name: "flows", Slots: 1000, Live: row.live}
		for _, role := range []lb.NodeRole{lb.RoleGateway, lb.RoleHost} {
			text := table.Alarm(role, row.stands)
			if (text != "") != row.want || row.want && !strings.Contains(text, "of 1000 flows") {
				t.Errorf("%d of 1000, on before: %v: %q", row.live, row.stands, text)
			}
		}
	}
	if text := (&Table{}).Alarm(lb.RoleHost, true); text != "" {
		t.Errorf("a table without slots: %q", text)
	}
}
