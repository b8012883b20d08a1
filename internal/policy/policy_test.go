// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	. "github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/policytest"
)

var update = flag.Bool("update", false, "rewrite generated files")

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, s := range texts {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func ports(ranges ...uint16) (all []lb.PortRange) {
	for i := 0; i < len(ranges); i += 2 {
		all = append(all, lb.PortRange{First: ranges[i], Last: ranges[i+1]})
	}
	return all
}

func packet(proto lb.Proto, src, dst string, port uint16) lb.Packet {
	p := lb.Packet{Proto: proto, Src: addr(src), Dst: addr(dst)}
	if proto.HasPorts() {
		p.SrcPort, p.DstPort = 40000, port
	}
	return p
}

func TestDecide(t *testing.T) {
	const client, service, client6, service6 = "203.0.113.10", "10.200.0.5", "2001:db8::10", "2001:db8::5"
	every := prefixes("0.0.0.0/0")
	accept80 := Rule{Action: lb.Accept, Proto: lb.TCP, Ports: ports(80, 80), Peers: every}
	dropAll := Rule{Action: lb.Drop, Peers: every}
	acceptAll := Rule{Action: lb.Accept, Peers: every}
	ping := Rule{Action: lb.Accept, Proto: lb.ICMP, Ports: ports(80, 80), Peers: every}
	for _, row := range []struct {
		name   string
		dir    Direction
		groups []Group
		p      lb.Packet
		want   Verdict // Gate is filled in
	}{
		{"no group bound", In, nil, packet(lb.TCP, client, service, 80), Verdict{Action: lb.Accept, Reason: NoGroups}},
		{"a bound group without rules", In, []Group{{ID: "sg-1"}}, packet(lb.TCP, client, service, 80), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"accept above drop", In, []Group{policytest.Number("sg-1", accept80, dropAll)}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"the rest falls to drop", In, []Group{policytest.Number("sg-1", accept80, dropAll)}, packet(lb.TCP, client, service, 81), Verdict{0, lb.Drop, RuleMatched, "sg-1", "sg-1/2", 2}},
		{"drop above accept", In, []Group{policytest.Number("sg-1", dropAll, accept80)}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Drop, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"implicit refusal", In, []Group{policytest.Number("sg-1", accept80)}, packet(lb.TCP, client, service, 81), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"other protocol", In, []Group{policytest.Number("sg-1", accept80)}, packet(lb.UDP, client, service, 80), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"second group decides", In, []Group{policytest.Number("sg-1", ping), policytest.Number("sg-2", accept80)}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Accept, RuleMatched, "sg-2", "sg-2/1", 1}},
		{"first group wins", In, []Group{policytest.Number("sg-1", dropAll), policytest.Number("sg-2", accept80)}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Drop, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"empty group lets the next decide", In, []Group{{ID: "sg-1"}, policytest.Number("sg-2", accept80)}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Accept, RuleMatched, "sg-2", "sg-2/1", 1}},
		{"ICMP ignores ports", In, []Group{policytest.Number("sg-1", ping)}, packet(lb.ICMP, client, service, 0), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"any protocol", In, []Group{policytest.Number("sg-1", acceptAll)}, packet(lb.Proto(132), client, service, 0), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"IPv4 rule, IPv6 packet", In, []Group{policytest.Number("sg-1", acceptAll)}, packet(lb.TCP, client6, service6, 80), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"IPv6 rule", In, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept, Peers: prefixes("2001:db8::/32")})}, packet(lb.TCP, client6, service6, 80), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"in looks at the source", In, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept, Peers: prefixes("10.200.0.5/32")})}, packet(lb.TCP, client, service, 80), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"out looks at the destination", Out, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept, Peers: prefixes("10.200.0.5/32")})}, packet(lb.TCP, client, service, 80), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"a rule without peers matches nothing", In, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept})}, packet(lb.TCP, client, service, 80), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"last port of a range", In, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept, Proto: lb.TCP, Ports: ports(22, 22, 8000, 8010), Peers: every})}, packet(lb.TCP, client, service, 8010), Verdict{0, lb.Accept, RuleMatched, "sg-1", "sg-1/1", 1}},
		{"past the last port", In, []Group{policytest.Number("sg-1", Rule{Action: lb.Accept, Proto: lb.TCP, Ports: ports(22, 22, 8000, 8010), Peers: every})}, packet(lb.TCP, client, service, 8011), Verdict{Action: lb.Drop, Reason: NoMatch}},
		{"a packet without addresses", In, []Group{policytest.Number("sg-1", acceptAll)}, lb.Packet{Proto: lb.TCP}, Verdict{Action: lb.Drop, Reason: NoMatch}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.want.Gate = GateCVM
			if got := Decide(GateCVM, row.dir, row.groups, row.p); got != row.want {
				t.Errorf("Decide\ngot  %+v\nwant %+v", got, row.want)
			}
			if len(row.groups) == 0 {
				return
			}
			c, err := Compile(row.groups)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.Judge(GateCVM, row.dir, row.p); got != row.want {
				t.Errorf("Judge\ngot  %+v\nwant %+v", got, row.want)
			}
		})
	}
}

