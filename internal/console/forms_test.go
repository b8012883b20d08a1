// SPDX-License-Identifier: Apache-2.0

package console

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

func TestCreateGroupByTemplate(t *testing.T) {
	d := newDesk(t)
	d.login()
	for template, want := range map[string]string{
		"custom": "",
		"open":   "Allow ALL 0.0.0.0/0; Allow ALL ::/0",
		"common": "Allow TCP:3389 0.0.0.0/0; Allow TCP:3389 ::/0; Allow TCP:22 0.0.0.0/0; Allow TCP:22 ::/0; Allow TCP:80,443 0.0.0.0/0; Allow TCP:80,443 ::/0; " +
			"Allow ICMP 0.0.0.0/0; Allow ICMPv6 ::/0; Allow ALL 10.0.0.0/8; Allow ALL 172.16.0.0/12; Allow ALL 192.168.0.0/16",
	} {
		d.open("sg/new", 200)
		d.fill("sg/new", 200, "GroupName", "by "+template, "template", template, "ProjectId", "0")
		d.says("<h1>by " + template + "</h1>")
		if template == "custom" {
			d.says("refuses everything until you add rules")
		}
		var out struct{ SecurityGroups []group }
		d.do(ourVersion, "SearchSecurityGroups", m{"Text": "by " + template}, &out)
		d.wants(out.SecurityGroups[0].SecurityGroupId, want)
	}
}

// A refused form says why beside the field and keeps what was typed.
func TestRefusedFormsKeepWhatWasTyped(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	listener := "clb/" + w.balancer + "/listeners/" + w.listener
	tests := []struct {
		path  string
		pairs []string
		field string // id of the fault's paragraph
		want  string
	}{
		{"sg/new", []string{"GroupName", "", "GroupDescription", "kept remark", "template", "open"}, "e-GroupName", "the name is empty"},
		{"sg/new", []string{"GroupName", strings.Repeat("long ", 20), "GroupDescription", "kept remark"}, "e-GroupName", "100 characters are too many; at most 60 are allowed"},
		{"sg/" + w.edge + "/edit", []string{"GroupName", "x", "GroupDescription", "kept remark " + strings.Repeat("y", 100)}, "e-GroupDescription", "at most 100 are allowed"},
		{"sg/" + w.edge + "/clone", []string{"GroupName", "", "GroupDescription", "kept remark"}, "e-GroupName", "the name is empty"},
		{"sg/" + w.edge + "/rules/add?dir=in", []string{"Source", "10.0.0.0/33", "Service", "TCP:9", "Policy", "Allow", "Notes", "kept remark"}, "source-e0", "10.0.0.0/33"},
		{"sg/" + w.edge + "/rules/add?dir=in", []string{"Source", "10.0.0.0/8", "Service", "TCP:9-", "Policy", "Allow", "Notes", "kept remark"}, "service-e0", "is not a port"},
		{"sg/" + w.edge + "/rules/add?dir=in", []string{"Source", "", "Service", "", "Policy", "Allow", "Notes", ""}, "service-e0", "at least one row"},
		{"clb/new", []string{"LoadBalancerName", "kept remark", "Vip", ""}, "e-LoadBalancerName", "cannot be in a name"},
		{"clb/new", []string{"LoadBalancerName", "kept-remark", "Vip", "192.0.2.99"}, "e-Vip", "not in the VIP pool"},
		{"clb/" + w.balancer + "/listeners/new", []string{"ListenerName", "kept remark", "Protocol", "TCP", "Port", "eighty", "HealthSwitch", ""}, "e-Port", "is not a number"},
		{"clb/" + w.balancer + "/listeners/new", []string{"ListenerName", "kept remark", "Protocol", "TCP", "Port", "80", "HealthSwitch", ""}, "", "is used by listener"},
		{"clb/" + w.balancer + "/listeners/new", []string{"ListenerName", "kept remark", "Protocol", "HTTP", "Port", "99", "Domain", "a b", "Url", "/", "HealthSwitch", ""}, "e-Domain", "a b"},
		{"clb/" + w.balancer + "/listeners/new", []string{"ListenerName", "kept remark", "Protocol", "HTTPS", "Port", "99", "Domain", "a.example.com", "Url", "/", "HealthSwitch", ""}, "e-Certificate", "is not given"},
		{listener + "/rules/new", []string{"Domain", "kept.example.com", "Url", "no-slash", "HealthSwitch", ""}, "e-Url", "does not begin with /"},
		{listener + "/targets/add?location=" + w.location, []string{"Port", "90000", "Weight", "10", "id", w.ins1}, "e-Port", "outside 1-65535"},
		{"cvm/new", []string{"InstanceName", strings.Repeat("kept", 60)}, "e-InstanceName", "at most 128 are allowed"},
	}
	for _, tt := range tests {
		before := d.api.Store.State().Revision
		d.open(tt.path, 200)
		d.fill(tt.path, 422, tt.pairs...)
		if tt.field != "" {
			_, rest, ok := strings.Cut(d.page, `class="fault" id="`+tt.field+`">`)
			fault, _, _ := strings.Cut(rest, "</p>")
			if !ok || !strings.Contains(fault, tt.want) {
				t.Errorf("%s %v: the field %s says %q, want %q", tt.path, tt.pairs, tt.field, fault, tt.want)
			}
		} else {
			d.says(tt.want)
		}
		for _, text := range tt.pairs {
			if strings.HasPrefix(text, "kept") {
				d.says(`value="` + text)
			}
		}
		if after := d.api.Store.State(); after.Revision != before && !strings.Contains(tt.path, "listeners/new") {
			t.Errorf("%s was refused and changed the state", tt.path)
		}
	}
	if n := d.api.Store.State().Listeners.Len(); n != 1 {
		t.Errorf("%d listeners are there: a refused first rule leaves its listener behind", n)
	}
}

