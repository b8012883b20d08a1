// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net/http"
	"strings"
	"testing"
)

// loginWith makes a key of a role and logs in with it.
func (d *desk) loginWith(role string, projects ...string) {
	d.Helper()
	var key struct{ SecretId, SecretKey string }
	in := m{"Role": role, "Name": strings.TrimSpace("key of the " + role + " " + strings.Join(projects, " "))}
	if len(projects) > 0 {
		in["Projects"] = projects
	}
	d.do(ourVersion, "CreateAccessKey", in, &key)
	d.newBrowser()
	d.open("login", 200)
	d.fill("login", 200, "SecretId", key.SecretId, "SecretKey", key.SecretKey)
}

// Pages say who one is and in which role. Somebody who may only look sees every
// page, and each refused write says why; nothing is changed.
func TestAuditorIsToldWhatIsRefused(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.settle()
	d.loginWith("auditor")
	d.says("key of the auditor")
	d.says(`<span class="role">auditor</span>`)
	d.says("look at everything and change nothing")
	for _, path := range w.pages() {
		d.open(path, 200)
	}
	before := d.api.Store.State()
	listener := "clb/" + w.balancer + "/listeners/" + w.listener
	for path, fields := range map[string][]string{
		"sg/new":                               {"GroupName", "x", "template", "custom", "ProjectId", "0"},
		"sg/" + w.edge + "/edit":               {"GroupName", "x"},
		"sg/" + w.edge + "/clone":              {"GroupName", "x"},
		"sg/" + w.edge + "/delete":             nil,
		"sg/" + w.edge + "/rules/add":          {"Source", "10.0.0.0/8", "Service", "TCP:1", "Policy", "Allow", "Notes", ""},
		"clb/new":                              {"LoadBalancerName", "x"},
		"clb/" + w.balancer + "/edit":          {"LoadBalancerName", "x"},
		"clb/" + w.balancer + "/delete":        nil,
		"clb/" + w.balancer + "/return":        {"to", "gateway"},
		"clb/" + w.balancer + "/security/bind": {"sg", w.host},
		"clb/" + w.balancer + "/security/pass": {"on", "true"},
		listener + "/delete":                   nil,
		listener + "/targets/edit?location=" + w.location + "&instance=" + w.ins1 + "&port=8080": {"Weight", "3", "NewPort", "8080"},
		"cvm/new": {"InstanceName", "x"},
	} {
		d.open(path, 200)
		d.fill(path, 422, fields...)
		d.says("the role auditor of key ")
		d.says("does not allow ")
		d.says("use a key of role admin or operator")
	}
	d.open("sg/"+w.edge, 200)
	d.fill("sg/"+w.edge+"/rules/order", 422, "move", string(before.Groups.Get(d.groupNamed("clb-web")).Ingress[1].ID)+":up")
	d.says("does not allow SetSecurityGroupPolicies")
	now := d.api.Store.State()
	if now.Groups.Len() != before.Groups.Len() || now.Balancers.Len() != before.Balancers.Len() || now.Instances.Len() != before.Instances.Len() || len(now.Groups.Get(d.groupNamed("clb-web")).Ingress) != 2 {
		t.Error("something was changed")
	}
}

// A key for one project sees its objects and the pages around them; what is
// about the whole region is not shown, and the page says so.
func TestScopedKeySeesItsProject(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.settle()
	d.loginWith("operator", "0")
	d.says("operator, project 0 only")
	d.says("are not shown")
	for _, path := range w.pages() {
		if !strings.Contains(path, "source=") {
			d.open(path, 200)
		}
	}
	d.open("verdicts", 200)
	d.saysNot(":40000")
	d.saysNot("data-stream=")
	d.says("your key is for some projects only")
	d.open("clb/"+w.balancer+"/picture", 200)
	d.saysNot("203.0.113.0/24")
	d.open("clb/"+w.balancer, 200)
	d.says(noRight)
	d.loginWith("operator", "9")
	d.open("clb/"+w.balancer, http.StatusNotFound)
	d.open("sg", 200)
	if strings.Contains(d.page, w.edge) {
		t.Error("a group of another project is listed")
	}
}

// An action that is refused outside of a form is explained on its page.
func TestRefusedPageIsExplained(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	d.loginWith("operator", "0")
	d.open("clb/"+w.balancer+"/picture?source=203.0.113.9&port=80", 422)
	d.says("is about the whole region")
}