func TestResolve(t *testing.T) {
	state := &lb.State{
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{
			"sg-a": {ID: "sg-a", Ingress: []lb.PolicyRule{
				{ID: "pol-1", Action: lb.Accept, Proto: lb.TCP, Ports: ports(80, 80), Peer: netip.MustParsePrefix("0.0.0.0/0")},
				{ID: "pol-2", Action: lb.Drop, PeerGroup: "sg-b"},
				{ID: "pol-3", Action: lb.Accept, PeerGroup: "sg-gone"},
			}, Egress: []lb.PolicyRule{{ID: "pol-4", Action: lb.Accept, PeerGroup: "sg-a"}}},
			"sg-b": {ID: "sg-b"},
		}),
		Instances: lb.TableOf(map[lb.InstanceID]*lb.Instance{
			"ins-1": {Private: addr("10.200.0.7"), Public: addr("192.0.2.70"), Groups: []lb.GroupID{"sg-b", "sg-a"}},
			"ins-2": {Private: addr("10.200.0.5"), Groups: []lb.GroupID{"sg-b"}},
			"ins-3": {Groups: []lb.GroupID{"sg-b"}}, // has no address yet
		}),
	}
	want := []Group{
		{ID: "sg-a", Rules: []Rule{
			{ID: "pol-1", Pos: 1, Action: lb.Accept, Proto: lb.TCP, Ports: ports(80, 80), Peers: prefixes("0.0.0.0/0")},
			{ID: "pol-2", Pos: 2, Action: lb.Drop, Peers: prefixes("10.200.0.5/32", "10.200.0.7/32")},
			{ID: "pol-3", Pos: 3, Action: lb.Accept},
		}},
		{ID: "sg-b", Rules: []Rule{}},
		{ID: "sg-gone"}, // refuses
	}
	if got := Resolve(state, []lb.GroupID{"sg-a", "sg-b", "sg-gone"}, In); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	out := Resolve(state, []lb.GroupID{"sg-a"}, Out)
	if len(out) != 1 || len(out[0].Rules) != 1 || !reflect.DeepEqual(out[0].Rules[0].Peers, prefixes("10.200.0.7/32")) {
		t.Errorf("egress %+v", out)
	}
	if got := Resolve(state, nil, In); len(got) != 0 {
		t.Errorf("nothing bound gives %+v", got)
	}
}

