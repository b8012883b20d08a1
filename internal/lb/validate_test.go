// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidateDomain(t *testing.T) {
	for domain, want := range map[string]Kind{
		"www.example.com": 0, "*.example.com": 0, "www.example.*": 0, "192.0.2.1": 0, "localhost": 0, "a_b.example.com": 0,
		"": Missing, "~^www": Unsupported, strings.Repeat("a", 81): TooLong, "_a.example.com": Invalid,
		"WWW.example.com": Invalid, "a b": Invalid, "*": Invalid, "*.*": Invalid, "a.*.b": Invalid, "*.example.*": Invalid, "a*.b": Invalid,
		"a..b": Invalid, "a.": Invalid, "www/x": Invalid,
	} {
		if err := ValidateDomain("Domain", domain); kindOf(t, err) != want {
			t.Errorf("%q: %v", domain, err)
		}
	}
}

func TestValidateURL(t *testing.T) {
	for url, want := range map[string]Kind{
		"/": 0, "/abc/d.e-f_g=h?i:j": 0,
		"": Missing, "abc": Invalid, "/a b": Invalid, "/a*": Invalid, "/" + strings.Repeat("a", 200): TooLong,
		"~ /x": Unsupported, "~* /x": Unsupported, "= /x": Unsupported, "^~ /x": Unsupported,
	} {
		if err := ValidateURL("Url", url); kindOf(t, err) != want {
			t.Errorf("%q: %v", url, err)
		}
	}
	if err := ValidateURL("Url", "~* /x"); !strings.Contains(err.Error(), "~*") {
		t.Errorf("the modifier is not named: %v", err)
	}
}

func custom(form, send, receive string) func(*HealthCheck) {
	return func(h *HealthCheck) {
		h.Type, h.ContextType, h.SendContext, h.RecvContext = CheckCustom, form, send, receive
	}
}

func TestHealthCheckValidate(t *testing.T) {
	for _, row := range []struct {
		name   string
		p      ListenerProtocol
		change func(*HealthCheck)
		field  string
		kind   Kind
	}{
		{"tcp default", ListenTCP, func(*HealthCheck) {}, "", 0},
		{"http default", ListenHTTP, func(*HealthCheck) {}, "", 0},
		{"the demo's", ListenHTTP, func(h *HealthCheck) { h.IntervalTime, h.HealthNum, h.UnHealthNum = 2, 2, 2 }, "", 0},
		{"http on tcp", ListenTCP, func(h *HealthCheck) { h.Type = CheckHTTP; *h = h.WithDefaults() }, "", 0},
		{"off", ListenTCP, func(h *HealthCheck) { h.On = false }, "", 0},
		{"timeout short", ListenTCP, func(h *HealthCheck) { h.TimeOut = 1 }, "TimeOut", Range},
		{"timeout long", ListenTCP, func(h *HealthCheck) { h.TimeOut, h.IntervalTime = 61, 300 }, "TimeOut", Range},
		{"timeout over interval", ListenTCP, func(h *HealthCheck) { h.TimeOut = 6 }, "TimeOut", Invalid},
		{"interval", ListenTCP, func(h *HealthCheck) { h.IntervalTime = 301 }, "IntervalTime", Range},
		{"health num", ListenTCP, func(h *HealthCheck) { h.HealthNum = 1 }, "HealthNum", Range},
		{"unhealth num", ListenTCP, func(h *HealthCheck) { h.UnHealthNum = 11 }, "UnHealthNum", Range},
		{"port", ListenTCP, func(h *HealthCheck) { h.Port = 65536 }, "CheckPort", Range},
		{"source", ListenTCP, func(h *HealthCheck) { h.SourceIPType = 2 }, "SourceIpType", Range},
		{"grpc", ListenHTTP, func(h *HealthCheck) { h.Type = "GRPC" }, "CheckType", Unsupported},
		{"tcp on http", ListenHTTP, func(h *HealthCheck) { h.Type = CheckTCP }, "CheckType", Unsupported},
		{"no type", ListenTCP, func(h *HealthCheck) { h.Type = "" }, "CheckType", Invalid},
		{"path on tcp", ListenTCP, func(h *HealthCheck) { h.HTTPPath = "/" }, "HttpCheckPath", Coexist},
		{"code", ListenHTTP, func(h *HealthCheck) { h.HTTPCode = 32 }, "HttpCode", Range},
		{"path", ListenHTTP, func(h *HealthCheck) { h.HTTPPath = "x" }, "HttpCheckPath", Invalid},
		{"path injects", ListenHTTP, func(h *HealthCheck) { h.HTTPPath = "/ HTTP/1.1\r\nX: y" }, "HttpCheckPath", Invalid},
		{"path long", ListenHTTP, func(h *HealthCheck) { h.HTTPPath = "/" + strings.Repeat("a", 200) }, "HttpCheckPath", TooLong},
		{"method", ListenHTTP, func(h *HealthCheck) { h.HTTPMethod = "POST" }, "HttpCheckMethod", Invalid},
		{"version", ListenHTTP, func(h *HealthCheck) { h.HTTPVersion = "HTTP/2" }, "HttpVersion", Invalid},
		{"domain wildcard", ListenHTTP, func(h *HealthCheck) { h.HTTPDomain = "*.example.com" }, "HttpCheckDomain", Invalid},
		{"domain", ListenHTTP, func(h *HealthCheck) { h.HTTPDomain = "www.example.com" }, "", 0},
		{"udp default", ListenUDP, func(*HealthCheck) {}, "", 0},
		{"tcp on udp", ListenUDP, func(h *HealthCheck) { h.Type = CheckTCP }, "CheckType", Unsupported},
		{"ping on tcp", ListenTCP, func(h *HealthCheck) { h.Type = CheckPing }, "CheckType", Unsupported},
		{"open port", ListenUDP, func(h *HealthCheck) { h.Type = CheckCustom }, "", 0},
		{"custom without content", ListenTCP, func(h *HealthCheck) { h.Type = CheckCustom }, "ContextType", Missing},
		{"custom text", ListenTCP, custom("TEXT", "hello there", "hi"), "", 0},
		{"custom hex", ListenUDP, custom("HEX", "00FF", "0A"), "", 0},
		{"custom form", ListenUDP, custom("BASE64", "AA", "AA"), "ContextType", Invalid},
		{"nothing to send", ListenUDP, custom("TEXT", "", "hi"), "SendContext", Missing},
		{"nothing to expect", ListenUDP, custom("TEXT", "hi", ""), "RecvContext", Missing},
		{"odd hex", ListenUDP, custom("HEX", "00F", "0A"), "SendContext", Invalid},
		{"small hex", ListenUDP, custom("HEX", "00", "0a"), "RecvContext", Invalid},
		{"unseen text", ListenUDP, custom("TEXT", "a\tb", "0a"), "SendContext", Invalid},
		{"long text", ListenUDP, custom("TEXT", strings.Repeat("a", 501), "0a"), "SendContext", TooLong},
		{"content of a ping", ListenUDP, func(h *HealthCheck) { h.SendContext = "a" }, "SendContext", Coexist},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := DefaultCheck(row.p)
			row.change(&h)
			err := h.Validate("HealthCheck.", row.p)
			if kindOf(t, err) != row.kind {
				t.Fatal(err)
			}
			if err != nil && err.(*Error).Field != "HealthCheck."+row.field {
				t.Errorf("blames %s", err.(*Error).Field)
			}
		})
	}
}