func TestRulesAreEdited(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge
	const listener, rest = "Allow TCP:80 0.0.0.0/0", "Refuse ALL 0.0.0.0/0"
	d.open(base+"/rules/add?dir=in&at=1", 200)
	d.fill(base+"/rules/add", 200, "at", "1", "Source", "10.0.0.0/8", "Source", "sg-none", "Service", "TCP:81", "Service", "", "Policy", "Allow", "Policy", "Allow", "Notes", "", "Notes", "", "more", "1")
	d.says(`id="source-2"`)
	d.fill(base+"/rules/add", 200, "at", "1", "Source", "10.0.0.0/8", "Source", w.host, "Service", "TCP:81", "Service", "udp:53", "Policy", "Allow", "Policy", "Refuse", "Notes", "a", "Notes", "b")
	d.wants(w.edge, listener+"; Allow TCP:81 10.0.0.0/8; Refuse UDP:53 "+w.host+"; "+rest)
	ids := func() []string {
		var all []string
		for _, r := range d.api.Store.State().Groups.Get(lb.GroupID(w.edge)).Ingress {
			all = append(all, string(r.ID))
		}
		return all
	}
	first := ids()[0]
	d.open(base, 200)
	d.fill(base+"/rules/order", 200, "move", first+":down")
	d.wants(w.edge, "Allow TCP:81 10.0.0.0/8; "+listener+"; Refuse UDP:53 "+w.host+"; "+rest)
	reversed := ids()
	slices.Reverse(reversed)
	d.fill(base+"/rules/order", 200, "order", strings.Join(reversed, ","))
	d.wants(w.edge, rest+"; Refuse UDP:53 "+w.host+"; "+listener+"; Allow TCP:81 10.0.0.0/8")
	if !slices.Equal(ids(), reversed) {
		t.Errorf("moving gave the rules other ids")
	}
	d.fill(base+"/rules/order", 422, "order", "pol-x,pol-y")
	d.fill(base+"/rules/order", 422, "move", reversed[0]+":up")
	d.open(base+"/rules/edit?dir=in&rule="+reversed[1], 200)
	d.fill(base+"/rules/edit", 200, "Source", "198.51.100.0/24", "Service", "TCP:443", "Policy", "Allow", "Notes", "edited")
	d.wants(w.edge, rest+"; Allow TCP:443 198.51.100.0/24; "+listener+"; Allow TCP:81 10.0.0.0/8")
	d.open(base, 200)
	d.fill(base+"/rules/delete", 422)
	d.says("Tick at least one rule")
	d.fill(base+"/rules/delete", 200, "rule", ids()[0], "rule", ids()[1])
	d.says("Delete 2 rules")
	d.says("Refuse ALL 0.0.0.0/0")
	d.fill(base+"/rules/delete", 200, "rule", ids()[0], "rule", ids()[1])
	d.wants(w.edge, listener+"; Allow TCP:81 10.0.0.0/8")
	d.open(base+"/rules/open?dir=in", 200)
	d.fill(base+"/rules/open", 200)
	d.wants(w.edge, "Allow ICMP 0.0.0.0/0; Allow ICMPv6 ::/0; Allow TCP:20,21,22,80,443,3389 0.0.0.0/0; Allow TCP:20,21,22,80,443,3389 ::/0; "+listener+"; Allow TCP:81 10.0.0.0/8")
	d.open(base+"/rules/open?dir=in", 200)
	d.fill(base+"/rules/open", 200)
	d.says("allowed by rules already")
}

