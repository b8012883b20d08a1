// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
	"github.com/sallyport/sallyport/internal/scenario"
)

// ask calls an action of the kernel's region.
func (k *kernel) ask(t *testing.T, api scenario.API, action string, in map[string]any, out any) {
	t.Helper()
	if err := k.Call(t.Context(), api, action, in, out); err != nil {
		t.Fatal(err)
	}
}

// A private load balancer with an EIP has two doors that share no verdict: a
// flow that is open by the EIP opens nothing by the VIP, from the same port of
// the same client, at either hook.
func TestEIPSharesNoVerdict(t *testing.T) {
	for name, early := range map[string]bool{"tc": false, "xdp": true} {
		t.Run(name, func(t *testing.T) {
			k := newKernel(t, early)
			vpc, clb := scenario.API{Service: "vpc", Version: "2017-03-12"}, scenario.API{Service: "clb", Version: "2018-03-17"}
			web, err := k.Instance(t.Context(), "web-1", true)
			if err != nil {
				t.Fatal(err)
			}
			var group struct {
				SecurityGroup struct{ SecurityGroupId string }
			}
			k.ask(t, vpc, "CreateSecurityGroup", map[string]any{"GroupName": "all", "GroupDescription": ""}, &group)
			k.ask(t, vpc, "CreateSecurityGroupPolicies", map[string]any{"SecurityGroupId": group.SecurityGroup.SecurityGroupId,
				"SecurityGroupPolicySet": map[string]any{"Ingress": []any{map[string]any{"Action": "ACCEPT", "CidrBlock": "0.0.0.0/0"}}}}, nil)
			k.ask(t, vpc, "ModifyInstancesAttribute", map[string]any{"InstanceIds": []string{web.ID}, "SecurityGroups": []string{group.SecurityGroup.SecurityGroupId}}, nil)
			var subnets struct {
				SubnetSet []struct{ VpcId, SubnetId string }
			}
			k.ask(t, vpc, "DescribeSubnets", map[string]any{}, &subnets)
			var eips struct{ AddressSet []string }
			k.ask(t, vpc, "AllocateAddresses", map[string]any{}, &eips)
			var made struct{ LoadBalancerIds, ListenerIds []string }
			k.ask(t, clb, "CreateLoadBalancer", map[string]any{"LoadBalancerType": "INTERNAL", "VpcId": subnets.SubnetSet[0].VpcId,
				"SubnetId": subnets.SubnetSet[0].SubnetId, "EipAddressId": eips.AddressSet[0]}, &made)
			k.ask(t, clb, "CreateListener", map[string]any{"LoadBalancerId": made.LoadBalancerIds[0], "Protocol": "TCP", "Ports": []int{80}}, &made)
			k.ask(t, clb, "RegisterTargets", map[string]any{"LoadBalancerId": made.LoadBalancerIds[0], "ListenerId": made.ListenerIds[0],
				"Targets": []any{map[string]any{"InstanceId": web.ID, "Port": 8080}}}, nil)
			if err := k.Settle(t.Context()); err != nil {
				t.Fatal(err)
			}
			var vip, eip netip.Addr
			for _, b := range k.State().Balancers.All() {
				vip, eip = b.VIPs[0], b.EIP
			}
			trip := &trip{kernel: k}
			from := netip.MustParseAddrPort("203.0.113.10:40000")
			dial := func(to netip.Addr) place {
				trip.verdicts = nil
				at, _, fault, err := trip.open(opening{from: client, src: from, dst: netip.AddrPortFrom(to, 80)})
				if err != nil || fault != "" {
					t.Fatalf("to %v: %v %s", to, err, fault)
				}
				return at
			}
			if at := dial(eip); at != place(web.ID) {
				t.Fatalf("by the EIP it ends at %q: %v", at, trip.verdicts)
			}
			if at := dial(vip); at != nowhere || !slices.Equal(trip.verdicts, []string{"drop clb system rule 8"}) {
				t.Errorf("by the VIP it ends at %q: %v", at, trip.verdicts)
			}
		})
	}
}

// The doors of private load balancers, with random networks and with random
// groups behind the system rule or none: the reference, the compiled form and
// the kernel say the same, also who was kept out by which rule.
func TestKernelTwinPrivate(t *testing.T) {
	w := newQuiet(t)
	for n, s := range sides()[:2] {
		b, d := w.benchOf(s.role, nil), rand.New(rand.NewPCG(17, uint64(n)))
		compared, kept := 0, 0
		for i := range 30 {
			cidr, err := netip.AddrFrom4([4]byte{byte(1 + d.IntN(223)), byte(d.IntN(256)), byte(d.IntN(256)), byte(d.IntN(256))}).Prefix(1 + d.IntN(1+i))
			if err != nil {
				t.Fatal(err)
			}
			state := &lb.State{VPCs: lb.TableOf(map[lb.VPCID]*lb.VPC{"vpc-1": {ID: "vpc-1", Cidr: cidr}})}
			groups := policy.NewResolver(state).Gate1(&lb.LoadBalancer{Type: lb.Internal, VPC: "vpc-1"}, netip.MustParseAddr(vip))
			if i%3 > 0 {
				groups[0].Rules = groups[0].Rules[:1]
				groups = append(groups, policytest.RandomGroups(d, 16)...)
			}
			packets := make([]lb.Packet, 150)
			for k := range packets {
				packets[k] = s.packet(d, groups, k)
				if policy.Decide(policy.GateCLB, policy.In, groups, packets[k]).Reason == policy.SystemRule {
					kept++
				}
			}
			b.stage(t, s.snapshot(compiledGroups(t, groups), compiledGroups(t, policytest.RandomGroups(d, 4)), packets))
			if _, difference := s.compare(b, compiledGroups(t, groups), groups, packets, b.rev, syn); difference != "" {
				t.Fatalf("%s: policy %d for %v: %s", s.program, i, cidr, difference)
			}
			compared += len(packets)
		}
		if t.Logf("%s: %d packets compared, %d kept out", s.program, compared, kept); kept < compared/20 || kept > compared*19/20 {
			t.Errorf("%s: %d of %d kept out is too one-sided", s.program, kept, compared)
		}
	}
}
