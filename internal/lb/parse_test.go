// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// kindOf is the kind of an *Error, 0 for nil; any other error fails the test.
func kindOf(t *testing.T, err error) Kind {
	t.Helper()
	if err == nil {
		return 0
	}
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is not an *Error", err)
	}
	if e.Kind == 0 || e.Fault == "" || e.Hint == "" || !strings.HasPrefix(err.Error(), e.Field) {
		t.Errorf("incomplete refusal %+v", e)
	}
	return e.Kind
}

func TestParseProtocol(t *testing.T) {
	for text, want := range map[string]Proto{
		"TCP": TCP, "tcp": TCP, "Udp": UDP, "icmp": ICMP, "ICMPv6": ICMPv6, "ICMPV6": ICMPv6, "gre": GRE, "All": AnyProto, "": AnyProto,
	} {
		if got, err := ParseProtocol("Protocol", text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"SCTP", "6", "tcp,udp"} {
		if _, err := ParseProtocol("Protocol", text); kindOf(t, err) != Invalid {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestParsePorts(t *testing.T) {
	for _, row := range []struct {
		text, kept string
		want       []PortRange
		kind       Kind
	}{
		{"80", "80", []PortRange{{80, 80}}, 0},
		{"0", "0", []PortRange{{0, 0}}, 0},
		{"80,443", "80,443", []PortRange{{80, 80}, {443, 443}}, 0},
		{" 8000 - 8010 ", "8000-8010", []PortRange{{8000, 8010}}, 0},
		{"80, 443,8000-8010", "80,443,8000-8010", []PortRange{{80, 80}, {443, 443}, {8000, 8010}}, 0},
		{"1-65535", "1-65535", []PortRange{{1, 65535}}, 0},
		{"ALL", "ALL", nil, 0},
		{"all", "ALL", nil, 0},
		{"", "ALL", nil, 0},
		{"65536", "", nil, Range},
		{"10-9", "", nil, Range},
		{"0-80", "", nil, Range},
		{"80,", "", nil, Malformed},
		{"-80", "", nil, Malformed},
		{"+80", "", nil, Malformed},
		{"80-", "", nil, Malformed},
		{"http", "", nil, Malformed},
		{"1-2-3", "", nil, Malformed},
		{"000080", "", nil, Malformed},
		{"80,ALL", "", nil, Malformed},
	} {
		got, kept, err := ParsePorts("Port", row.text)
		if kindOf(t, err) != row.kind || kept != row.kept || !reflect.DeepEqual(got, row.want) {
			t.Errorf("%q: %v %q %v", row.text, got, kept, err)
		}
		if err == nil && FormatPorts(got) != row.kept {
			t.Errorf("%q formats as %q", row.text, FormatPorts(got))
		}
	}
}

func TestParseCidr(t *testing.T) {
	for _, row := range []struct {
		text, kept, want string
		kind             Kind
	}{
		{"203.0.113.0", "203.0.113.0", "203.0.113.0/32", 0},
		{"10.0.0.5/8", "10.0.0.5/8", "10.0.0.0/8", 0},
		{"0.0.0.0/0", "0.0.0.0/0", "0.0.0.0/0", 0},
		{"0.0.0.0/24", "0.0.0.0/0", "0.0.0.0/0", 0},
		{"0.0.0.0", "0.0.0.0", "0.0.0.0/32", 0}, // one address, not everybody
		{"0.0.0.0/33", "", "", Malformed},
		{"10.0.0.1/33", "", "", Malformed},
		{"10.0.0.01", "", "", Malformed},
		{"", "", "", Malformed},
		{"::/0", "", "", Malformed},
		{"MY_PUBLIC_IP", "", "", Unsupported},
	} {
		got, kept, err := ParseCidr("CidrBlock", row.text)
		if kindOf(t, err) != row.kind || kept != row.kept || err == nil && got != netip.MustParsePrefix(row.want) {
			t.Errorf("%q: %v %q %v", row.text, got, kept, err)
		}
	}
	for _, row := range []struct {
		text, want string
		kind       Kind
	}{
		{"FF05::B5", "ff05::b5/128", 0},
		{"FF05:B5::1/60", "ff05:b5::/60", 0},
		{"0::0/0", "::/0", 0},
		{"::/0", "::/0", 0},
		{"fe80::1%eth0", "", Malformed},
		{"::ffff:10.0.0.1", "", Malformed},
		{"10.0.0.1", "", Malformed},
	} {
		got, kept, err := ParseCidr6("Ipv6CidrBlock", row.text)
		if kindOf(t, err) != row.kind || err == nil && (got != netip.MustParsePrefix(row.want) || kept != row.text) {
			t.Errorf("%q: %v %q %v", row.text, got, kept, err)
		}
	}
}

func TestParseAction(t *testing.T) {
	for text, want := range map[string]Action{"ACCEPT": Accept, "accept": Accept, "Drop": Drop} {
		if got, err := ParseAction("Action", text); err != nil || got != want || got.String() != strings.ToUpper(text) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := ParseAction("Action", ""); kindOf(t, err) != Missing {
		t.Error(err)
	}
	if _, err := ParseAction("Action", "allow"); kindOf(t, err) != Invalid {
		t.Error(err)
	}
}

func TestErrorReads(t *testing.T) {
	_, _, err := ParsePorts("Ingress[1].Port", "10-9")
	if want := `Ingress[1].Port: "10-9" is backwards; write the lower port first`; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if Unsupported.String() != "unsupported" || Kind(0).String() != "unknown" || Missing.String() != "missing" {
		t.Error("kinds misnamed")
	}
}

func TestPacketString(t *testing.T) {
	p := Packet{TCP, netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.0.2.1"), 40000, 80}
	if got, want := p.String(), "TCP 203.0.113.10:40000 > 192.0.2.1:80"; got != want {
		t.Errorf("%q", got)
	}
	p.Proto = ICMP
	if got, want := p.String(), "ICMP 203.0.113.10 > 192.0.2.1"; got != want {
		t.Errorf("%q", got)
	}
	if Proto(99).String() != "99" || AnyProto.String() != "ALL" {
		t.Error("protocol names")
	}
}
