// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// run makes instances and returns them as stored.
func (b *bench) runInstances(params string) []*lb.Instance {
	b.Helper()
	var out runInstancesOut
	b.must("RunInstances", params, &out)
	var made []*lb.Instance
	for _, id := range out.InstanceIdSet {
		made = append(made, b.Store.State().Instances.Get(lb.InstanceID(id)))
	}
	return made
}

func TestRunInstancesInTheDefaultNetwork(t *testing.T) {
	b := newBench(t)
	made := b.runInstances(`{"InstanceCount":2,"InstanceName":"web","InternetAccessible":{"PublicIpAssigned":true}}`)
	for i, want := range []struct{ name, private, public string }{
		{"web1", "10.200.0.2", "192.0.2.65"}, {"web2", "10.200.0.3", "192.0.2.66"},
	} {
		if m := made[i]; m.Name != want.name || m.Private.String() != want.private || m.Public.String() != want.public || m.State != lb.Pending {
			t.Errorf("instance %+v, want %v", m, want)
		}
	}
	st := b.Store.State()
	n, g := st.Subnets.Get(made[0].Subnet), st.Groups.Get(made[0].Groups[0])
	if !n.IsDefault || n.Cidr.String() != "10.200.0.0/20" || n.Zone != "local-1" || st.VPCs.Get(n.VPC).Cidr.String() != "10.200.0.0/16" || !g.IsDefault || g.ProjectID != "0" {
		t.Errorf("subnet %+v, group %+v", n, g)
	}
	b.must("TerminateInstances", fmt.Sprintf(`{"InstanceIds":[%q]}`, made[0].ID), nil)
	again := b.runInstances(`{"Placement":{"Zone":"local-1","ProjectId":3},"VirtualPrivateCloud":{"VpcId":"DEFAULT","SubnetId":"DEFAULT"}}`)[0]
	if again.Private.String() != "10.200.0.2" || again.Public.IsValid() || again.Name != "Unnamed" || b.Store.State().Groups.Get(again.Groups[0]).ProjectID != "3" {
		t.Errorf("instance %+v", again)
	}
}

