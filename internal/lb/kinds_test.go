// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

// The table of kinds: whose probes gate 2 judges by rules, and who can have
// groups at gate 1.
func TestKinds(t *testing.T) {
	moment := time.Date(2016, 12, 5, 0, 0, 0, 0, time.FixedZone("UTC+8", 8*3600))
	before, then := moment.Add(-time.Second), moment
	for _, row := range []struct {
		name       string
		b          LoadBalancer
		rule, bind bool
	}{
		{"public", LoadBalancer{Type: Open, VPC: "vpc-1"}, true, true},
		{"public, basic network", LoadBalancer{Type: Open}, true, true},
		{"public classic", LoadBalancer{Type: Open, VPC: "vpc-1", Classic: true, Created: then}, true, true},
		{"public classic of before", LoadBalancer{Type: Open, Classic: true, Created: before}, true, true},
		{"private", LoadBalancer{Type: Internal, VPC: "vpc-1"}, true, true},
		{"private, basic network", LoadBalancer{Type: Internal}, false, false},
		{"private, basic network, of before", LoadBalancer{Type: Internal, Created: before}, false, false},
		{"private classic of before", LoadBalancer{Type: Internal, VPC: "vpc-1", Classic: true, Created: before}, true, false},
		{"private classic of that moment", LoadBalancer{Type: Internal, VPC: "vpc-1", Classic: true, Created: then}, false, false},
		{"private classic of before, basic network", LoadBalancer{Type: Internal, Classic: true, Created: before}, false, false},
		{"private classic, basic network", LoadBalancer{Type: Internal, Classic: true, Created: then}, false, false},
	} {
		if got := row.b.ProbesNeedRule(HealthCheck{}); got != row.rule {
			t.Errorf("%s: probes need a rule: %v", row.name, got)
		}
		if row.b.ProbesNeedRule(HealthCheck{SourceIPType: 1}) {
			t.Errorf("%s: probes of SourceIpType 1 need a rule", row.name)
		}
		if got := row.b.BindsGroups(); got != row.bind {
			t.Errorf("%s: binds groups: %v", row.name, got)
		}
	}
}

func TestAddresses(t *testing.T) {
	vip, eip := netip.MustParseAddr("10.200.0.9"), netip.MustParseAddr("192.0.2.70")
	b := LoadBalancer{VIPs: []netip.Addr{vip}}
	if all := b.Addresses(); len(all) != 1 || all[0] != vip {
		t.Errorf("without an EIP: %v", all)
	}
	b.EIP = eip
	if all := b.Addresses(); len(all) != 2 || all[1] != eip || len(b.VIPs) != 1 {
		t.Errorf("with one: %v", all)
	}
}

func TestNetworks(t *testing.T) {
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	state := &State{
		VPCs: TableOf(map[VPCID]*VPC{"vpc-1": {Cidr: prefix("10.200.0.0/16"), Assistant: []netip.Prefix{prefix("172.16.0.0/24")}}}),
		Instances: TableOf(map[InstanceID]*Instance{
			"ins-1": {VPC: "vpc-1", Private: addr("10.200.0.5"), Public: addr("192.0.2.65")},
			"ins-2": {VPC: "vpc-1", Joined: true, Private: addr("198.51.100.7"), Others: []netip.Addr{addr("10.200.0.9")}},
			"ins-3": {VPC: "vpc-2", Joined: true, Private: addr("198.51.100.8")},
		}),
	}
	for vpc, want := range map[VPCID]string{"vpc-1": "[10.200.0.0/16 172.16.0.0/24 198.51.100.7/32]", "": "[198.18.0.0/16]", "vpc-9": "[]"} {
		if got := fmt.Sprint(state.Networks(&LoadBalancer{Type: Internal, VPC: vpc})); got != want {
			t.Errorf("%q: %s, want %s", vpc, got, want)
		}
	}
}
