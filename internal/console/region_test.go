// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// In a great region the overview still finds who is ill.
func TestOverviewFindsTheIll(t *testing.T) {
	d := newDesk(t)
	d.login()
	if err := fillStore(d.api.Store, 1, 300); err != nil {
		t.Fatal(err)
	}
	st := d.api.Store.State()
	d.facts.health = map[uint32][]flow.Health{}
	for _, id := range []string{"lbl-00000000", "lbl-00000150", "lbl-00000299"} {
		num := st.Listeners.Get(lb.ListenerID(id)).Targets[0].Num
		d.facts.health[num] = []flow.Health{{Node: "gateway-1", Target: num, State: flow.HealthDead, Kind: "timeout", Text: "no answer"}}
	}
	d.open("", 200)
	for _, id := range []string{"lb-00000000", "lb-00000150", "lb-00000299"} {
		d.says(`href="/console/clb/` + id)
	}
}

// Whatever a group can be bound to is found by searching, and ticks stay.
func TestAssociateSearches(t *testing.T) {
	d := newDesk(t)
	d.login()
	if err := fillStore(d.api.Store, 2, 300); err != nil {
		t.Fatal(err)
	}
	path := "sg/sg-00000001/associations/add?kind=clb"
	for i := range 300 {
		d.do(clbVersion, "SetLoadBalancerSecurityGroups", m{"LoadBalancerId": fmt.Sprintf("lb-%08d", i), "SecurityGroups": []string{"sg-00000000"}}, nil)
	}
	for _, i := range []int{0, 150, 299} {
		name := fmt.Sprintf("front-%d", i)
		d.open(path, 200)
		d.fill(path, 200, "q", name, "search", "1", "id", "lb-00000007")
		d.says(fmt.Sprintf(`name="id" value="lb-%08d"`, i))
		d.says(`name="id" value="lb-00000007" checked`)
	}
}

// A refusal by an outbound rule leads to the outbound rules.
func TestRefusalsLeadToTheirRules(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	d.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": w.host, "SecurityGroupPolicySet": m{"Egress": []m{{"Protocol": "ALL", "Action": "DROP"}}}}, nil)
	rule := d.api.Store.State().Groups.Get(lb.GroupID(w.host)).Egress[0].ID
	d.facts.past = append(d.facts.past, control.Series{Values: []uint64{3}, SeriesKey: control.SeriesKey{Metric: control.MetricRefusals, Gate: policy.GateCVM, Direction: policy.Out,
		Reason: policy.RuleMatched, Group: lb.GroupID(w.host), Rule: rule, Instance: lb.InstanceID(w.ins1)}})
	d.open("cvm/"+w.ins1, 200)
	d.says(`href="/console/sg/` + w.host + `?dir=out#rule-` + string(rule) + `">cvm-web outbound rule 1</a>`)
}

// A load balancer with many targets makes no page of half a megabyte; who is
// chosen is shown whole.
func TestManyTargetsFit(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	var targets []m
	for i := range 60 {
		var out struct{ InstanceIdSet []string }
		d.do(vpcVersion, "RunInstances", m{"InstanceName": fmt.Sprint("more-", i)}, &out)
		targets = append(targets, m{"InstanceId": out.InstanceIdSet[0], "Port": 8080})
	}
	last := ""
	for i := range 20 {
		var out struct{ ListenerIds []string }
		d.do(clbVersion, "CreateListener", m{"LoadBalancerId": w.balancer, "Ports": []int{1000 + i}, "Protocol": "TCP"}, &out)
		last = out.ListenerIds[0]
		for at := 0; at < len(targets); at += 20 {
			for _, t := range targets[at : at+20] {
				t["Port"] = 8000 + i // a service stands behind one layer-4 listener of a load balancer
			}
			d.do(clbVersion, "RegisterTargets", m{"LoadBalancerId": w.balancer, "ListenerId": last, "Targets": targets[at : at+20]}, nil)
		}
	}
	if size := len(d.open("clb/"+w.balancer+"/listeners", 200)); size > 300_000 {
		t.Errorf("the listeners have %d bytes", size)
	}
	d.says("more targets")
	d.open("clb/"+w.balancer+"/listeners?listener="+last, 200)
	if n := strings.Count(d.page, `id="h-`+last); n != 60 {
		t.Errorf("the chosen listener shows %d targets, want 60", n)
	}
}
