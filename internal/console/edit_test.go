// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Whoever edits what somebody else has edited meanwhile is told how it is now,
// nothing is written, and sending again replaces it.
func TestSecondEditorIsTold(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	listener := "clb/" + w.balancer + "/listeners/" + w.listener
	in := m{"LoadBalancerId": w.balancer, "ListenerId": w.listener, "LocationId": w.location}
	with := func(more m) m {
		all := m{}
		for _, from := range []m{in, more} {
			for k, v := range from {
				all[k] = v
			}
		}
		return all
	}
	for _, c := range []struct {
		path   string
		other  func()
		fields []string
		says   string
	}{
		{"sg/" + w.edge + "/edit", func() {
			d.do(vpcVersion, "ModifySecurityGroupAttribute", m{"SecurityGroupId": w.edge, "GroupName": "theirs"}, nil)
		}, []string{"GroupName", "mine"}, "the name is now &#34;theirs&#34;"},
		{"clb/" + w.balancer + "/edit", func() {
			d.do(clbVersion, "ModifyLoadBalancerAttributes", m{"LoadBalancerId": w.balancer, "LoadBalancerName": "theirs"}, nil)
		}, []string{"LoadBalancerName", "mine"}, "the name is now &#34;theirs&#34;, and it is not protected"},
		{listener + "/targets/edit?location=" + w.location + "&instance=" + w.ins1 + "&port=8080", func() {
			d.do(clbVersion, "ModifyTargetWeight", with(m{"Targets": []m{{"InstanceId": w.ins1, "Port": 8080, "Weight": 3}}}), nil)
		}, []string{"Weight", "7", "NewPort", "8080"}, "the weight is now 3, the port 8080"},
		{listener + "/check?location=" + w.location, func() {
			d.do(clbVersion, "ModifyRule", with(m{"HealthCheck": m{"HealthSwitch": 1, "IntervalTime": 9}}), nil)
		}, []string{"HealthSwitch", "1", "IntervalTime", "11", "TimeOut", "2", "HealthNum", "3", "UnHealthNum", "3", "SourceIpType", "0", "HttpCheckPath", "/", "HttpCheckMethod", "GET"}, "every 9 s"},
	} {
		d.open(c.path, 200)
		c.other()
		before := d.api.Store.State().Revision
		d.fill(c.path, 422, c.fields...)
		d.says("Somebody changed this while you were looking")
		d.says(c.says)
		d.says(`value="` + c.fields[1] + `"`)
		if d.api.Store.State().Revision != before {
			t.Errorf("%s: something was written over the other's", c.path)
		}
		d.fill(c.path, 200, c.fields...)
		if d.api.Store.State().Revision == before {
			t.Errorf("%s: sending again writes nothing", c.path)
		}
	}
}

// Beyond the first page of instances and groups one searches, and what is
// ticked stays with its port and weight.
func TestBindTargetsSearches(t *testing.T) {
	d := newDesk(t)
	d.login()
	if err := fillStore(d.api.Store, 120, 200); err != nil {
		t.Fatal(err)
	}
	path := "clb/lb-00000007/listeners/lbl-00000007/targets/add"
	d.open(path, 200)
	d.says("50 of 200 are shown")
	d.saysNot(`value="ins-00000150"`)
	d.fill(path, 200, "q", "10.0.0.150", "search", "1", "id", "ins-00000003", "port-ins-00000003", "8085", "weight-ins-00000003", "4")
	d.says(`value="ins-00000150"`)
	d.says(`value="ins-00000003" checked`)
	d.says(`name="port-ins-00000003" value="8085"`)
	d.fill(path, 200, "id", "ins-00000003", "id", "ins-00000150", "Port", "8090", "Weight", "10", "q", "10.0.0.150")
	d.says("Bound 2 targets")
	targets := d.api.Store.State().Listeners.Get("lbl-00000007").Targets
	if len(targets) != 3 || targets[1].Port != 8085 || targets[1].Weight != 4 || targets[2].Instance != "ins-00000150" || targets[2].Port != 8090 {
		t.Errorf("bound %+v", targets)
	}
	d.fill(path, 422, "Port", "8090", "Weight", "10")
	d.says("Tick at least one instance.")
	d.open("cvm/new", 200)
	d.says("50 of 120 are shown")
	d.fill("cvm/new", 200, "q", "group-111", "search", "1", "SecurityGroupIds", "sg-00000002", "InstanceName", "kept")
	d.says(`value="sg-00000111"`)
	d.says(`value="sg-00000002" checked`)
	d.says(`value="kept"`)
	d.fill("cvm/new", 200, "q", "group-111", "SecurityGroupIds", "sg-00000111", "InstanceName", "new")
	d.says("sg/sg-00000111")
}