func TestRunInstancesAsAsked(t *testing.T) {
	b := newBench(t)
	vpc := b.newVPC("10.0.0.0/16")
	subnet := b.newSubnet(vpc, "10.0.1.0/29")
	one, two := b.newSG("a"), b.newSG("b")
	net := fmt.Sprintf(`"VpcId":%q,"SubnetId":%q`, vpc, subnet)
	i := b.runInstances(`{"Placement":{"Zone":"local-1"},"InstanceType":"S5.MEDIUM2","ImageId":"img-1","InstanceChargeType":"POSTPAID_BY_HOUR",
		"SystemDisk":{"DiskType":"CLOUD_PREMIUM","DiskSize":80},"DataDisks":[{"DiskSize":10}],"VirtualPrivateCloud":{` + net + `,"PrivateIpAddresses":["10.0.1.5"]},
		"InternetAccessible":{"InternetMaxBandwidthOut":10,"PublicIpAssigned":false},"InstanceName":"n-{R:7}","SecurityGroupIds":["` + two + `","` + one + `"],
		"LoginSettings":{},"EnhancedService":{"MonitorService":{"Enabled":true}},"HostName":"host-1","TagSpecification":[{"ResourceType":"instance","Tags":[{"Key":"k","Value":"v"}]}],"UserData":""}`)[0]
	var out describeInstancesOut
	b.must("DescribeInstances", fmt.Sprintf(`{"InstanceIds":[%q]}`, i.ID), &out)
	o := out.InstanceSet[0]
	if out.TotalCount != 1 || o.InstanceName != "n-7" || o.InstanceType != "S5.MEDIUM2" || o.ImageId != "img-1" || o.SystemDisk.DiskSize != 80 || o.SystemDisk.DiskType != "CLOUD_PREMIUM" ||
		strings.HasPrefix(o.SystemDisk.DiskId, "disk-") || len(o.DataDisks) != 1 || o.PrivateIpAddresses[0] != "10.0.1.5" || len(o.PublicIpAddresses) != 0 ||
		fmt.Sprint(o.SecurityGroupIds) != fmt.Sprint([]string{two, one}) || o.VirtualPrivateCloud != (privateCloudOut{VpcId: vpc, SubnetId: subnet}) ||
		o.InternetAccessible.InternetMaxBandwidthOut != 10 || o.InstanceState != "PENDING" || o.LatestOperationState != "OPERATING" || o.Tags[0] != (Tag{"k", "v"}) {
		t.Errorf("instance %+v", o)
	}

	with := func(more string) string { return `{"VirtualPrivateCloud":{` + net + more + `}}` }
	for _, tc := range []struct{ params, code, text string }{
		{`{"InstanceCount":0}`, "InvalidParameterValue", "InstanceCount"},
		{`{"InstanceCount":101}`, "InvalidParameterValue", "InstanceCount"},
		{`{"Placement":{"Zone":"mars-1"}}`, "InvalidZone.MismatchRegion", "local-1"},
		{`{"VirtualPrivateCloud":{"VpcId":"` + vpc + `"}}`, "MissingParameter", "SubnetId"},
		{`{"VirtualPrivateCloud":{"VpcId":"vpc-00000000","SubnetId":"` + subnet + `"}}`, "ResourceNotFound", "VpcId"},
		{`{"VirtualPrivateCloud":{"VpcId":"` + vpc + `","SubnetId":"subnet-00000000"}}`, "ResourceNotFound", "SubnetId"},
		{with(`,"PrivateIpAddresses":["10.0.1.5"]`), "InvalidParameterValue", "PrivateIpAddresses.0: 10.0.1.5 is in use"},
		{with(`,"PrivateIpAddresses":["10.0.1.1"]`), "InvalidParameterValue", "PrivateIpAddresses.0"},
		{with(`,"PrivateIpAddresses":["10.0.1.0"]`), "InvalidParameterValue", "PrivateIpAddresses.0"},
		{with(`,"PrivateIpAddresses":["10.0.1.7"]`), "InvalidParameterValue", "PrivateIpAddresses.0"},
		{with(`,"PrivateIpAddresses":["10.9.9.9"]`), "InvalidParameterValue", "PrivateIpAddresses.0"},
		{with(`,"PrivateIpAddresses":["x"]`), "InvalidParameterValue", `"x"`},
		{with(`,"PrivateIpAddresses":["10.0.1.2","10.0.1.3"]`), "InvalidParameterValue", "2 are given for 1 instance"},
		{`{"InstanceCount":5,"VirtualPrivateCloud":{` + net + `}}`, "FailedOperation.NoAvailableIpAddressCountInSubnet", subnet},
		{`{"SecurityGroupIds":["sg-00000000"]}`, "InvalidSecurityGroupId.NotFound", "SecurityGroupIds.0"},
		{`{"SecurityGroupIds":["x"]}`, "InvalidSgId.Malformed", "SecurityGroupIds.0"},
		{`{"SecurityGroupIds":["` + one + `","` + one + `"]}`, "InvalidParameterValue", "named twice"},
		{`{"LoginSettings":{"Password":"secret"}}`, "UnsupportedOperation", "LoginSettings.Password"},
		{`{"Metadata":{"Items":[{"Key":"k"}]}}`, "UnsupportedOperation", "Metadata"},
		{`{"UserData":"not base64"}`, "InvalidParameterValue.InvalidUserDataFormat", "UserData"},
		{`{"UserData":"` + strings.Repeat("YWFh", 6000) + `"}`, "InvalidParameterValue", "UserData"},
		{`{"HostName":"-x"}`, "InvalidParameterValue.IllegalHostName", "HostName"},
		{`{"InstanceCount":2,"MinCount":3}`, "InvalidParameterValue", "MinCount"},
		{`{"InstanceName":"` + strings.Repeat("n", 129) + `"}`, "InvalidInstanceName.TooLong", "InstanceName"},
		{`{"ClientToken":"` + strings.Repeat("n", 65) + `"}`, "InvalidClientToken.TooLong", "ClientToken"},
		{`{"TagSpecification":[{"ResourceType":"disk","Tags":[]}]}`, "UnsupportedOperation", "ResourceType"},
		{`{"Colour":"red"}`, "UnknownParameter", "Colour"},
	} {
		b.refused("RunInstances", tc.params, tc.code, tc.text)
	}
}

func TestRunInstancesPublicPoolRunsOut(t *testing.T) {
	b := newBench(t, func(o *Options) { o.EIPPool = []netip.Prefix{netip.MustParsePrefix("192.0.2.64/30")} })
	b.runInstances(`{"InstanceCount":2,"InternetAccessible":{"PublicIpAssigned":true}}`)
	b.refused("RunInstances", `{"InternetAccessible":{"PublicIpAssigned":true}}`, "ResourceInsufficient", "PublicIpAssigned")
	b.runInstances(`{}`)
}

