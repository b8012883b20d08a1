// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

func TestParseAddressMember(t *testing.T) {
	for _, tc := range []struct{ text, prefixes string }{
		{"203.0.113.7", "[203.0.113.7/32]"},
		{"10.0.0.5/8", "[10.0.0.0/8]"},
		{"10.0.0.0-10.0.0.255", "[10.0.0.0/24]"},
		{"10.0.0.1-10.0.0.6", "[10.0.0.1/32 10.0.0.2/31 10.0.0.4/31 10.0.0.6/32]"},
		{"0.0.0.0-255.255.255.255", "[0.0.0.0/0]"},
		{"255.255.255.254-255.255.255.255", "[255.255.255.254/31]"},
		{"2001:db8::1", "[2001:db8::1/128]"},
		{"2001:db8::/33", "[2001:db8::/33]"},
		{"2001:db8::-2001:db8::2", "[2001:db8::/127 2001:db8::2/128]"},
		{"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
	} {
		r, err := ParseAddressMember("A", tc.text)
		if err != nil || fmt.Sprint(r.Prefixes()) != tc.prefixes {
			t.Errorf("%s: %v, %v; want %s", tc.text, r.Prefixes(), err, tc.prefixes)
		}
	}
	for text, want := range map[string]string{
		"":                     "is not an address or CIDR",
		"10.0.0":               "is not an address or CIDR",
		"10.0.0.0/33":          "is not an address or CIDR",
		"10.0.0.1-":            "is not a range",
		"10.0.0.1-10.0.0.300":  "is not a range",
		"10.0.0.9-10.0.0.1":    "is backwards",
		"10.0.0.1-2001:db8::1": "mixes IPv4 and IPv6",
		"::ffff:10.0.0.1":      "IPv4-mapped",
		"10.0.0.1 - 10.0.0.9":  "is not a range",
	} {
		_, err := ParseAddressMember("Addresses.0", text)
		if kindOf(t, err) != Malformed || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "Addresses.0: ") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	if got := (AddressRange{}).Prefixes(); got != nil {
		t.Errorf("the zero range covers %v", got)
	}
}

// TestRangePrefixes compares the cover of a range with the range, address by
// address around its ends.
func TestRangePrefixes(t *testing.T) {
	at := netip.MustParseAddr("10.0.0.0")
	for range 40 {
		end := at
		for range 70 {
			r := AddressRange{at, end}
			for probe := netip.MustParseAddr("10.0.0.0"); probe.Less(netip.MustParseAddr("10.0.0.128")); probe = probe.Next() {
				n := 0
				for _, p := range r.Prefixes() {
					if p.Contains(probe) {
						n++
					}
				}
				want := 0
				if !probe.Less(at) && !end.Less(probe) {
					want = 1
				}
				if n != want {
					t.Fatalf("%v-%v covers %v %d times, want %d: %v", at, end, probe, n, want, r.Prefixes())
				}
			}
			end = end.Next()
		}
		at = at.Next()
	}
}

func TestParseServiceMember(t *testing.T) {
	for text, want := range map[string]string{
		"tcp:80": "TCP 80", "tcp:80,443": "TCP 80,443", "UDP:3306-20000": "UDP 3306-20000", "tcp:all": "TCP ALL",
		"icmp": "ICMP ALL", "icmpv6": "ICMPv6 ALL", "gre": "GRE ALL",
	} {
		s, err := ParseServiceMember("S", text)
		if got := fmt.Sprint(s.Proto, " ", FormatPorts(s.Ports)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]Kind{
		"": Malformed, "all": Malformed, "tcp": Malformed, "tcp:": Malformed, "sctp:1": Malformed, "icmp:8": Malformed, "gre:": Malformed,
		"tcp: 80": Malformed, "tcp:x": Malformed, "tcp:70000": Range, "tcp:90-80": Range,
	} {
		if _, err := ParseServiceMember("S", text); kindOf(t, err) != want {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func TestMembersAndExpanded(t *testing.T) {
	s := &State{Templates: TableOf(map[TemplateID]*Template{
		"ipm-1":  {Members: []TemplateMember{{Text: "a"}, {Text: "b"}}},
		"ipm-2":  {Members: []TemplateMember{{Text: "c"}}},
		"ipmg-1": {Templates: []TemplateID{"ipm-2", "ipm-gone", "ipm-1"}},
		"ipmg-0": {},
		"ppm-1":  {Members: []TemplateMember{{Text: "x"}, {Text: "y"}, {Text: "z"}}},
	})}
	text := ""
	for _, m := range s.Members("ipmg-1") {
		text += m.Text
	}
	if text != "cab" || len(s.Members("ipm-gone")) != 0 || !TemplateID("ppmg-1").IsGroup() || TemplateID("ppm-1").IsGroup() {
		t.Errorf("members %s", text)
	}
	for want, r := range map[int]PolicyRule{
		1: {PeerTemplate: "ipmg-0"}, 2: {PeerTemplate: "ipm-1"}, 3: {Service: "ppm-1", PeerGroup: "sg-1"}, 9: {PeerTemplate: "ipmg-1", Service: "ppm-1"},
	} {
		if got := s.Expanded(r); got != want {
			t.Errorf("%+v stands for %d, want %d", r, got, want)
		}
	}
}