// The second of two editors is told what changed, and nothing of the first
// one's is lost.
func TestTwoEditors(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge
	rules := d.api.Store.State().Groups.Get(lb.GroupID(w.edge)).Ingress
	other := func(port string) {
		var out struct{ SecurityGroupPolicySet policySet }
		d.do(vpcVersion, "DescribeSecurityGroupPolicies", m{"SecurityGroupId": w.edge}, &out)
		d.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": w.edge, "SecurityGroupPolicySet": m{"Ingress": []m{line{"10.0.0.0/8", "TCP:" + port, "Allow", ""}.policy()}}}, nil)
	}
	tests := []struct {
		name, open, send string
		status           int
		pairs            []string
	}{
		{"order", base, base + "/rules/order", 409, []string{"move", string(rules[0].ID) + ":down"}},
		{"delete", base, base + "/rules/delete", 409, []string{"rule", string(rules[0].ID)}},
		{"add", base + "/rules/add?dir=in", base + "/rules/add", 422, []string{"Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note"}},
		{"edit", base + "/rules/edit?dir=in&rule=" + string(rules[0].ID), base + "/rules/edit", 422, []string{"Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note"}},
		{"import", base + "/rules/import?dir=in", base + "/rules/import", 422, []string{"csv", "10.9.0.0/16,TCP:7,Allow,kept note", "mode", "overwrite", "step", "import"}},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.open(tt.open, 200)
			other(string(rune('1' + i)))
			before := d.inbound(w.edge)
			d.fill(tt.send, tt.status, tt.pairs...)
			d.says("1 rule added or rewritten")
			d.wants(w.edge, before)
			if tt.status == 409 {
				d.says(`<tr id="rule-`)
				d.says(`class="marked"`)
			} else {
				d.says("kept note")
			}
		})
	}
	d.open("clb/"+w.balancer+"/security/bind", 200)
	d.do(clbVersion, "SetLoadBalancerSecurityGroups", m{"LoadBalancerId": w.balancer, "SecurityGroups": []string{w.edge, w.host}}, nil)
	d.fill("clb/"+w.balancer+"/security/bind", 422, "sg", w.host)
	d.says("Somebody changed the bound groups")
	if got := len(d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).Groups); got != 2 {
		t.Errorf("%d groups are bound, want the two of the other editor", got)
	}
}