// A rule is held against the probes of every load balancer, however many there
// are, and the page names a few.
func TestRulesAreHeldAgainstAllProbes(t *testing.T) {
	d := newDesk(t)
	d.login()
	if err := fillStore(d.api.Store, 1, 250); err != nil {
		t.Fatal(err)
	}
	d.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": "sg-00000000", "SecurityGroupPolicySet": m{"Ingress": []m{
		{"Protocol": "TCP", "Port": "8080", "CidrBlock": "192.0.0.249", "Action": "ACCEPT"}, {"Protocol": "TCP", "Port": "8080", "CidrBlock": "192.0.1.3", "Action": "ACCEPT"},
		{"Protocol": "ALL", "CidrBlock": "100.64.7.0/24", "Action": "ACCEPT"}, {"Protocol": "ALL", "CidrBlock": "100.65.7.0/24", "Action": "ACCEPT"}}}}, nil)
	page := d.open("sg/sg-00000000", 200)
	row := func(source string) string {
		_, after, _ := strings.Cut(page, source+"</td>")
		_, after, _ = strings.Cut(after, `data-label="Will see:">`)
		sees, _, _ := strings.Cut(after, "</td>")
		return sees
	}
	for source, want := range map[string]string{"192.0.0.249": "VIP probe", "192.0.1.3": "client", "100.64.7.0/24": "probe range", "100.65.7.0/24": "client"} {
		if got := row(source); !strings.Contains(got, want) {
			t.Errorf("%s sees %q, want %s", source, got, want)
		}
	}
	d.says("and 245 more: a rule must allow it")
}

