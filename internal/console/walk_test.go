// SPDX-License-Identifier: Apache-2.0

package console

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sallyport/sallyport/internal/lb"
)

// The document's five steps by clicking, as far as the API can tell. What the
// packets then do is for the stories with real traffic.
//
// Covers: SEED-15 SEED-31 SEED-33 SEED-34 SEED-37 SEED-44 SEED-45 SEED-47 SEED-49 SEED-52 SEED-53 SEED-54 SEED-55
func TestWalkTheDocument(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.newInstances("web-1", "web-2")
	b := newBrowser(t, d.server.URL)
	b.screen(1280, "light")
	b.login()

	// Step 1: a load balancer, an HTTP listener on 80, instances on 8080.
	b.press("Load balancers")
	b.press("Create")
	b.put("#f-LoadBalancerName", "front")
	b.press("Create")
	b.see("No listener yet")
	b.press("Create a listener")
	b.put("#f-ListenerName", "web")
	b.shot("walk 1 listener dialog")
	b.press("Create")
	b.see("HTTP:80")
	b.press("Bind targets")
	b.tick("web-1")
	b.tick("web-2")
	b.press("Bind")
	b.see("8080")
	st := d.api.Store.State()
	front := only(t, st.Balancers)
	listener := only(t, st.Listeners)
	if listener.Protocol != lb.ListenHTTP || listener.Port != 80 || len(listener.Rules) != 1 || len(listener.Rules[0].Targets) != 2 || listener.Rules[0].Targets[0].Port != 8080 {
		t.Fatalf("the listener is %+v", listener)
	}
	b.shows("section.tree", "HTTP:80 web", string(listener.ID), listener.Rules[0].Domain+"/", string(listener.Rules[0].Targets[0].Instance), "web-1", "Detecting", "10.200.0", "8080", "10")
	b.shot("walk 1 listener")

	// Step 2: the group for the load balancer: 80 from everywhere, then refuse.
	d.newGroup(b, "clb-web", "0.0.0.0/0 TCP:80 Allow", "0.0.0.0/0 ALL Refuse")
	b.shows("table.rules", "1", "0.0.0.0/0", "TCP:80", "Allow", "2", "0.0.0.0/0", "ALL", "Refuse", "last", "ALL", "Refuse", "Implicit")
	b.shot("walk 2 rules")

	// Step 3: bind it on the load balancer's page.
	b.press("Load balancers")
	b.press("front")
	b.press("Security group")
	b.until("this is not the tab", `location.pathname.endsWith("/security")`)
	b.press("Bind")
	b.tick("clb-web")
	b.shows("dialog .ticks", "default", string(d.groupNamed("default")))
	b.shows("dialog .ticks", "clb-web", string(d.groupNamed("clb-web")))
	b.shot("walk 3 bind dialog")
	b.press("Bind")
	b.see("1 has the highest priority")
	b.shows("table.bound", "1", "clb-web")
	b.shows("#preview", "Inbound rules", "Outbound rules", "clb-web", "Edit rule", "TCP:80", "Allow", "ALL", "Refuse", "implicit")
	edge := d.groupNamed("clb-web")
	if got := d.api.Store.State().Balancers.Get(front.ID).Groups; len(got) != 1 || got[0] != edge {
		t.Fatalf("bound are %v, want %s", got, edge)
	}
	b.shot("walk 3 bound")

	// Step 4: the group for the instances.
	d.newGroup(b, "cvm-web", "0.0.0.0/0 TCP:8080 Allow", "0.0.0.0/0 TCP:22 Allow", "0.0.0.0/0 TCP:3389 Allow", "0.0.0.0/0 ICMP Allow")
	b.shows("table.rules", "1", "TCP:8080", "Allow", "2", "TCP:22", "Allow", "3", "TCP:3389", "Allow", "4", "ICMP", "Allow", "last", "Refuse")
	b.shot("walk 4 rules")

	// Step 5: from the listener to the instance, and bind it there.
	b.press("Load balancers")
	b.press("front")
	b.press("Listeners")
	b.press("ins-")
	b.press("Security groups")
	b.until("this is not the tab", `location.pathname.endsWith("/security")`)
	b.press("Configure")
	b.tick("cvm-web")
	b.press("Bind")
	b.see("cvm-web")
	b.press("Unbind")
	b.see("Unbound")
	b.shows("table.bound", "1", "cvm-web")
	b.shows("#preview", "cvm-web", "TCP:8080", "Allow", "TCP:22", "TCP:3389", "ICMP", "implicit")
	b.press("Edit rule")
	b.until("the tab does not lead to the rules", `location.pathname === "/console/sg/`+string(d.groupNamed("cvm-web"))+`"`)
	b.until("there is no way back", `history.back() || true`)
	b.until("the way back leads elsewhere", `location.pathname.endsWith("/security")`)
	b.shows("table.bound", "1", "cvm-web") // the address is the new page's before anything of it is there
	b.shot("walk 5 bound")
	host := d.groupNamed("cvm-web")
	bound := 0
	for _, i := range d.api.Store.State().Instances.All() {
		if len(i.Groups) == 1 && i.Groups[0] == host {
			bound++
		}
	}
	if bound != 1 {
		t.Errorf("%d instances have the group alone, want the one that was clicked", bound)
	}

	// The picture says what a client gets.
	b.visit("clb/" + string(front.ID) + "/picture")
	b.put("#f-source", "203.0.113.10")
	b.press("Light the path")
	b.see("is allowed at both gates")
	b.put("#f-port", "81")
	b.press("Light the path")
	b.see("no listener")
	b.quiet("the walk")
}