func TestChanges(t *testing.T) {
	rules := func(ids ...string) []policyRule {
		var all []policyRule
		for _, id := range ids {
			all = append(all, policyRule{PolicyId: id})
		}
		return all
	}
	tests := []struct {
		seen  string
		now   []policyRule
		want  string
		marks int
	}{
		{"a,b", rules("a", "b", "c"), "1 rule added or rewritten.", 1},
		{"a,b,c", rules("a", "c"), "1 rule removed.", 0},
		{"a,b,c", rules("b", "a", "c"), "2 rules moved.", 2},
		{"", rules("a"), "1 rule added or rewritten.", 1},
		{"a,b", rules("a", "b"), "a note or the other direction changed.", 0},
		{"a,b", rules("c"), "1 rule added or rewritten, 2 rules removed.", 1},
	}
	for _, tt := range tests {
		c := changes(tt.seen, "", tt.now)
		if !strings.Contains(c.Text, tt.want) || len(c.Marks) != tt.marks {
			t.Errorf("changes(%q) says %q with marks %v, want %q and %d", tt.seen, c.Text, c.Marks, tt.want, tt.marks)
		}
	}
}

func TestImportAndExport(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge
	file := d.open(base+"/rules/export.csv?dir=in", 200)
	if want := "Source,Protocol port,Policy,Notes\n0.0.0.0/0,TCP:80,Allow,the listener\n0.0.0.0/0,ALL,Refuse,the rest\n"; file != want {
		t.Errorf("the file is\n%s\nwant\n%s", file, want)
	}
	d.open(base+"/rules/import?dir=in", 200)
	d.upload(base+"/rules/import", 200, "Source,Protocol port,Policy,Notes\n203.0.113.0/24,TCP:443,Allow,\"new, with comma\"\n::/0,ICMPv6,accept,\n")
	d.says("Preview")
	d.says("new, with comma")
	text := "203.0.113.0/24,TCP:443,Allow,\n::/0,ICMPv6,accept,\n"
	d.fill(base+"/rules/import", 200, "csv", text, "mode", "append", "step", "import")
	d.wants(w.edge, "Allow TCP:443 203.0.113.0/24; Allow ICMPv6 ::/0; Allow TCP:80 0.0.0.0/0; Refuse ALL 0.0.0.0/0")
	d.open(base+"/rules/import?dir=in", 200)
	d.fill(base+"/rules/import", 200, "csv", "10.0.0.0/8,ALL,Allow,", "mode", "overwrite", "step", "import")
	d.wants(w.edge, "Allow ALL 10.0.0.0/8")
	for text, want := range map[string]string{"": "There are no rules", "one,two": "line 1 has 2 columns", `a,"b`: "not CSV", "10.0.0.0/8,TCP:1-,Allow,": "1-", "10.0.0.0/8,TCP:1,Perhaps,": "Perhaps"} {
		d.open(base+"/rules/import?dir=in", 200)
		d.fill(base+"/rules/import", 422, "csv", text, "mode", "overwrite", "step", "import")
		d.says(want)
		d.wants(w.edge, "Allow ALL 10.0.0.0/8")
	}
}

// What is exported can be imported, and no spreadsheet runs it.
// A rule that names templates stays what it is when it is edited as a line,
// and when the page writes the whole list back: losing a template would open
// the rule to everybody.
func TestTemplatesSurviveEditing(t *testing.T) {
	var r policyRule
	r.Action, r.AddressTemplate.AddressId, r.ServiceTemplate.ServiceGroupId = "ACCEPT", "ipm-12345678", "ppmg-12345678"
	l := lineOf(r)
	if l != (line{Source: "ipm-12345678", Service: "ppmg-12345678", Policy: "Allow"}) {
		t.Errorf("line %+v", l)
	}
	want := `{"Action":"ACCEPT","AddressTemplate":{"AddressId":"ipm-12345678"},"PolicyDescription":"","ServiceTemplate":{"ServiceGroupId":"ppmg-12345678"}}`
	if got, _ := json.Marshal(l.policy()); string(got) != want {
		t.Errorf("written back as %s", got)
	}
	back := stored(r)
	if back["AddressTemplate"] != r.AddressTemplate || back["ServiceTemplate"] != r.ServiceTemplate {
		t.Errorf("stored as %v", back)
	}
	r.AddressTemplate.AddressId, r.AddressTemplate.AddressGroupId = "", "ipmg-12345678"
	r.ServiceTemplate.ServiceId, r.ServiceTemplate.ServiceGroupId = "ppm-12345678", ""
	if got, _ := json.Marshal(lineOf(r).policy()); !strings.Contains(string(got), `{"AddressGroupId":"ipmg-12345678"}`) || !strings.Contains(string(got), `{"ServiceId":"ppm-12345678"}`) {
		t.Errorf("written back as %s", got)
	}
	if got := (binding{CVM: 1}).sees(dirIn, r); len(got) != 1 || got[0] != "the template's addresses" {
		t.Errorf("sees %v", got)
	}
}

