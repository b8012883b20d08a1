// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// A model is what groups, load balancers, listeners, targets and instances
// mean, in the fewest words: plain lists, no store, no transactions. Each
// method that changes it says which codes the real thing may answer instead;
// with none it must succeed. Where a request has several faults, any of their
// codes will do.
type model struct {
	quotas    lb.Quotas
	groups    map[string]*modelGroup
	clbs      map[string]*modelCLB
	listeners map[string]*modelListener
	instances map[string][]string // groups by instance
	templates map[string][]string // addresses by template
	vpcs      map[string]string   // CIDRs
	subnets   map[string]modelSubnet
	members   map[string][]modelTarget // by target group
}

type modelGroup struct {
	name    string
	rules   map[string][]modelRule // by direction
	version int
}

// A modelRule is a rule as it reads back.
type modelRule struct{ action, proto, port, cidr, cidr6, group, template, text string }

// same is what makes two rules one: everything but the description.
func (r modelRule) same() modelRule { r.text = ""; return r }

type modelCLB struct {
	vpc       string // of a private one; the instances are in another VPC
	subnet    string
	groups    []string
	pass      bool
	protected bool
}

type modelListener struct {
	clb  string
	kind string // TCP, UDP or HTTP
	port int64
	modelPlace
	rules map[string]*modelPlace // of HTTP
}

// A modelPlace has targets: a layer-4 listener, or a rule.
type modelPlace struct {
	domain, url string // of a rule
	grouped     bool   // made for a target group
	group       string // the one that it follows
	targets     []modelTarget
}

type modelTarget struct {
	instance     string
	port, weight int64
}

func newModel(q lb.Quotas) *model {
	return &model{q, map[string]*modelGroup{}, map[string]*modelCLB{}, map[string]*modelListener{}, map[string][]string{},
		map[string][]string{}, map[string]string{}, map[string]modelSubnet{}, map[string][]modelTarget{}}
}

const (
	codeMissing   = "MissingParameter"
	codeGone      = "ResourceNotFound"
	codeGoneCLB   = "InvalidParameter.LBIdNotFound"
	codeGoneLbl   = "InvalidParameter.ListenerIdNotFound"
	codeGoneLoc   = "InvalidParameter.LocationNotFound"
	codeDuplicate = "UnsupportedOperation.DuplicatePolicy"
	codeVersion   = "UnsupportedOperation.VersionMismatch"
)

// A writtenRule is a generated rule: how it is written, what it becomes, and the
// codes of what is wrong with it.
type writtenRule struct {
	fields  map[string]any
	becomes []modelRule
	codes   []string
}

func (m *model) createGroup(name string) (codes []string) {
	switch {
	case name == "":
		codes = append(codes, "InvalidParameterValue")
	case len([]rune(name)) > 60:
		codes = append(codes, "InvalidParameterValue.TooLong")
	}
	if len(m.groups) >= m.quotas.Groups {
		codes = append(codes, "LimitExceeded")
	}
	return codes
}

func (m *model) deleteGroup(id string) []string {
	if m.groups[id] == nil {
		return []string{codeGone}
	}
	for _, bound := range m.instances {
		if slices.Contains(bound, id) {
			return []string{"ResourceInUse"}
		}
	}
	for _, b := range m.clbs {
		if slices.Contains(b.groups, id) {
			return []string{"ResourceInUse"}
		}
	}
	for other, g := range m.groups {
		for _, list := range g.rules {
			if other != id && slices.ContainsFunc(list, func(r modelRule) bool { return r.group == id }) {
				return []string{"ResourceInUse"}
			}
		}
	}
	delete(m.groups, id)
	return nil
}

