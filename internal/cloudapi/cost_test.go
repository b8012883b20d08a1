// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
)

// What a write allocates does not grow with the number of objects that it does
// not touch, through decoding, checks, compilation, storing and the audit log.
// Counted, not timed.
func TestWriteCostsWhatItChanges(t *testing.T) {
	few, many := crowded(t, 500), crowded(t, 10000)
	for _, w := range []struct {
		action string
		body   func(n int) string
	}{
		{"ReplaceSecurityGroupPolicy", func(n int) string {
			return fmt.Sprintf(`{"SecurityGroupId":"sg-%08d","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"%d","CidrBlock":"192.0.2.0/24","Action":"ACCEPT"}]}}`, n, n+1)
		}},
		{"ModifyTargetWeight", func(n int) string {
			return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d","ListenerId":"lbl-%08d","Targets":[{"InstanceId":"ins-%08d","Port":8080}],"Weight":%d}`, n, n, n, n%50)
		}},
		{"ModifySecurityGroupAttribute", func(n int) string { return fmt.Sprintf(`{"SecurityGroupId":"sg-%08d","GroupName":"n%d"}`, n, n) }},
		{"SetLoadBalancerSecurityGroups", func(n int) string {
			return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d","SecurityGroups":["sg-%08d"]}`, n, (n+7)%500)
		}},
		{"AssociateSecurityGroups", func(n int) string {
			return fmt.Sprintf(`{"InstanceIds":["ins-%08d"],"SecurityGroupIds":["sg-%08d"]}`, n, (n+9)%500)
		}},
		{"CreateListener", func(n int) string {
			return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d","Protocol":"TCP","Ports":[81]}`, n)
		}},
		{"CreateSecurityGroup", func(n int) string { return fmt.Sprintf(`{"GroupName":"new-%d","GroupDescription":""}`, n) }},
	} {
		small, large := cost(t, few, w.action, w.body), cost(t, many, w.action, w.body)
		t.Logf("%-30s %7d B among 500 of each kind, %7d B among 10,000", w.action, small, large)
		if large > small*3/2 {
			t.Errorf("%s allocates %d B among 500 of each kind and %d B among 10,000", w.action, small, large)
		}
	}
}

func cost(t *testing.T, b *bench, action string, body func(n int) string) uint64 {
	t.Helper()
	const calls = 50
	b.must(action, body(calls), nil) // whatever is made once
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range calls {
		b.must(action, body(n), nil)
	}
	runtime.ReadMemStats(&after)
	return (after.TotalAlloc - before.TotalAlloc) / calls
}

// crowded is a server with n groups, and n load balancers with a listener and an
// instance behind it each.
func crowded(t *testing.T, n int) *bench {
	q := lb.DefaultQuotas()
	q.Groups, q.BalancersPerType = 1<<20, 1<<20
	q.Node = lb.NodeRoom{Listeners: 1 << 20, Targets: 1 << 20, Addresses: 1 << 20, Instances: 1 << 20, Words: 1 << 30, Counters: 1 << 20} // no gateway could hold so many
	b := newBench(t, func(o *Options) { o.Quotas, o.Compile = q, snapshot.NewCompiler().Compile })
	group := func(i int) lb.GroupID { return lb.GroupID(fmt.Sprintf("sg-%08d", i%n)) }
	if _, err := b.Store.Update(context.Background(), func(tx *store.Tx) error {
		tx.PutVPC(&lb.VPC{ID: "vpc-00000001", IsDefault: true, Cidr: netip.MustParsePrefix("10.0.0.0/8")})
		for i := range n {
			at := [2]byte{byte(i >> 8), byte(i)}
			tx.PutGroup(&lb.SecurityGroup{ID: group(i), Name: "g", ProjectID: "0", Ingress: []lb.PolicyRule{{ID: "pol-1", Action: lb.Accept, Proto: lb.TCP, Peer: netip.MustParsePrefix("192.0.2.0/24"),
				Text: lb.RuleText{Protocol: "TCP", Port: "ALL", Cidr: "192.0.2.0/24"}}}})
			instance, balancer := lb.InstanceID(fmt.Sprintf("ins-%08d", i)), lb.BalancerID(fmt.Sprintf("lb-%08d", i))
			tx.PutInstance(&lb.Instance{ID: instance, VPC: "vpc-00000001", Private: netip.AddrFrom4([4]byte{10, 1, at[0], at[1]}), State: lb.Running, Groups: []lb.GroupID{group(i)}})
			tx.PutBalancer(&lb.LoadBalancer{ID: balancer, Num: tx.NextNum(), Type: lb.Open, VPC: "vpc-00000001", VIPs: []netip.Addr{netip.AddrFrom4([4]byte{198, 18, at[0], at[1]})}, Groups: []lb.GroupID{group(i + 1)}})
			tx.PutListener(&lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", i)), Num: tx.NextNum(), Balancer: balancer, Protocol: lb.ListenTCP, Port: 80, Scheduler: "WRR",
				Targets: []lb.Target{{Num: tx.NextNum(), Instance: instance, Port: 8080, Weight: 10}}})
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return b
}