func TestRunInstancesOnceForAToken(t *testing.T) {
	b := newBench(t)
	first := b.runInstances(`{"InstanceCount":2,"ClientToken":"t"}`)
	again := b.runInstances(`{"InstanceCount":2,"ClientToken":"t"}`)
	other := b.runInstances(`{"ClientToken":"u"}`)
	if len(again) != 2 || again[0] != first[0] || again[1] != first[1] || other[0] == first[0] || b.Store.State().Instances.Len() != 3 {
		t.Errorf("%d instances", b.Store.State().Instances.Len())
	}
}

func TestDescribeInstances(t *testing.T) {
	b := newBench(t)
	made := b.runInstances(`{"InstanceCount":3,"InstanceName":"w","InternetAccessible":{"PublicIpAssigned":true}}`)
	b.seed(func(tx *store.Tx) {
		i := *made[1]
		i.State, i.Tags = lb.Running, lb.Tags{"k": "v"}
		tx.PutInstance(&i)
	})
	for params, want := range map[string]string{
		`{}`:                     "w1 w2 w3",
		`{"Offset":1,"Limit":1}`: "w2",
		`{"InstanceIds":["` + string(made[2].ID) + `","ins-00000000"]}`:                                                                             "w3",
		`{"InstanceIds":["ins-00000000"]}`:                                                                                                          "",
		`{"Filters":[{"Name":"instance-state","Values":["RUNNING"]}]}`:                                                                              "w2",
		`{"Filters":[{"Name":"instance-name","Values":["w1","w3"]}]}`:                                                                               "w1 w3",
		`{"Filters":[{"Name":"private-ip-address","Values":["10.200.0.3"]}]}`:                                                                       "w2",
		`{"Filters":[{"Name":"public-ip-address","Values":["192.0.2.67"]}]}`:                                                                        "w3",
		`{"Filters":[{"Name":"instance-id","Values":["` + string(made[0].ID) + `"]}]}`:                                                              "w1",
		`{"Filters":[{"Name":"vpc-id","Values":["` + string(made[0].VPC) + `"]},{"Name":"subnet-id","Values":["` + string(made[0].Subnet) + `"]}]}`: "w1 w2 w3",
		`{"Filters":[{"Name":"security-group-id","Values":["` + string(made[0].Groups[0]) + `"]},{"Name":"tag-key","Values":["k"]}]}`:               "w2",
		`{"Filters":[{"Name":"zone","Values":["local-1"]},{"Name":"project-id","Values":["1"]}]}`:                                                   "",
	} {
		var out describeInstancesOut
		b.must("DescribeInstances", params, &out)
		var names []string
		for _, i := range out.InstanceSet {
			names = append(names, i.InstanceName)
			if want := map[string]string{"PENDING": "OPERATING", "RUNNING": "SUCCESS"}[i.InstanceState]; i.LatestOperationState != want {
				t.Errorf("%s is %s and its operation %s", i.InstanceName, i.InstanceState, i.LatestOperationState)
			}
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %q, want %q", params, got, want)
		}
	}
	b.refused("DescribeInstances", `{"InstanceIds":["x"]}`, "InvalidInstanceId.Malformed", "InstanceIds.0")
	b.refused("DescribeInstances", `{"InstanceIds":["ins-00000000"],"Filters":[{"Name":"zone","Values":["a"]}]}`, "InvalidParameterCombination", "Filters")
	b.refused("DescribeInstances", `{"Filters":[{"Name":"colour","Values":["a"]}]}`, "InvalidFilter", "colour")
	b.refused("DescribeInstances", `{"Limit":101}`, "InvalidParameterValue", "Limit")
	raw, err := b.Do(t.Context(), serviceCVM.Version, "DescribeInstances", json.RawMessage(`{"Limit":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"LoginSettings":{}`, `"Placement":{"Zone":"local-1","ProjectId":0}`, `"DataDisks":[]`, `"InstanceChargeType":"POSTPAID_BY_HOUR"`} {
		if !strings.Contains(string(raw), part) {
			t.Errorf("%s is not in %s", part, raw)
		}
	}
}

// groupsOf are an instance's groups, as one text.
func (b *bench) groupsOf(i *lb.Instance) string {
	return strings.Join(groupTextsOf(b.Store.State().Instances.Get(i.ID).Groups), " ")
}

func TestAssociateAndDisassociateSecurityGroups(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.GroupsPerInstance, o.Quotas.InstancesPerGroup = 2, 2
	})
	one, two, three := b.newSG("a"), b.newSG("b"), b.newSG("c")
	made := b.runInstances(`{"InstanceCount":2,"SecurityGroupIds":["` + one + `"]}`)
	call := func(group string, instances ...string) string {
		raw, _ := json.Marshal(map[string]any{"SecurityGroupIds": []string{group}, "InstanceIds": instances})
		return string(raw)
	}
	x, y := string(made[0].ID), string(made[1].ID)
	b.must("AssociateSecurityGroups", call(two, x), nil)
	b.must("AssociateSecurityGroups", call(two, x, y), nil)
	if got := b.groupsOf(made[0]); got != one+" "+two {
		t.Errorf("groups %s, want the order of binding", got)
	}
	b.refused("AssociateSecurityGroups", call(three, x), "LimitExceeded.AssociateUSGLimitExceeded", "at most 2")
	b.refused("AssociateSecurityGroups", call("sg-00000000", x), "InvalidSecurityGroupId.NotFound", "SecurityGroupIds.0")
	b.refused("AssociateSecurityGroups", call("x", x), "InvalidSgId.Malformed", "SecurityGroupIds.0")
	b.refused("AssociateSecurityGroups", call(one, x, "ins-00000000"), "InvalidInstanceId.NotFound", "InstanceIds.1")
	b.refused("AssociateSecurityGroups", strings.Replace(call(one, "x"), `["x"]`, `[]`, 1), "MissingParameter", "InstanceIds")
	b.refused("AssociateSecurityGroups", `{"SecurityGroupIds":["`+one+`","`+two+`"],"InstanceIds":["`+x+`"]}`, "InvalidParameterValue.LimitExceeded", "exactly one")
	b.refused("RunInstances", `{"SecurityGroupIds":["`+one+`"]}`, "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", one)

	b.must("DisassociateSecurityGroups", call(one, x), nil)
	b.must("DisassociateSecurityGroups", call(one, x), nil) // not bound: nothing to do
	if got := b.groupsOf(made[0]); got != two {
		t.Errorf("groups %s, want %s", got, two)
	}
	// All or none: y could lose the group, x could not.
	b.refused("DisassociateSecurityGroups", call(two, y, x), "FailedOperation.SecurityGroupActionFailed", "only group of "+x)
	b.refused("DisassociateSecurityGroups", call("sg-00000000", x), "InvalidSecurityGroupId.NotFound", "SecurityGroupIds.0")
}