func only[K ~string, V any](t *testing.T, all lb.Table[K, V]) *V {
	t.Helper()
	for _, v := range all.All() {
		if all.Len() == 1 {
			return v
		}
	}
	t.Fatalf("%d of %T, want one", all.Len(), all)
	return nil
}

// shows waits until a part of the page has the texts, in this order.
func (b *browser) shows(selector string, texts ...string) {
	b.Helper()
	parts := make([]string, len(texts))
	for i, text := range texts {
		parts[i] = quote(text)
	}
	b.until(selector+" does not show "+strings.Join(texts, ", "), `(() => {
		const part = document.querySelector(`+quote(selector)+`);
		let at = 0;
		return part !== null && [`+strings.Join(parts, ",")+`].every((text) => {
			const found = part.innerText.indexOf(text, at);
			at = found + text.length;
			return found >= 0;
		});
	})()`)
}

// decides checks what the gates do with a client of the example.
func (d *desk) decides(w world, want string) {
	d.Helper()
	var out explained
	d.do(ourVersion, "ExplainPath", m{"LoadBalancerId": w.balancer, "Source": "203.0.113.10", "Port": 80}, &out)
	if !strings.Contains(out.Text, want) {
		d.Errorf("the gates say %q, want %q", out.Text, want)
	}
}

func (d *desk) newInstances(names ...string) {
	for _, name := range names {
		d.do(vpcVersion, "RunInstances", m{"InstanceName": name}, nil)
	}
}

func (d *desk) groupNamed(name string) lb.GroupID {
	d.Helper()
	for id, g := range d.api.Store.State().Groups.All() {
		if g.Name == name {
			return id
		}
	}
	d.Fatalf("no group %s", name)
	return ""
}

// newGroup makes a group by clicking, with rules such as "0.0.0.0/0 TCP:80 Allow".
func (d *desk) newGroup(b *browser, name string, rules ...string) {
	d.Helper()
	b.press("Security groups")
	b.until("this is not the list", `location.pathname.endsWith("/sg")`)
	b.press("Create")
	b.put("#f-GroupName", name)
	b.press("Create")
	b.see("refuses everything until you add rules")
	b.press("Add a rule")
	for i, r := range rules {
		if i > 0 {
			b.press("Another row")
		}
		part := strings.Fields(r)
		at := string(rune('0' + i))
		b.put("#source-"+at, part[0])
		b.put("#service-"+at, part[1])
		b.put("#policy-"+at, part[2])
	}
	b.press("Add")
	b.see("Added")
	var got []string
	for _, r := range strings.Split(d.inbound(string(d.groupNamed(name))), "; ") {
		p := strings.Fields(r)
		got = append(got, p[2]+" "+p[1]+" "+p[0])
	}
	if strings.Join(got, "; ") != strings.Join(rules, "; ") {
		d.Fatalf("the rules are %q, want %q", got, rules)
	}
}

