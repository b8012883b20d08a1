// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// become puts an instance into a state, as its node's coming and going does.
func (b *bench) become(id lb.InstanceID, s lb.InstanceState) {
	b.Helper()
	b.seed(func(tx *store.Tx) {
		i := *tx.State().Instances.Get(id)
		i.State = s
		tx.PutInstance(&i)
	})
}

// Which states each call needs, what it leads to, and what is said otherwise.
func TestInstanceLife(t *testing.T) {
	b := newBench(t)
	i := b.runInstances(`{}`)[0]
	ids := fmt.Sprintf(`{"InstanceIds":[%q]}`, i.ID)
	for _, c := range []struct {
		action   string
		from, to lb.InstanceState
	}{
		{"StartInstances", lb.Stopped, lb.Starting}, {"StopInstances", lb.Running, lb.Stopping}, {"RebootInstances", lb.Running, lb.Rebooting},
	} {
		for _, state := range lb.InstanceStates() {
			b.become(i.ID, state)
			if state != c.from {
				b.refused(c.action, ids, "UnsupportedOperation.InstanceState"+stateWord(state), string(state))
				continue
			}
			b.must(c.action, ids, nil)
			var out describeInstancesOut
			b.must("DescribeInstances", `{}`, &out)
			o := out.InstanceSet[0]
			if o.InstanceState != string(c.to) || o.LatestOperation != c.action || o.LatestOperationState != "OPERATING" || len(o.LatestOperationRequestId) != 36 {
				t.Errorf("after %s: %+v", c.action, o)
			}
			var status instancesStatusOut
			b.must("DescribeInstancesStatus", ids, &status)
			if status.TotalCount != 1 || status.InstanceStatusSet[0] != (instanceStatusOut{string(i.ID), string(c.to)}) {
				t.Errorf("after %s the status is %+v", c.action, status)
			}
			b.become(i.ID, lb.Running)
			b.must("DescribeInstances", `{}`, &out)
			if o := out.InstanceSet[0]; o.LatestOperationState != "SUCCESS" {
				t.Errorf("when %s is over: %+v", c.action, o)
			}
		}
	}
	b.become(i.ID, lb.Running)
	own := b.runInstances(`{}`)[0]
	b.seed(func(tx *store.Tx) { j := *own; j.Joined, j.State = true, lb.Running; tx.PutInstance(&j) })
	both := fmt.Sprintf(`{"InstanceIds":[%q,%q]}`, i.ID, own.ID)
	for _, action := range []string{"StartInstances", "StopInstances", "RebootInstances"} {
		if action != "StartInstances" {
			b.refused(action, both, "InvalidInstance.NotSupported", string(own.ID))
		}
		b.refused(action, fmt.Sprintf(`{"InstanceIds":[%q]}`, own.ID), "InvalidInstance.NotSupported", "a machine of its own")
		b.refused(action, `{"InstanceIds":["ins-00000000"]}`, "InvalidInstanceId.NotFound", "ins-00000000")
		b.refused(action, `{"InstanceIds":["web"]}`, "InvalidInstanceId.Malformed", "web")
		b.refused(action, `{"InstanceIds":[]}`, "MissingParameter", "InstanceIds")
	}
	b.must("StopInstances", fmt.Sprintf(`{"InstanceIds":[%q],"StopType":"HARD","StoppedMode":"KEEP_CHARGING"}`, i.ID), nil)
	b.refusals([]refusal{
		{"StopInstances", `{"InstanceIds":["` + string(i.ID) + `"],"StopType":"SOFT","ForceStop":true}`, "InvalidParameterCombination", "ForceStop"},
		{"StopInstances", `{"InstanceIds":["` + string(i.ID) + `"],"StoppedMode":"STOP_CHARGING"}`, "UnsupportedOperation.StoppedModeStopCharging", "StoppedMode"},
		{"RebootInstances", `{"InstanceIds":["` + string(i.ID) + `"],"StopType":"SOFT","ForceReboot":true}`, "InvalidParameterCombination", "ForceReboot"},
		{"DescribeInstancesStatus", `{"InstanceIds":["x"]}`, "InvalidInstanceId.Malformed", "x"},
		{"DescribeInstancesStatus", `{"Limit":101}`, "InvalidParameterValue", "Limit"},
	})
}

