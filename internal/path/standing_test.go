// SPDX-License-Identifier: Apache-2.0

package path

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A private load balancer tells its network; others have no system rule.
func TestStandingOfBalancer(t *testing.T) {
	state := demo()
	state.VPCs = lb.TableOf(map[lb.VPCID]*lb.VPC{"vpc-1": {ID: "vpc-1", Cidr: netip.MustParsePrefix("10.200.0.0/16")}})
	b := *state.Balancers.Get("lb-1")
	if got := StandingOfBalancer(state, &b); len(got) != 0 {
		t.Errorf("public: %+v", got)
	}
	b.Type, b.VPC = lb.Internal, "vpc-1"
	got := StandingOfBalancer(state, &b)
	if len(got) != 1 || got[0].Number != policy.SystemPrivate || got[0].Action != lb.Drop || !strings.Contains(got[0].Text, "192.0.2.1") || !strings.Contains(got[0].Text, "10.200.0.0/16") {
		t.Errorf("private: %+v", got)
	}
}

// Exemptions are told for each target they are for, and for no other.
func TestStandingOfInstance(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*lb.State, *lb.LoadBalancer, *lb.HealthCheck)
		want   string // of the rules behind those of every machine
	}{
		{"public", func(*lb.State, *lb.LoadBalancer, *lb.HealthCheck) {}, ""},
		{"type 1", func(_ *lb.State, _ *lb.LoadBalancer, h *lb.HealthCheck) { h.SourceIPType = 1 }, "6 health checks of lb-1 lbl-1 from 100.64.0.0/16 to port 8080, through the tunnel"},
		{"check port", func(_ *lb.State, _ *lb.LoadBalancer, h *lb.HealthCheck) { h.SourceIPType, h.Port = 1, 9000 }, "6 health checks of lb-1 lbl-1 from 100.64.0.0/16 to port 9000, through the tunnel"},
		{"check off", func(_ *lb.State, _ *lb.LoadBalancer, h *lb.HealthCheck) { h.SourceIPType, h.On = 1, false }, ""},
		{"pass to target", func(_ *lb.State, b *lb.LoadBalancer, h *lb.HealthCheck) { h.SourceIPType, b.PassToTarget = 1, true }, ""},
		{"basic", func(_ *lb.State, b *lb.LoadBalancer, _ *lb.HealthCheck) { b.Type = lb.Internal }, "7 health checks of lb-1 lbl-1 from 192.0.2.1 to port 8080, through the tunnel"},
	} {
		state := demo()
		b := *state.Balancers.Get("lb-1")
		state.Balancers.Put("lb-1", &b)
		row.change(state, &b, &state.Listeners.Get("lbl-1").Rules[0].Check)
		all := StandingOfInstance(state, state.Instances.Get("ins-1"))
		var numbers []int
		got := ""
		for i, r := range all {
			if numbers = append(numbers, r.Number); i >= policy.SystemOwn {
				got += fmt.Sprint(r.Number, " ", r.Text)
			}
		}
		if got != row.want || !slices.IsSorted(numbers) || len(all) < policy.SystemOwn {
			t.Errorf("%s: %q of %v, want %q", row.name, got, numbers, row.want)
		}
	}
}