func TestPolicyRuleValidate(t *testing.T) {
	v4, v6 := netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::/0")
	for _, row := range []struct {
		name string
		r    PolicyRule
		want Kind
	}{
		{"accepts", PolicyRule{Action: Accept, Proto: TCP, Ports: []PortRange{{80, 80}}, Peer: v4}, 0},
		{"group", PolicyRule{Action: Drop, PeerGroup: "sg-00000001"}, 0},
		{"zero", PolicyRule{}, Missing},
		{"no peer", PolicyRule{Action: Accept}, Missing},
		{"two peers", PolicyRule{Action: Accept, Peer: v4, PeerGroup: "sg-00000001"}, Coexist},
		{"template", PolicyRule{Action: Accept, PeerTemplate: "ipm-00000001", Service: "ppmg-00000001"}, 0},
		{"template and group", PolicyRule{Action: Accept, PeerTemplate: "ipm-00000001", PeerGroup: "sg-00000001"}, Coexist},
		{"template and protocol", PolicyRule{Action: Accept, Proto: TCP, Peer: v4, Service: "ppm-00000001"}, Coexist},
		{"ports of ICMP", PolicyRule{Action: Accept, Proto: ICMP, Ports: []PortRange{{80, 80}}, Peer: v4}, Invalid},
		{"ports of ALL", PolicyRule{Action: Accept, Ports: []PortRange{{80, 80}}, Peer: v4}, Invalid},
		{"backwards", PolicyRule{Action: Accept, Proto: TCP, Ports: []PortRange{{80, 79}}, Peer: v4}, Range},
		{"host bits", PolicyRule{Action: Accept, Peer: netip.MustParsePrefix("10.0.0.1/8")}, Invalid},
		{"ICMP on v6", PolicyRule{Action: Accept, Proto: ICMP, Peer: v6}, Invalid},
		{"ICMPv6", PolicyRule{Action: Accept, Proto: ICMPv6, Peer: v6}, 0},
		{"ICMPv6 on v4", PolicyRule{Action: Accept, Proto: ICMPv6, Peer: v4}, Invalid},
		{"long", PolicyRule{Action: Accept, Peer: v4, Description: strings.Repeat("é", 101)}, TooLong},
		{"not long", PolicyRule{Action: Accept, Peer: v4, Description: strings.Repeat("é", 100)}, 0},
	} {
		if err := row.r.Validate("Ingress[0]."); kindOf(t, err) != row.want {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestDefaultQuotas(t *testing.T) {
	q := DefaultQuotas()
	if q.Groups != 50 || q.RulesPerDirection != 100 || q.GroupsPerBalancer != 5 || q.RulesOnBalancer != 512 {
		t.Errorf("%+v", q)
	}
}
