// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// A policyIn is a rule as clients write it. Empty texts and objects are the
// same as absent ones, because clients send them for what their user left out.
type policyIn struct {
	PolicyIndex       *int64              `tc:"range=0-"`
	Action            string              `tc:"enum=ACCEPT|DROP,anycase"`
	Protocol          string              `tc:"enum=TCP|UDP|ICMP|ICMPv6|GRE|ALL,anycase"`
	Port              string              `tc:""`
	CidrBlock         string              `tc:""`
	Ipv6CidrBlock     string              `tc:""`
	SecurityGroupId   string              `tc:""`
	PolicyDescription string              `tc:"len=100"`
	AddressTemplate   addressTemplateSpec `tc:""`
	ServiceTemplate   serviceTemplateSpec `tc:""`
	Priority          *int64              `tc:"range=0-"` // another word for PolicyIndex
	ModifyTime        string              `tc:""`         // of a rule that is named: it must not have changed since
}

type addressTemplateSpec struct {
	AddressId      string `tc:""`
	AddressGroupId string `tc:""`
}

type serviceTemplateSpec struct {
	ServiceId      string `tc:""`
	ServiceGroupId string `tc:""`
}

// A policySetIn is both directions as clients write them.
type policySetIn struct {
	Version string     `tc:""`
	Ingress []policyIn `tc:""`
	Egress  []policyIn `tc:""`
	_       struct{}   `unserved:"PolicyStatistics"`
}

// A direction is one of the two lists of a group, as stored and as given.
type direction struct {
	name   string
	field  string // the set in which it is given
	stored func(*lb.SecurityGroup) *[]lb.PolicyRule
	given  func(*policySetIn) []policyIn
}

func directions() []direction {
	return []direction{
		{"Ingress", rulesField, func(g *lb.SecurityGroup) *[]lb.PolicyRule { return &g.Ingress }, func(s *policySetIn) []policyIn { return s.Ingress }},
		{"Egress", rulesField, func(g *lb.SecurityGroup) *[]lb.PolicyRule { return &g.Egress }, func(s *policySetIn) []policyIn { return s.Egress }},
	}
}

// Where rules stand in a request, and those that they replace.
const (
	rulesField    = "SecurityGroupPolicySet"
	originalField = "OriginalSecurityGroupPolicySet"
)

// at is how errors begin the name of a field of the i-th given rule.
func (d direction) at(i int) string { return fmt.Sprintf("%s.%s.%d.", d.field, d.name, i) }

// in is the direction as the set of that name gives it.
func (d direction) in(field string) direction {
	d.field = field
	return d
}

// oneDirection finds the one direction that has rules. Most writes take only
// one per call.
func oneDirection(set *policySetIn) (direction, error) {
	both := directions()
	both = slices.DeleteFunc(both, func(d direction) bool { return len(d.given(set)) == 0 })
	switch len(both) {
	case 0:
		return direction{}, errorf("InvalidParameterValue.Empty", "%s: no rules are given; list them in Ingress or Egress", rulesField)
	case 1:
		return both[0], nil
	}
	return direction{}, refuse(lb.Coexist, rulesField, "rules of both directions are given", "one call changes Ingress or Egress, not both")
}