// A reset is a reboot that stores what it is given.
func TestResetInstance(t *testing.T) {
	b := newBench(t)
	i := b.runInstances(`{"HostName":"web-1","ImageId":"img-older","InstanceName":"web"}`)[0]
	reset := func(more string) string { return fmt.Sprintf(`{"InstanceId":%q%s}`, i.ID, more) }
	shown := func() instanceOut {
		var out describeInstancesOut
		b.must("DescribeInstances", `{}`, &out)
		return out.InstanceSet[0]
	}
	for _, state := range lb.InstanceStates() {
		b.become(i.ID, state)
		if state != lb.Running {
			b.refused("ResetInstance", reset(``), "UnsupportedOperation.InstanceState"+stateWord(state), "InstanceId: "+string(i.ID))
		}
	}
	b.become(i.ID, lb.Running)
	b.refusals([]refusal{
		{"ResetInstance", reset(`,"HostName":"a..b"`), "InvalidParameterValue.IllegalHostName", "HostName"},
		{"ResetInstance", reset(`,"UserData":"%"`), "InvalidParameterValue.InvalidUserDataFormat", "UserData"},
		{"ResetInstance", reset(`,"LoginSettings":{"Password":"secret"}`), "UnsupportedOperation", "LoginSettings.Password"},
		{"ResetInstance", `{"InstanceId":"ins-00000000"}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"ResetInstance", `{"InstanceId":"web"}`, "InvalidInstanceId.Malformed", "web"},
		{"ResetInstance", `{}`, "MissingParameter", "InstanceId"},
	})
	b.must("ResetInstance", reset(`,"ImageId":"img-newer"`), nil) // any, as RunInstances
	if o := shown(); o.InstanceState != "REBOOTING" || o.LatestOperation != "ResetInstance" || o.LatestOperationState != "OPERATING" || o.ImageId != "img-newer" || o.HostName != "web-1" {
		t.Errorf("while it is reset: %+v", o)
	}
	b.become(i.ID, lb.Running)
	b.must("ResetInstance", reset(`,"ImageId":"`+labImage+`","HostName":"web-2","UserData":"YQ==","SystemDisk":{"DiskSize":70},"LoginSettings":{"KeepImageLogin":"FALSE"}`), nil)
	b.become(i.ID, lb.Running)
	if o := shown(); o.LatestOperationState != "SUCCESS" || o.ImageId != labImage || o.HostName != "web-2" || o.SystemDisk.DiskSize != 70 || o.InstanceName != "web" {
		t.Errorf("when it is over: %+v", o)
	}
	b.seed(func(tx *store.Tx) { j := *i; j.Joined, j.State = true, lb.Running; tx.PutInstance(&j) })
	b.refused("ResetInstance", reset(``), "InvalidInstance.NotSupported", "InstanceId: "+string(i.ID)+" is a machine of its own")
}

func TestInstanceAttributes(t *testing.T) {
	b := newBench(t)
	data := base64.StdEncoding.EncodeToString([]byte("#!/bin/sh"))
	i := b.runInstances(`{"UserData":"` + data + `","HostName":"web-1","DisableApiTermination":true,"MinCount":1}`)[0]
	ids := fmt.Sprintf(`"InstanceIds":[%q]`, i.ID)
	var out describeInstancesOut
	userData := func() string {
		var got instancesAttributesOut
		b.must("DescribeInstancesAttributes", `{"Attributes":["UserData"],`+ids+`}`, &got)
		return got.InstanceSet[0].Attributes.UserData
	}
	b.must("DescribeInstances", `{}`, &out)
	if o := out.InstanceSet[0]; o.HostName != "web-1" || !o.DisableApiTermination || o.ImageId != labImage || o.InstanceType != labType || userData() != data {
		t.Errorf("made as %+v", o)
	}
	b.refused("TerminateInstances", `{`+ids+`}`, "UnsupportedOperation.InstancesProtected", string(i.ID))
	for _, change := range []string{`"HostName":"web-2"`, `"UserData":"YQ=="`, `"DisableApiTermination":false`} {
		b.must("ModifyInstancesAttribute", `{`+ids+`,`+change+`}`, nil)
	}
	b.must("ModifyInstancesProject", `{`+ids+`,"ProjectId":7}`, nil)
	b.must("DescribeInstances", `{}`, &out)
	if o := out.InstanceSet[0]; o.HostName != "web-2" || o.DisableApiTermination || o.Placement.ProjectId != 7 || userData() != "YQ==" {
		t.Errorf("changed to %+v", o)
	}
	b.refusals([]refusal{
		{"ModifyInstancesAttribute", `{` + ids + `}`, "MissingParameter", "nothing to change"},
		{"ModifyInstancesAttribute", `{` + ids + `,"HostName":"a","UserData":"YQ=="}`, "InvalidParameterCombination", "one attribute"},
		{"ModifyInstancesAttribute", `{` + ids + `,"HostName":"a..b"}`, "InvalidParameterValue.IllegalHostName", "HostName"},
		{"ModifyInstancesAttribute", `{` + ids + `,"UserData":"%"}`, "InvalidParameterValue.InvalidUserDataFormat", "UserData"},
		{"ModifyInstancesAttribute", `{` + ids + `,"UserData":"` + strings.Repeat("YWFh", 6000) + `"}`, "InvalidParameterValue", "UserData"},
		{"ModifyInstancesProject", `{` + ids + `,"ProjectId":-1}`, "InvalidParameterValue", "ProjectId"},
		{"ModifyInstancesProject", `{"InstanceIds":["ins-00000000"],"ProjectId":1}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"DescribeInstancesAttributes", `{"Attributes":["UserData"],"InstanceIds":["ins-00000000"]}`, "InvalidInstanceId.NotFound", "ins-00000000"},
		{"DescribeInstancesAttributes", `{"Attributes":["Colour"],` + ids + `}`, "InvalidParameterValue", "Colour"},
		{"DescribeInstancesAttributes", `{"Attributes":["UserData"],"InstanceIds":["x"]}`, "InvalidInstanceId.Malformed", "x"},
		{"DescribeInstancesAttributes", `{"Attributes":["UserData"],"InstanceIds":[]}`, "MissingParameter", "InstanceIds"},
	})
	b.must("TerminateInstances", `{`+ids+`}`, nil)
}

