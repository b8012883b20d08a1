// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type startInstancesIn struct {
	InstanceIds []string `tc:"required,count=1-100"`
}

// startInstances switches instances on. Each is STARTING until its node has
// its gate in force.
func startInstances(c *Call, in *startInstancesIn) (*done, error) {
	return &done{}, c.power(in.InstanceIds, lb.Stopped, lb.Starting)
}

type stopInstancesIn struct {
	InstanceIds []string `tc:"required,count=1-100"`
	ForceStop   *bool    `tc:""` // all ways end alike here: politely first, then not
	StopType    string   `tc:"enum=SOFT|HARD|SOFT_FIRST"`
	StoppedMode string   `tc:"enum=KEEP_CHARGING|STOP_CHARGING"`
}

// stopInstances switches instances off. They keep their addresses, groups and
// places behind listeners, and answer nothing.
func stopInstances(c *Call, in *stopInstancesIn) (*done, error) {
	switch {
	case in.ForceStop != nil && in.StopType != "":
		return nil, refuse(lb.Coexist, "ForceStop", "StopType is given too", "leave ForceStop out")
	case in.StoppedMode == "STOP_CHARGING":
		return nil, errorf("UnsupportedOperation.StoppedModeStopCharging", "StoppedMode: nothing is charged here, and a stopped instance keeps all it has; use KEEP_CHARGING or leave it out")
	}
	return &done{}, c.power(in.InstanceIds, lb.Running, lb.Stopping)
}

type rebootInstancesIn struct {
	InstanceIds []string `tc:"required,count=1-100"`
	ForceReboot *bool    `tc:""` // as with StopInstances
	StopType    string   `tc:"enum=SOFT|HARD|SOFT_FIRST"`
}

// rebootInstances switches instances off and on: their open connections end.
func rebootInstances(c *Call, in *rebootInstancesIn) (*done, error) {
	if in.ForceReboot != nil && in.StopType != "" {
		return nil, refuse(lb.Coexist, "ForceReboot", "StopType is given too", "leave ForceReboot out")
	}
	return &done{}, c.power(in.InstanceIds, lb.Running, lb.Rebooting)
}

// power moves instances from one state into another, all or none. What follows
// is done by the machine and noticed by its node's coming and going.
func (c *Call) power(ids []string, from, to lb.InstanceState) error {
	return editInstances(c, ids, func(tx *store.Tx, i *lb.Instance) error {
		return c.powerOne(tx, i, "InstanceIds", from, to)
	})
}

// powerOne moves an instance, whose copy i is; field is how a fault names it.
func (c *Call) powerOne(tx *store.Tx, i *lb.Instance, field string, from, to lb.InstanceState) error {
	if i.Joined {
		return errorf("InvalidInstance.NotSupported", "%s: %s is a machine of its own, which nobody here can switch on or off; do that on the machine", field, i.ID)
	}
	if i.State != from {
		return errorf("UnsupportedOperation.InstanceState"+stateWord(i.State), "%s: %s is %s; this needs %s", field, i.ID, i.State, from)
	}
	i.State, i.Operation, i.OperationID = to, c.Name, c.RequestID
	tx.PutInstance(i)
	return nil
}

// otherStates are the codes for instances that are in another state than the
// one that a call needs.
func otherStates(needed lb.InstanceState) []string {
	var codes []string
	for _, s := range lb.InstanceStates() {
		if s != needed {
			codes = append(codes, "UnsupportedOperation.InstanceState"+stateWord(s))
		}
	}
	return codes
}

// stateWord is a state as it stands in error codes: LAUNCH_FAILED is
// LaunchFailed.
func stateWord(s lb.InstanceState) string {
	var b strings.Builder
	for word := range strings.SplitSeq(string(s), "_") {
		b.WriteString(word[:1] + strings.ToLower(word[1:]))
	}
	return b.String()
}

type instancesStatusIn struct {
	InstanceIds []string `tc:""`
	Paging
}

type instancesStatusOut struct {
	TotalCount        int
	InstanceStatusSet []instanceStatusOut
}

type instanceStatusOut struct{ InstanceId, InstanceState string }

func describeInstancesStatus(c *Call, in *instancesStatusIn) (*instancesStatusOut, error) {
	instances, total, err := listObjects(c, c.instanceQuery(in.InstanceIds, nil, in.Paging))
	if err != nil {
		return nil, err
	}
	out := &instancesStatusOut{TotalCount: total}
	for _, i := range instances {
		out.InstanceStatusSet = append(out.InstanceStatusSet, instanceStatusOut{string(i.ID), string(i.State)})
	}
	return out, nil
}

type instancesAttributesIn struct {
	Attributes  []string `tc:"required"` // UserData
	InstanceIds []string `tc:"required,count=1-100"`
}

type instancesAttributesOut struct{ InstanceSet []instanceAttributeOut }

type instanceAttributeOut struct {
	InstanceId string
	Attributes struct{ UserData string }
}

func describeInstancesAttributes(c *Call, in *instancesAttributesIn) (*instancesAttributesOut, error) {
	for n, a := range in.Attributes {
		if a != "UserData" {
			return nil, refuse(lb.Invalid, fmt.Sprintf("Attributes.%d", n), fmt.Sprintf("%q is no attribute", clip(a, 40)), "use UserData")
		}
	}
	if len(in.InstanceIds) == 0 || len(in.InstanceIds) > maxInstancesPerCall {
		return nil, errorf("InvalidParameterValue.LimitExceeded", "InstanceIds: %s are given; give 1 to %d", count(len(in.InstanceIds), "id"), maxInstancesPerCall)
	}
	out := &instancesAttributesOut{}
	for n, id := range in.InstanceIds {
		i, err := findInstance(c.State(), fmt.Sprintf("InstanceIds.%d", n), id)
		if err != nil {
			return nil, err
		}
		one := instanceAttributeOut{InstanceId: id}
		one.Attributes.UserData = echoed(i.Echo, "UserData", "")
		out.InstanceSet = append(out.InstanceSet, one)
	}
	return out, nil
}

type modifyProjectIn struct {
	InstanceIds []string `tc:"required,count=1-100"`
	ProjectId   int64    `tc:"required,range=0-"`
}

func modifyInstancesProject(c *Call, in *modifyProjectIn) (*done, error) {
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		i.Echo = withEcho(i.Echo, "Placement.ProjectId", fmt.Sprint(in.ProjectId))
		tx.PutInstance(i)
		return nil
	})
}