// TestResolveTemplates changes nothing but a template, and the rule means
// something else; a template that is gone or names nothing matches nothing.
func TestResolveTemplates(t *testing.T) {
	member := func(text string) lb.TemplateMember {
		r, err := lb.ParseAddressMember("", text)
		if err != nil {
			t.Fatal(err)
		}
		return lb.TemplateMember{Text: text, Peers: r}
	}
	service := func(proto lb.Proto, ranges ...uint16) lb.TemplateMember {
		return lb.TemplateMember{Service: lb.Service{Proto: proto, Ports: ports(ranges...)}}
	}
	state := &lb.State{
		Groups: lb.TableOf(map[lb.GroupID]*lb.SecurityGroup{"sg-a": {ID: "sg-a", Ingress: []lb.PolicyRule{
			{ID: "pol-1", Action: lb.Accept, PeerTemplate: "ipmg-1", Service: "ppm-1"},
			{ID: "pol-2", Action: lb.Accept, PeerTemplate: "ipm-gone"},
			{ID: "pol-3", Action: lb.Accept, Peer: netip.MustParsePrefix("0.0.0.0/0"), Service: "ppmg-0"},
		}}}),
		Templates: lb.TableOf(map[lb.TemplateID]*lb.Template{
			"ipm-1":  {Members: []lb.TemplateMember{member("198.51.100.0/24"), member("198.51.100.7"), member("2001:db8::/32")}},
			"ipm-2":  {Members: []lb.TemplateMember{member("203.0.113.4-203.0.113.6")}},
			"ipmg-1": {Templates: []lb.TemplateID{"ipm-1", "ipm-2"}},
			"ppm-1":  {Members: []lb.TemplateMember{service(lb.TCP, 80, 80), service(lb.UDP, 53, 53), service(lb.ICMP)}},
			"ppmg-0": {},
		}),
	}
	rules := Resolve(state, []lb.GroupID{"sg-a"}, In)[0].Rules
	if want := prefixes("198.51.100.0/24", "203.0.113.4/31", "203.0.113.6/32", "2001:db8::/32"); !reflect.DeepEqual(rules[0].Peers, want) {
		t.Errorf("peers %v", rules[0].Peers)
	}
	if len(rules[0].Services) != 3 || rules[1].Peers != nil || rules[2].Peers != nil {
		t.Errorf("rules %+v", rules)
	}
	admitted := func(p lb.Packet) bool {
		groups := Resolve(state, []lb.GroupID{"sg-a"}, In)
		c, err := Compile(groups)
		if err != nil {
			t.Fatal(err)
		}
		v := Decide(GateCVM, In, groups, p)
		if got := c.Judge(GateCVM, In, p); got != v {
			t.Errorf("%v: compiled %+v, decided %+v", p, got, v)
		}
		return v.Action == lb.Accept
	}
	for _, tc := range []struct {
		p    lb.Packet
		want bool
	}{
		{packet(lb.TCP, "198.51.100.7", "10.200.0.2", 80), true},
		{packet(lb.TCP, "203.0.113.6", "10.200.0.2", 80), true},
		{packet(lb.TCP, "203.0.113.7", "10.200.0.2", 80), false},
		{packet(lb.TCP, "198.51.100.7", "10.200.0.2", 53), false},
		{packet(lb.UDP, "198.51.100.7", "10.200.0.2", 53), true},
		{packet(lb.ICMP, "198.51.100.7", "10.200.0.2", 0), true},
		{packet(lb.GRE, "198.51.100.7", "10.200.0.2", 0), false},
		{packet(lb.TCP, "2001:db8::7", "2001:db8::1", 80), true},
	} {
		if got := admitted(tc.p); got != tc.want {
			t.Errorf("%v: admitted %v", tc.p, got)
		}
	}
	state.Templates.Put("ipm-2", &lb.Template{Members: []lb.TemplateMember{member("203.0.113.7")}})
	if !admitted(packet(lb.TCP, "203.0.113.7", "10.200.0.2", 80)) || admitted(packet(lb.TCP, "203.0.113.6", "10.200.0.2", 80)) {
		t.Error("the rule still means what the template was")
	}
}