// A dry run checks all and makes nothing, also no default network.
func TestRunInstancesDryRun(t *testing.T) {
	b := newBench(t)
	before := b.Store.State().Revision
	var out runInstancesOut
	b.must("RunInstances", `{"DryRun":true,"InstanceCount":3}`, &out)
	if st := b.Store.State(); len(out.InstanceIdSet) != 0 || st.Revision != before || st.VPCs.Len() != 0 {
		t.Errorf("made %v at revision %d", out.InstanceIdSet, st.Revision)
	}
	b.refused("RunInstances", `{"DryRun":true,"SecurityGroupIds":["sg-00000000"]}`, "InvalidSecurityGroupId.NotFound", "sg-00000000")
}

// What stands for images, types, zones and regions says what there is.
func TestWhatAnInstanceIs(t *testing.T) {
	b := newBench(t)
	var images describeImagesOut
	for params, n := range map[string]int{
		`{}`: 1, `{"ImageIds":["` + labImage + `"]}`: 1, `{"ImageIds":["img-00000000"]}`: 0, `{"InstanceType":"S5.MEDIUM2"}`: 1, `{"Offset":1}`: 1,
		`{"Filters":[{"Name":"image-type","Values":["PUBLIC_IMAGE"]}]}`: 1, `{"Filters":[{"Name":"platform","Values":["CentOS"]}]}`: 0, `{"Filters":[{"Name":"tag-key","Values":["k"]}]}`: 0,
	} {
		b.must("DescribeImages", params, &images)
		if images.TotalCount != n {
			t.Errorf("%s: %d images", params, images.TotalCount)
		}
	}
	var zones describeZonesOut
	var regions describeRegionsOut
	b.must("DescribeZones", `{}`, &zones)
	b.must("DescribeRegions", `{}`, &regions)
	if zones.TotalCount != 1 || zones.ZoneSet[0].Zone != "local-1" || regions.RegionSet[0].Region != "local" {
		t.Errorf("zones %+v, regions %+v", zones, regions)
	}
	var types typeConfigsOut
	b.must("DescribeInstanceTypeConfigs", `{"Filters":[{"Name":"zone","Values":["local-1"]},{"Name":"instance-family","Values":["LAB"]}]}`, &types)
	var infos zoneConfigsOut
	b.must("DescribeZoneInstanceConfigInfos", `{"Filters":[{"Name":"sort-keys","Values":["cpu:desc"]},{"Name":"instance-charge-type","Values":["POSTPAID_BY_HOUR"]}]}`, &infos)
	if len(types.InstanceTypeConfigSet) != 1 || types.InstanceTypeConfigSet[0].InstanceType != labType || len(infos.InstanceTypeQuotaSet) != 1 || infos.InstanceTypeQuotaSet[0].Status != "SELL" {
		t.Errorf("types %+v, infos %+v", types, infos)
	}
	b.must("DescribeInstanceTypeConfigs", `{"Filters":[{"Name":"instance-type","Values":["S5.MEDIUM2"]}]}`, &types)
	var keys describeKeyPairsOut
	b.must("DescribeKeyPairs", `{"KeyIds":["skey-00000000"]}`, &keys)
	if len(types.InstanceTypeConfigSet) != 0 || keys.TotalCount != 0 {
		t.Errorf("types %+v, keys %+v", types, keys)
	}
	bad := `{"Filters":[{"Name":"colour","Values":["red"]}]}`
	b.refusals([]refusal{
		{"DescribeImages", bad, "InvalidFilter", "colour"},
		{"DescribeImages", `{"ImageIds":["x"]}`, "InvalidImageId.Malformed", "x"},
		{"DescribeImages", `{"ImageIds":["` + labImage + `"],"Filters":[{"Name":"platform","Values":["x"]}]}`, "InvalidParameter.InvalidParameterCoexistImageIdsFilters", "ImageIds"},
		{"DescribeImages", `{"Limit":0}`, "InvalidParameterValue", "Limit"},
		{"DescribeInstanceTypeConfigs", bad, "InvalidFilter", "colour"},
		{"DescribeZoneInstanceConfigInfos", bad, "InvalidFilter", "colour"},
		{"DescribeZoneInstanceConfigInfos", `{"Filters":[{"Name":"sort-keys","Values":["cpu"]}]}`, "InvalidFilter", "sort-keys"},
		{"DescribeKeyPairs", bad, "InvalidFilter", "colour"},
		{"DescribeKeyPairs", `{"Offset":-1}`, "InvalidParameterValue", "Offset"},
	})
}