// An instance's groups have a limit together; a rule that names a group counts
// once for each of its members.
func TestExpandedRulesQuota(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.ExpandedRules = 3
	})
	id, peer := b.newSG("g"), b.newSG("p")
	i := b.runInstances(`{"SecurityGroupIds":["` + id + `"]}`)[0]
	b.runInstances(`{"InstanceCount":2,"SecurityGroupIds":["` + peer + `"]}`)
	b.policy("CreateSecurityGroupPolicies", id, `"Ingress":[{"Action":"ACCEPT","SecurityGroupId":"`+peer+`"},`+tcp("1")+`]`)
	b.refused("CreateSecurityGroupPolicies", policyParams(id, `"Ingress":[`+tcp("2")+`]`), "UnsupportedOperation.SgNumExceedLimit", "4 rules")
	b.policy("CreateSecurityGroupPolicies", peer, `"Ingress":[`+tcp("1")+`]`)
	b.refused("AssociateSecurityGroups", fmt.Sprintf(`{"SecurityGroupIds":[%q],"InstanceIds":[%q]}`, peer, i.ID), "UnsupportedOperation.SgNumExceedLimit", "at most 3")
	b.refused("ModifyInstancesAttribute", fmt.Sprintf(`{"SecurityGroups":[%q,%q],"InstanceIds":[%q]}`, peer, id, i.ID), "UnsupportedOperation.SgNumExceedLimit", "at most 3")
	b.refused("RunInstances", `{"SecurityGroupIds":["`+peer+`"]}`, "UnsupportedOperation.SgNumExceedLimit", "at most 3") // it is one member more
}

