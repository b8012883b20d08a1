// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// fillRegion makes everything as great as it gets: 10,000 groups, of which five
// have 100 long rules in each direction and are bound together; 1,000 load
// balancers, one with 11 listeners of 100 targets; an instance behind all of
// them; 1,000 nodes.
func (d *desk) fillRegion() (balancer string) {
	d.Helper()
	if err := fillStore(d.api.Store, 10_000, 1_000); err != nil {
		d.Fatal(err)
	}
	balancer = d.fillBalancer(11, 100)
	five := []lb.GroupID{"sg-00000000", "sg-00000001", "sg-00000002", "sg-00000003", "sg-00000004"}
	_, err := d.api.Store.Update(context.Background(), func(tx *store.Tx) error {
		for _, id := range five {
			g := *tx.State().Groups.Get(id)
			g.Ingress, g.Egress = nil, nil
			for i := range 100 {
				r := lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%s-%d", id, i)), Action: lb.Accept, Proto: lb.TCP, Peer: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16),
					Ports: []lb.PortRange{{First: 8000, Last: 8010}, {First: 9000, Last: 9000}}, Description: strings.Repeat("note ", 19)}
				g.Ingress = append(g.Ingress, r)
				r.ID += "-out"
				g.Egress = append(g.Egress, r)
			}
			tx.PutGroup(&g)
		}
		i := *tx.State().Instances.Get("ins-00000000")
		i.Groups = five
		tx.PutInstance(&i)
		b := *tx.State().Balancers.Get(lb.BalancerID(balancer))
		b.Groups = five
		tx.PutBalancer(&b)
		for n := range 1_000 {
			l := *tx.State().Listeners.Get(lb.ListenerID(fmt.Sprintf("lbl-%08d", n)))
			if l.Balancer == b.ID {
				continue
			}
			l.Targets = append([]lb.Target{{Num: tx.NextNum(), Instance: "ins-00000000", Port: 9000, Weight: 1}}, l.Targets...)
			tx.PutListener(&l)
			id := lb.InstanceID(fmt.Sprintf("ins-%08d", n))
			tx.PutNode(&lb.Node{ID: lb.NodeID(id), Role: lb.RoleHost, Instance: id, Address: netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)})})
		}
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
	for num := range 5_000 {
		d.facts.health[uint32(num)] = []flow.Health{{Target: uint32(num), State: flow.HealthDead, Kind: "timeout", Text: "no answer within 2 s"}}
	}
	for n := range 1_000 {
		d.facts.nodes = append(d.facts.nodes, control.NodeStatus{ID: lb.NodeID(fmt.Sprintf("ins-%08d", n)), Role: lb.RoleHost, Instance: lb.InstanceID(fmt.Sprintf("ins-%08d", n)),
			Address: netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)}), Err: "cannot keep the snapshot: no space left on device"})
		d.facts.past = append(d.facts.past, control.Series{Values: make([]uint64, 60), SeriesKey: control.SeriesKey{Metric: control.MetricRefusals, Gate: policy.GateCVM, Instance: lb.InstanceID(fmt.Sprintf("ins-%08d", n))}})
		d.facts.past[n].Values[n%60] = 7
	}
	return balancer
}

// No page has more than 300 kB, however great the region.
func TestEveryPageFits(t *testing.T) {
	d := newDesk(t)
	d.login()
	b := d.fillRegion()
	target := "/targets/edit?instance=ins-00000003&port=8003"
	for _, path := range []string{"", "?span=1h", "sg", "sg?q=group", "sg/new", "sg/sg-00000000", "sg/sg-00000000?dir=out", "sg/sg-00000000/rules/add", "sg/sg-00000000/rules/import", "sg/sg-00000000/rules/open",
		"sg/sg-00000000/edit", "sg/sg-00000000/clone", "sg/sg-00000000/delete", "sg/sg-00000000/associations", "sg/sg-00000000/associations?kind=clb", "sg/sg-00000000/associations/add", "sg/sg-00000000/associations/add?kind=clb",
		"clb", "clb?q=front", "clb/new", "clb/" + b, "clb/" + b + "/listeners", "clb/" + b + "/listeners?listener=lbl-00000003", "clb/" + b + "/security", "clb/" + b + "/security?dir=out", "clb/" + b + "/security/bind",
		"clb/" + b + "/security/pass", "clb/" + b + "/picture", "clb/" + b + "/picture?source=203.0.113.10&port=83&protocol=TCP", "clb/" + b + "/delete", "clb/" + b + "/listeners/lbl-00000003/targets/add", "clb/" + b + "/listeners/lbl-00000003" + target,
		"cvm", "cvm/new", "cvm/ins-00000000", "cvm/ins-00000000/security", "cvm/ins-00000000/security/bind", "verdicts", "verdicts?clb=" + b, "docs", "docs/semantics", "docs/api"} {
		begun := time.Now()
		r, status := d.open2(path)
		if status == 404 && strings.HasPrefix(path, "docs") {
			continue
		}
		if t.Logf("%7d bytes %6v %s", len(r), time.Since(begun).Round(time.Millisecond), path); len(r) > 300_000 || status != 200 {
			t.Errorf("%s has %d bytes (%d)", path, len(r), status)
		}
	}
}

// open2 loads a page of any status.
func (d *desk) open2(path string) (page string, status int) {
	d.Helper()
	answer, err := d.client.Get(d.server.URL + Root + path)
	if err != nil {
		d.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.Fatal(err)
	}
	return string(text), answer.StatusCode
}