func TestCSVComesBack(t *testing.T) {
	lines := []line{{"0.0.0.0/0", "TCP:80", "Allow", `=HYPERLINK("x")`}, {"::/0", "ALL", "Refuse", "+1, \"quoted\"\nsecond line"}, {"sg-12345678", "ICMP", "Allow", ""}, {"10.0.0.1", "UDP:53", "Allow", "'plain'"}}
	var b strings.Builder
	if err := writeCSV(&b, lines); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "\n=") || strings.Contains(b.String(), `,"=`) || strings.Contains(b.String(), `,=`) {
		t.Errorf("a formula stays a formula:\n%s", b.String())
	}
	got, err := readCSV("\ufeff" + b.String())
	if err != nil || !slices.Equal(got, lines) {
		t.Errorf("read back %q (%v), want %q", got, err, lines)
	}
}

func TestBindAndOrder(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	bound := func() string {
		var all []string
		for _, id := range d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).Groups {
			all = append(all, strings.NewReplacer(w.edge, "edge", w.host, "host").Replace(string(id)))
		}
		return strings.Join(all, ",")
	}
	clb := "clb/" + w.balancer + "/security"
	d.open(clb+"/bind", 200)
	d.fill(clb+"/bind", 200, "sg", w.host, "sg", w.edge)
	if bound() != "edge,host" {
		t.Errorf("bound %s, want the bound one to stay on top", bound())
	}
	d.fill(clb+"/order", 200, "move", w.host+":up")
	if bound() != "host,edge" {
		t.Errorf("bound %s after moving up", bound())
	}
	d.fill(clb+"/order", 200, "order", w.edge+","+w.host)
	if bound() != "edge,host" {
		t.Errorf("bound %s after dragging", bound())
	}
	d.fill(clb+"/order", 200, "unbind", w.edge)
	d.open(clb, 200)
	d.fill(clb+"/order", 200, "unbind", w.host)
	d.says("Gate 1 stands open")
	d.open(clb+"/bind", 200)
	d.fill(clb+"/bind", 422, "sg", "sg-1", "sg", "sg-2", "sg", "sg-3", "sg", "sg-4", "sg", "sg-5", "sg", "sg-6")
	d.says("At most 5")
	d.fill(clb+"/bind", 200, "sg", w.edge, "q", "cvm", "search", "1")
	d.says("checked> <span class=\"id\">" + w.edge) // ticked, though the search does not show it
	cvm := "cvm/" + w.ins1 + "/security"
	d.open(cvm, 200)
	d.fill(cvm+"/order", 422, "unbind", w.host)
	d.says("keeps at least one")
	d.open(cvm+"/bind", 200)
	d.fill(cvm+"/bind", 422)
	d.says("keeps at least one")
	d.fill(cvm+"/bind", 200, "sg", w.host, "sg", w.edge)
	d.fill(cvm+"/order", 200, "unbind", w.host)
	if got := d.api.Store.State().Instances.Get(lb.InstanceID(w.ins1)).Groups; len(got) != 1 || string(got[0]) != w.edge {
		t.Errorf("the instance has %v", got)
	}
}

