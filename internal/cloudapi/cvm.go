// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func cvmActions() []Action {
	return []Action{
		action(serviceCVM, "RunInstances", runInstances).fails("FailedOperation.NoAvailableIpAddressCountInSubnet", "InvalidClientToken.TooLong", "InvalidInstanceName.TooLong", "InvalidParameterValue", "InvalidParameterValue.IllegalHostName", "InvalidParameterValue.InvalidUserDataFormat", "InvalidSecurityGroupId.NotFound", "InvalidSgId.Malformed", "InvalidZone.MismatchRegion", "LimitExceeded", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "ResourceNotFound", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceCVM, "DescribeInstances", describeInstances).fails("InvalidInstanceId.Malformed", "InvalidParameterCombination", "InvalidParameterValue", "InvalidParameterValue.InvalidTimeFormat"),
		action(serviceCVM, "AssociateSecurityGroups", associateSecurityGroups).fails("InvalidInstanceId.NotFound", "InvalidParameterValue.LimitExceeded", "InvalidSecurityGroupId.NotFound", "InvalidSgId.Malformed", "LimitExceeded", "LimitExceeded.AssociateUSGLimitExceeded", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceCVM, "DisassociateSecurityGroups", disassociateSecurityGroups).fails("FailedOperation.SecurityGroupActionFailed", "InvalidInstanceId.NotFound", "InvalidSecurityGroupId.NotFound"),
		action(serviceCVM, "ModifyInstancesAttribute", modifyInstancesAttribute).fails("LimitExceeded.AssociateUSGLimitExceeded", "InvalidInstanceId.NotFound", "InvalidParameterValue.IllegalHostName", "InvalidParameterValue.InvalidUserDataFormat", "MissingParameter", "InvalidParameterCombination", "InvalidParameterValue", "InvalidSecurityGroupId.NotFound", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "UnsupportedOperation.SgNumExceedLimit").
			like(`{"InstanceIds":["ins-1a2b3c4d"],"SecurityGroups":["sg-1a2b3c4d"]}`),
		action(serviceCVM, "TerminateInstances", terminateInstances).fails("InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "UnsupportedOperation.InstancesProtected"),
		action(serviceCVM, "StartInstances", startInstances).fails("InvalidInstance.NotSupported", "InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "InvalidParameterValue.LimitExceeded").fails(otherStates(lb.Stopped)...),
		action(serviceCVM, "StopInstances", stopInstances).fails("InvalidInstance.NotSupported", "InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "InvalidParameterValue.LimitExceeded", "InvalidParameterCombination", "UnsupportedOperation.StoppedModeStopCharging").fails(otherStates(lb.Running)...),
		action(serviceCVM, "RebootInstances", rebootInstances).fails("InvalidInstance.NotSupported", "InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "InvalidParameterValue.LimitExceeded", "InvalidParameterCombination").fails(otherStates(lb.Running)...),
		action(serviceCVM, "ResetInstance", resetInstance).fails("InvalidInstance.NotSupported", "InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "InvalidParameterValue", "InvalidParameterValue.IllegalHostName", "InvalidParameterValue.InvalidUserDataFormat").fails(otherStates(lb.Running)...),
		action(serviceCVM, "DescribeInstancesStatus", describeInstancesStatus).fails("InvalidInstanceId.Malformed", "InvalidParameterValue"),
		action(serviceCVM, "DescribeInstancesAttributes", describeInstancesAttributes).fails("InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound", "InvalidParameterValue", "InvalidParameterValue.LimitExceeded").
			like(`{"Attributes":["UserData"],"InstanceIds":["ins-1a2b3c4d"]}`),
		action(serviceCVM, "ModifyInstancesProject", modifyInstancesProject).fails("InvalidInstanceId.NotFound", "InvalidParameterValue"),
		action(serviceCVM, "DescribeImages", describeImages).fails("InvalidImageId.Malformed", "InvalidParameter.InvalidParameterCoexistImageIdsFilters", "InvalidParameterValue"),
		action(serviceCVM, "DescribeZones", describeZones),
		action(serviceCVM, "DescribeRegions", describeRegions),
		action(serviceCVM, "DescribeInstanceTypeConfigs", describeInstanceTypeConfigs),
		action(serviceCVM, "DescribeZoneInstanceConfigInfos", describeZoneInstanceConfigInfos),
		action(serviceCVM, "DescribeKeyPairs", describeKeyPairs).fails("InvalidParameterValue"),
	}
}

// findInstance finds an instance by its id.
func findInstance(st *lb.State, field, id string) (*lb.Instance, error) {
	if !hasShape("ins-", id) {
		return nil, errorf("InvalidInstanceId.Malformed", "%s: %q is not the id of an instance; ids look like ins-12345678", field, clip(id, 40))
	}
	i := st.Instances.Get(lb.InstanceID(id))
	if i == nil {
		return nil, errorf("InvalidInstanceId.NotFound", "%s: there is no instance %s; DescribeInstances lists them", field, id)
	}
	return i, nil
}

// cvmGroup is findGroup with the codes of cvm.
func cvmGroup(st *lb.State, field, id string) (*lb.SecurityGroup, error) {
	if !hasShape("sg-", id) {
		return nil, errorf("InvalidSgId.Malformed", "%s: %q is not the id of a security group; ids look like sg-12345678", field, clip(id, 40))
	}
	g := st.Groups.Get(lb.GroupID(id))
	if g == nil {
		return nil, errorf("InvalidSecurityGroupId.NotFound", "%s: there is no security group %s; DescribeSecurityGroups lists them", field, id)
	}
	return g, nil
}

// groupList checks the whole list of an instance's groups, highest priority
// first.
func (c *Call) groupList(st *lb.State, field string, ids []string) ([]lb.GroupID, error) {
	var groups []lb.GroupID
	for i, id := range ids {
		at := field + "." + strconv.Itoa(i)
		g, err := cvmGroup(st, at, id)
		if err != nil {
			return nil, err
		}
		if slices.Contains(groups, g.ID) {
			return nil, refuse(lb.Duplicate, at, id+" is named twice", "name each group once")
		}
		groups = append(groups, g.ID)
	}
	return groups, c.checkGroupCount(field, groups)
}

func (c *Call) checkGroupCount(field string, groups []lb.GroupID) error {
	if len(groups) > c.Quotas.GroupsPerInstance {
		return errorf("LimitExceeded.AssociateUSGLimitExceeded", "%s: an instance would have %d groups; at most %d are allowed; leave some out", field, len(groups), c.Quotas.GroupsPerInstance)
	}
	return nil
}

// editInstances changes the named instances in one transaction: all or none.
func editInstances(c *Call, ids []string, fn func(tx *store.Tx, i *lb.Instance) error) error {
	if len(ids) == 0 || len(ids) > maxInstancesPerCall {
		return errorf("InvalidParameterValue.LimitExceeded", "InstanceIds: %s are given; give 1 to %d", count(len(ids), "id"), maxInstancesPerCall)
	}
	return c.Update(func(tx *store.Tx) error {
		for n, id := range ids {
			old, err := findInstance(tx.State(), "InstanceIds."+strconv.Itoa(n), id)
			if err != nil {
				return err
			}
			i := *old
			i.Groups = slices.Clone(old.Groups)
			if err := fn(tx, &i); err != nil {
				return err
			}
		}
		return nil
	})
}

type associateIn struct {
	SecurityGroupIds []string `tc:"required,count=1-100"`
	InstanceIds      []string `tc:"required,count=1-100"`
}

// one is the call's only group.
func (in *associateIn) one() (string, error) {
	if len(in.SecurityGroupIds) != 1 {
		return "", errorf("InvalidParameterValue.LimitExceeded", "SecurityGroupIds: %s are given; give exactly one per call", count(len(in.SecurityGroupIds), "id"))
	}
	return in.SecurityGroupIds[0], nil
}

// associateSecurityGroups binds one group to instances at the lowest
// priority. Where it is bound already, nothing changes.
func associateSecurityGroups(c *Call, in *associateIn) (*done, error) {
	id, err := in.one()
	if err != nil {
		return nil, err
	}
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		g, err := cvmGroup(tx.State(), "SecurityGroupIds.0", id)
		if err != nil || slices.Contains(i.Groups, g.ID) && !i.Observe {
			return err
		}
		if !slices.Contains(i.Groups, g.ID) {
			i.Groups = append(i.Groups, g.ID)
		}
		i.Observe = false // the first binding of a machine that joined closes its gate
		if err := c.checkGroupCount("SecurityGroupIds", i.Groups); err != nil {
			return err
		}
		tx.PutInstance(i)
		return c.checkMembers(tx, i.Groups)
	})
}

// disassociateSecurityGroups unbinds one group from instances. Where it is not
// bound, nothing changes. An instance keeps at least one group.
func disassociateSecurityGroups(c *Call, in *associateIn) (*done, error) {
	id, err := in.one()
	if err != nil {
		return nil, err
	}
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		g, err := cvmGroup(tx.State(), "SecurityGroupIds.0", id)
		if err != nil {
			return err
		}
		at := slices.Index(i.Groups, g.ID)
		if at < 0 {
			return nil
		}
		if len(i.Groups) == 1 {
			return errorf("FailedOperation.SecurityGroupActionFailed", "SecurityGroupIds.0: %s is the only group of %s, and an instance keeps at least one; bind another first", g.ID, i.ID)
		}
		i.Groups = slices.Delete(i.Groups, at, at+1)
		tx.PutInstance(i)
		return nil
	})
}

