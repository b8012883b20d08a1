// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "testing"

// What is stored is what was sent, or nothing: no name twice, no halves of
// characters, no NUL, no number that does not fit, no list with gaps.
func TestRefusesWhatParsersMend(t *testing.T) {
	b := newBench(t)
	create := func(fields string) string { return `{"GroupDescription":"",` + fields + `}` }
	b.refusals([]refusal{
		{"CreateSecurityGroup", create(`"GroupName":"a","GroupName":"b"`), "InvalidParameter", "parameter GroupName is given twice"},
		{"CreateSecurityGroup", create(`"GroupName":"a","Tags":[{"Key":"k","Key":"l"}]`), "InvalidParameter", "parameter Tags.0.Key is given twice"},
		{"CreateSecurityGroup", create(`"GroupName":"a\ud800b"`), "InvalidParameter", `half a character, \ud800`},
		{"CreateSecurityGroup", create(`"GroupName":"a\ud800\u0041"`), "InvalidParameter", `half a character, \ud800`},
		{"CreateSecurityGroup", create(`"GroupName":"\udc00"`), "InvalidParameter", `half a character, \udc00`},
		{"CreateSecurityGroup", create(`"GroupName":"a\u0000b"`), "InvalidParameter", "GroupName: the text has a NUL"},
		{"CreateSecurityGroup", create("\"GroupName\":\"a\xff\""), "InvalidParameter", "no UTF-8"},
		{"DescribeLoadBalancers", `{"Limit":99999999999999999999}`, "InvalidParameter", "Limit: 99999999999999999999 is greater than any number here"},
		{"CreateSecurityGroup", create(`"GroupName":"a","Tags":{"0":{"Key":"a"},"5":{"Key":"b"}}`), "InvalidParameter", "Tags.5: the items of a list are numbered from 0 without gaps"},
		{"CreateSecurityGroup", create(`"GroupName":"a","ProjectId":"99999999999999999999"`), "InvalidParameterValue.Malformed", "greater than any project"},
	})
	for _, name := range []string{`\ud83d\ude00`, `\\ud800`, `\u00e9`} { // a pair, a backslash before ud800, a character
		b.must("CreateSecurityGroup", create(`"GroupName":"`+name+`"`), nil)
	}
}

func TestDeletesEachRuleOnce(t *testing.T) {
	b := newBench(t)
	id := b.wideGroup(1, 2)
	b.refused("DeleteSecurityGroupPolicies", policyParams(id, `"Ingress":[{"PolicyIndex":0},{"PolicyIndex":0}]`), "InvalidParameterValue.Duplicate", "Ingress.1.PolicyIndex: rule 0 is named twice")
}
