// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// A browser is a headless Chromium and everything that it complains about.
type browser struct {
	*testing.T
	ctx    context.Context
	base   string
	mu     sync.Mutex
	faults []string
}

// newBrowser starts Chromium, or skips the test where there is none.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes long")
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("there is no chromium on this machine: Debian's package chromium brings it")
	}
	// Chromium is killed in the end, so what it keeps in the folder for temporary files
	// would stay. Not t.TempDir: it makes a socket there, whose name must be short.
	dir, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		var err error
		for range 50 { // the last of its processes may still be writing
			if err = os.RemoveAll(dir); err == nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Error(err)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options, chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(filepath.Join(dir, "profile")), chromedp.Env("TMPDIR="+dir))
	for _, flag := range []string{"disable-quic", "disable-background-networking", "disable-component-update", "disable-sync", "disable-dev-shm-usage"} {
		options = append(options, chromedp.Flag(flag, true))
	}
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{T: t, ctx: ctx, base: base}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	return b
}

// tab is another tab of the browser, logged in as it is.
func (b *browser) tab(t *testing.T) *browser {
	t.Helper()
	ctx, cancel := chromedp.NewContext(b.ctx)
	t.Cleanup(cancel)
	tab := &browser{T: t, ctx: ctx, base: b.base}
	if err := chromedp.Listen(ctx, tab.hear); err != nil {
		t.Fatal(err)
	}
	return tab
}

func (b *browser) hear(ev any) {
	text := ""
	switch ev := ev.(type) {
	case *log.EventEntryAdded:
		if ev.Entry.Level == log.EntryLevelError || ev.Entry.Level == log.EntryLevelWarning {
			text = fmt.Sprintf("%s: %s (%s)", ev.Entry.Source, ev.Entry.Text, ev.Entry.URL)
		}
	case *runtime.EventExceptionThrown:
		text = "exception: " + ev.ExceptionDetails.Text
		if e := ev.ExceptionDetails.Exception; e != nil {
			text += " " + e.Description
		}
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			text = "console: " + fmt.Sprint(ev.Args)
		}
	}
	if text != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, text)
	}
}

// quiet fails for everything that the browser has complained about since the
// last time, except what is expected.
func (b *browser) quiet(where string, expected ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
next:
	for _, f := range b.faults {
		for _, e := range expected {
			if strings.Contains(f, e) {
				continue next
			}
		}
		b.Errorf("%s: %s", where, f)
	}
	b.faults = nil
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 40*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		where, _ := chromedp.Run(b.ctx, chromedp.Location())
		b.shot("failed")
		text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`(document.querySelector("dialog[open]") || document.querySelector("main")).innerText`))
		b.Fatalf("at %s: %v\n%s", where, err, text)
	}
}

func run[R any](b *browser, a chromedp.Action[R]) R {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 40*time.Second)
	defer cancel()
	r, err := chromedp.Run(ctx, a)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

func (b *browser) visit(path string) { b.Helper(); b.do(chromedp.Navigate(b.base + Root + path)) }

// shots is where pictures go: the test's artefacts, or the folder that
// CONSOLE_SHOTS names.
func (b *browser) shots() string {
	if dir := os.Getenv("CONSOLE_SHOTS"); dir != "" {
		return dir
	}
	return b.ArtifactDir()
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

func (b *browser) shot(name string) {
	b.Helper()
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.shots(), notInNames.ReplaceAllString(name, "-")+".png"), png, 0o600)
	}
	if err != nil {
		b.Error(err)
	}
}

func (b *browser) login() {
	b.Helper()
	b.visit("login")
	b.do(chromedp.SendKeys(chromedp.CSS("#f-SecretId"), testID), chromedp.SendKeys(chromedp.CSS("#f-SecretKey"), testKey),
		chromedp.Click(chromedp.CSS(".login button.main")), chromedp.WaitVisible(chromedp.CSS("nav[aria-label=Main]")))
	b.quiet("login")
}

func (b *browser) screen(width int64, scheme string) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 900))
	if _, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
		b.Fatal(err)
	}
}

// title names a page without the ids of this run.
func (w world) title(path string) string {
	p := strings.NewReplacer(w.edge, "edge", w.host, "host", w.balancer, "lb", w.listener, "lbl", w.location, "loc", w.ins1, "ins1", w.ins2, "ins2").Replace(path)
	if p == "" {
		p = "home"
	}
	return p
}

