// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// Every action that takes a client token makes a thing once, and refuses the
// token for anything else.
func TestClientTokens(t *testing.T) {
	first := map[string]string{ // with room for more parameters
		"CreateLoadBalancer":        `{"ClientToken":"t","LoadBalancerType":"OPEN"`,
		"RunInstances":              `{"ClientToken":"t","InstanceName":"web"`,
		"AllocateAddresses":         `{"ClientToken":"t"`,
		"AssignIpv6Addresses":       `{"ClientToken":"t","NetworkInterfaceId":"ENI","Ipv6AddressCount":1`,
		"AssignIpv6SubnetCidrBlock": `{"ClientToken":"t","Ipv6SubnetCidrBlocks":[{"SubnetId":"BARE"}],"VpcId":"VPC"`,
	}
	other := map[string]string{"CreateLoadBalancer": `,"Number":2}`, "RunInstances": `,"InstanceCount":2}`, "AllocateAddresses": `,"AddressCount":2}`,
		"AssignIpv6Addresses": `,"Ipv6Addresses":[]}`}
	requestID := regexp.MustCompile(`"RequestId":"[^"]*"`)
	for _, a := range Actions() {
		if a.fields.byName["ClientToken"] == nil || a.fields.byName["ClientToken"].echo {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			if first[a.Name] == "" {
				t.Fatal("it takes a ClientToken and has no row in this test")
			}
			var b *bench
			if strings.Contains(a.Name, "Ipv6") {
				six := newSix(t)
				b = six.bench
				first[a.Name] = strings.NewReplacer("VPC", six.vpc, "BARE", six.bare, "ENI", interfaceID(six.without.ID)).Replace(first[a.Name])
			} else {
				b = newBench(t, func(o *Options) { o.EIPPool = []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")} })
			}
			call := func(params string) string {
				t.Helper()
				raw, err := b.Do(t.Context(), a.Version, a.Name, json.RawMessage(params))
				if err != nil {
					t.Fatal(err)
				}
				return requestID.ReplaceAllString(string(raw), "")
			}
			made := call(first[a.Name] + "}")
			revision := b.State().Revision
			if again := call(first[a.Name] + "}"); again != made || b.State().Revision != revision {
				t.Errorf("again: %s, was %s; revision %d, was %d", again, made, b.State().Revision, revision)
			}
			changed := first[a.Name] + other[a.Name]
			if other[a.Name] == "" {
				changed = strings.Replace(first[a.Name], `"}]`, `","Ipv6CidrBlock":"2001:db8:200:9::/64"}]`, 1) + "}"
			}
			b.refused(a.Name, changed, "InvalidParameterValue", "ClientToken: it was used within the last 24 hours")
			// Somebody who may see one project only is not told of another's.
			if key := b.addKey(lb.KeyOperator, "7"); a.access.scoped {
				if raw, err := b.as(key, a.Name, first[a.Name]+"}"); err == nil {
					t.Errorf("a scoped key got %s", raw)
				}
			}
		})
	}
}
