// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// An eventStream reads server-sent events.
type eventStream struct {
	testing.TB
	lines *bufio.Scanner
}

func (d *desk) stream(query string) *eventStream {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), 20*time.Second)
	d.Cleanup(cancel)
	r, _ := http.NewRequestWithContext(ctx, "GET", d.server.URL+Root+"live?"+query, nil)
	answer, err := d.client.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	d.Cleanup(func() { answer.Body.Close() })
	if kind := answer.Header.Get("Content-Type"); answer.StatusCode != 200 || kind != "text/event-stream" {
		d.Fatalf("the stream answers %d %s", answer.StatusCode, kind)
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	return &eventStream{d.TB, lines}
}

// next waits for an event of a name and returns its data.
func (s *eventStream) next(name string) string {
	s.Helper()
	event := ""
	for s.lines.Scan() {
		line := s.lines.Text()
		if after, ok := strings.CutPrefix(line, "event: "); ok {
			event = after
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok && event == name {
			return data
		}
	}
	s.Fatalf("the stream ended without %s: %v", name, s.lines.Err())
	return ""
}

func TestLiveTellsChanges(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	s := d.stream("topics=status,counters&group=" + w.edge)
	s.next("hello")
	first := map[string]bool{s.next("changed"): true, s.next("changed"): true}
	if !first["status"] || !first["counters"] {
		t.Errorf("the first look tells %v", first)
	}
	d.facts.mu.Lock()
	d.facts.counters[0].Packets++
	d.facts.mu.Unlock()
	if topic := s.next("changed"); topic != "counters" {
		t.Errorf("a counter moved, and %q is told", topic)
	}
	d.do(vpcVersion, "ModifySecurityGroupAttribute", m{"SecurityGroupId": w.edge, "GroupName": "other"}, nil)
	if topic := s.next("changed"); topic != "status" {
		t.Errorf("the revision moved, and %q is told", topic)
	}
}

func TestLiveEndsWithTheLogin(t *testing.T) {
	d := newDesk(t)
	d.open("live?topics=status", 401)
	d.login()
	d.open("live?topics=", 204)
	s := d.stream("topics=status")
	s.next("hello")
	d.sessions.mu.Lock()
	clear(d.sessions.all)
	d.sessions.mu.Unlock()
	s.next("expired")
}

// manyEvents are verdicts on one load balancer.
func manyEvents(n int, now time.Time) []flow.Event {
	all := make([]flow.Event, n)
	for i := range all {
		all[i] = flow.Event{Time: now, Node: "gateway-1", Verdict: policy.Verdict{Gate: policy.GateCLB, Action: lb.Drop, Reason: policy.NoMatch}, Direction: policy.In,
			Proto: lb.TCP, Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 40000), Dst: netip.MustParseAddrPort("192.0.2.1:80"), Balancer: "lb-1"}
	}
	return all
}

// A flood is sampled, and the page is told how much was left out.
func TestVerdictStreamSamples(t *testing.T) {
	d := newDesk(t)
	d.login()
	s := d.stream("topics=verdicts")
	s.next("hello")
	total, skipped, rows := 0, 0, 0
	for range 3 {
		time.Sleep(50 * time.Millisecond) // the stream asks for what comes after it began
		d.facts.tell(manyEvents(1000, *d.clock)...)
		var batch struct {
			Rows                 string
			Count, Skipped, Lost int
		}
		if err := json.Unmarshal([]byte(s.next("verdicts")), &batch); err != nil {
			t.Fatal(err)
		}
		total, skipped, rows = total+batch.Count, skipped+batch.Skipped, rows+strings.Count(batch.Rows, "<tr")
	}
	if total != 3000 || rows != 3*batchRows || skipped != total-rows {
		t.Errorf("%d verdicts, %d rows, %d left out", total, rows, skipped)
	}
}

func TestHistory(t *testing.T) {
	h, now := newHistory(), time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	verdictAt := func(ago time.Duration, gate, action, group, source string) verdict {
		return verdict{Time: now.Add(-ago).Format(time.RFC3339Nano), Gate: gate, Action: action, Reason: "rule", SecurityGroupId: group, PolicyPosition: 1,
			LoadBalancerId: "lb-1", Source: source, InstanceId: "ins-1"}
	}
	h.know([]balancer{{LoadBalancerId: "lb-1", LoadBalancerVips: []string{"192.0.2.1"}}})
	var all []verdict
	for range 20 {
		all = append(all, verdictAt(7*time.Second, "clb", "ACCEPT", "sg-1", "203.0.113.10:1"), verdictAt(7*time.Second, "cvm", "ACCEPT", "sg-2", "192.0.2.1:2"))
	}
	all = append(all, verdictAt(time.Minute, "clb", "DROP", "sg-1", "198.51.100.7:1"), verdictAt(time.Hour, "clb", "DROP", "sg-3", "198.51.100.7:1"), verdict{Time: "never"})
	h.take(all, 0)
	if r := h.rate(now, func(k seriesKey) bool { return k.gate == "clb" }); r.Admitted != 2 || r.Refused != 0 || !r.Moving() {
		t.Errorf("rate %+v, want 2 admitted in a second", r)
	}
	if r := h.rate(now, func(k seriesKey) bool { return !k.probe && k.gate == "cvm" }); r.Admitted != 0 {
		t.Errorf("probes from the VIP count as clients: %+v", r)
	}
	if c := h.clients("lb-1", now, 5); len(c) != 2 || c[1].Prefix != "203.0.113.0/24" || c[1].Admitted != 20 || c[0].Refused != 2 || c[1].Rate.Admitted != 2 {
		t.Errorf("clients %+v", c)
	}
	if r := h.rate(now.Add(time.Minute), func(seriesKey) bool { return true }); r.Moving() {
		t.Errorf("a minute later %+v", r)
	}
	h.take(make([]verdict, 2*maxRecent), 0)
	if found, _ := h.newest(3*maxRecent, func(verdict) bool { return true }); len(found) != maxRecent {
		t.Errorf("%d verdicts are kept, want %d", len(found), maxRecent)
	}
}