// listFaults says what is wrong with a group whose direction would be list.
func (m *model) listFaults(id, dir string, list []modelRule, tooMany string) (codes []string) {
	seen := map[modelRule]bool{}
	peers := map[string]bool{}
	other := m.groups[id].rules[map[string]string{"Ingress": "Egress", "Egress": "Ingress"}[dir]]
	for _, r := range list {
		if seen[r.same()] {
			codes = append(codes, codeDuplicate)
		}
		seen[r.same()] = true
	}
	for _, r := range slices.Concat(list, other) {
		if r.template != "" && m.templates[r.template] == nil {
			codes = append(codes, codeGone)
		}
		if r.group == "" {
			continue
		}
		if peers[r.group] = true; m.groups[r.group] == nil {
			codes = append(codes, codeGone)
		}
	}
	if len(list) > m.quotas.RulesPerDirection {
		codes = append(codes, tooMany)
	}
	if len(peers) > m.quotas.References {
		codes = append(codes, "LimitExceeded")
	}
	for _, b := range m.clbs {
		if slices.Contains(b.groups, id) && m.expanded(list)+m.expanded(other) > m.quotas.RulesOnBalancer {
			codes = append(codes, "UnsupportedOperation.ClbPolicyExceedLimit")
		}
	}
	return codes
}

// set makes list the direction's rules unless that is refused.
func (m *model) set(id, dir string, list []modelRule, codes []string) []string {
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if len(codes) == 0 && slices.Equal(list, g.rules[dir]) {
		return nil
	}
	if codes = append(codes, m.listFaults(id, dir, list, "LimitExceeded.SecurityGroupPolicySet")...); len(codes) > 0 {
		return codes
	}
	g.rules[dir] = list
	g.version++
	return nil
}

// becoming gathers what rules become and what is wrong with them.
func becoming(rules []writtenRule) (list []modelRule, codes []string) {
	for _, r := range rules {
		list, codes = append(list, r.becomes...), append(codes, r.codes...)
	}
	return list, codes
}

func (m *model) insert(id, dir string, rules []writtenRule, index *int64, version string) []string {
	fresh, codes := becoming(rules)
	if index != nil && *index < 0 {
		codes = append(codes, "InvalidParameterValue.Range")
	}
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	list := g.rules[dir]
	at := int64(len(list))
	if index != nil {
		if *index < 0 || *index > at {
			codes = append(codes, "InvalidParameterValue.Range")
			return codes
		}
		at = *index
	}
	return m.set(id, dir, slices.Insert(slices.Clone(list), int(at), fresh...), codes)
}

