// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// lonely is twoProjects without anything of project 7 that names anything of
// project 8, and with templates that one of its rules names and that none does.
func lonely(t *testing.T) *bench {
	b := twoProjects(t)
	b.seed(func(tx *store.Tx) {
		tx.PutTemplate(&lb.Template{ID: "ipm-named000", Name: "named", Members: []lb.TemplateMember{{Text: "10.1.0.1"}}})
		tx.PutTemplate(&lb.Template{ID: "ipm-third000", Name: "foreign0", Members: []lb.TemplateMember{{Text: "10.1.0.2"}}})
		g := *tx.State().Groups.Get("sg-ours0000")
		g.Ingress = append(g.Ingress, lb.PolicyRule{ID: "pol-template", Action: lb.Accept, PeerTemplate: "ipm-named000"})
		tx.PutGroup(&g)
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-default0", Name: "foreign0", ProjectID: "8", IsDefault: true})
		i := *tx.State().Instances.Get("ins-ours0000")
		i.Groups = []lb.GroupID{"sg-ours0000"}
		tx.PutInstance(&i)
		l := *tx.State().Balancers.Get("lb-ours0000")
		l.Groups = i.Groups
		tx.PutBalancer(&l)
		n := *tx.State().Listeners.Get("lbl-ours0000")
		n.Targets = n.Targets[:1]
		tx.PutListener(&n)
	})
	return b
}

// A scoped key is answered about what is not in its projects as about what is
// not there at all: by every write that it may call, with any of its ids.
func TestForeignIsNotThere(t *testing.T) {
	for _, a := range Actions() {
		if !a.access.scoped || !a.access.right.writes() {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			for _, optional := range []bool{false, true} {
				b := lonely(t)
				key := b.addKey(lb.KeyOperator, "7")
				filled, _ := json.Marshal(fill(a.fields, "ours0000", optional))
				parts := strings.Split(string(filled), "ours0000")
				for i := 1; i < len(parts); i++ { // each id by itself, then all
					for _, params := range []string{
						strings.Join(parts[:i], "ours0000") + "foreign0" + strings.Join(parts[i:], "ours0000"),
						strings.Join(parts, "foreign0"),
					} {
						there, got := b.as(key, a.Name, params)
						nowhere, want := b.as(key, a.Name, strings.ReplaceAll(params, "foreign0", "nowhere0"))
						requestID := regexp.MustCompile(`"RequestId":"[^"]*"`)
						there, nowhere = requestID.ReplaceAllString(there, ""), requestID.ReplaceAllString(nowhere, "")
						if got, want := told(got)+there, strings.ReplaceAll(told(want)+nowhere, "nowhere0", "foreign0"); got != want {
							t.Errorf("%s\n%q, and of what is not there:\n%q", params, got, want)
						}
					}
				}
			}
		})
	}
}

