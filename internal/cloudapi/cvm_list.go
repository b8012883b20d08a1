// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/sallyport/sallyport/internal/lb"
)

type describeInstancesIn struct {
	InstanceIds []string `tc:""`
	Filters     []Filter `tc:"" filters:"instance-id instance-name instance-state=PENDING|LAUNCH_FAILED|RUNNING|STOPPED|STARTING|STOPPING|REBOOTING|SHUTDOWN|TERMINATING instance-charge-type=PREPAID|POSTPAID_BY_HOUR|CDHPAID|SPOTPAID|CDCPAID uuid vpc-id subnet-id private-ip-address public-ip-address ipv6-address security-group-id zone project-id host-id dedicated-cluster-id creation-start-time creation-end-time tag-value tag-key tag:KEY"`
	Paging
}

type describeInstancesOut struct {
	TotalCount  int
	InstanceSet []instanceOut
}

// describeInstances lists instances, oldest first. Ids that are unknown are
// left out: that is how clients see that an instance is gone.
func describeInstances(c *Call, in *describeInstancesIn) (*describeInstancesOut, error) {
	for _, f := range in.Filters {
		if f.Name != "creation-start-time" && f.Name != "creation-end-time" {
			continue
		}
		for _, v := range f.Values {
			if _, ok := filterTime(v); !ok {
				return nil, errorf("InvalidParameterValue.InvalidTimeFormat", "Filters: %s %q is not a time; write it as 2023-06-01 00:00:00, in UTC", f.Name, clip(v, 40))
			}
		}
	}
	instances, total, err := listObjects(c, c.instanceQuery(in.InstanceIds, in.Filters, in.Paging))
	if err != nil {
		return nil, err
	}
	out := &describeInstancesOut{TotalCount: total}
	for _, i := range instances {
		out.InstanceSet = append(out.InstanceSet, c.instanceOut(i))
	}
	return out, nil
}

// instanceQuery asks for instances by ids or filters.
func (c *Call) instanceQuery(ids []string, filters []Filter, paging Paging) query[lb.InstanceID, lb.Instance] {
	return query[lb.InstanceID, lb.Instance]{
		field: "InstanceIds", ids: ids, filters: filters, paging: paging,
		objects: c.State().Instances,
		find: func(st *lb.State, field, id string) (*lb.Instance, error) {
			if hasShape("ins-", id) {
				return st.Instances.Get(lb.InstanceID(id)), nil
			}
			return findInstance(st, field, id)
		},
		keys: c.instanceFilters(),
		match: map[string]func(*lb.Instance, string) bool{
			"creation-start-time": func(i *lb.Instance, text string) bool { t, _ := filterTime(text); return !i.Created.Before(t) },
			"creation-end-time":   func(i *lb.Instance, text string) bool { t, _ := filterTime(text); return !i.Created.After(t) },
		},
		tags:  func(i *lb.Instance) lb.Tags { return i.Tags },
		order: func(a, b *lb.Instance) int { return older(a.Created, b.Created, a.ID, b.ID) },
	}
}

// filterTime reads a time as filters write it, in either of the service's forms.
func filterTime(text string) (time.Time, bool) {
	for _, form := range []string{time.DateTime, time.RFC3339} {
		if t, err := time.Parse(form, text); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func (c *Call) instanceFilters() map[string]func(*lb.Instance) []string {
	one := func(read func(*lb.Instance) string) func(*lb.Instance) []string {
		return func(i *lb.Instance) []string { return []string{read(i)} }
	}
	none := func(*lb.Instance) []string { return nil } // nothing here has any
	return map[string]func(*lb.Instance) []string{
		"instance-id":          one(func(i *lb.Instance) string { return string(i.ID) }),
		"instance-name":        one(func(i *lb.Instance) string { return i.Name }),
		"instance-state":       one(func(i *lb.Instance) string { return string(i.State) }),
		"instance-charge-type": one(func(i *lb.Instance) string { return echoed(i.Echo, "InstanceChargeType", chargedByHour) }),
		"uuid":                 one(instanceUUID),
		"vpc-id":               one(func(i *lb.Instance) string { return string(i.VPC) }),
		"subnet-id":            one(func(i *lb.Instance) string { return string(i.Subnet) }),
		"private-ip-address":   privateAddresses,
		"public-ip-address":    publicAddresses,
		"security-group-id":    func(i *lb.Instance) []string { return groupTextsOf(i.Groups) },
		"zone":                 one(func(*lb.Instance) string { return c.Zone() }),
		"project-id":           one(func(i *lb.Instance) string { return fmt.Sprint(echoed(i.Echo, "Placement.ProjectId", int64(0))) }),
		"tag-value":            func(i *lb.Instance) []string { return tagValues(i.Tags) },
		"host-id":              none, "dedicated-cluster-id": none, "ipv6-address": ipv6Texts,
	}
}

func tagValues(tags lb.Tags) []string {
	var all []string
	for _, key := range sortedKeys(tags) {
		all = append(all, tags[key])
	}
	return all
}

// instanceUUID is an instance's id in the form of a UUID: always the same.
func instanceUUID(i *lb.Instance) string {
	return uuid.NewSHA1(uuid.NameSpaceOID, []byte(i.ID)).String()
}