// Every page at three widths and in both themes: nothing is complained about,
// nothing is wider than the screen, no table is cut off, axe finds nothing
// serious at the ends of the scale. A theme changes colours only, so the second
// one is asked about colours.
func TestPagesInBrowser(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	d.settle()
	b := newBrowser(t, d.server.URL)
	axe := axeSource(t)
	b.screen(1280, "light")
	b.login()
	t.Run("widths", func(t *testing.T) {
		for name, widths := range map[string][]int64{"wide": {1440}, "narrow": {390, 768}} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tab := b.tab(t)
				for _, path := range w.pages() {
					for _, width := range widths {
						script := axe
						if width == 768 {
							script = ""
						}
						tab.look(w, path, width, script)
					}
				}
			})
		}
	})
}

// look loads a page at a width and looks at it in both themes.
func (b *browser) look(w world, path string, width int64, axe string) {
	b.Helper()
	b.screen(width, "light")
	b.visit(path)
	if axe != "" {
		b.do(chromedp.Evaluate[chromedp.Void](axe))
	}
	for _, scheme := range []string{"light", "dark"} {
		where := fmt.Sprintf("%s at %d, %s", w.title(path), width, scheme)
		if scheme == "dark" {
			b.screen(width, scheme)
		}
		for _, f := range run(b, chromedp.Evaluate[[]string](cutOff)) {
			b.Errorf("%s: %s", where, f)
		}
		switch {
		case axe == "":
		case scheme == "dark":
			b.violations(where, "cat.color")
		default:
			b.violations(where)
		}
		if w.shown(path) && width != 768 || os.Getenv("CONSOLE_SHOTS") != "" {
			b.shot(fmt.Sprintf("%s-%d-%s", w.title(path), width, scheme))
		}
		b.quiet(where)
	}
}

// cutOff tells what is wider than its place. The picture on a phone, the numbers
// behind charts and the tables of guides may be scrolled sideways.
const cutOff = `(() => {
	const found = [];
	const over = document.documentElement.scrollWidth - window.innerWidth;
	if (over > 0) found.push(over + " pixels wider than the screen");
	for (const e of document.querySelectorAll(".scroll")) {
		const may = e.closest(".prose, .chart") || e.matches(".picture") && window.innerWidth < 700;
		if (!may && e.scrollWidth > e.clientWidth + 1) found.push(e.getAttribute("aria-label") + " is cut off by " + (e.scrollWidth - e.clientWidth) + " pixels");
	}
	return found;
})()`

// shown reports whether a page is one that people look at for long: its
// pictures are kept.
func (w world) shown(path string) bool {
	return slices.Contains([]string{"", "sg", "sg/" + w.edge, "clb", "clb/new", "clb/" + w.balancer, "clb/" + w.balancer + "/listeners", "clb/" + w.balancer + "/security",
		"clb/" + w.balancer + "/picture", "cvm", "cvm/" + w.ins1, "verdicts", "docs/faq"}, path)
}

// Dialogs that scripts open are as accessible as the pages they come from, give
// the focus back, and close by the keyboard.
func TestDialogs(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	w := d.build()
	b := newBrowser(t, d.server.URL)
	axe := axeSource(t)
	b.screen(1280, "dark")
	b.login()
	for path, buttons := range map[string][]string{
		"sg": {"Create", "Edit", "Clone", "Delete"}, "sg/" + w.edge: {"Add a rule", "One-click open", "Import", "Insert above"},
		"clb/" + w.balancer + "/listeners": {"Create a listener", "Add a rule", "Bind targets", "Health check", "Weight and port", "Unbind"},
		"clb/" + w.balancer + "/security":  {"Bind"}, "cvm": {"Create"}, "clb": {"Create"},
	} {
		for _, button := range buttons {
			where := w.title(path) + ": " + button
			b.visit(path)
			b.press(button)
			b.until(where+" opens no dialog", `document.querySelector("dialog[open]") !== null && document.querySelector("dialog[open]").contains(document.activeElement)`)
			b.until(where+" begins at what is not chosen", `document.activeElement.type !== "radio" || document.activeElement.checked`)
			b.until(where+" hides its buttons", `(() => { const e = document.querySelector("dialog[open] .buttons"); return !e || e.getBoundingClientRect().top < window.innerHeight - 30; })()`)
			if axe != "" {
				b.accessible(axe, where)
			}
			b.do(chromedp.KeyEvent("\x1b"))
			b.until(where+" does not close", `document.querySelector("dialog") === null && document.activeElement.innerText.trim().startsWith(`+quote(button)+`)`)
			b.quiet(where)
		}
	}
}