// The filters that are more than a comparison, and those of what nothing here has.
func TestDescribeInstancesFilters(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := newBench(t, func(o *Options) { o.Now = func() time.Time { at = at.Add(time.Hour); return at } })
	made := b.runInstances(`{"InstanceCount":2,"InstanceName":"w","InstanceChargeType":"POSTPAID_BY_HOUR","TagSpecification":[{"ResourceType":"instance","Tags":[{"Key":"k","Value":"v"}]}]}`)
	created := made[1].Created.Format(time.DateTime)
	for params, want := range map[string]int{
		`{"Name":"creation-start-time","Values":["` + created + `"]}`:                           1,
		`{"Name":"creation-end-time","Values":["` + created + `"]}`:                             2,
		`{"Name":"creation-end-time","Values":["2026-01-01T00:00:00Z"]}`:                        0,
		`{"Name":"uuid","Values":["` + instanceUUID(made[0]) + `"]}`:                            1,
		`{"Name":"instance-charge-type","Values":["POSTPAID_BY_HOUR"]}`:                         2,
		`{"Name":"tag-value","Values":["v"]}`:                                                   2,
		`{"Name":"tag:k","Values":["x"]}`:                                                       0,
		`{"Name":"ipv6-address","Values":["2001:db8::1"]},{"Name":"zone","Values":["local-1"]}`: 0,
	} {
		var out describeInstancesOut
		b.must("DescribeInstances", `{"Filters":[`+params+`]}`, &out)
		if out.TotalCount != want {
			t.Errorf("%s: %d instances, want %d", params, out.TotalCount, want)
		}
	}
	b.refused("DescribeInstances", `{"Filters":[{"Name":"creation-end-time","Values":["yesterday"]}]}`, "InvalidParameterValue.InvalidTimeFormat", "yesterday")
}
