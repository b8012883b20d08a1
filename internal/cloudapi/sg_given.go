// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
)

// myPublicIP stands in a rule for the address that its author calls from.
const myPublicIP = "MY_PUBLIC_IP"

// settle makes one of what clients may write in two ways: Priority becomes
// PolicyIndex, and MY_PUBLIC_IP the caller's address as the server sees it, which
// a rule that is made (not one that is looked for) also says as its description.
func (c *Call) settle(field string, set *policySetIn, made bool) error {
	if made {
		c.given = set
	}
	for _, d := range directions() {
		d = d.in(field)
		given := d.given(set)
		for i := range given {
			p, at := &given[i], d.at(i)
			if p.Priority != nil {
				if p.PolicyIndex != nil && *p.PolicyIndex != *p.Priority {
					return refuse(lb.Invalid, at+"Priority", fmt.Sprintf("%d is not PolicyIndex, %d, and both say where the rule stands", *p.Priority, *p.PolicyIndex), "give one of them")
				}
				p.PolicyIndex, p.Priority = p.Priority, nil
			}
			if err := c.ownAddress(p, at, made); err != nil {
				return err
			}
		}
	}
	return nil
}

// placeOf is how refusals name the first given rule that is meant: what the call
// gives becomes rules of the store, which are checked together and have other
// places there. "" when the call gives no such rule.
func (c *Call) placeOf(d direction, field string, meant func(policyIn) bool) string {
	if c.given == nil {
		return ""
	}
	if i := slices.IndexFunc(d.given(c.given), meant); i >= 0 {
		return d.at(i) + field
	}
	return ""
}

// templates are the ids of templates that a rule names.
func (p policyIn) templates() []string {
	return []string{p.AddressTemplate.AddressId, p.AddressTemplate.AddressGroupId, p.ServiceTemplate.ServiceId, p.ServiceTemplate.ServiceGroupId}
}

func (c *Call) ownAddress(p *policyIn, at string, made bool) error {
	for _, f := range []struct {
		name  string
		text  *string
		four  bool
		other string
	}{{"CidrBlock", &p.CidrBlock, true, "Ipv6CidrBlock"}, {"Ipv6CidrBlock", &p.Ipv6CidrBlock, false, "CidrBlock"}} {
		if *f.text != myPublicIP {
			continue
		}
		client := c.Client.Unmap().WithZone("")
		if !client.IsValid() {
			return refuse(lb.Invalid, at+f.name, myPublicIP+" means nothing here: the call has no client's address", "write the address itself")
		}
		if client.Is4() != f.four {
			return refuse(lb.Invalid, at+f.name, fmt.Sprintf("you call from %v, which is of the other family", client), "use "+f.other)
		}
		*f.text = client.String()
		if made && p.PolicyDescription == "" {
			p.PolicyDescription = "Replaced-From-" + myPublicIP
		}
	}
	return nil
}

// find lists the places of the rule that p, the i-th given one, names: by its
// index, or by content (both families where no peer is given). A rule that was
// modified at another time than p says is refused.
func (d direction) find(list []lb.PolicyRule, p policyIn, i int) ([]int, error) {
	modified := p.ModifyTime
	p.ModifyTime = ""
	places, err := d.named(list, p, i)
	if err != nil {
		return nil, err
	}
	for _, at := range places {
		if now := stamp(list[at].Modified); modified != "" && modified != now {
			return nil, refuse(lb.Invalid, d.at(i)+"ModifyTime", fmt.Sprintf("rule %d was modified at %s, not %s", at, now, clip(modified, 40)), "read the rules again")
		}
	}
	return places, nil
}

func (d direction) named(list []lb.PolicyRule, p policyIn, i int) ([]int, error) {
	if p.PolicyIndex != nil {
		if n := *p.PolicyIndex; n < 0 || n >= int64(len(list)) {
			return nil, refuse(lb.Range, d.at(i)+"PolicyIndex", fmt.Sprintf("there is no rule %d, the group has %d in this direction", n, len(list)), "indexes begin at 0")
		}
		return []int{int(*p.PolicyIndex)}, nil
	}
	rules, err := p.parse(d.at(i))
	if err != nil {
		return nil, err
	}
	var places []int
	for at, r := range list {
		if slices.ContainsFunc(rules, func(w lb.PolicyRule) bool { return ruleKey(w) == ruleKey(r) }) &&
			(p.PolicyDescription == "" || p.PolicyDescription == r.Description) {
			places = append(places, at)
		}
	}
	if len(places) == 0 {
		return nil, refuse(lb.NotFound, d.field+"."+d.name+"."+strconv.Itoa(i), "the group has no rule "+ruleLine(rules[0]), "DescribeSecurityGroupPolicies lists them")
	}
	return places, nil
}
