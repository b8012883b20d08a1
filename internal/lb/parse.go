// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseProtocol reads a rule's protocol in any case; "" means ALL. An unknown
// word is Invalid at field.
func ParseProtocol(field, text string) (Proto, error) {
	switch strings.ToUpper(strings.TrimSpace(text)) {
	case "", "ALL":
		return AnyProto, nil
	case "TCP":
		return TCP, nil
	case "UDP":
		return UDP, nil
	case "ICMP":
		return ICMP, nil
	case "ICMPV6":
		return ICMPv6, nil
	case "GRE":
		return GRE, nil
	}
	return 0, Refuse(Invalid, field, fmt.Sprintf("%q is not a protocol", text), "use TCP, UDP, ICMP, ICMPv6, GRE or ALL")
}

// ParseAction reads ACCEPT or DROP in any case. "" is Missing, anything else
// Invalid at field.
func ParseAction(field, text string) (Action, error) {
	switch strings.ToUpper(text) {
	case "ACCEPT":
		return Accept, nil
	case "DROP":
		return Drop, nil
	case "":
		return 0, Refuse(Missing, field, "no action is given", "use ACCEPT or DROP")
	}
	return 0, Refuse(Invalid, field, fmt.Sprintf("%q is not an action", text), "use ACCEPT or DROP")
}

// ParsePorts reads "80", "80,443", "8000-8010", lists that mix them, and ALL
// (in any case, or ""). It returns the ranges as given, none for ALL, and the
// text to keep: spaces removed, ALL for every port. Port 0 may stand alone
// but not begin a range. Faults are Malformed or Range at field.
func ParsePorts(field, text string) ([]PortRange, string, error) {
	kept := strings.Join(strings.Fields(text), "")
	if kept == "" || strings.EqualFold(kept, "ALL") {
		return nil, "ALL", nil
	}
	var ranges []PortRange
	for part := range strings.SplitSeq(kept, ",") {
		r, err := parsePortRange(field, part)
		if err != nil {
			return nil, "", err
		}
		ranges = append(ranges, r)
	}
	return ranges, kept, nil
}

func parsePortRange(field, part string) (PortRange, error) {
	low, high, isRange := strings.Cut(part, "-")
	first, err := parsePort(field, low)
	if err != nil {
		return PortRange{}, err
	}
	if !isRange {
		return PortRange{first, first}, nil
	}
	last, err := parsePort(field, high)
	switch {
	case err != nil:
		return PortRange{}, err
	case first == 0:
		return PortRange{}, Refuse(Range, field, fmt.Sprintf("%q begins at port 0", part), "ranges lie within 1-65535; ALL means every port")
	case first > last:
		return PortRange{}, Refuse(Range, field, fmt.Sprintf("%q is backwards", part), "write the lower port first")
	}
	return PortRange{first, last}, nil
}

func parsePort(field, text string) (uint16, error) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, malformedPort(field, text)
		}
	}
	if text == "" || len(text) > 5 {
		return 0, malformedPort(field, text)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, Refuse(Range, field, text+" is greater than 65535", "ports lie within 1-65535")
	}
	return uint16(n), nil
}

func malformedPort(field, text string) error {
	return Refuse(Malformed, field, fmt.Sprintf("%q is not a port", text), `write "80", "80,443", "8000-8010" or "ALL"`)
}

// ParseCidr reads an IPv4 address or CIDR. It returns what to match, masked,
// and the text to keep, which is the author's own: only 0.0.0.0/n becomes
// 0.0.0.0/0. Faults are Malformed at field, Unsupported for MY_PUBLIC_IP.
func ParseCidr(field, text string) (netip.Prefix, string, error) {
	p, err := parsePrefix(field, text)
	if err != nil {
		return netip.Prefix{}, "", err
	}
	if !p.Addr().Is4() {
		return netip.Prefix{}, "", Refuse(Malformed, field, fmt.Sprintf("%q is not IPv4", text), "IPv6 goes into Ipv6CidrBlock")
	}
	if p.Addr().IsUnspecified() && strings.Contains(text, "/") {
		return netip.PrefixFrom(p.Addr(), 0), "0.0.0.0/0", nil
	}
	return p.Masked(), text, nil
}

// ParseCidr6 is ParseCidr for IPv6; the text is always kept as given.
// IPv4-mapped addresses are refused, since packets never carry them.
func ParseCidr6(field, text string) (netip.Prefix, string, error) {
	p, err := parsePrefix(field, text)
	switch {
	case err != nil:
		return netip.Prefix{}, "", err
	case p.Addr().Is4():
		return netip.Prefix{}, "", Refuse(Malformed, field, fmt.Sprintf("%q is not IPv6", text), "IPv4 goes into CidrBlock")
	case p.Addr().Is4In6():
		return netip.Prefix{}, "", Refuse(Malformed, field, fmt.Sprintf("%q is an IPv4-mapped address", text), "write it as IPv4 in CidrBlock")
	}
	return p.Masked(), text, nil
}

func parsePrefix(field, text string) (netip.Prefix, error) {
	if text == "MY_PUBLIC_IP" {
		return netip.Prefix{}, Refuse(Unsupported, field, "MY_PUBLIC_IP is not served", "write the address itself")
	}
	if strings.Contains(text, "/") {
		if p, err := netip.ParsePrefix(text); err == nil {
			return p, nil
		}
	} else if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.Prefix{}, Refuse(Malformed, field, fmt.Sprintf("%q is not an address or CIDR", text), `write "203.0.113.7", "203.0.113.0/24" or "2001:db8::/32"`)
}

// String is the protocol as rules name it; a number when rules cannot.
func (p Proto) String() string {
	switch p {
	case AnyProto:
		return "ALL"
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case ICMP:
		return "ICMP"
	case ICMPv6:
		return "ICMPv6"
	case GRE:
		return "GRE"
	}
	return strconv.Itoa(int(p))
}

// HasPorts reports whether packets of the protocol carry ports.
func (p Proto) HasPorts() bool { return p == TCP || p == UDP }

// String is ACCEPT or DROP; "" for the zero Action.
func (a Action) String() string {
	switch a {
	case Accept:
		return "ACCEPT"
	case Drop:
		return "DROP"
	}
	return ""
}

// String is "80" or "8000-8010".
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// FormatPorts is what ParsePorts reads: "ALL" for no ranges.
func FormatPorts(ranges []PortRange) string {
	if len(ranges) == 0 {
		return "ALL"
	}
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = r.String()
	}
	return strings.Join(texts, ",")
}

// String is one line for people: "TCP 203.0.113.10:40000 > 192.0.2.1:80".
func (p Packet) String() string {
	if !p.Proto.HasPorts() {
		return fmt.Sprintf("%v %v > %v", p.Proto, p.Src, p.Dst)
	}
	return fmt.Sprintf("%v %v > %v", p.Proto, netip.AddrPortFrom(p.Src, p.SrcPort), netip.AddrPortFrom(p.Dst, p.DstPort))
}
