// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const faultyYAML = `SecurityGroups:
- GroupName: good
  Ingress: [{Action: ACCEPT}]
- GroupName: bad-rules
  Ingress:
  - {Action: ACCEPT, Protocol: TCP, Port: "99999"}
  - {Action: ACCEPT, CidrBlock: 300.0.0.0/8}
  - {Action: ACCEPT}
  Egress:
  - {Action: ACCEPT, SecurityGroup: nowhere}
- GroupName: bad-word
  Ingress: [{Action: PERHAPS}]
- GroupName: &long aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
  GroupDescription: *long
Vpcs:
- {VpcName: office, CidrBlock: 10.1.0.0/33}
- {VpcName: garden, CidrBlock: 10.2.0.0/16}
Subnets:
- {SubnetName: desks, Vpc: office, CidrBlock: 10.1.0.0/24}
- {SubnetName: beds, Vpc: garden, CidrBlock: 10.3.0.0/24}
- {SubnetName: paths, Vpc: garden, CidrBlock: 10.2.0.0/24}
Instances:
- {InstanceName: web, Vpc: office, Subnet: desks, SecurityGroups: [good]}
- {InstanceName: rose, Vpc: garden, Subnet: paths, SecurityGroups: [good, ghosts, bad-rules, phantoms]}
- {InstanceName: tulip, Vpc: garden, Subnet: paths, SecurityGroups: [good]}
LoadBalancers:
- LoadBalancerName: shop
  Vpc: garden
  SecurityGroups: [bad-rules]
  Listeners:
  - {Protocol: TCP, Port: 80, Targets: [{Instance: web, Port: 80}, {Instance: ghost, Port: 80}, {Instance: tulip, Port: 80}]}
  - Protocol: HTTP
    Port: 81
    Certificate: none
    Rules: [{Domain: a.example.com, Url: /}]
  - Protocol: HTTP
    Port: 82
    Rules:
    - {Domain: a.example.com, Url: nope}
    - {Domain: b.example.com, Url: /, Redirect: {Port: 82, Domain: a.example.com, Url: nope}}
    - {Domain: c.example.com, Url: /, Redirect: {Port: 83, Domain: a.example.com, Url: /}}
    - {Domain: d.example.com, Url: /, SessionExpireTime: 5}
  - {Protocol: UDP, Port: 82, SessionExpireTime: 90000}
- LoadBalancerName: sideways
  LoadBalancerType: SIDEWAYS
  Listeners: [{Protocol: TCP, Port: 80}]