// told is a refusal in words, "" for none.
func told(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Ways on which a refusal or an answer could tell of another project.
func TestHiddenFromScopedKeys(t *testing.T) {
	for _, tc := range []struct{ action, params, code string }{
		{"ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-foreign0","GroupName":"n"}`, "ResourceNotFound"},
		{"DeleteSecurityGroup", `{"SecurityGroupId":"sg-foreign0"}`, "ResourceNotFound"},
		{"DeleteLoadBalancer", `{"LoadBalancerIds":["lb-foreign0"]}`, "InvalidParameter.LBIdNotFound"},
		{"CreateSecurityGroupPolicies", `{"SecurityGroupId":"sg-ours0000","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"ALL","Action":"ACCEPT","SecurityGroupId":"sg-foreign0"}]}}`, "ResourceNotFound"},
		{"CreateSecurityGroupPolicies", `{"SecurityGroupId":"sg-ours0000","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"ALL","Action":"ACCEPT","AddressTemplate":{"AddressId":"ipm-third000"}}]}}`, "ResourceNotFound"},
		{"CreateSecurityGroupPolicies", `{"SecurityGroupId":"sg-third777","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"ALL","Action":"ACCEPT","AddressTemplate":{"AddressId":"ipm-named000"}}]}}`, codeUnauthorized},
		{"CreateDefaultSecurityGroup", `{"ProjectId":"8"}`, codeUnauthorized},
		{"CreateDefaultSecurityGroup", `{}`, codeUnauthorized},
		{"DescribeAddressTemplates", `{}`, codeUnauthorized},
		{"DescribeServiceTemplateGroups", `{}`, codeUnauthorized},
	} {
		b := lonely(t)
		b.seed(func(tx *store.Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-third777", Name: "third", ProjectID: "7"}) })
		out, err := b.as(b.addKey(lb.KeyOperator, "7"), tc.action, tc.params)
		if code(err) != tc.code || strings.Contains(out+told(err), "project 8") && !strings.Contains(tc.params, "ProjectId") || strings.Contains(out+told(err), "sg-default0") {
			t.Errorf("%s %s: %s, %v; want %s", tc.action, tc.params, out, err, tc.code)
		}
	}
}

// What is in the way of a scoped key's write is not named when it is in
// another project, and what it may go on naming it may.
func TestScopedConflicts(t *testing.T) {
	b := twoProjects(t)
	b.seed(func(tx *store.Tx) {
		i := *tx.State().Instances.Get("ins-foreign0")
		i.ID, i.Groups = "ins-third000", []lb.GroupID{"sg-lonely00"}
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-lonely00", Name: "lonely", ProjectID: "7"})
		tx.PutInstance(&i)
	})
	key := b.addKey(lb.KeyOperator, "7")
	_, err := b.as(key, "DeleteSecurityGroup", `{"SecurityGroupId":"sg-lonely00"}`)
	if err == nil || code(err) == codeUnauthorized || strings.Contains(told(err), "third000") {
		t.Errorf("a group in use by another project: %v", err)
	}
	// What a group of its own names is known, its project is not.
	_, err = b.as(key, "CreateSecurityGroupPolicies", `{"SecurityGroupId":"sg-ours0000","SecurityGroupPolicySet":{"Ingress":[{"Protocol":"ALL","Action":"ACCEPT","SecurityGroupId":"sg-foreign0"}]}}`)
	if err == nil || strings.Contains(told(err), "project 8") {
		t.Errorf("a rule that names another project's group: %v", err)
	}
	// The log tells of what was tried all the same.
	if _, err := b.as(key, "DeleteSecurityGroup", `{"SecurityGroupId":"sg-third000"}`); code(err) != "ResourceNotFound" {
		t.Errorf("another project's group: %v", err)
	}
	lines, err := b.Store.AuditLines(t.Context(), b.Store.AuditNumber(), b.Store.AuditNumber()+1)
	if err != nil || len(lines) != 1 || lines[0].Refusal != codeUnauthorized || !strings.Contains(lines[0].Message, "group sg-third000") || string(lines[0].Key) != key {
		t.Errorf("the audit log has %+v, %v", lines, err)
	}
}

// A task is told to those who may see all that it changed.
func TestScopedTasks(t *testing.T) {
	b := twoProjects(t)
	ours, theirs := b.addKey(lb.KeyOperator, "7"), b.addKey(lb.KeyOperator, "8")
	all := b.addKey(lb.KeyOperator)
	n := 0
	rename := func(key, balancer string) string {
		t.Helper()
		n++
		q := &request{version: serviceCLB.Version, action: "ModifyLoadBalancerAttributes", requestID: fmt.Sprint("request-", n), key: &lb.AccessKey{ID: lb.KeyID(key)},
			body: json.RawMessage(fmt.Sprintf(`{"LoadBalancerId":%q,"LoadBalancerName":"name-%d"}`, balancer, n))}
		if _, err := b.run(context.Background(), q); err != nil {
			t.Fatal(err)
		}
		return q.requestID
	}
	_, unknown := b.as(ours, "DescribeTaskStatus", `{"TaskId":"no-such-task"}`)
	for _, tc := range []struct {
		task, key string
		seen      bool
	}{
		{rename(ours, "lb-ours0000"), ours, true},
		{rename(theirs, "lb-foreign0"), ours, false},
		{rename(theirs, "lb-foreign0"), all, true},
		{rename(all, "lb-ours0000"), ours, true},
		{rename(all, "lb-ours0000"), theirs, false},
	} {
		_, err := b.as(tc.key, "DescribeTaskStatus", `{"TaskId":"`+tc.task+`"}`)
		if tc.seen && err != nil || !tc.seen && told(err) != told(unknown) {
			t.Errorf("task %s: %v, want seen %v or %v", tc.task, err, tc.seen, unknown)
		}
	}
}

// How long another project's group is, is not told where its name is known: a
// load balancer that does not have it may not be given it, however short it is.
func TestLengthOfForeignGroupIsNotTold(t *testing.T) {
	b := twoProjects(t)
	b.Options.Quotas = lb.DefaultQuotas()
	b.Options.Quotas.RulesOnBalancer = 0
	b.Server = New(b.Options)
	key := b.addKey(lb.KeyOperator, "7")
	b.seed(func(tx *store.Tx) {
		l := *tx.State().Balancers.Get("lb-ours0000")
		l.Groups = nil
		tx.PutBalancer(&l)
	})
	_, err := b.as(key, "SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-ours0000","SecurityGroups":["sg-foreign0"]}`)
	if err == nil || code(err) != codeUnauthorized || strings.Contains(told(err), "rules") {
		t.Errorf("%v", err)
	}
}