// axeSource is axe-core's script, from npm; "" where it cannot be had.
func axeSource(t *testing.T) string {
	t.Helper()
	if path := os.Getenv("CONSOLE_AXE"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		t.Log("accessibility is not checked: there is no npm to get axe-core with")
		return ""
	}
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "axe-core@4.10.3")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Logf("accessibility is not checked: npm cannot get axe-core: %v\n%s", err, out)
		return ""
	}
	text, err := os.ReadFile(filepath.Join(dir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// accessible runs axe on the page. The script is put in by the debugger, which
// the page's policy does not concern.
func (b *browser) accessible(axe, where string) {
	b.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](axe))
	b.violations(where)
}

// violations runs axe where it is in the page already: all of it, or what has
// one of the tags.
func (b *browser) violations(where string, tags ...string) {
	b.Helper()
	only := ""
	if len(tags) > 0 {
		only = `, runOnly: {type: "tag", values: ["` + strings.Join(tags, `", "`) + `"]}`
	}
	found := run(b, chromedp.Evaluate[[]string](`axe.run({resultTypes: ["violations"]`+only+`}).then(r => r.violations.filter(v => v.impact === "serious" || v.impact === "critical")
		.map(v => v.id + ": " + v.help + ": " + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160) + " " + n.failureSummary).join(" | ")))`, chromedp.EvalAwaitPromise))
	for _, f := range found {
		b.Errorf("%s: %s", where, f)
	}
}

// press clicks the first visible element with the text, in the dialog when
// one is open, else in the page, else in its frame, and waits for the page that
// it leads to.
func (b *browser) press(text string) {
	b.Helper()
	b.until("nothing to press says "+text, `(() => {
		const shown = (e) => e.offsetParent !== null;
		const dialog = document.querySelector("dialog[open]");
		const parts = dialog ? [dialog] : [document.querySelector("main"), document];
		for (const part of parts) {
			const all = [...part.querySelectorAll("a, button, summary")].filter(shown);
			const found = all.find(e => e.innerText.trim() === `+quote(text)+`) || all.find(e => part !== document && e.innerText.trim().startsWith(`+quote(text)+`));
			if (!found) continue;
			window.left = !found.matches("[data-dialog], [data-close], [data-more], [type=button], summary, dialog button");
			found.click();
			return true;
		}
		return false;
	})()`)
	b.until("pressing "+text+" leads nowhere", `window.left !== true && document.readyState === "complete" && !document.documentElement.dataset.sending`)
}

// until waits for a script to be true.
func (b *browser) until(what, script string) {
	b.Helper()
	deadline := time.Now().Add(40 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](script))
		cancel()
		if err == nil && ok {
			return
		}
		if time.Now().After(deadline) {
			b.shot("failed")
			text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string](`(document.querySelector("dialog[open]") || document.querySelector("main")).innerText`))
			b.Fatalf("%s (%v)\n%s", what, err, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func quote(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// see waits until the page shows a text.
func (b *browser) see(text string) {
	b.Helper()
	b.until("the page does not show "+text, `document.querySelector("main") !== null && (document.querySelector("dialog[open]") || document.querySelector("main")).innerText.includes(`+quote(text)+`)`)
}

// put types into a field of the dialog.
func (b *browser) put(selector, text string) {
	b.Helper()
	b.until("there is no field "+selector, `(() => {
		const e = (document.querySelector("dialog[open]") || document).querySelector(`+quote(selector)+`);
		if (!e || document.querySelector("main") === null) return false;
		e.value = `+quote(text)+`;
		e.dispatchEvent(new Event("change", {bubbles: true}));
		return true;
	})()`)
}

// tick ticks the box whose row says text.
func (b *browser) tick(text string) {
	b.Helper()
	b.until("there is no box for "+text, `(() => {
		const within = document.querySelector("dialog[open]") || document.querySelector("main");
		const box = [...within.querySelectorAll("input[type=checkbox]")].find(e => (e.closest("tr, label") || e).innerText.includes(`+quote(text)+`));
		if (!box) return false;
		if (!box.checked) box.click();
		return box.checked;
	})()`)
}