func TestPassToTarget(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	path := "clb/" + w.balancer + "/security"
	on := func() bool { return d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).PassToTarget }
	d.open(path+"/pass", 200)
	d.says("Whoever gate 1 allows reaches these ports")
	d.says(w.ins1 + " (web-1), port 8080")
	d.fill(path+"/pass", 200)
	if d.says("On: gate 2 is skipped"); !on() {
		t.Error("the switch did not change")
	}
	d.fill(path+"/pass", 409, "on", "true") // somebody else was first
	d.open(path+"/pass", 200)
	d.fill(path+"/pass", 200)
	if on() {
		t.Error("the switch did not change back")
	}
}

func TestAssociations(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge + "/associations"
	d.open(base+"/add?kind=cvm", 200)
	d.says("web-1")
	d.fill(base+"/add?kind=cvm", 422)
	d.fill(base+"/add?kind=cvm", 200, "id", w.ins1, "id", w.ins2)
	d.says("web-2")
	d.fill(base+"/remove", 200, "kind", "cvm", "id", w.ins1)
	d.fill(base+"/remove", 422, "kind", "cvm")
	d.open("sg/"+w.host+"/associations", 200)
	d.fill("sg/"+w.host+"/associations/remove", 422, "kind", "cvm", "id", w.ins1)
	d.says("keeps at least one")
	d.open(base+"?kind=clb", 200)
	d.fill(base+"/remove?kind=clb", 200, "kind", "clb", "id", w.balancer)
	d.says("No load balancer has this group")
	d.open("sg/"+w.host+"/delete", 200)
	d.fill("sg/"+w.host+"/delete", 422)
	d.says("is bound to instance")
}

func TestListenersAndTargets(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "clb/" + w.balancer + "/listeners"
	d.open(base+"/new", 200)
	d.fill(base+"/new", 200, "ListenerName", "raw", "Protocol", "TCP", "Port", "81", "HealthSwitch", "1", "IntervalTime", "5", "TimeOut", "2", "HealthNum", "3", "UnHealthNum", "3", "SourceIpType", "1")
	d.says("TCP:81")
	var tcp string
	for id, l := range d.api.Store.State().Listeners.All() {
		if l.Port == 81 {
			tcp = string(id)
		}
	}
	at := base + "/" + tcp
	d.chooseCheck(base, lb.ListenerID(tcp))
	d.open(at+"/targets/add", 200)
	d.fill(at+"/targets/add", 422)
	d.says("Tick at least one")
	d.fill(at+"/targets/add", 200, "id", w.ins1, "id", w.ins2, "Port", "8080", "Weight", "10", "port-"+w.ins2, "8081", "weight-"+w.ins2, "7")
	target := d.api.Store.State().Listeners.Get(lb.ListenerID(tcp)).Targets
	if len(target) != 2 || target[1].Port != 8081 || target[1].Weight != 7 {
		t.Fatalf("targets %+v", target)
	}
	edit := at + "/targets/edit?" + query("instance", w.ins2, "port", "8081")
	d.open(edit, 200)
	d.fill(edit, 200, "Weight", "0", "NewPort", "9090")
	if target = d.api.Store.State().Listeners.Get(lb.ListenerID(tcp)).Targets; target[1].Port != 9090 || target[1].Weight != 0 {
		t.Errorf("targets %+v after editing", target)
	}
	d.open(at+"/targets/remove?"+query("instance", w.ins2, "port", "9090"), 200)
	d.fill(at+"/targets/remove?"+query("instance", w.ins2, "port", "9090"), 200)
	d.open(at+"/check", 200)
	d.fill(at+"/check", 200, "HealthSwitch", "")
	if l := d.api.Store.State().Listeners.Get(lb.ListenerID(tcp)); l.Check.On || len(l.Targets) != 1 {
		t.Errorf("the listener is %+v", l)
	}
	d.open(at+"/delete", 200)
	d.fill(at+"/delete", 200)
	rule := base + "/" + w.listener + "/rules"
	d.open(rule+"/new", 200)
	d.fill(rule+"/new", 200, "Domain", "www.example.com", "Url", "/api", "HealthSwitch", "1", "IntervalTime", "5", "TimeOut", "2", "HealthNum", "3", "UnHealthNum", "3", "SourceIpType", "0", "HttpCheckPath", "/", "HttpCheckMethod", "GET")
	d.says("www.example.com/api")
	d.open(rule+"/"+w.location+"/delete", 200)
	d.fill(rule+"/"+w.location+"/delete", 200)
	d.open("clb/"+w.balancer+"/delete", 200)
	d.fill("clb/"+w.balancer+"/delete", 200)
	if st := d.api.Store.State(); st.Balancers.Len()+st.Listeners.Len() != 0 {
		t.Errorf("%d load balancers and %d listeners are left", st.Balancers.Len(), st.Listeners.Len())
	}
}