// What the VIP sends to gate 2 is a probe from its first verdict on.
func TestProbesAreNoClients(t *testing.T) {
	d := newDesk(t)
	w := d.build()
	events := manyEvents(10, *d.clock)
	for i := range events {
		events[i].Verdict = policy.Verdict{Gate: policy.GateCVM, Action: lb.Accept, Reason: policy.RuleMatched}
		events[i].Balancer, events[i].Src = lb.BalancerID(w.balancer), netip.MustParseAddrPort(w.vip+":40000")
	}
	d.facts.tell(events...)
	d.settle()
	from := func(probe bool) float64 {
		at := d.clock.Add(stepSize)
		return d.history.rate(at, func(k seriesKey) bool { return k.gate == "cvm" && k.action == "ACCEPT" && k.probe == probe }).Admitted
	}
	if from(true) != 1 || from(false) != 0 {
		t.Errorf("%v probes and %v clients are counted in a second, want 1 and none", from(true), from(false))
	}
}

// A page of a full group stays small.
func TestFullGroupFits(t *testing.T) {
	d := newDesk(t)
	d.login()
	var rules []m
	for i := range 100 {
		rules = append(rules, line{fmt.Sprintf("10.%d.0.0/16", i), "TCP:8000-8010,9000", "Allow", strings.Repeat("note ", 20)}.policy())
	}
	var out struct{ SecurityGroup group }
	d.do(vpcVersion, "CreateSecurityGroupWithPolicies", m{"GroupName": "full", "GroupDescription": "", "SecurityGroupPolicySet": m{"Ingress": rules}}, &out)
	for _, path := range []string{"", "/rules/add", "/rules/import"} {
		if size := len(d.open("sg/"+out.SecurityGroup.SecurityGroupId+path, 200)); size > 300_000 {
			t.Errorf("%q has %d bytes", path, size)
		} else {
			t.Logf("%q has %d bytes", path, size)
		}
	}
}

// However many different verdicts come, the history stays small.
func TestHistoryIsBounded(t *testing.T) {
	h, now := newHistory(), time.Now()
	var all []verdict
	for i := range 3 * maxSeries {
		all = append(all, verdict{Time: now.Format(time.RFC3339Nano), Gate: "clb", Action: "DROP", Reason: "rule", ListenerId: fmt.Sprint("lbl-", i),
			LoadBalancerId: "lb-1", Source: fmt.Sprintf("10.%d.%d.1:1", i>>8&255, i&255)})
	}
	h.take(all, 0)
	if len(h.series) > maxSeries+1 || len(h.networks["lb-1"]) > maxNetworks {
		t.Errorf("%d series and %d networks are kept", len(h.series), len(h.networks["lb-1"]))
	}
	if r := h.rate(now.Add(stepSize), func(seriesKey) bool { return true }); int(r.Refused*10+.5) != len(all) {
		t.Errorf("%v refusals in a second are counted, want a tenth of %d", r.Refused, len(all))
	}
	later := now.Add(time.Minute)
	h.take([]verdict{{Time: later.Format(time.RFC3339Nano), Gate: "cvm", Action: "DROP", ListenerId: "lbl-later"}}, 0)
	if len(h.series) != 1 {
		t.Errorf("%d series after a minute of silence, want the new one", len(h.series))
	}
}

func TestMarkdown(t *testing.T) {
	link := func(to string) string { return map[string]string{"faq.md": "/console/docs/faq", "#part": "#part"}[to] }
	for in, want := range map[string]string{
		"# A & B":                         "<h1 id=\"a-b\">A &amp; B</h1>\n",
		"one\ntwo":                        "<p>one two</p>\n",
		"<script>alert(1)</script>":       "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>\n",
		"`a<b` **bold** *it*":             "<p><code>a&lt;b</code> <strong>bold</strong> <em>it</em></p>\n",
		"[q](faq.md) [x](javascript:1)":   "<p><a href=\"/console/docs/faq\">q</a> x</p>\n",
		"- a\n- b\n  more":                "<ul><li>a</li>\n<li>b more</li>\n</ul>\n",
		"1. a\n2. b":                      "<ol><li>a</li>\n<li>b</li>\n</ol>\n",
		"    code <x>":                    "<pre tabindex=\"0\" role=\"region\" aria-label=\"Example\"><code>code &lt;x&gt;</code></pre>\n",
		"```\na\n```":                     "<pre tabindex=\"0\" role=\"region\" aria-label=\"Example\"><code>a</code></pre>\n",
		"| a | b |\n|---|---|\n| 1 | 2 |": "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Table\"><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr></tbody></table></div>\n",
	} {
		got, err := renderMarkdown(in, link)
		if err != nil || string(got) != want {
			t.Errorf("%q becomes\n%s\nwant\n%s", in, got, want)
		}
	}
}

