// SPDX-License-Identifier: Apache-2.0

package console

import (
	"slices"
	"testing"
)

// Who comes second is told each rule as it was and as it is.
func TestChangesNameRules(t *testing.T) {
	rule := func(id, port string) policyRule {
		return policyRule{PolicyId: id, Action: "ACCEPT", Protocol: "TCP", Port: port, CidrBlock: "10.0.0.0/8"}
	}
	before := []policyRule{rule("a", "1"), rule("b", "2"), rule("c", "3")}
	said := func(port string) string { return "Allow TCP:" + port + " 10.0.0.0/8" }
	for name, c := range map[string]struct {
		now  []policyRule
		want []string
	}{
		"rewritten": {[]policyRule{before[0], rule("x", "9"), before[2]}, []string{"rule 2 was " + said("2") + " → is " + said("9")}},
		"in place":  {[]policyRule{before[0], rule("b", "9"), before[2]}, []string{"rule 2 was " + said("2") + " → is " + said("9")}},
		"added":     {[]policyRule{before[0], before[1], rule("x", "9"), before[2]}, []string{"added as rule 3: " + said("9")}},
		"removed":   {[]policyRule{before[0], before[2]}, []string{"removed rule 2: " + said("2")}},
		"all gone":  {nil, []string{"removed rule 1: " + said("1"), "removed rule 2: " + said("2"), "removed rule 3: " + said("3")}},
		"moved":     {[]policyRule{before[1], before[0], before[2]}, []string{"moved from 2 to 1: " + said("2"), "moved from 1 to 2: " + said("1")}},
		"the same":  {before, nil},
	} {
		if got := changes(idsOf(before), textsOf(before), c.now).List; !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