`

// One answer tells all that is wrong with all documents, and what was not tried
// because of it; nothing is written.
func TestApplyTellsAllFaults(t *testing.T) {
	b := newBench(t)
	for _, dryRun := range []bool{true, false} {
		c := load(t, map[string]string{"f.yaml": faultyYAML})
		params, err := c.JSON(dryRun, false, false)
		if err != nil {
			t.Fatal(err)
		}
		before := b.Store.State().Revision
		err = b.try("ApplyConfiguration", string(params), nil)
		refused := (*Error)(nil)
		if !errors.As(err, &refused) {
			t.Fatal(err)
		}
		var got []string
		for _, f := range refused.Faults {
			field, fault, _ := strings.Cut(f.Message, ": ")
			text := fmt.Sprintf("%v %s %s", c.Place(f.Message), f.Code, field)
			if strings.HasPrefix(fault, "not tried: depends on ") != (f.DependsOn != "") || !strings.Contains(fault, "; ") && !strings.Contains(fault, "allowed") {
				t.Errorf("a fault without its repair, or another's: %s", f.Message)
			}
			if f.DependsOn != "" {
				text += " @" + c.Place(f.DependsOn).String()
			}
			got = append(got, text)
		}
		if diff := cmp.Diff(strings.Split(strings.TrimSpace(faultsWanted), "\n"), got); diff != "" {
			t.Errorf("dry run %v: %s", dryRun, diff)
		}
		if refused.Code != refused.Faults[0].Code || len(strings.Split(refused.Message, "\n")) != len(refused.Faults) {
			t.Errorf("%s: %s", refused.Code, refused.Message)
		}
		if b.Store.State().Revision != before {
			t.Error("something was written")
		}
	}
}

const faultsWanted = `
f.yaml:43:50 InvalidParameterValue LoadBalancers.0.Listeners.3.SessionExpireTime
f.yaml:45:21 UnsupportedOperation LoadBalancers.1.LoadBalancerType
f.yaml:12:22 InvalidParameterValue SecurityGroups.2.Ingress.0.Action
f.yaml:13:14 InvalidParameterValue SecurityGroups.3.GroupName
f.yaml:16:32 InvalidParameterValue Vpcs.0.CidrBlock
f.yaml:19:28 FailedOperation Subnets.0.Vpc @f.yaml:16:3
f.yaml:20:46 InvalidParameterValue.SubnetRange Subnets.1.CidrBlock
f.yaml:6:43 InvalidParameterValue SecurityGroups.1.Ingress.0.Port
f.yaml:7:33 InvalidParameterValue SecurityGroups.1.Ingress.1.CidrBlock
f.yaml:10:37 ResourceNotFound SecurityGroups.1.Egress.0.SecurityGroup
f.yaml:23:28 FailedOperation Instances.0.Vpc @f.yaml:16:3
f.yaml:24:75 ResourceNotFound Instances.1.SecurityGroups.1
f.yaml:24:94 ResourceNotFound Instances.1.SecurityGroups.3
f.yaml:31:52 FailedOperation LoadBalancers.0.Listeners.0.Targets.0.Instance @f.yaml:23:3
f.yaml:31:79 ResourceNotFound LoadBalancers.0.Listeners.0.Targets.1.Instance
f.yaml:34:18 ResourceNotFound LoadBalancers.0.Listeners.1.Certificate
f.yaml:35:12 FailedOperation LoadBalancers.0.Listeners.1.Rules @f.yaml:32:5
f.yaml:39:36 InvalidParameterValue LoadBalancers.0.Listeners.2.Rules.0.Url
f.yaml:42:58 InvalidParameterValue LoadBalancers.0.Listeners.2.Rules.3.SessionExpireTime
f.yaml:40:88 FailedOperation LoadBalancers.0.Listeners.2.Rules.1.Redirect.Url @f.yaml:39:7
f.yaml:41:88 ResourceNotFound LoadBalancers.0.Listeners.2.Rules.2.Redirect.Url
f.yaml:46:14 FailedOperation LoadBalancers.1.Listeners @f.yaml:44:3
`

// More faults than an answer holds are cut off, and said to be.
func TestApplyTellsManyFaults(t *testing.T) {
	b := newBench(t)
	text := "SecurityGroups:\n" + strings.Repeat("- {GroupName: x, ProjectId: none}\n", maxTold+50)
	c := load(t, map[string]string{"f.yaml": text})
	params, _ := c.JSON(true, false, false)
	refused := asError(b.try("ApplyConfiguration", string(params), nil))
	if n := len(refused.Faults); n != maxTold+1 || !strings.Contains(refused.Faults[n-1].Message, "more faults than are told") {
		t.Errorf("%d faults, the last is %+v", n, refused.Faults[n-1])
	}
}

// What one document gives up, another may not have while the first has faults:
// it is not tried, and told nothing untrue.
func TestApplyKeepsToWhatDependsOnFaults(t *testing.T) {
	b := newBench(t)
	b.apply(map[string]string{"f.yaml": "SecurityGroups:\n- {GroupName: old}\n- {GroupName: other}\n"}, false, false)
	var id string
	for g := range b.Store.State().Groups.Values() {
		if g.Name == "old" {
			id = string(g.ID)
		}
	}
	c := load(t, map[string]string{"f.yaml": "SecurityGroups:\n- {Id: " + id + ", GroupName: new, ProjectId: \"5\"}\n- {GroupName: old}\n- {GroupName: third}\n"})
	params, _ := c.JSON(false, false, false)
	refused := asError(b.try("ApplyConfiguration", string(params), nil))
	if len(refused.Faults) != 2 || !strings.HasPrefix(refused.Faults[0].Message, "SecurityGroups.0.ProjectId: ") || refused.Faults[1].DependsOn != "SecurityGroups.0" {
		t.Errorf("%+v", refused.Faults)
	}
}