// parse reads a rule. It gives two where no peer is named, because that means
// every address of both families; they stay side by side.
func (p policyIn) parse(at string) ([]lb.PolicyRule, error) {
	r := lb.PolicyRule{Description: p.PolicyDescription}
	if p.ModifyTime != "" {
		return nil, refuse(lb.Unsupported, at+"ModifyTime", "the server tells it and nobody sets it", "leave it out")
	}
	var err error
	if r.Action, err = lb.ParseAction(at+"Action", p.Action); err != nil {
		return nil, err
	}
	if err := p.service(&r, at); err != nil {
		return nil, err
	}
	rules, err := p.withPeer(r, at)
	if err != nil {
		return nil, err
	}
	for _, r := range rules {
		if err := r.Validate(at); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// service reads what the rule's packets look like.
func (p policyIn) service(r *lb.PolicyRule, at string) (err error) {
	r.Service, err = oneTemplate(at+"ServiceTemplate.Service", p.ServiceTemplate.ServiceId, p.ServiceTemplate.ServiceGroupId, lb.ServiceTemplate, lb.ServiceTemplateGroup)
	if err != nil {
		return err
	}
	if r.Service != "" {
		if p.Protocol != "" || p.Port != "" {
			return refuse(lb.Coexist, at+"ServiceTemplate", "a rule takes protocol and ports from one place, this has both", "give Protocol and Port, or ServiceTemplate")
		}
		return nil
	}
	if r.Proto, err = lb.ParseProtocol(at+"Protocol", p.Protocol); err != nil {
		return err
	}
	r.Text.Protocol = cmp.Or(p.Protocol, "ALL")
	r.Ports, r.Text.Port, err = lb.ParsePorts(at+"Port", p.Port)
	return err
}

// oneTemplate is the id that is given of a template's and a group's; "" when
// none is.
func oneTemplate(field, list, group, listPrefix, groupPrefix string) (lb.TemplateID, error) {
	id, prefix, name := list, listPrefix, field+"Id"
	switch {
	case list != "" && group != "":
		return "", refuse(lb.Coexist, field+"GroupId", "a template and a group of templates are given", "give one of them")
	case list == "" && group == "":
		return "", nil
	case group != "":
		id, prefix, name = group, groupPrefix, field+"GroupId"
	}
	if !hasShape(prefix, id) {
		return "", refuse(lb.Malformed, name, fmt.Sprintf("%q is not the id of a template", clip(id, 40)), "ids look like "+prefix+"12345678")
	}
	return lb.TemplateID(id), nil
}

func (p policyIn) withPeer(r lb.PolicyRule, at string) ([]lb.PolicyRule, error) {
	template, err := oneTemplate(at+"AddressTemplate.Address", p.AddressTemplate.AddressId, p.AddressTemplate.AddressGroupId, lb.AddressTemplate, lb.AddressTemplateGroup)
	if err != nil {
		return nil, err
	}
	var given []string
	for _, f := range []struct{ name, text string }{
		{"CidrBlock", p.CidrBlock}, {"Ipv6CidrBlock", p.Ipv6CidrBlock}, {"SecurityGroupId", p.SecurityGroupId}, {"AddressTemplate", string(template)},
	} {
		if f.text != "" {
			given = append(given, f.name)
		}
	}
	if len(given) > 1 {
		return nil, refuse(lb.Coexist, at+given[1], "a rule has one peer, this has "+strings.Join(given, " and "), "give one of them")
	}
	switch {
	case p.CidrBlock != "":
		r.Peer, r.Text.Cidr, err = lb.ParseCidr(at+"CidrBlock", p.CidrBlock)
	case p.Ipv6CidrBlock != "":
		r.Peer, r.Text.Cidr6, err = lb.ParseCidr6(at+"Ipv6CidrBlock", p.Ipv6CidrBlock)
	case p.SecurityGroupId != "":
		r.PeerGroup = lb.GroupID(p.SecurityGroupId)
		err = groupShape(at+"SecurityGroupId", p.SecurityGroupId)
	case template != "":
		r.PeerTemplate = template
	default:
		return bothFamilies(r), nil
	}
	return []lb.PolicyRule{r}, err
}

// bothFamilies makes the rules for every address: IPv4 first. ICMP becomes
// ICMPv6 in the second; a rule for ICMPv6 has only that one.
func bothFamilies(r lb.PolicyRule) []lb.PolicyRule {
	six := r
	six.Peer, six.Text.Cidr6 = netip.PrefixFrom(netip.IPv6Unspecified(), 0), "::/0"
	switch r.Proto {
	case lb.ICMPv6:
		return []lb.PolicyRule{six}
	case lb.ICMP:
		six.Proto, six.Text.Protocol = lb.ICMPv6, "ICMPv6"
		if r.Text.Protocol == strings.ToLower(r.Text.Protocol) {
			six.Text.Protocol = "icmpv6"
		}
	}
	r.Peer, r.Text.Cidr = netip.PrefixFrom(netip.IPv4Unspecified(), 0), "0.0.0.0/0"
	return []lb.PolicyRule{r, six}
}

// parseRules reads the rules given for a direction, omitted peers expanded.
func (d direction) parseRules(set *policySetIn) ([]lb.PolicyRule, error) {
	var all []lb.PolicyRule
	for i, p := range d.given(set) {
		rules, err := p.parse(d.at(i))
		if err != nil {
			return nil, err
		}
		all = append(all, rules...)
	}
	return all, nil
}

// ruleKey is what makes two rules the same rule: action, protocol, ports and
// peer. The order of a list of ports and the spelling of an address are not.
func ruleKey(r lb.PolicyRule) string {
	return fmt.Sprint(r.Action, r.Proto, sortedPorts(r.Ports), r.Service, r.Peer, r.PeerGroup, r.PeerTemplate)
}

// sortedPorts are the ranges in order, each once.
func sortedPorts(given []lb.PortRange) []lb.PortRange {
	ports := slices.Clone(given)
	slices.SortFunc(ports, func(a, b lb.PortRange) int { return int(a.First)<<16 + int(a.Last) - int(b.First)<<16 - int(b.Last) })
	return slices.Compact(ports)
}

// adopt gives rules their ids: a rule that is in old already keeps its id,
// wherever it stands now, and its time unless its texts change.
func adopt(old, rules []lb.PolicyRule, now time.Time) {
	was := make(map[string]lb.PolicyRule, len(old))
	for _, r := range old {
		was[ruleKey(r)] = r
	}
	for i := range rules {
		r := &rules[i]
		before, ok := was[ruleKey(*r)]
		if !ok {
			r.ID, r.Modified = lb.RuleID("pol-"+randomText(8)), now
			continue
		}
		r.ID, r.Modified = before.ID, before.Modified
		if r.Text != before.Text || r.Description != before.Description {
			r.Modified = now
		}
	}
}

// noDuplicates refuses a list that has a rule twice.
func (d direction) noDuplicates(rules []lb.PolicyRule) error {
	seen := make(map[string]int, len(rules))
	for i, r := range rules {
		if first, ok := seen[ruleKey(r)]; ok {
			return errorf("UnsupportedOperation.DuplicatePolicy", "%s.%s: the rule %s would stand twice, at index %d and %d; change or remove one of them",
				rulesField, d.name, ruleLine(r), first, i)
		}
		seen[ruleKey(r)] = i
	}
	return nil
}

// ruleLine is a rule as people write it: "ACCEPT TCP 80 from 0.0.0.0/0".
func ruleLine(r lb.PolicyRule) string {
	peer, service := string(r.PeerGroup)+string(r.PeerTemplate), string(r.Service)
	if r.Peer.IsValid() {
		peer = r.Peer.String()
	}
	if service == "" {
		service = r.Proto.String() + " " + lb.FormatPorts(r.Ports)
	}
	return fmt.Sprintf("%v %s %s", r.Action, service, peer)
}

// idShape is what clients accept as an id's second half.
var idShape = regexp.MustCompile(`^[0-9A-Za-z_]{8}$`)

// hasShape reports whether an id is prefix and eight word characters.
func hasShape(prefix, id string) bool {
	rest, ok := strings.CutPrefix(id, prefix)
	return ok && idShape.MatchString(rest)
}

func groupShape(field, id string) error {
	if !hasShape("sg-", id) {
		return refuse(lb.Malformed, field, fmt.Sprintf("%q is not the id of a security group", clip(id, 40)), "ids look like sg-12345678")
	}
	return nil
}

// findGroup finds a group by its id.
func findGroup(st *lb.State, field, id string) (*lb.SecurityGroup, error) {
	if err := groupShape(field, id); err != nil {
		return nil, err
	}
	g := st.Groups.Get(lb.GroupID(id))
	if g == nil {
		return nil, refuse(lb.NotFound, field, "there is no security group "+id, "DescribeSecurityGroups lists them")
	}
	return g, nil
}
