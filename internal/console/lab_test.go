// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sallyport/sallyport/internal/scenario"
)

// A playground is a lab with somebody in front of its console.
type playground struct {
	*browser
	program string
}

func newPlayground(t *testing.T) *playground {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("a lab takes long")
	case os.Geteuid() != 0:
		t.Skip("needs root: the lab makes network namespaces")
	}
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("there is no chromium on this machine: Debian's package chromium brings it")
	}
	dir := t.TempDir()
	build := exec.Command("go", "build", "-o", dir+"/", "./cmd/sallyport", "./cmd/sallyport-node")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	lab, err := scenario.StartLab(t.Context(), dir+"/sallyport", dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	raw, err := os.ReadFile(filepath.Join(dir, "ready.json"))
	if err != nil {
		t.Fatal(err)
	}
	var ready struct{ API, SecretID, SecretKey string }
	if err := json.Unmarshal(raw, &ready); err != nil {
		t.Fatal(err)
	}
	p := &playground{newBrowser(t, ready.API), dir + "/sallyport"}
	p.screen(1280, "light")
	p.visit("login")
	p.do(chromedp.SendKeys(chromedp.CSS("#f-SecretId"), ready.SecretID), chromedp.SendKeys(chromedp.CSS("#f-SecretKey"), ready.SecretKey),
		chromedp.Click(chromedp.CSS(".login button.main")), chromedp.WaitVisible(chromedp.CSS("nav[aria-label=Main]")))
	return p
}

// get is what a client of the lab is told: "served", "refused" or "closed".
func (p *playground) get(client, address string) string {
	ctx, cancel := context.WithTimeout(p.Context(), 10*time.Second)
	defer cancel()
	out, _ := exec.CommandContext(ctx, p.program, "lab", "get", "--from", client, "http://"+address+"/").Output() // it exits with 3 for no
	word, _, _ := strings.Cut(string(out), ":")
	return word
}

// gets wants every client of the lab to be told the same.
func (p *playground) gets(when, address, want string) {
	p.Helper()
	for _, client := range []string{"client-1", "client-2"} {
		if got := p.get(client, address); got != want {
			p.Errorf("%s: %s asks %s and is %s, want %s", when, client, address, got, want)
		}
	}
}

// group makes a group with rules by clicking.
func (p *playground) group(name string, rules ...string) {
	p.Helper()
	p.press("Security groups")
	p.press("Create")
	p.put("#f-GroupName", name)
	p.press("Create")
	p.see("refuses everything until you add rules")
	p.press("Add a rule")
	for i, r := range rules {
		if i > 0 {
			p.press("Another row")
		}
		part := strings.Fields(r)
		p.put(fmt.Sprint("#source-", i), part[0])
		p.put(fmt.Sprint("#service-", i), part[1])
		p.put(fmt.Sprint("#policy-", i), part[2])
	}
	p.press("Add")
	p.see("Added")
}

// listener makes a listener with both instances on 8080 behind it.
func (p *playground) listener(protocol, port string) {
	p.Helper()
	p.press("Create a listener")
	p.put("#f-Protocol", protocol)
	p.put("#f-Port", port)
	p.put("#f-IntervalTime", "2")
	p.put("#f-HealthNum", "2")
	p.put("#f-UnHealthNum", "2")
	p.press("Create")
	p.see(protocol + ":" + port)
	p.until("there is nowhere to bind targets", `(() => {
		const card = [...document.querySelectorAll("section.tree")].find(e => e.innerText.startsWith(`+quote(protocol+":"+port)+`));
		const link = card && [...card.querySelectorAll("a[data-dialog]")].find(e => e.innerText === "Bind targets");
		if (link) link.click();
		return Boolean(link);
	})()`)
	p.tick("web-1")
	p.tick("web-2")
	p.press("Bind")
	p.see("Bound 2 targets")
}

