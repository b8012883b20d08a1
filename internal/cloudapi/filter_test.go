// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// used is a name that the filter serves.
func (r filterRule) used() string { return strings.Replace(r.name, "KEY", "k", 1) }

// Every filter that an action declares is read by its handler, in whatever
// capitals its values are.
func TestEveryFilterIsRead(t *testing.T) {
	b := newBench(t, func(o *Options) { o.Facts = &reported{} })
	b.seed(func(tx *store.Tx) { // what examples name
		tx.PutVPC(&lb.VPC{ID: "vpc-1a2b3c4d", Cidr: netip.MustParsePrefix("10.0.0.0/16")})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-1a2b3c4d"})
		tx.PutBalancer(&lb.LoadBalancer{ID: "lb-1a2b3c4d"})
		tx.PutListener(&lb.Listener{ID: "lbl-1a2b3c4d", Balancer: "lb-1a2b3c4d", Protocol: lb.ListenHTTP, Rules: []lb.Rule{{ID: "loc-1a2b3c4d"}}})
	})
	filters := 0
	for _, a := range Actions() {
		a.fields.eachField("", func(path string, f *field) {
			for _, r := range f.filters {
				value := strings.ToLower(r.one())
				if strings.HasPrefix(r.name, "creation-") {
					value = "2023-06-01 00:00:00"
				}
				body, err := json.Marshal(with(a.fields, path, []any{map[string]any{"Name": r.used(), "Values": []any{value}}}))
				if err != nil {
					t.Fatal(err)
				}
				if _, err = b.Do(t.Context(), a.Version, a.Name, body); err != nil {
					t.Errorf("%s %s: %v %s", a.Name, body, err, b.log)
				}
				filters++
			}
		})
	}
	if filters < 100 {
		t.Errorf("only %d filters", filters)
	}
}

// A value of an enumerated filter is found in any capitals; a filter's help and
// its refusal come from one declaration.
func TestFilterDeclaration(t *testing.T) {
	b := newBench(t)
	if _, err := b.Server.Do(t.Context(), serviceVPC.Version, "DescribeVpcs", json.RawMessage(`{"Filters":[{"Name":"is-default","Values":["TRUE"]}]}`)); err != nil {
		t.Error(err)
	}
	b.refusals([]refusal{
		{"DescribeVpcs", `{"Filters":[{"Name":"is-default"}]}`, "InvalidParameter.FilterValuesNotList", "Filters.0.Values: filter is-default has no values; give a list of at least one"},
		{"DescribeVpcs", `{"Filters":[{"Name":"is-default","Values":["perhaps"]}]}`, "InvalidParameterValue.Malformed", `Filters.0.Values.0: "perhaps" is no value of filter is-default; it is one of true, false`},
		{"DescribeVpcs", `{"Filters":[{"Name":"tag:","Values":["x"]}]}`, "InvalidParameter.FilterInvalidKey", "served: vpc-id, vpc-name, cidr-block, ipv6-cidr-block, is-default, isp-type, address-type, tag-key, tag:KEY"},
		{"DescribeLoadBalancers", `{"Filters":[{"Name":"exclusive","Values":[]}]}`, "InvalidParameterValue.InvalidFilter", "Filters.0.Values"},
		{"DescribeInstances", `{"Filters":[{"Name":"instance-state","Values":["RUN"]}]}`, "InvalidFilter", "PENDING, "},
	})
	a, _ := Find("DescribeVpcs")
	if help := a.Help(); !strings.Contains(help, "is-default=true|false isp-type=BGP|CMCC|CTCC|CUCC\n  address-type=GUA|ULA tag-key tag:KEY") {
		t.Error(help)
	}
}

// A verdict's reason is one of those there are; a filter by another says so.
func TestReasonFilter(t *testing.T) {
	b := newBench(t)
	a, _ := Find("DescribeVerdicts")
	help := a.Help()
	for _, r := range policy.Reasons() {
		if !strings.Contains(help, r.String()) {
			t.Errorf("reason %s is not in the help", r)
		}
		// It is only nodes that are missing then.
		b.refused("DescribeVerdicts", `{"Filters":[{"Name":"reason","Values":["`+strings.ToUpper(r.String())+`"]}]}`, "UnsupportedOperation", "no nodes")
	}
	b.refused("DescribeVerdicts", `{"Filters":[{"Name":"reason","Values":["no_match","nomatch"]}]}`, "InvalidParameterValue.InvalidFilter",
		`Filters.0.Values.1: "nomatch" is no value of filter reason; it is one of none, no_groups, rule, no_match, `)
}