// One login holds so many streams and no more; one that ends makes room.
func TestStreamsAreLimited(t *testing.T) {
	d := newDesk(t)
	d.login()
	var last *http.Response
	for range maxStreams {
		answer, err := d.client.Get(d.server.URL + Root + "live?topics=status")
		if err != nil || answer.StatusCode != 200 {
			t.Fatal(answer, err)
		}
		t.Cleanup(func() { answer.Body.Close() })
		last = answer
	}
	for _, topics := range []string{"status", "verdicts", ""} {
		if text := d.open("live?topics="+topics, http.StatusTooManyRequests); !strings.Contains(text, "16 live pages open") {
			t.Errorf("%q: %s", topics, text)
		}
	}
	jar := d.client
	d.newBrowser()
	d.login() // another login has its own
	d.open("live?topics=", http.StatusNoContent)
	d.client = jar
	last.Body.Close()
	deadline := time.Now().Add(10 * time.Second)
	for {
		answer, err := d.client.Get(d.server.URL + Root + "live?topics=")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusNoContent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a stream that ended takes room")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A slow look at one topic holds up nobody who looks at another, and those who
// look at the same share it.
func TestLookoutWaitsForItsOwnTopic(t *testing.T) {
	o := lookout{seen: map[string]*glance{}}
	begun, goOn := make(chan struct{}), make(chan struct{})
	looks := 0
	slow := func() ([sha256.Size]byte, bool) {
		looks++
		close(begun)
		<-goOn
		return [sha256.Size]byte{1}, true
	}
	var all sync.WaitGroup
	look := func() {
		if sum, ok := o.look("slow", slow); sum[0] != 1 || !ok {
			t.Error("another's look is not shared")
		}
	}
	all.Go(look)
	<-begun
	all.Go(look)
	if sum, _ := o.look("quick", func() ([sha256.Size]byte, bool) { return [sha256.Size]byte{2}, true }); sum[0] != 2 {
		t.Errorf("got %v", sum[0])
	}
	close(goOn)
	all.Wait()
	if looks != 1 {
		t.Errorf("%d looks at the slow topic, want 1", looks)
	}
}

// A form that a script sends for a dialog is told where to go on, because a
// script cannot see where a redirect leads.
func TestDialogIsToldWhereToGo(t *testing.T) {
	d := newDesk(t)
	d.login()
	d.open("sg/new", 200)
	values := d.hidden()
	for name, value := range map[string]string{"template": "custom", "ProjectId": "0", "GroupName": "by script"} {
		values.Set(name, value)
	}
	send := func(v url.Values) *http.Response {
		r, _ := http.NewRequest("POST", d.server.URL+Root+"sg/new", strings.NewReader(v.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set(dialogHeader, "1")
		answer, err := d.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer
	}
	if a := send(values); a.StatusCode != http.StatusNoContent || !strings.HasPrefix(a.Header.Get("X-Location"), Root+"sg/sg-") {
		t.Errorf("%d %q", a.StatusCode, a.Header.Get("X-Location"))
	}
	values.Set("GroupName", "")
	if a := send(values); a.StatusCode != 422 || a.Header.Get("X-Location") != "" {
		t.Errorf("refused: %d %q", a.StatusCode, a.Header.Get("X-Location"))
	}
}

// A refused dialog stays over its page with what was typed; Enter sends; what is
// left of the page is still there. On a narrow screen the open tab is in view.
func TestDialogStaysWhenRefused(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	b := newBrowser(t, d.server.URL)
	b.screen(390, "light")
	b.login()
	b.visit("clb/" + w.balancer + "/picture")
	b.until("the open tab is not in view", `(() => {
		const nav = document.querySelector("nav.tabs"), tab = nav.querySelector("[aria-current]");
		const a = nav.getBoundingClientRect(), b = tab.getBoundingClientRect();
		return nav.scrollWidth > nav.clientWidth && b.left >= a.left - 1 && b.right <= a.right + 1;
	})()`)
	b.screen(1280, "light")
	b.visit("sg/" + w.edge)
	b.press("Add a rule")
	b.put(`[name=Source]`, "203.0.113.999")
	b.put(`[name=Service]`, "TCP:443")
	b.do(chromedp.Focus(chromedp.CSS("dialog [name=Source]")), chromedp.KeyEvent("\r"))
	b.until("the refusal is not in the dialog", `(() => {
		const dialog = document.querySelector("dialog[open]");
		return dialog !== null && dialog.querySelector("[name=Source]").value === "203.0.113.999" && dialog.querySelector("[name=Service]").value === "TCP:443"
			&& dialog.querySelectorAll(".rule-row").length === 1 && dialog.querySelector(".fault:not(:empty)") !== null
			&& document.activeElement.getAttribute("aria-invalid") === "true" && location.pathname.endsWith(`+quote(w.edge)+`);
	})()`)
	b.quiet("a refused dialog", "422")
	b.put(`[name=Source]`, "203.0.113.9")
	b.do(chromedp.Focus(chromedp.CSS("dialog [name=Source]")), chromedp.KeyEvent("\r"))
	b.see("Added 1 rule")
	b.until("the dialog is still there", `document.querySelector("dialog") === null`)
	if n := len(d.api.Store.State().Groups.Get(d.groupNamed("clb-web")).Ingress); n != 3 {
		t.Errorf("%d rules, want 3", n)
	}
	b.press("Edit name")
	b.put(`[name=GroupName]`, "kept through a login")
	d.sessions.mu.Lock()
	clear(d.sessions.all)
	d.sessions.mu.Unlock()
	b.press("Save")
	b.until("the login page does not come", `document.querySelector(".login") !== null`)
	b.quiet("an expired login", "401", "Unauthorized")
}