// The document's five steps by clicking, and after each of them what real
// clients get.
//
// Covers: SEED-31 SEED-34 SEED-44 SEED-46 SEED-53 SEED-54 SEED-56
func TestWalkInLab(t *testing.T) {
	p := newPlayground(t)
	for _, name := range []string{"web-1", "web-2"} {
		p.press("Instances")
		p.press("Create")
		p.put("#f-InstanceName", name)
		p.press("Create")
		p.see("Created")
	}
	p.press("Instances")
	p.until("the instances do not run", `[...document.querySelectorAll("tbody tr")].every(e => e.innerText.includes("RUNNING"))`)
	own := run(p.browser, chromedp.Evaluate[string](`[...document.querySelectorAll("tbody tr")].find(e => e.innerText.includes("web-1")).children[3].innerText.trim()`))

	// Step 1. With no group at gate 1, every listener port serves.
	p.press("Load balancers")
	p.press("Create")
	p.put("#f-LoadBalancerName", "front")
	p.press("Create")
	p.see("No listener yet")
	vip := run(p.browser, chromedp.Evaluate[string](`document.querySelector("h1 .mono").innerText`))
	p.listener("HTTP", "80")
	p.listener("TCP", "81")
	p.until("the targets do not turn healthy", `[...document.querySelectorAll(".chip.health-Alive")].length === 4`)
	p.shot("lab 1 healthy")
	p.gets("without groups", vip+":80", "served")
	p.gets("without groups", vip+":81", "served")

	// Steps 2 and 3. With the group bound, only port 80 does.
	p.group("clb-web", "0.0.0.0/0 TCP:80 Allow", "0.0.0.0/0 ALL Refuse")
	p.press("Load balancers")
	p.press("front")
	p.press("Security group")
	p.press("Bind")
	p.tick("clb-web")
	p.press("Bind")
	p.see("1 has the highest priority")
	p.gets("with clb-web", vip+":80", "served")
	p.gets("with clb-web", vip+":81", "refused")

	// Steps 4 and 5. The instance admits only what its group allows.
	p.group("cvm-web", "0.0.0.0/0 TCP:8080 Allow", "0.0.0.0/0 TCP:22 Allow", "0.0.0.0/0 TCP:3389 Allow", "0.0.0.0/0 ICMP Allow")
	p.gets("with the default group", own+":8081", "served")
	for _, name := range []string{"web-1", "web-2"} {
		p.press("Load balancers")
		p.press("front")
		p.press("Listeners")
		p.until("the listener leads to no instance", `(() => {
			const row = [...document.querySelectorAll("tr")].find(e => e.innerText.includes(`+quote(name)+`));
			window.left = Boolean(row);
			if (row) row.querySelector("a").click();
			return Boolean(row);
		})()`)
		p.until("the instance's page does not come", `window.left !== true && location.pathname.startsWith("/console/cvm/")`)
		p.press("Security groups")
		if !strings.HasSuffix(run(p.browser, chromedp.Location()), "/security") {
			t.Fatal("the instance's tab does not open")
		}
		p.press("Configure")
		p.tick("cvm-web")
		p.until("the default group stays", `(() => {
			const box = [...document.querySelectorAll("dialog input[type=checkbox]")].find(e => e.closest("label").innerText.includes("default"));
			if (box.checked) box.click();
			return !box.checked;
		})()`)
		p.press("Bind")
		p.see("cvm-web")
	}
	p.gets("with both groups", vip+":80", "served")
	p.gets("with both groups", vip+":81", "refused")
	p.gets("with both groups", own+":8080", "served")
	p.gets("with both groups", own+":8081", "refused")

	// Why? The page of the refusal says which gate, and the picture shows it.
	p.visit("verdicts?action=DROP&gate=clb")
	p.until("the refusals are not shown", `document.querySelector("[data-stream] tr") !== null`)
	p.press("Why?")
	p.see("is refused at gate 1: rule 2 of ")
	p.see("it is for port 80, the packet goes to 81")
	p.shot("lab why")
	p.press("Load balancers")
	p.press("front")
	p.press("Picture")
	p.put("#f-source", "203.0.113.10")
	p.put("#f-port", "80")
	p.press("Light the path")
	p.see("is allowed at both gates")
	p.shot("lab picture")
	p.quiet("the lab")
}
