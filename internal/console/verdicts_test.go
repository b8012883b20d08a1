// SPDX-License-Identifier: Apache-2.0

package console

import "testing"

// Each filter lets through what it names, in the page and in its stream.
func TestVerdictFilters(t *testing.T) {
	web := verdict{Gate: "cvm", Action: "ACCEPT", SecurityGroupId: "sg-1", PolicyId: "pol-a", PolicyPosition: 2, Protocol: "TCP", Source: "203.0.113.9:4000", Destination: "10.0.0.2:8080", InstanceId: "ins-1"}
	probe, ping, system := web, web, web
	probe.Source, probe.LoadBalancerId = "192.0.2.1:4000", "lb-1"
	ping.Protocol, ping.Destination = "ICMPv6", "fd00::2"
	system.SecurityGroupId, system.PolicyId, system.Reason = "", "", "system_rule"
	h := newHistory()
	h.know([]balancer{{LoadBalancerId: "lb-1", LoadBalancerVips: []string{"192.0.2.1"}}})
	all := []verdict{web, probe, ping, system}
	h.tellProbes(all)
	for name, c := range map[string]struct {
		f    verdictFilter
		want string // of web, probe, ping, system
	}{
		"all":       {verdictFilter{}, "1111"},
		"no probes": {verdictFilter{Probes: "hide"}, "1010"},
		"protocol":  {verdictFilter{Protocol: "TCP"}, "1101"},
		"ping":      {verdictFilter{Protocol: "ICMP"}, "0010"},
		"port":      {verdictFilter{Port: "8080"}, "1101"},
		"position":  {verdictFilter{Rule: "2"}, "1110"},
		"rule":      {verdictFilter{Rule: "pol-a"}, "1110"},
		"instance":  {verdictFilter{Instance: "ins-2"}, "0000"},
	} {
		got := ""
		for _, v := range all {
			got += map[bool]string{true: "1", false: "0"}[c.f.matches(v)]
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// What somebody filters by is said, kept, and passed on to the stream.
func TestVerdictFilterForm(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	d.open("verdicts?port=8080&protocol=TCP&rule=2&cvm="+w.ins1+"&probes=hide", 200)
	for _, text := range []string{`name="port" class="short" value="8080"`, `<option selected>TCP`, `name="rule" class="short" value="2"`, `name="cvm" value="` + w.ins1, `value="hide" selected`, "port=8080&amp;probes=hide"} {
		d.says(text)
	}
	d.open("verdicts?port=99999", 200)
	d.says("This is not a port")
	d.saysNot(":40000")
	d.open("verdicts?port=81", 200)
	d.says(w.vip + ":81")
	d.saysNot(w.vip + ":80<")
}

// Explanations call groups and gates as the pages do, and times are short.
func TestExplanationsUseNames(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	d.open("clb/"+w.balancer+"/picture?source=203.0.113.10&port=80&protocol=TCP", 200)
	d.says("of clb-web</a> decides")
	d.says("of cvm-web</a> decides")
	d.saysNot("of " + w.edge)
	if got := gateWords("gate cvm drops the probe"); got != "gate 2 drops the probe" {
		t.Errorf("%q", got)
	}
	if got := toSecond("2026-11-23T12:00:01.123456789Z"); got != "2026-11-23 12:00:01 UTC" {
		t.Errorf("%q", got)
	}
	d.open("sg/"+w.edge, 200)
	d.says("Hits are packets since 2026-11-23 11:00:00 UTC.")
}