func TestCompileRefuses(t *testing.T) {
	var hosts []netip.Prefix
	for i := range MaxIntervals {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 0})
		hosts = append(hosts, netip.PrefixFrom(a, 32))
	}
	var v6 []netip.Prefix
	for i := range MaxIntervals {
		v6 = append(v6, netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0, byte(i >> 7), byte(i << 1)}), 64))
	}
	var odd []lb.PortRange
	for i := uint16(1); i < 2*MaxPortIntervals; i += 2 {
		odd = append(odd, lb.PortRange{First: i, Last: i})
	}
	many := make([]Rule, MaxRules+1)
	var own, square []Rule // every rule its own source and port; half of the rules for every port, half for every source
	for i := range uint16(2000) {
		own = append(own, Rule{Action: lb.Accept, Proto: lb.TCP, Ports: ports(i*2+1, i*2+1), Peers: hosts[i : i+1]})
	}
	for i := range uint16(700) {
		square = append(square, Rule{Action: lb.Accept, Proto: lb.TCP, Ports: ports(i*2+1, i*2+1), Peers: prefixes("0.0.0.0/0")},
			Rule{Action: lb.Drop, Proto: lb.UDP, Ports: ports(i*2+1, i*2+1), Peers: hosts[i : i+1]})
	}
	if c, err := Compile([]Group{{ID: "sg-1", Rules: own}}); err != nil || len(c.Segments) != 3*2000+1 {
		t.Errorf("every rule its own source and port: %v", err)
	}
	for _, row := range []struct {
		name  string
		rules []Rule
		says  string
	}{
		{"IPv4 ranges", []Rule{{Action: lb.Accept, Peers: hosts}}, "ranges of IPv4 addresses"},
		{"IPv6 ranges", []Rule{{Action: lb.Accept, Peers: v6}}, "ranges of IPv6 addresses"},
		{"port ranges", []Rule{{Action: lb.Accept, Proto: lb.TCP, Ports: odd, Peers: prefixes("0.0.0.0/0")}}, "ranges of ports"},
		{"rules", many, "16385 rules; the limit is 16384"},
		{"segments", square, "counted for each kind of source"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, err := Compile([]Group{{ID: "sg-1", Rules: row.rules}})
			var e *lb.Error
			if c != nil || !errors.As(err, &e) || e.Kind != lb.LimitExceeded || !strings.Contains(err.Error(), row.says) {
				t.Errorf("%v, %v", c != nil, err)
			}
		})
	}
	if _, err := Compile(nil); err == nil {
		t.Error("compiled nothing")
	}
}

func TestCompileMerges(t *testing.T) {
	every := prefixes("0.0.0.0/0", "::/0")
	c, err := Compile([]Group{policytest.Number("sg-1",
		Rule{Action: lb.Accept, Peers: every},
		Rule{Action: lb.Drop, Proto: lb.TCP, Ports: ports(80, 80), Peers: prefixes("10.0.0.0/8")}, // never reached
	)})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Slices) != 1 || len(c.Src4) != 1 || len(c.Src6) != 1 || len(c.Segments) != 1 || len(c.Rules) != 2 {
		t.Errorf("%+v", c)
	}
	same, _ := Compile([]Group{policytest.Number("sg-1",
		Rule{Action: lb.Accept, Peers: every},
		Rule{Action: lb.Drop, Proto: lb.TCP, Ports: ports(80, 80), Peers: prefixes("10.0.0.0/8")},
	)})
	other, _ := Compile([]Group{policytest.Number("sg-2", Rule{Action: lb.Accept, Peers: every})})
	if c.Hash != same.Hash || c.Hash == other.Hash || len(c.Hash) != 16 || !reflect.DeepEqual(c, same) {
		t.Errorf("hashes %s %s %s", c.Hash, same.Hash, other.Hash)
	}
}

func TestReasonHeader(t *testing.T) {
	header := ReasonHeader()
	for _, line := range []string{"/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */\n", "REASON_NONE = 0,", "REASON_NO_GROUPS = 1,", "REASON_RULE = 2,",
		fmt.Sprintf("REASON_COUNT = %d,", len(Reasons())), "GATE_CLB = 1,", "GATE_CVM = 2,"} {
		if !strings.Contains(header, line) {
			t.Errorf("no %q in\n%s", line, header)
		}
	}
	seen := make(map[string]bool)
	for _, r := range Reasons() {
		if name := r.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d is named %q", r, name)
		} else {
			seen[name] = true
		}
	}
	const file = "../datapath/bpf/reason.h"
	if *update {
		if err := os.WriteFile(file, []byte(header), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if kept, err := os.ReadFile(file); err == nil && string(kept) != header {
		t.Errorf("%s is not what ReasonHeader says: run go test ./internal/policy -run ReasonHeader -update", file)
	}
}