type terminateInstancesIn struct {
	InstanceIds    []string `tc:"required,count=1-100"`
	ReleaseAddress *bool    `tc:""` // an instance's public address is its own: always released
	_              struct{} `unserved:"ReleasePrepaidDataDisks"`
}

// terminateInstances removes instances, also from behind their listeners.
func terminateInstances(c *Call, in *terminateInstancesIn) (*done, error) {
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		if echoed(i.Echo, "DisableApiTermination", false) {
			return errorf("UnsupportedOperation.InstancesProtected", "InstanceIds: %s is protected from being terminated; let ModifyInstancesAttribute set DisableApiTermination to false first", i.ID)
		}
		removeInstance(tx, i)
		return nil
	})
}

// withoutTargets is a copy of the listener without the instance's targets.
func withoutTargets(old *lb.Listener, id lb.InstanceID) (*lb.Listener, bool) {
	gone := func(t lb.Target) bool { return t.Instance == id }
	l, changed := *old, slices.ContainsFunc(old.Targets, gone)
	l.Targets = slices.DeleteFunc(slices.Clone(old.Targets), gone)
	l.Rules = slices.Clone(old.Rules)
	for n := range l.Rules {
		r := &l.Rules[n]
		changed = changed || slices.ContainsFunc(r.Targets, gone)
		r.Targets = slices.DeleteFunc(slices.Clone(r.Targets), gone)
	}
	return &l, changed
}
