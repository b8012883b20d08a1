// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"net/netip"
	"slices"
	"strings"
)

// A modelSubnet is a part of a VPC.
type modelSubnet struct{ vpc, cidr string }

// A modelInstance is in the default VPC, whose id here is "", or in another.
type modelInstance struct {
	groups      []string
	vpc, subnet string
	state       string
	project     int64
}

func cidrFaults(cidr string, mostBits int) []string {
	p, err := netip.ParsePrefix(cidr)
	switch {
	case err != nil || p != p.Masked():
		return []string{"InvalidParameterValue.Malformed"}
	case p.Bits() < 12 || p.Bits() > mostBits || !p.Addr().IsPrivate():
		return []string{codeRange}
	}
	return nil
}

func (m *model) createSubnet(vpc, cidr string) []string {
	codes := cidrFaults(cidr, 29)
	if m.vpcs[vpc] == "" {
		return append(codes, codeGone)
	}
	if len(codes) > 0 {
		return codes
	}
	p, of := netip.MustParsePrefix(cidr), netip.MustParsePrefix(m.vpcs[vpc])
	if p.Bits() < of.Bits() || !of.Contains(p.Addr()) {
		codes = append(codes, "InvalidParameterValue.SubnetRange")
	}
	for _, s := range m.subnets {
		if s.vpc == vpc && netip.MustParsePrefix(s.cidr).Overlaps(p) {
			codes = append(codes, "InvalidParameterValue.SubnetConflict")
		}
	}
	return codes
}

// deleteVPC needs a VPC that nothing is in, or belongs to.
func (m *model) deleteVPC(id string) []string {
	if m.vpcs[id] == "" {
		return []string{codeGone}
	}
	used := false
	for _, s := range m.subnets {
		used = used || s.vpc == id
	}
	for _, b := range m.clbs {
		used = used || b.vpc == id
	}
	for _, p := range m.pools {
		used = used || p.vpc == id
	}
	if used {
		return []string{codeUsed}
	}
	delete(m.vpcs, id)
	delete(m.tags, id)
	return nil
}

func (m *model) deleteSubnet(id string) []string {
	if m.subnets[id].vpc == "" {
		return []string{codeGone}
	}
	used := false
	for _, b := range m.clbs {
		used = used || b.subnet == id
	}
	for _, i := range m.instances {
		used = used || i.subnet == id
	}
	if used {
		return []string{codeUsed}
	}
	delete(m.subnets, id)
	delete(m.tags, id)
	return nil
}

// placeFaults are those of a VPC and a subnet of it that are named together.
func (m *model) placeFaults(vpc, subnet, gone string) (codes []string) {
	if m.vpcs[vpc] == "" || m.subnets[subnet].vpc == "" {
		codes = append(codes, gone)
	}
	if m.subnets[subnet].vpc != vpc {
		codes = append(codes, codeValue)
	}
	return codes
}

func (m *model) instanceFaults(groups []string) []string {
	return m.boundFaults(groups, m.quotas.GroupsPerInstance, "InvalidSecurityGroupId.NotFound", codeValue, "LimitExceeded.AssociateUSGLimitExceeded")
}

// crowded is what a group answers that would get one instance too many.
func (m *model) crowded(instance string, groups []string) (codes []string) {
	for _, g := range groups {
		n := 0
		for id, i := range m.instances {
			if id != instance && slices.Contains(i.groups, g) {
				n++
			}
		}
		if n >= m.quotas.InstancesPerGroup {
			codes = append(codes, "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded")
		}
	}
	return codes
}

// run makes an instance under an id that stands for the one it will have.
func (m *model) run(id string, i modelInstance) []string {
	codes := append(m.instanceFaults(i.groups), m.crowded("", i.groups)...)
	if i.subnet != "" {
		codes = append(codes, m.placeFaults(i.vpc, i.subnet, codeGone)...)
	}
	m.instances[id] = &i
	codes = append(codes, m.overfull()...)
	if len(codes) > 0 {
		delete(m.instances, id)
	}
	return codes
}

const codeGoneInstance = "InvalidInstanceId.NotFound"

func (m *model) regroup(instance string, groups []string) []string {
	i := m.instances[instance]
	if i == nil {
		return []string{codeGoneInstance}
	}
	codes := append(m.instanceFaults(groups), m.crowded(instance, groups)...)
	if len(groups) == 0 {
		codes = append(codes, codeMissing)
	}
	before := i.groups
	i.groups = groups
	if codes = append(codes, m.overfull()...); len(codes) > 0 {
		i.groups = before
	}
	return codes
}

func (m *model) associate(instance, group string) []string {
	i := m.instances[instance]
	switch {
	case i == nil:
		return []string{codeGoneInstance}
	case m.groups[group] == nil:
		return []string{"InvalidSecurityGroupId.NotFound"}
	case slices.Contains(i.groups, group):
		return nil
	}
	return m.regroup(instance, append(slices.Clone(i.groups), group))
}

func (m *model) disassociate(instance, group string) []string {
	i := m.instances[instance]
	switch {
	case i == nil:
		return []string{codeGoneInstance}
	case m.groups[group] == nil:
		return []string{"InvalidSecurityGroupId.NotFound"}
	case !slices.Contains(i.groups, group):
		return nil
	case len(i.groups) == 1:
		return []string{"FailedOperation.SecurityGroupActionFailed"}
	}
	i.groups = slices.DeleteFunc(slices.Clone(i.groups), func(g string) bool { return g == group })
	return nil
}

func (m *model) terminate(instance string) []string {
	if m.instances[instance] == nil {
		return []string{codeGoneInstance}
	}
	delete(m.instances, instance)
	delete(m.tags, instance)
	gone := func(t modelTarget) bool { return t.instance == instance }
	for _, p := range m.pools {
		p.targets = slices.DeleteFunc(slices.Clone(p.targets), gone)
	}
	for _, l := range m.listeners {
		for _, p := range l.places() {
			p.targets = slices.DeleteFunc(slices.Clone(p.targets), gone)
		}
	}
	return nil
}

// turn is one of the switches of an instance: from one state into another.
func (m *model) turn(instance, from, to string) []string {
	i := m.instances[instance]
	if i == nil {
		return []string{codeGoneInstance}
	}
	if i.state != from {
		return []string{"UnsupportedOperation.InstanceState" + i.state[:1] + strings.ToLower(i.state[1:])}
	}
	i.state = to
	return nil
}

// reinstall is ResetInstance: a reboot, of whatever image.
func (m *model) reinstall(instance string) []string {
	return m.turn(instance, "RUNNING", "REBOOTING")
}

// settle is what the instance's node tells in the end; "" when nothing is awaited.
func (i *modelInstance) settle() string {
	return map[string]string{"PENDING": "RUNNING", "STARTING": "RUNNING", "REBOOTING": "RUNNING", "STOPPING": "STOPPED"}[i.state]
}