// FuzzMarkdown: whatever a page holds, it ends, and opens no tag of its own.
func FuzzMarkdown(f *testing.F) {
	for _, seed := range []string{"# a\n\n- b\n c", "| a |\n|-|\n", "```\nx", "[a](b) `c` **d**", "    x\n\n    y", "1. a\nb", "|"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		html, err := renderMarkdown(text, func(string) string { return "" })
		if err != nil || strings.Contains(string(html), "<script") {
			t.Errorf("%q becomes %q (%v)", text, html, err)
		}
	})
}

// The guides are there, linked, and speak of allowing.
//
// Covers: SEED-65 SEED-66
func TestDocsAreWhatTheyAreCalled(t *testing.T) {
	d := newDesk(t)
	d.login()
	d.open("docs", 200)
	for _, text := range []string{"Getting started", "questions and answers", "Access control of backend instances"} {
		d.says(text)
	}
	for _, page := range []string{"getting-started.md", "faq.md", "backend-access.md"} {
		raw, err := fs.ReadFile(d.Docs, page)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(strings.ToLower(string(raw)), "open to the internet") {
			t.Errorf("%s says it in the old words; the word is allow", page)
		}
	}
	d.open("docs/faq", 200)
	for _, text := range []string{"In which order", "What happens to what no rule matches", "Several groups are bound", "still unreachable"} {
		d.says(text)
	}
	d.open("", 200)
	d.says(`href="/console/docs"`)
	d.says(`href="/console/docs/getting-started"`)
	d.Docs = fstest.MapFS{}
	d.open("docs", 404)
}

// BenchmarkFirstPage is the server's time for the first pages with 10,000
// groups and 1,000 load balancers: a quiet region, and one as great as it gets
// in which every target and every node has trouble.
func BenchmarkFirstPage(b *testing.B) {
	for name, fill := range map[string]func(*desk){
		"quiet": func(d *desk) {
			if err := fillStore(d.api.Store, 10_000, 1_000); err != nil {
				d.Fatal(err)
			}
		},
		"trouble": func(d *desk) { d.fillRegion() },
	} {
		b.Run(name, func(b *testing.B) {
			d := newDesk(b)
			d.login()
			fill(d)
			for name, path := range map[string]string{"overview": "", "groups": "sg", "search": "sg?q=group-77", "balancers": "clb"} {
				b.Run(name, func(b *testing.B) {
					for b.Loop() {
						page, status := d.open2(path)
						if status != 200 {
							b.Fatal(status)
						}
						b.ReportMetric(float64(len(page)), "bytes")
					}
				})
			}
		})
	}
}

// fillStore puts a great region into the store.
func fillStore(s *store.Store, groups, balancers int) error {
	_, err := s.Update(context.Background(), func(tx *store.Tx) error {
		any4 := netip.MustParsePrefix("0.0.0.0/0")
		for i := range groups {
			g := &lb.SecurityGroup{ID: lb.GroupID(fmt.Sprintf("sg-%08d", i)), Name: fmt.Sprintf("group-%d", i), ProjectID: "0"}
			for n := range 5 {
				g.Ingress = append(g.Ingress, lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%d-%d", i, n)), Action: lb.Accept, Proto: lb.TCP, Peer: any4, Ports: []lb.PortRange{{First: uint16(n + 1), Last: uint16(n + 1)}}})
			}
			tx.PutGroup(g)
		}
		for i := range balancers {
			id := lb.BalancerID(fmt.Sprintf("lb-%08d", i))
			tx.PutBalancer(&lb.LoadBalancer{ID: id, Num: tx.NextNum(), Name: fmt.Sprintf("front-%d", i), Type: lb.Open, VPC: "vpc-1",
				VIPs: []netip.Addr{netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)})}, Groups: []lb.GroupID{lb.GroupID(fmt.Sprintf("sg-%08d", i%max(groups, 1)))}})
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), Private: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Groups: []lb.GroupID{"sg-00000000"}, VPC: "vpc-1", State: lb.Running})
			tx.PutListener(&lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", i)), Num: tx.NextNum(), Balancer: id, Protocol: lb.ListenTCP, Port: 80, Check: lb.DefaultCheck(lb.ListenTCP),
				Targets: []lb.Target{{Num: tx.NextNum(), Instance: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), Port: 8080, Weight: 10}}})
		}
		return nil
	})
	return err
}