func TestOwnerAndTicket(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.open("sg/"+w.edge+"/rules/add?dir=in", 200)
	d.fill("sg/"+w.edge+"/rules/add", 200, "Source", "10.0.0.0/8", "Service", "TCP:9", "Policy", "Allow", "Notes", "owner:alice for tests ticket:OPS-12")
	d.says(`for tests <span class="chip">owner alice</span> <span class="chip">ticket OPS-12</span>`)
	rest, found := labels("owner: see http://x owner:bob")
	if rest != "owner: see http://x" || len(found) != 1 || found[0].Value != "bob" {
		t.Errorf("labels are %v, the rest is %q", found, rest)
	}
}

func TestSees(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.open("sg/"+w.host, 200)
	d.says("a rule must allow it")
	b := binding{CVM: 1, Probes: []probe{{"lb-1", "192.0.2.1", d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).VIPs[0]}}}
	for cidr, want := range map[string]string{
		"0.0.0.0/0": "client, VIP probe", "192.0.2.1": "VIP probe", "203.0.113.0/24": "client", "100.64.3.0/24": "probe range, allowed without a rule",
		"100.127.0.0/16": "shared pool of kept-alive connections", "100.0.0.0/6": "client",
	} {
		if got := joined(b.sees(dirIn, policyRule{CidrBlock: cidr, Protocol: "TCP"})); got != want {
			t.Errorf("a rule for %s sees %q, want %q", cidr, got, want)
		}
	}
	if got := joined(b.sees(dirIn, policyRule{SecurityGroupId: "sg-1"})); got != "members' private addresses" {
		t.Errorf("a rule for a group sees %q", got)
	}
}

func TestVerdictIsExplained(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	d.open("verdicts?action=DROP&gate=cvm", 200)
	d.saysNot("gate 1</td>")
	_, link, _ := strings.Cut(d.page, `href="/console/verdicts/explain?`)
	link, _, _ = strings.Cut(link, `"`)
	d.open("verdicts/explain?"+strings.ReplaceAll(link, "&amp;", "&"), 200)
	d.says("Why was this refused?")
	d.says("198.51.100.20 is outside its source")
	d.says("cvm-web rule 1")
	d.open("verdicts?address=banana", 200)
	d.says("This is not an address")
	d.open("verdicts/explain?"+url.Values{"source": {"x"}, "protocol": {"TCP"}, "gate": {"clb"}, "clb": {w.balancer}}.Encode(), 200)
	d.says("is not an address")
}

func TestPictureLightsThePath(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	path := "clb/" + w.balancer + "/picture"
	d.open(path+"?source=203.0.113.10&port=80", 200)
	d.says("is allowed at both gates")
	d.says("lit-ok")
	d.saysNot("lit-bad")
	d.open(path+"?source=198.51.100.20&port=80", 200)
	d.says("refused at gate 2")
	d.says("gate lit-bad")
	d.open(path+"?source=198.51.100.20&port=81", 200)
	d.says("refused at gate 1")
	d.open(path+"?source=banana&port=80", 422)
	d.says(`value="banana"`)
	d.says("is not an address")
	d.open(path+"?source=203.0.113.10&port=many", 422)
	d.says("is not a number")
}
