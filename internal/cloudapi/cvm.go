// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func cvmActions() []Action {
	return []Action{
		action(serviceCVM, "RunInstances", runInstances).fails("FailedOperation.NoAvailableIpAddressCountInSubnet", "InvalidClientToken.TooLong", "InvalidInstanceName.TooLong", "InvalidParameterValue", "InvalidSecurityGroupId.NotFound", "InvalidSgId.Malformed", "InvalidZone.MismatchRegion", "LimitExceeded", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "ResourceNotFound"),
		action(serviceCVM, "DescribeInstances", describeInstances).fails("InvalidFilter", "InvalidInstanceId.Malformed", "InvalidParameterCombination", "InvalidParameterValue"),
		action(serviceCVM, "AssociateSecurityGroups", associateSecurityGroups).fails("InvalidInstanceId.NotFound", "InvalidParameterValue.LimitExceeded", "InvalidSecurityGroupId.NotFound", "InvalidSgId.Malformed", "LimitExceeded", "LimitExceeded.AssociateUSGLimitExceeded", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceCVM, "DisassociateSecurityGroups", disassociateSecurityGroups).fails("FailedOperation.SecurityGroupActionFailed", "InvalidInstanceId.NotFound", "InvalidSecurityGroupId.NotFound"),
		action(serviceCVM, "ModifyInstancesAttribute", modifyInstancesAttribute).fails("InvalidInstanceId.NotFound", "InvalidParameterCombination", "InvalidParameterValue", "InvalidSecurityGroupId.NotFound", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "UnsupportedOperation.SgNumExceedLimit").
			like(`{"InstanceIds":["ins-1a2b3c4d"],"SecurityGroups":["sg-1a2b3c4d"]}`),
		action(serviceCVM, "TerminateInstances", terminateInstances).fails("InvalidInstanceId.Malformed", "InvalidInstanceId.NotFound"),
	}
}

// findInstance finds an instance by its id.
func findInstance(st *lb.State, field, id string) (*lb.Instance, error) {
	if !hasShape("ins-", id) {
		return nil, errorf("InvalidInstanceId.Malformed", "%s: %q is not the id of an instance; ids look like ins-12345678", field, clip(id, 40))
	}
	i := st.Instances[lb.InstanceID(id)]
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
	g := st.Groups[lb.GroupID(id)]
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
		return errorf("LimitExceeded.AssociateUSGLimitExceeded", "%s: an instance would have %d groups; at most %d are allowed", field, len(groups), c.Quotas.GroupsPerInstance)
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
	SecurityGroupIds []string `tc:"required"`
	InstanceIds      []string `tc:"required"`
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

type modifyInstancesIn struct {
	InstanceIds    []string `tc:"required"`
	InstanceName   *string  `tc:""`
	SecurityGroups []string `tc:""`
	_              struct{} `unserved:"UserData CamRoleName HostName DisableApiTermination CamRoleType AutoReboot EnableJumboFrame"`
}

// modifyInstancesAttribute renames instances or replaces their whole ordered
// list of groups.
func modifyInstancesAttribute(c *Call, in *modifyInstancesIn) (*done, error) {
	regroup := len(in.SecurityGroups) > 0
	switch {
	case in.InstanceName == nil && !regroup:
		return nil, refuse(lb.Missing, "InstanceName", "nothing to change is given", "give InstanceName or SecurityGroups (at least one group)")
	case in.InstanceName != nil && regroup:
		return nil, refuse(lb.Coexist, "SecurityGroups", "InstanceName is given too", "one call changes one attribute")
	case in.InstanceName != nil:
		if err := instanceName("InstanceName", *in.InstanceName); err != nil {
			return nil, err
		}
	}
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		if in.InstanceName != nil {
			i.Name = *in.InstanceName
			tx.PutInstance(i)
			return nil
		}
		var err error
		if i.Groups, err = c.groupList(tx.State(), "SecurityGroups", in.SecurityGroups); err != nil {
			return err
		}
		i.Observe = false
		tx.PutInstance(i)
		return c.checkMembers(tx, i.Groups)
	})
}

type terminateInstancesIn struct {
	InstanceIds    []string `tc:"required"`
	ReleaseAddress *bool    `tc:""` // an instance's public address is its own: always released
	_              struct{} `unserved:"ReleasePrepaidDataDisks"`
}

// terminateInstances removes instances, also from behind their listeners.
func terminateInstances(c *Call, in *terminateInstancesIn) (*done, error) {
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
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

type describeInstancesIn struct {
	InstanceIds []string `tc:""`
	Filters     []Filter `tc:""`
	Paging
}

type describeInstancesOut struct {
	TotalCount  int
	InstanceSet []instanceOut
}

// describeInstances lists instances, oldest first. Ids that are unknown are
// left out: that is how clients see that an instance is gone.
func describeInstances(c *Call, in *describeInstancesIn) (*describeInstancesOut, error) {
	instances, total, err := listObjects(c, query[lb.InstanceID, lb.Instance]{
		field: "InstanceIds", ids: in.InstanceIds, filters: in.Filters, paging: in.Paging,
		objects: c.State().Instances,
		find: func(st *lb.State, field, id string) (*lb.Instance, error) {
			if hasShape("ins-", id) {
				return st.Instances[lb.InstanceID(id)], nil
			}
			return findInstance(st, field, id)
		},
		keys:  c.instanceFilters(),
		tags:  func(i *lb.Instance) lb.Tags { return i.Tags },
		order: func(a, b *lb.Instance) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeInstancesOut{TotalCount: total}
	for _, i := range instances {
		out.InstanceSet = append(out.InstanceSet, c.instanceOut(i))
	}
	return out, nil
}

func (c *Call) instanceFilters() map[string]func(*lb.Instance) []string {
	return map[string]func(*lb.Instance) []string{
		"instance-id":        func(i *lb.Instance) []string { return []string{string(i.ID)} },
		"instance-name":      func(i *lb.Instance) []string { return []string{i.Name} },
		"instance-state":     func(i *lb.Instance) []string { return []string{string(i.State)} },
		"vpc-id":             func(i *lb.Instance) []string { return []string{string(i.VPC)} },
		"subnet-id":          func(i *lb.Instance) []string { return []string{string(i.Subnet)} },
		"private-ip-address": func(i *lb.Instance) []string { return []string{i.Private.String()} },
		"public-ip-address":  func(i *lb.Instance) []string { return publicAddresses(i) },
		"security-group-id":  func(i *lb.Instance) []string { return groupTextsOf(i.Groups) },
		"zone":               func(*lb.Instance) []string { return []string{c.Zone()} },
		"project-id": func(i *lb.Instance) []string {
			return []string{fmt.Sprint(echoed(i.Echo, "Placement.ProjectId", int64(0)))}
		},
	}
}