func (m *model) replace(id, dir string, rule writtenRule, index int64, version string) []string {
	codes := slices.Clone(rule.codes)
	if index < 0 {
		codes = append(codes, "InvalidParameterValue.Range")
	}
	g := m.groups[id]
	if g == nil {
		return append(codes, codeGone)
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	if index < 0 || index >= int64(len(g.rules[dir])) {
		return append(codes, "InvalidParameterValue.Range")
	}
	list := slices.Delete(slices.Clone(g.rules[dir]), int(index), int(index)+1)
	return m.set(id, dir, slices.Insert(list, int(index), rule.becomes...), codes)
}

func (m *model) remove(id, dir string, indexes []int64, version string) (codes []string) {
	g := m.groups[id]
	if g == nil {
		return []string{codeGone}
	}
	if version != "" && version != fmt.Sprint(g.version) {
		codes = append(codes, codeVersion)
	}
	var list []modelRule
	for i, r := range g.rules[dir] {
		if !slices.Contains(indexes, int64(i)) {
			list = append(list, r)
		}
	}
	for _, i := range indexes {
		if i < 0 || i >= int64(len(g.rules[dir])) {
			codes = append(codes, "InvalidParameterValue.Range")
		}
	}
	return m.set(id, dir, list, codes)
}

// reset is ModifySecurityGroupPolicies with one direction and SortPolicys.
func (m *model) reset(id, dir string, rules []writtenRule) []string {
	fresh, codes := becoming(rules)
	return m.set(id, dir, fresh, codes)
}

// clear is ModifySecurityGroupPolicies with Version "0".
func (m *model) clear(id string) []string {
	g := m.groups[id]
	if g == nil {
		return []string{codeGone}
	}
	if len(g.rules["Ingress"])+len(g.rules["Egress"]) > 0 {
		g.version++
	}
	g.rules = map[string][]modelRule{}
	return nil
}

// createCLB makes a public load balancer, or a private one of a subnet.
func (m *model) createCLB(private bool, vpc, subnet string) (codes []string) {
	n := 0
	for _, b := range m.clbs {
		if (b.vpc != "") == private {
			n++
		}
	}
	if n >= m.quotas.BalancersPerType {
		codes = append(codes, "LimitExceeded")
	}
	if private && (m.vpcs[vpc] == "" || m.subnets[subnet].vpc != vpc) {
		codes = append(codes, "InvalidParameterValue")
	}
	return codes
}

func (m *model) deleteCLB(id string) []string {
	b := m.clbs[id]
	switch {
	case b == nil:
		return []string{codeGoneCLB}
	case b.protected:
		return []string{"FailedOperation"}
	}
	delete(m.clbs, id)
	maps.DeleteFunc(m.listeners, func(_ string, l *modelListener) bool { return l.clb == id })
	return nil
}

func (m *model) modifyCLB(id string, pass, protected *bool) []string {
	b := m.clbs[id]
	if b == nil {
		return []string{codeGoneCLB}
	}
	if pass != nil {
		b.pass = *pass
	}
	if protected != nil {
		b.protected = *protected
	}
	return nil
}

func (m *model) bindCLB(id string, groups []string) (codes []string) {
	b := m.clbs[id]
	if b == nil {
		return []string{codeGoneCLB}
	}
	codes = m.boundFaults(groups, m.quotas.GroupsPerBalancer, "InvalidParameterValue", "InvalidParameterValue.Duplicate", "LimitExceeded")
	for _, g := range groups {
		if m.tooLongToBind(g) {
			codes = append(codes, "LimitExceeded")
		}
	}
	if len(codes) == 0 {
		b.groups = groups
	}
	return codes
}

// tooLongToBind is true of a group with more rules than one that is bound to a
// load balancer may have.
func (m *model) tooLongToBind(group string) bool {
	g := m.groups[group]
	return g != nil && m.expanded(g.rules["Ingress"])+m.expanded(g.rules["Egress"]) > m.quotas.RulesOnBalancer
}

func (m *model) boundFaults(groups []string, most int, gone, twice, tooMany string) (codes []string) {
	seen := map[string]bool{}
	for _, g := range groups {
		if m.groups[g] == nil {
			codes = append(codes, gone)
		}
		if seen[g] {
			codes = append(codes, twice)
		}
		seen[g] = true
	}
	if len(groups) > most {
		codes = append(codes, tooMany)
	}
	return codes
}

// setGroupForCLBs is SetSecurityGroupForLoadbalancers with one load balancer.
func (m *model) setGroupForCLB(id, group, operation string) []string {
	b := m.clbs[id]
	switch {
	case operation != "ADD" && operation != "DEL":
		return []string{"InvalidParameterValue"}
	case b == nil:
		return []string{codeGoneCLB}
	case m.groups[group] == nil:
		return []string{"InvalidParameterValue"}
	case operation == "DEL":
		b.groups = slices.DeleteFunc(slices.Clone(b.groups), func(g string) bool { return g == group })
	case !slices.Contains(b.groups, group):
		if len(b.groups) >= m.quotas.GroupsPerBalancer || m.tooLongToBind(group) {
			return []string{"LimitExceeded"}
		}
		b.groups = append(slices.Clone(b.groups), group)
	}
	return nil
}

func (m *model) createListener(clb, kind string, port int64, grouped bool) (codes []string) {
	if grouped && kind == "HTTP" {
		codes = append(codes, "InvalidParameterValue")
	}
	if m.clbs[clb] == nil {
		codes = append(codes, codeGoneCLB)
	}
	n := 0
	for _, l := range m.listeners {
		if l.clb != clb {
			continue
		}
		if n++; (l.kind == "UDP") == (kind == "UDP") && l.port == port {
			codes = append(codes, "InvalidParameter.PortCheckFailed")
		}
	}
	if n >= m.quotas.ListenersPerLB {
		codes = append(codes, "LimitExceeded")
	}
	if port < 1 || port > 65535 {
		codes = append(codes, "InvalidParameterValue.Range")
	}
	return codes
}

// listener finds a listener of a load balancer.
func (m *model) listener(clb, id string) (*modelListener, []string) {
	if m.clbs[clb] == nil {
		return nil, []string{codeGoneCLB}
	}
	if l := m.listeners[id]; l != nil && l.clb == clb {
		return l, nil
	}
	return nil, []string{codeGoneLbl}
}

func (m *model) deleteListener(clb, id string) []string {
	_, codes := m.listener(clb, id)
	if len(codes) == 0 {
		delete(m.listeners, id)
	}
	return codes
}

// targetFaults are those of the list alone.
func targetFaults(targets []modelTarget) (codes []string) {
	seen := map[modelTarget]bool{}
	for _, t := range targets {
		if t.port < 1 || t.port > 65535 || t.weight < 0 || t.weight > 100 {
			codes = append(codes, "InvalidParameterValue.Range")
		}
		t.weight = 0
		if seen[t] {
			codes = append(codes, "InvalidParameterValue.Duplicate")
		}
		seen[t] = true
	}
	return codes
}

func (p *modelPlace) find(t modelTarget) int {
	return slices.IndexFunc(p.targets, func(have modelTarget) bool { return have.instance == t.instance && have.port == t.port })
}

// place finds where targets are: a layer-4 listener, or a rule of another.
func (m *model) place(clb, id, location string) (*modelListener, *modelPlace, []string) {
	l, codes := m.listener(clb, id)
	switch {
	case l == nil:
		return nil, nil, codes
	case l.kind != "HTTP" && location != "":
		return l, nil, []string{codeGoneLoc}
	case l.kind != "HTTP":
		return l, &l.modelPlace, nil
	case location == "":
		return l, nil, []string{codeMissing}
	case l.rules[location] == nil:
		return l, nil, []string{codeGoneLoc}
	}
	return l, l.rules[location], nil
}

// ownPlace is place for targets that are bound by themselves.
func (m *model) ownPlace(clb, id, location string) (*modelListener, *modelPlace, []string) {
	l, p, codes := m.place(clb, id, location)
	if p != nil && p.grouped {
		return l, nil, []string{"InvalidParameterValue"}
	}
	return l, p, codes
}

// shared reports whether another layer-4 listener of the load balancer and
// protocol has the target.
func (m *model) shared(l *modelListener, t modelTarget) bool {
	for _, other := range m.listeners {
		if other != l && l.kind != "HTTP" && other.clb == l.clb && other.kind == l.kind && other.find(t) >= 0 {
			return true
		}
	}
	return false
}

func (m *model) register(clb, id, location string, targets []modelTarget) []string {
	l, p, missing := m.ownPlace(clb, id, location)
	codes := append(targetFaults(targets), missing...)
	if p == nil {
		return codes
	}
	for _, t := range targets {
		if m.instances[t.instance] == nil || m.clbs[clb].vpc != "" {
			codes = append(codes, "InvalidParameterValue")
		}
		if p.find(t) >= 0 || m.shared(l, t) {
			codes = append(codes, "InvalidParameterValue.Duplicate")
		}
	}
	if len(p.targets)+len(targets) > m.quotas.TargetsPerListener {
		codes = append(codes, "LimitExceeded")
	}
	if len(codes) == 0 {
		p.targets = append(slices.Clone(p.targets), targets...)
	}
	return codes
}

func (m *model) deregister(clb, id, location string, targets []modelTarget) []string {
	_, p, missing := m.ownPlace(clb, id, location)
	codes := append(targetFaults(targets), missing...)
	if p == nil {
		return codes
	}
	left := slices.Clone(p.targets)
	for _, t := range targets {
		at := p.find(t)
		if at < 0 {
			codes = append(codes, "InvalidParameter")
			continue
		}
		left = slices.DeleteFunc(left, func(have modelTarget) bool { return have == p.targets[at] })
	}
	if len(codes) == 0 {
		p.targets = left
	}
	return codes
}

func (m *model) weigh(clb, id, location string, targets []modelTarget) []string {
	_, p, missing := m.ownPlace(clb, id, location)
	codes := append(targetFaults(targets), missing...)
	if p == nil {
		return codes
	}
	next := slices.Clone(p.targets)
	for _, t := range targets {
		if at := p.find(t); at < 0 {
			codes = append(codes, "InvalidParameter")
		} else {
			next[at].weight = t.weight
		}
	}
	if len(codes) == 0 {
		p.targets = next
	}
	return codes
}

func (m *model) instanceFaults(groups []string) []string {
	codes := m.boundFaults(groups, m.quotas.GroupsPerInstance, "InvalidSecurityGroupId.NotFound", "InvalidParameterValue", "LimitExceeded.AssociateUSGLimitExceeded")
	return codes
}

// crowded is what a group answers that would get one instance too many.
func (m *model) crowded(instance string, groups []string) (codes []string) {
	for _, g := range groups {
		n := 0
		for id, bound := range m.instances {
			if id != instance && slices.Contains(bound, g) {
				n++
			}
		}
		if n >= m.quotas.InstancesPerGroup {
			codes = append(codes, "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded")
		}
	}
	return codes
}

func (m *model) regroup(instance string, groups []string) []string {
	if m.instances[instance] == nil {
		return []string{"InvalidInstanceId.NotFound"}
	}
	codes := append(m.instanceFaults(groups), m.crowded(instance, groups)...)
	if len(groups) == 0 {
		codes = append(codes, codeMissing)
	}
	if len(codes) == 0 {
		m.instances[instance] = groups
	}
	return codes
}

func (m *model) associate(instance, group string) []string {
	bound := m.instances[instance]
	switch {
	case bound == nil:
		return []string{"InvalidInstanceId.NotFound"}
	case m.groups[group] == nil:
		return []string{"InvalidSecurityGroupId.NotFound"}
	case slices.Contains(bound, group):
		return nil
	}
	return m.regroup(instance, append(slices.Clone(bound), group))
}

func (m *model) disassociate(instance, group string) []string {
	bound := m.instances[instance]
	switch {
	case bound == nil:
		return []string{"InvalidInstanceId.NotFound"}
	case m.groups[group] == nil:
		return []string{"InvalidSecurityGroupId.NotFound"}
	case !slices.Contains(bound, group):
		return nil
	case len(bound) == 1:
		return []string{"FailedOperation.SecurityGroupActionFailed"}
	}
	m.instances[instance] = slices.DeleteFunc(slices.Clone(bound), func(g string) bool { return g == group })
	return nil
}

func (m *model) terminate(instance string) []string {
	if m.instances[instance] == nil {
		return []string{"InvalidInstanceId.NotFound"}
	}
	delete(m.instances, instance)
	gone := func(t modelTarget) bool { return t.instance == instance }
	for id, members := range m.members {
		m.members[id] = slices.DeleteFunc(slices.Clone(members), gone)
	}
	for _, l := range m.listeners {
		for _, p := range l.places() {
			p.targets = slices.DeleteFunc(slices.Clone(p.targets), gone)
		}
	}
	return nil
}

// ruleText is a rule as the lists below compare it.
func (r modelRule) String() string {
	return strings.Join([]string{r.action, r.proto, r.port, r.cidr, r.cidr6, r.group, r.template, r.text}, "|")
}
