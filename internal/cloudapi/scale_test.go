// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
)

func scaleState(tb testing.TB, s *store.Store, groups, rules, clbs int) {
	up := func(fn func(tx *store.Tx)) {
		if _, err := s.Update(context.Background(), func(tx *store.Tx) error { fn(tx); return nil }); err != nil {
			tb.Fatal(err)
		}
	}
	up(func(tx *store.Tx) {
		tx.PutVPC(&lb.VPC{ID: "vpc-00000001", IsDefault: true, Cidr: netip.MustParsePrefix("10.0.0.0/8")})
	})
	up(func(tx *store.Tx) {
		for i := range groups {
			g := &lb.SecurityGroup{ID: lb.GroupID(fmt.Sprintf("sg-%08d", i)), Name: fmt.Sprintf("g%d", i), ProjectID: "0"}
			for r := range rules {
				g.Ingress = append(g.Ingress, lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%d-%d", i, r)), Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: uint16(1 + r), Last: uint16(1 + r)}},
					Peer: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), Text: lb.RuleText{Protocol: "TCP", Port: fmt.Sprint(1 + r), Cidr: fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)}})
			}
			tx.PutGroup(g)
		}
	})
	up(func(tx *store.Tx) {
		for i := range clbs {
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), VPC: "vpc-00000001", Private: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), State: lb.Running,
				Groups: []lb.GroupID{lb.GroupID(fmt.Sprintf("sg-%08d", i%groups))}})
			id := lb.BalancerID(fmt.Sprintf("lb-%08d", i))
			tx.PutBalancer(&lb.LoadBalancer{ID: id, Num: tx.NextNum(), Type: lb.Open, VPC: "vpc-00000001", VIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 1, byte(i >> 8), byte(i)})},
				Groups: []lb.GroupID{lb.GroupID(fmt.Sprintf("sg-%08d", (i+1)%groups))}})
			tx.PutListener(&lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", i)), Num: tx.NextNum(), Balancer: id, Protocol: lb.ListenTCP, Port: 80, Scheduler: "WRR",
				Targets: []lb.Target{{Num: tx.NextNum(), Instance: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), Port: 8080, Weight: 10}}})
		}
	})
}

func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{1, 10} {
		s := store.NewMemory()
		scaleState(b, s, 1000*n, 10, 100*n)
		q := lb.DefaultQuotas()
		q.Groups, q.BalancersPerType = 1<<20, 1<<20
		api := New(Options{Store: s, Region: "local", Quotas: q, Compile: snapshot.NewCompiler().Compile})
		do := func(b *testing.B, action, params string) {
			v := ""
			for k := range api.actions {
				if k.name == action {
					v = k.version
				}
			}
			if _, err := api.Do(context.Background(), v, action, json.RawMessage(params)); err != nil {
				b.Fatal(err)
			}
		}
		for _, w := range [][2]string{
			{"ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-00000005","GroupName":"x%d"}`},
			{"ReplaceSecurityGroupPolicy", `{"SecurityGroupId":"sg-00000005","SecurityGroupPolicySet":{"Ingress":[{"PolicyIndex":0,"Protocol":"TCP","Port":"80","CidrBlock":"0.0.0.0/0","Action":"ACCEPT","PolicyDescription":"%d"}]}}`},
			{"ModifyTargetWeight", `{"LoadBalancerId":"lb-00000005","ListenerId":"lbl-00000005","Targets":[{"InstanceId":"ins-00000005","Port":8080}],"Weight":%d}`},
			{"DescribeSecurityGroups", `{"SecurityGroupIds":["sg-00000005"]}`},
			{"DescribeSecurityGroups", `{"Limit":"20"}`},
			{"DescribeSecurityGroupPolicies", `{"SecurityGroupId":"sg-00000005"}`},
			{"DescribeLoadBalancers", `{"LoadBalancerIds":["lb-00000005"]}`},
			{"DescribeLoadBalancers", `{}`},
			{"DescribeTargets", `{"LoadBalancerId":"lb-00000005"}`},
		} {
			b.Run(fmt.Sprintf("%d×/%s/%d", n, w[0], len(w[1])), func(b *testing.B) {
				i := 0
				for b.Loop() {
					i++
					p := w[1]
					if w[0][0] != 'D' {
						p = fmt.Sprintf(w[1], i%100)
					}
					do(b, w[0], p)
				}
			})
		}
	}
}