// Rules are moved by dragging, by keyboard and by button; a refused dialog
// keeps what was typed; what changes elsewhere appears without reloading.
//
// Covers: SEED-40
func TestRulePageInBrowser(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	b := newBrowser(t, d.server.URL)
	b.screen(1280, "dark")
	b.login()
	b.visit("sg/" + w.edge)
	drag := `(() => {
		const rows = [...document.querySelectorAll("[data-order] > tr")];
		const from = rows[0].querySelector("[data-handle]"), to = rows[1].getBoundingClientRect();
		const at = (y) => ({bubbles: true, pointerId: 1, clientX: to.left + 30, clientY: y});
		rows[0].setPointerCapture = () => {};
		from.dispatchEvent(new PointerEvent("pointerdown", at(rows[0].getBoundingClientRect().top + 5)));
		rows[0].dispatchEvent(new PointerEvent("pointermove", at(to.bottom - 2)));
		rows[0].dispatchEvent(new PointerEvent("pointerup", at(to.bottom - 2)));
		return !document.querySelector("[data-order-save]").hidden;
	})()`
	b.until("dragging does nothing", drag)
	b.press("Save order")
	b.see("Moved")
	d.wants(w.edge, "Refuse ALL 0.0.0.0/0; Allow TCP:80 0.0.0.0/0")
	d.decides(w, "gate 1: rule 1 of "+w.edge+" refuses it")
	b.do(chromedp.Focus(chromedp.CSS(`[data-order] > tr:nth-child(2) button[aria-label$=up]`)), chromedp.KeyEvent("\r"))
	b.until("the keyboard moves nothing", `document.querySelector("[data-order] > tr").innerText.includes("TCP:80")`)
	d.wants(w.edge, "Allow TCP:80 0.0.0.0/0; Refuse ALL 0.0.0.0/0")
	b.until("the focus is lost", `document.activeElement.matches("[name=move][value$=down]") && document.activeElement.closest("tr").innerText.includes("TCP:80")`)
	d.decides(w, "is allowed at both gates")

	b.press("Add a rule")
	b.put("#source-0", "10.0.0.0/99")
	b.put("#service-0", "TCP:443")
	b.put("#notes-0", "typed with care")
	b.press("Add")
	b.until("the fault is not at the field", `document.querySelector("#source-e0").innerText.includes("10.0.0.0/99") && document.querySelector("#notes-0").value === "typed with care"`)
	b.shot("refused dialog")
	b.quiet("the rule page", "422")

	b.visit("clb/" + w.balancer + "/listeners")
	b.see("Abnormal")
	d.facts.mu.Lock()
	for num := range d.facts.health {
		d.facts.health[num][0].State, d.facts.health[num][0].Kind = 1, ""
	}
	d.facts.mu.Unlock()
	b.until("health does not change by itself", `!document.querySelector("main").innerText.includes("Abnormal")`)
	b.quiet("live health")
}

// A login that ends, and a server that goes away, are said.
func TestTroubleIsSaid(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	b := newBrowser(t, d.server.URL)
	b.screen(1280, "light")
	b.login()
	b.visit("clb/" + w.balancer)
	d.sessions.mu.Lock()
	clear(d.sessions.all)
	d.sessions.mu.Unlock()
	b.until("the end of the login is not said", `document.querySelector("#connection").innerText.includes("expired")`)
	b.quiet("the end of a login", "401")
	b.login()
	b.visit("sg") // which has nothing live
	b.until("the stream is not there", `document.querySelector(".search") !== null`)
	b.put(`[name=q]`, "typed")
	address := d.server.Listener.Addr().String()
	d.server.Listener.Close()
	d.server.CloseClientConnections()
	b.until("the server's end is not said", `document.querySelector("#connection").innerText.includes("does not answer")`)
	for _, leave := range []string{`document.querySelector(".search button").click()`, `document.querySelector("main a[href*='/sg/sg-']").click()`} {
		b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector("#connection").textContent = ""; ` + leave + `; undefined`))
		b.until("that nothing was sent is not said", `document.querySelector("#connection").innerText.includes("does not answer") && document.querySelector("[name=q]").value === "typed"`)
	}
	b.quiet("a stopped server", "ERR_")
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("the address is taken by somebody else meanwhile: %v", err)
	}
	again := &http.Server{Handler: d.Console}
	go again.Serve(l)
	defer again.Close()
	b.until("the page does not recover", `document.querySelector("#connection").innerText === ""`)
	b.do(chromedp.Evaluate[chromedp.Void](`document.querySelector(".search button").click(); undefined`))
	b.until("the form is not sent", `location.search.includes("q=typed")`)
	b.quiet("a server that is back", "ERR_")
}

// A flood of verdicts is sampled, the page says so and goes on answering.
func TestFloodInBrowser(t *testing.T) {
	d := newDesk(t)
	d.build()
	b := newBrowser(t, d.server.URL)
	b.screen(1280, "light")
	b.login()
	b.visit("verdicts")
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				d.facts.tell(manyEvents(100, *d.clock)...)
			}
		}
	}()
	b.until("the sample is not said", `/too many to show, a sample/.test(document.querySelector("#stream-note").innerText)`)
	slowest := time.Duration(0)
	for range 20 {
		start := time.Now()
		run(b, chromedp.Evaluate[int](`document.querySelectorAll("[data-stream] tr").length`))
		slowest = max(slowest, time.Since(start))
	}
	close(stop)
	<-done
	if rows := run(b, chromedp.Evaluate[int](`document.querySelectorAll("[data-stream] tr").length`)); rows > 200 {
		t.Errorf("the page keeps %d rows", rows)
	}
	if slowest > 3*time.Second {
		t.Errorf("the page took %v to answer", slowest)
	}
	b.shot("flood")
	b.quiet("the flood")
}