// Whatever the quotas are, a host has to count each rule of its instance, those
// too that name a group without members.
func TestRulesAreWhatAHostCanCount(t *testing.T) {
	b := newBench(t, func(o *Options) {
		o.Quotas = lb.DefaultQuotas()
		o.Quotas.ExpandedRules, o.Quotas.RulesPerDirection = 1_000_000, 1_000_000
	})
	id, empty := lb.GroupID(b.newSG("g")), lb.GroupID(b.newSG("empty"))
	i := b.runInstances("{}")[0]
	fill := func(n int) {
		b.seed(func(tx *store.Tx) {
			g := *tx.State().Groups.Get(id)
			g.Ingress = make([]lb.PolicyRule, n)
			for at := range g.Ingress {
				g.Ingress[at] = lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%08d", at)), Action: lb.Drop, PeerGroup: empty}
			}
			tx.PutGroup(&g)
		})
	}
	bind := fmt.Sprintf(`{"SecurityGroupIds":[%q],"InstanceIds":[%q]}`, id, i.ID)
	fill(lb.MaxCounterSlots - 3) // the default group has two rules
	b.refused("AssociateSecurityGroups", bind, "UnsupportedOperation.SgNumExceedLimit", "its host can count 8189")
	fill(lb.MaxCounterSlots - 4)
	b.must("AssociateSecurityGroups", bind, nil)
}

func TestModifyInstancesAttribute(t *testing.T) {
	b := newBench(t)
	one, two := b.newSG("a"), b.newSG("b")
	i := b.runInstances(`{"SecurityGroupIds":["` + one + `"]}`)[0]
	with := func(more string) string { return fmt.Sprintf(`{"InstanceIds":[%q]%s}`, i.ID, more) }
	b.must("ModifyInstancesAttribute", with(`,"SecurityGroups":["`+two+`","`+one+`"]`), nil)
	b.must("ModifyInstancesAttribute", with(`,"InstanceName":"new"`), nil)
	if got := b.groupsOf(i); got != two+" "+one || b.Store.State().Instances.Get(i.ID).Name != "new" {
		t.Errorf("groups %s", got)
	}
	for _, tc := range []struct{ more, code, text string }{
		{`,"SecurityGroups":[]`, "MissingParameter", "at least one group"},
		{`,"SecurityGroups":["` + one + `"],"InstanceName":"x"`, "InvalidParameterCombination", "SecurityGroups"},
		{`,"SecurityGroups":["` + one + `","` + one + `"]`, "InvalidParameterValue", "SecurityGroups.1"},
		{`,"SecurityGroups":["sg-00000000"]`, "InvalidSecurityGroupId.NotFound", "SecurityGroups.0"},
		{`,"CamRoleName":"x"`, "UnsupportedOperation", "CamRoleName"},
	} {
		b.refused("ModifyInstancesAttribute", with(tc.more), tc.code, tc.text)
	}
	b.refused("ModifyInstancesAttribute", `{"InstanceIds":["ins-00000000"],"InstanceName":"x"}`, "InvalidInstanceId.NotFound", "InstanceIds.0")
}

func TestTerminateInstances(t *testing.T) {
	b := newBench(t)
	made := b.runInstances(`{"InstanceCount":2}`)
	b.seed(func(tx *store.Tx) {
		both := []lb.Target{{Num: 1, Instance: made[0].ID, Port: 80}, {Num: 2, Instance: made[1].ID, Port: 80}}
		tx.PutListener(&lb.Listener{ID: "lbl-00000001", Targets: both})
		tx.PutListener(&lb.Listener{ID: "lbl-00000002", Rules: []lb.Rule{{ID: "loc-00000001", Targets: both}}})
	})
	b.refused("TerminateInstances", fmt.Sprintf(`{"InstanceIds":[%q,"ins-00000000"]}`, made[0].ID), "InvalidInstanceId.NotFound", "InstanceIds.1")
	b.must("TerminateInstances", fmt.Sprintf(`{"InstanceIds":[%q],"ReleaseAddress":true}`, made[0].ID), nil)
	st := b.Store.State()
	left := append(st.Listeners.Get("lbl-00000001").Targets, st.Listeners.Get("lbl-00000002").Rules[0].Targets...)
	if st.Instances.Get(made[0].ID) != nil || len(left) != 2 || left[0].Num != 2 || left[1].Num != 2 {
		t.Errorf("targets %v", left)
	}
	b.refused("TerminateInstances", `{"InstanceIds":["x"]}`, "InvalidInstanceId.Malformed", "InstanceIds.0")
}
