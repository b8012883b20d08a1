// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// Whatever dialog the login expired in comes back as it was: same direction,
// same rule, same place, however long its text is.
func TestExpiredLoginComesBackToTheSameDialog(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge
	rule := string(d.api.Store.State().Groups.Get(lb.GroupID(w.edge)).Ingress[1].ID)
	var file strings.Builder
	for i := range 90 {
		fmt.Fprintf(&file, "10.0.%d.0/24,TCP:%d,Allow,kept note %d of a file that is too long for an address\n", i, i+1, i)
	}
	listener := "clb/" + w.balancer + "/listeners/" + w.listener
	tests := []struct {
		open, send string
		pairs      []string
		want       []string
	}{
		{base + "/rules/add?dir=out&at=0", base + "/rules/add", []string{"Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Refuse", "Notes", "kept note"},
			[]string{"Add outbound rules", "kept note", `name="dir" value="out"`, "<option selected>Refuse"}},
		{base + "/rules/edit?dir=in&rule=" + rule, base + "/rules/edit", []string{"Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note"},
			[]string{"Edit rule 2", "kept note", rule}},
		{base + "/rules/import?dir=out", base + "/rules/import", []string{"csv", file.String(), "mode", "append"},
			[]string{"Import outbound rules", "kept note 89", `value="append" checked`}},
		{listener + "/check?location=" + w.location, listener + "/check", []string{"HealthSwitch", "1", "HttpCheckPath", "/kept"}, []string{"Health check of", `value="/kept"`}},
		{"clb/" + w.balancer + "/security/bind", "clb/" + w.balancer + "/security/bind", []string{"sg", w.host}, []string{`value="` + w.host + `" checked`}},
	}
	for _, tt := range tests {
		d.open(tt.open, 200)
		*d.clock = d.clock.Add(idleLimit + time.Second)
		d.fill(tt.send, 401, tt.pairs...)
		d.says("What you typed is kept")
		d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
		for _, text := range tt.want {
			d.says(text)
		}
	}
}

// What changed while nobody was logged in is no more overwritten than what
// changes while somebody is.
func TestExpiredLoginRemembersWhatWasSeen(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.open("sg/"+w.edge+"/rules/add?dir=in", 200)
	*d.clock = d.clock.Add(idleLimit + time.Second)
	d.fill("sg/"+w.edge+"/rules/add", 401, "Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note")
	d.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": w.edge, "SecurityGroupPolicySet": m{"Ingress": []m{line{"10.0.0.0/8", "TCP:9", "Allow", ""}.policy()}}}, nil)
	d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
	d.fill("sg/"+w.edge+"/rules/add", 422, "Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note")
	d.says("Somebody changed this group")
}

// Two people edit the same rule: the second one's text is kept.
func TestTwoEditOneRule(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	rule := string(d.api.Store.State().Groups.Get(lb.GroupID(w.edge)).Ingress[0].ID)
	d.open("sg/"+w.edge+"/rules/edit?dir=in&rule="+rule, 200)
	d.do(vpcVersion, "ReplaceSecurityGroupPolicy", m{"SecurityGroupId": w.edge, "SecurityGroupPolicySet": m{"Ingress": []m{{"PolicyIndex": 0, "CidrBlock": "10.1.0.0/16", "Protocol": "TCP", "Port": "80", "Action": "ACCEPT"}}}}, nil)
	before := d.inbound(w.edge)
	d.fill("sg/"+w.edge+"/rules/edit", 422, "Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note")
	d.wants(w.edge, before)
	d.says("Somebody changed this group")
	d.says("<li>rule 1 was Allow TCP:80 0.0.0.0/0 the listener → is Allow TCP:80 10.1.0.0/16</li>")
	d.says("kept note")
	d.fill("sg/"+w.edge+"/rules/add", 200, "Source", "10.9.0.0/16", "Service", "TCP:7", "Policy", "Allow", "Notes", "kept note", "at", "0")
	d.wants(w.edge, "Allow TCP:7 10.9.0.0/16; "+before)
}

// Two people name one group: the second is told.
func TestTwoNameOneGroup(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.open("sg/"+w.edge+"/edit", 200)
	d.do(vpcVersion, "ModifySecurityGroupAttribute", m{"SecurityGroupId": w.edge, "GroupName": "theirs", "GroupDescription": "first\nsecond"}, nil)
	d.fill("sg/"+w.edge+"/edit", 422, "GroupName", "kept-name", "GroupDescription", "kept remark")
	for _, text := range []string{"Somebody changed", "theirs", "kept-name", "kept remark"} {
		d.says(text)
	}
	d.fill("sg/"+w.edge+"/edit", 200, "GroupName", "kept-name", "GroupDescription", "kept remark")
	d.says("Saved.")
}

// Live parts are found by their ids, so no two have the same.
func TestIdsAreUnique(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	var out struct{ ListenerIds []string }
	d.do(clbVersion, "CreateListener", m{"LoadBalancerId": w.balancer, "Ports": []int{81, 82}, "Protocol": "TCP"}, &out)
	for i, l := range out.ListenerIds {
		d.do(clbVersion, "RegisterTargets", m{"LoadBalancerId": w.balancer, "ListenerId": l, "Targets": []m{{"InstanceId": w.ins1, "Port": 8081 + i}}}, nil)
	}
	for _, path := range w.pages() {
		seen := map[string]bool{}
		for _, id := range regexp.MustCompile(` id="([^"]+)"`).FindAllStringSubmatch(d.open(path, 200), -1) {
			if seen[id[1]] {
				t.Errorf("%s: two parts are called %q", path, id[1])
			}
			seen[id[1]] = true
		}
	}
}

// A filter for a load balancer that the choice does not list is kept.
func TestVerdictFilterIsKept(t *testing.T) {
	d := newDesk(t)
	d.login()
	if err := fillStore(d.api.Store, 1, 300); err != nil {
		t.Fatal(err)
	}
	d.open("verdicts?clb=lb-00000001", 200)
	d.says(`<option value="lb-00000001" selected>`)
}
