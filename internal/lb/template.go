// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// A TemplateID names a parameter template: ipm-xxxxxxxx is a list of
// addresses, ppm-xxxxxxxx one of services; ipmg-xxxxxxxx and ppmg-xxxxxxxx are
// groups of such lists.
type TemplateID string

// The prefixes of template ids, hyphen included.
const (
	AddressTemplate      = "ipm-"
	AddressTemplateGroup = "ipmg-"
	ServiceTemplate      = "ppm-"
	ServiceTemplateGroup = "ppmg-"
)

// A Template is a list that policy rules refer to instead of an address or a
// protocol with ports. Changing it changes every such rule at once.
type Template struct {
	ID        TemplateID
	Name      string
	Created   time.Time
	Updated   time.Time
	Tags      Tags             `json:",omitempty"`
	Members   []TemplateMember `json:",omitempty"` // of a list; never empty
	Templates []TemplateID     `json:",omitempty"` // of a group: lists of its kind, in order; may be empty
}

// A TemplateMember is one address or one service of a list.
type TemplateMember struct {
	Text        string // as its author wrote it: "10.0.0.1-10.0.0.9", "tcp:80,443"
	Description string `json:",omitempty"`
	Updated     time.Time
	Peers       AddressRange // of an address; zero for a service
	Service     Service      // of a service; zero for an address
}

// An AddressRange is inclusive on both ends, which are of one family. The zero
// AddressRange holds nothing.
type AddressRange struct {
	First, Last netip.Addr
}

// A Service is a protocol with its ports; none means every port.
type Service struct {
	Proto Proto
	Ports []PortRange `json:",omitempty"`
}

// IsGroup reports whether the id names a group of lists.
func (id TemplateID) IsGroup() bool {
	return strings.HasPrefix(string(id), AddressTemplateGroup) || strings.HasPrefix(string(id), ServiceTemplateGroup)
}

// Members lists what a template stands for: the members of a list, or those
// of all lists of a group, in order. There are none when it does not exist.
func (s *State) Members(id TemplateID) []TemplateMember {
	t := s.Templates.Get(id)
	if t == nil {
		return nil
	}
	if !id.IsGroup() {
		return t.Members
	}
	var all []TemplateMember
	for _, part := range t.Templates {
		if list := s.Templates.Get(part); list != nil {
			all = append(all, list.Members...)
		}
	}
	return all
}

// Expanded is how many rules a policy rule stands for: each address of its
// template with each service of its template. It is at least 1; a group as
// peer counts once.
func (s *State) Expanded(r PolicyRule) int {
	n := 1
	if r.PeerTemplate != "" {
		n *= max(1, len(s.Members(r.PeerTemplate)))
	}
	if r.Service != "" {
		n *= max(1, len(s.Members(r.Service)))
	}
	return n
}

// ParseAddressMember reads an address, a CIDR or a range "10.0.0.1-10.0.0.9"
// of either family. Faults are Malformed at field.
func ParseAddressMember(field, text string) (AddressRange, error) {
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		p, err := parsePrefix(field, text)
		if err != nil {
			return AddressRange{}, err
		}
		if p.Addr().Is4In6() {
			return AddressRange{}, Refuse(Malformed, field, fmt.Sprintf("%q is an IPv4-mapped address", text), "write it as IPv4")
		}
		return AddressRange{p.Masked().Addr(), lastAddr(p)}, nil
	}
	first, err := netip.ParseAddr(low)
	last, err2 := netip.ParseAddr(high)
	switch {
	case err != nil || err2 != nil || first.Zone() != "" || last.Zone() != "" || first.Is4In6() || last.Is4In6():
		return AddressRange{}, Refuse(Malformed, field, fmt.Sprintf("%q is not a range of addresses", text), `write "10.0.0.1-10.0.0.9"`)
	case first.Is4() != last.Is4():
		return AddressRange{}, Refuse(Malformed, field, fmt.Sprintf("%q mixes IPv4 and IPv6", text), "give both ends of one family")
	case last.Less(first):
		return AddressRange{}, Refuse(Malformed, field, fmt.Sprintf("%q is backwards", text), "write the lower address first")
	}
	return AddressRange{first, last}, nil
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Prefixes are the fewest prefixes that cover exactly the range, in order.
func (r AddressRange) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for at := r.First; at.IsValid() && !r.Last.Less(at); {
		p := netip.PrefixFrom(at, at.BitLen())
		for p.Bits() > 0 {
			wider := netip.PrefixFrom(at, p.Bits()-1)
			if wider.Masked().Addr() != at || r.Last.Less(lastAddr(wider)) {
				break
			}
			p = wider
		}
		all = append(all, p)
		at = lastAddr(p).Next() // invalid after the last address of all
	}
	return all
}

// ParseServiceMember reads "tcp:80", "tcp:80,443", "tcp:3306-20000",
// "tcp:all", the same of udp, "icmp", "icmpv6" and "gre". A protocol with
// ports needs them. Faults are Malformed, Range or Invalid at field.
func ParseServiceMember(field, text string) (Service, error) {
	const hint = `write "tcp:80", "udp:53,5353", "tcp:3306-20000", "tcp:all", "icmp" or "gre"`
	name, ports, hasPorts := strings.Cut(text, ":")
	proto, err := ParseProtocol(field, name)
	switch {
	case strings.ContainsAny(text, " \t"):
		return Service{}, Refuse(Malformed, field, fmt.Sprintf("%q has spaces", text), hint)
	case err != nil || proto == AnyProto:
		return Service{}, Refuse(Malformed, field, fmt.Sprintf("%q names no protocol of a template", text), hint)
	case proto.HasPorts() && ports == "":
		return Service{}, Refuse(Malformed, field, fmt.Sprintf("%q names no ports", text), hint)
	case !proto.HasPorts() && hasPorts:
		return Service{}, Refuse(Malformed, field, fmt.Sprintf("%q names ports, and %v has none", text, proto), hint)
	}
	s := Service{Proto: proto}
	s.Ports, _, err = ParsePorts(field, ports)
	return s, err
}

// ValidateTemplateName checks the name of a template: 1 to 60 characters.
func ValidateTemplateName(field, name string) error {
	switch {
	case name == "":
		return Refuse(Invalid, field, "the name is empty", "give one of 1 to 60 characters")
	case utf8.RuneCountInString(name) > 60:
		return Refuse(TooLong, field, "longer than 60 characters", "shorten it")
	}
	return nil
}
