// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/docs"
	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

const (
	testID  = "AKIDTEST"
	testKey = "a key for tests"
)

// facts are what nodes have told, as a test sets it.
type facts struct {
	mu       sync.Mutex
	nodes    []control.NodeStatus
	health   map[uint32][]flow.Health
	counters []flow.Counter
	events   []flow.Event
	past     []control.Series
	strips   map[uint32][]control.HealthMark
	changed  chan struct{}
}

func (f *facts) Nodes() []control.NodeStatus { f.mu.Lock(); defer f.mu.Unlock(); return f.nodes }
func (f *facts) Health() map[uint32][]flow.Health {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.health
}
func (f *facts) Counters() []flow.Counter { f.mu.Lock(); defer f.mu.Unlock(); return f.counters }
func (f *facts) Events(ctx context.Context, after uint64, limit int) ([]flow.Event, uint64, uint64) {
	for {
		f.mu.Lock()
		n, wake := uint64(len(f.events)), f.changed
		if after > n {
			after = n
		}
		if after < n {
			events := f.events[after:min(n, after+uint64(limit))]
			f.mu.Unlock()
			return events, after + uint64(len(events)), 0
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil, after, 0
		case <-wake:
		}
	}
}

func (f *facts) Since() time.Time { return time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC) }
func (f *facts) Series(match func(control.SeriesKey) bool, _ time.Duration, points int) []control.Series {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []control.Series
	for _, s := range f.past {
		if match(s.SeriesKey) {
			values := make([]uint64, points)
			copy(values[max(0, points-len(s.Values)):], s.Values)
			all = append(all, control.Series{SeriesKey: s.SeriesKey, Values: values})
		}
	}
	return all
}
func (f *facts) Strip(target uint32, _ time.Duration, points int) []control.HealthMark {
	f.mu.Lock()
	defer f.mu.Unlock()
	marks := make([]control.HealthMark, points)
	copy(marks[max(0, points-len(f.strips[target])):], f.strips[target])
	return marks
}

// tell adds verdicts.
func (f *facts) tell(events ...flow.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = append(f.events, events...)
	close(f.changed)
	f.changed = make(chan struct{})
}

// A desk is a console on an empty memory store, with somebody in front.
type desk struct {
	testing.TB
	*Console
	api    *cloudapi.Server
	facts  *facts
	clock  *time.Time
	server *httptest.Server
	client *http.Client
	page   string // the last page's text
}

func newDesk(t testing.TB) *desk {
	t.Helper()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	d := &desk{TB: t, clock: &now, facts: &facts{changed: make(chan struct{})}}
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return *d.clock }
	d.api = cloudapi.New(cloudapi.Options{Store: store.NewMemory(), Facts: d.facts, History: d.facts, Region: "local", Now: clock,
		VIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/26")}, EIPPool: []netip.Prefix{netip.MustParsePrefix("192.0.2.64/26")}})
	_, err := d.api.Adopt(t.Context(), testID, testKey, "admin")
	if err != nil {
		t.Fatal(err)
	}
	if d.Console, err = New(Options{API: d.api, Keys: d.api, Region: "local", Docs: docs.Pages(), Now: clock}); err != nil {
		t.Fatal(err)
	}
	d.server = httptest.NewServer(d.Console)
	t.Cleanup(d.server.Close)
	d.newBrowser()
	return d
}

// newBrowser forgets all cookies.
func (d *desk) newBrowser() {
	jar, _ := cookiejar.New(nil)
	d.client = &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, via []*http.Request) error { return nil }}
}

func (d *desk) send(r *http.Request, want int) string {
	d.Helper()
	answer, err := d.client.Do(r)
	if err != nil {
		d.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		d.Fatal(err)
	}
	d.page = string(text)
	if answer.StatusCode != want {
		d.Fatalf("%s %s: status %d, want %d\n%s", r.Method, r.URL, answer.StatusCode, want, mainOf(d.page))
	}
	return d.page
}

// mainOf is what a page says, without its frame.
func mainOf(page string) string {
	_, text, _ := strings.Cut(page, "<main")
	return text
}

// open loads a page.
func (d *desk) open(path string, want int) string {
	d.Helper()
	r, _ := http.NewRequest("GET", d.server.URL+Root+path, nil)
	return d.send(r, want)
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// hidden are the hidden fields of the last page's forms inside main.
func (d *desk) hidden() url.Values {
	values := url.Values{}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`).FindAllStringSubmatch(mainOf(d.page), -1) {
		values.Set(m[1], strings.NewReplacer("&#43;", "+", "&amp;", "&", "&#34;", `"`).Replace(m[2]))
	}
	return values
}

// fill sends the last page's form with these fields, as a browser would.
func (d *desk) fill(path string, want int, pairs ...string) string {
	d.Helper()
	values := d.hidden()
	if m := csrfField.FindStringSubmatch(d.page); m != nil {
		values.Set("csrf", m[1])
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if !seen[pairs[i]] {
			values.Del(pairs[i])
		}
		seen[pairs[i]] = true
		values.Add(pairs[i], pairs[i+1])
	}
	return d.sendForm(path, want, values)
}

func (d *desk) sendForm(path string, want int, values url.Values) string {
	d.Helper()
	r, _ := http.NewRequest("POST", d.server.URL+Root+path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", d.server.URL)
	return d.send(r, want)
}

func (d *desk) login() {
	d.Helper()
	d.open("login", 200)
	d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
}

// says fails unless the last page has the text.
func (d *desk) says(text string) {
	d.Helper()
	if !strings.Contains(d.page, text) {
		d.Errorf("the page does not say %q:\n%s", text, mainOf(d.page))
	}
}

func (d *desk) saysNot(text string) {
	d.Helper()
	if strings.Contains(d.page, text) {
		d.Errorf("the page says %q:\n%s", text, mainOf(d.page))
	}
}

// do runs an action as an SDK would.
func (d *desk) do(version, action string, in m, out any) {
	d.Helper()
	if err := d.call(context.Background(), version, action, in, out); err != nil {
		d.Fatalf("%s: %v", action, err)
	}
}

// A world is the document's example with two instances, one of them ill.
type world struct{ edge, host, balancer, vip, listener, location, ins1, ins2 string }

func (d *desk) build() world {
	d.Helper()
	var w world
	create := func(name string, rules ...line) string {
		var out struct{ SecurityGroup group }
		d.do(vpcVersion, "CreateSecurityGroupWithPolicies", m{"GroupName": name, "GroupDescription": "of the example", "SecurityGroupPolicySet": m{"Ingress": policiesOf(rules)}}, &out)
		return out.SecurityGroup.SecurityGroupId
	}
	w.edge = create("clb-web", line{"0.0.0.0/0", "TCP:80", "Allow", "the listener"}, line{"0.0.0.0/0", "ALL", "Refuse", "the rest"})
	w.host = create("cvm-web", line{"203.0.113.0/24", "TCP:8080", "Allow", "the service"}, line{"0.0.0.0/0", "TCP:22", "Allow", ""})
	for _, name := range []string{"web-1", "web-2"} {
		var out struct{ InstanceIdSet []string }
		d.do(vpcVersion, "RunInstances", m{"InstanceName": name, "SecurityGroupIds": []string{w.host}, "InternetAccessible": m{"PublicIpAssigned": true}}, &out)
		w.ins1, w.ins2 = w.ins2, out.InstanceIdSet[0]
	}
	var out struct{ LoadBalancerIds, ListenerIds, LocationIds []string }
	d.do(clbVersion, "CreateLoadBalancer", m{"LoadBalancerType": "OPEN", "LoadBalancerName": "demo"}, &out)
	w.balancer = out.LoadBalancerIds[0]
	var list struct{ LoadBalancerSet []balancer }
	d.do(clbVersion, "DescribeLoadBalancers", m{}, &list)
	w.vip = list.LoadBalancerSet[0].LoadBalancerVips[0]
	d.do(clbVersion, "SetLoadBalancerSecurityGroups", m{"LoadBalancerId": w.balancer, "SecurityGroups": []string{w.edge}}, nil)
	d.do(clbVersion, "CreateListener", m{"LoadBalancerId": w.balancer, "Ports": []int{80}, "Protocol": "HTTP", "ListenerNames": []string{"web"}}, &out)
	w.listener = out.ListenerIds[0]
	d.do(clbVersion, "CreateRule", m{"LoadBalancerId": w.balancer, "ListenerId": w.listener, "Rules": []m{{"Domain": w.vip, "Url": "/"}}}, &out)
	w.location = out.LocationIds[0]
	d.do(clbVersion, "RegisterTargets", m{"LoadBalancerId": w.balancer, "ListenerId": w.listener, "LocationId": w.location,
		"Targets": []m{{"InstanceId": w.ins1, "Port": 8080}, {"InstanceId": w.ins2, "Port": 8080}}}, nil)
	d.report(w)
	return w
}

// report tells what nodes would: one target dead by its gate, some traffic.
func (d *desk) report(w world) {
	st := d.api.Store.State()
	f := d.facts
	f.mu.Lock()
	f.health = map[uint32][]flow.Health{}
	for _, t := range st.Listeners.Get(lb.ListenerID(w.listener)).Rules[0].Targets {
		h := flow.Health{Node: "gateway-1", Target: t.Num, State: flow.HealthAlive}
		if string(t.Instance) == w.ins2 {
			h.State, h.Kind, h.Text = flow.HealthDead, "timeout", "no answer within 2 s"
		}
		f.health[t.Num] = []flow.Health{h}
	}
	f.nodes = []control.NodeStatus{{ID: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr("192.0.2.129"), Connected: true, Committed: st.Revision, Lag: 12 * time.Millisecond},
		{ID: lb.NodeID(w.ins1), Role: lb.RoleHost, Instance: lb.InstanceID(w.ins1), Address: netip.MustParseAddr("192.0.2.130"), Connected: true, Committed: st.Revision - 1},
		{ID: lb.NodeID(w.ins2), Role: lb.RoleHost, Instance: lb.InstanceID(w.ins2), Address: netip.MustParseAddr("192.0.2.131")}}
	edge := st.Groups.Get(lb.GroupID(w.edge))
	f.counters = []flow.Counter{{Node: "gateway-1", Gate: policy.GateCLB, Group: edge.ID, Rule: edge.Ingress[0].ID, Direction: policy.In, Packets: 12345, NewFlows: 77,
		LastHit: d.clock.Add(-3 * time.Minute), Baseline: d.clock.Add(-time.Hour)}}
	f.remember(w, edge)
	f.mu.Unlock()
	event := func(i int, gate policy.Gate, v policy.Verdict, src, dst string) flow.Event {
		v.Gate = gate
		e := flow.Event{Time: d.clock.Add(-time.Duration(i) * 7 * time.Second), Node: "gateway-1", Verdict: v, Direction: policy.In, Revision: st.Revision, Proto: lb.TCP,
			Src: netip.MustParseAddrPort(src), Dst: netip.MustParseAddrPort(dst), Balancer: lb.BalancerID(w.balancer), Listener: lb.ListenerID(w.listener)}
		if gate == policy.GateCVM {
			e.Instance = lb.InstanceID(w.ins1)
		}
		return e
	}
	accept := policy.Verdict{Action: lb.Accept, Reason: policy.RuleMatched, Group: edge.ID, Rule: edge.Ingress[0].ID, Pos: 1}
	refuse := policy.Verdict{Action: lb.Drop, Reason: policy.RuleMatched, Group: edge.ID, Rule: edge.Ingress[1].ID, Pos: 2}
	var events []flow.Event
	for i := 40; i > 0; i-- {
		events = append(events, event(i, policy.GateCLB, accept, fmt.Sprintf("203.0.113.%d:40000", 10+i%3), w.vip+":80"))
		if i%3 == 0 {
			events = append(events, event(i, policy.GateCLB, refuse, "198.51.100.20:41000", w.vip+":81"))
		}
		if i%4 == 0 {
			events = append(events, event(i, policy.GateCVM, policy.Verdict{Action: lb.Drop, Reason: policy.NoMatch}, "198.51.100.20:41000", "10.200.0.2:8080"))
		}
	}
	f.tell(events...)
}

// remember makes an hour of the past, to be seen in charts.
func (f *facts) remember(w world, edge *lb.SecurityGroup) {
	wave := func(high, every int) []uint64 {
		values := make([]uint64, 50)
		for i := range values {
			values[i] = uint64(high * (10 + i%every) / 20)
		}
		return values
	}
	b := lb.BalancerID(w.balancer)
	requests := control.SeriesKey{Metric: control.MetricRequests, Balancer: b, Listener: lb.ListenerID(w.listener), Location: lb.LocationID(w.location)}
	for class, high := range map[int]int{2: 90, 3: 12, 4: 25, 5: 9} {
		requests.Class = class
		f.past = append(f.past, control.Series{SeriesKey: requests, Values: wave(high, 3+class)})
	}
	for i, key := range []control.SeriesKey{
		{Metric: control.MetricFlows, Gate: policy.GateCLB, Balancer: b}, {Metric: control.MetricFlows, Gate: policy.GateCVM, Balancer: b, Instance: lb.InstanceID(w.ins1), Direction: policy.In},
		{Metric: control.MetricRefusals, Gate: policy.GateCLB, Direction: policy.In, Reason: policy.RuleMatched, Group: edge.ID, Rule: edge.Ingress[1].ID, Balancer: b},
		{Metric: control.MetricRefusals, Gate: policy.GateCVM, Direction: policy.In, Reason: policy.NoMatch, Balancer: b, Instance: lb.InstanceID(w.ins1)},
		{Metric: control.MetricRefusals, FromCounters: true, Gate: policy.GateCLB, Direction: policy.In, Group: edge.ID, Rule: edge.Ingress[1].ID},
		{Metric: control.MetricRefusals, FromCounters: true, Gate: policy.GateCVM, Direction: policy.In, Object: w.ins1},
		{Metric: control.MetricRefusals, FromCounters: true, Gate: policy.GateCLB, Direction: policy.In, Group: edge.ID, Rule: "pol-gone"},
		{Metric: control.MetricFlows, FromCounters: true, Gate: policy.GateCLB, Direction: policy.In, Group: edge.ID, Rule: edge.Ingress[0].ID},
	} {
		f.past = append(f.past, control.Series{SeriesKey: key, Values: wave(40-4*i, 4+i)})
	}
	f.strips = map[uint32][]control.HealthMark{}
	for num, h := range f.health {
		for i := range 50 {
			mark := control.MarkAlive
			if h[0].State == flow.HealthDead && i > 20 || i%17 == 3 {
				mark = control.MarkDead
			}
			f.strips[num] = append(f.strips[num], mark)
		}
	}
}

// settle waits until the history has read all that was told.
func (d *desk) settle() {
	d.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { d.Console.Run(ctx) })
	d.Cleanup(func() { cancel(); wg.Wait() })
	deadline := time.Now().Add(10 * time.Second)
	for d.history.version() < uint64(len(d.facts.events)) {
		if time.Now().After(deadline) {
			d.Fatal("the history does not read what was told")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// pages are the addresses of every page and dialog.
func (w world) pages() []string {
	rule := "sg/" + w.edge
	listener := "clb/" + w.balancer + "/listeners/" + w.listener
	target := "?location=" + w.location + "&instance=" + w.ins1 + "&port=8080"
	return []string{"", "sg", "sg?q=web", "sg/new", rule, rule + "?dir=out", rule + "/edit", rule + "/clone", rule + "/delete", rule + "/rules/add?dir=in&at=1",
		rule + "/rules/open", rule + "/rules/import", rule + "/associations", rule + "/associations?kind=clb", rule + "/associations/add", "sg/" + w.host,
		"clb", "clb?q=demo", "clb/new", "clb/" + w.balancer, "clb/" + w.balancer + "/edit", "clb/" + w.balancer + "/delete", "clb/" + w.balancer + "/return", "clb/" + w.balancer + "/listeners",
		"clb/" + w.balancer + "/security", "clb/" + w.balancer + "/security?dir=out", "clb/" + w.balancer + "/security/bind", "clb/" + w.balancer + "/security/pass",
		"clb/" + w.balancer + "/picture", "clb/" + w.balancer + "/picture?source=198.51.100.20&port=80&protocol=TCP", "clb/" + w.balancer + "/listeners/new", listener + "/delete",
		listener + "/rules/new", listener + "/rules/" + w.location + "/delete", listener + "/check?location=" + w.location, listener + "/targets/add?location=" + w.location,
		listener + "/targets/edit" + target, listener + "/targets/remove" + target, "cvm", "cvm/new", "cvm/" + w.ins1, "cvm/" + w.ins1 + "/security",
		"cvm/" + w.ins1 + "/security/bind", "verdicts", "verdicts?action=DROP&gate=clb", "docs", "docs/faq", "docs/backend-access", "docs/semantics"}
}

func TestEveryPageRenders(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	for _, path := range w.pages() {
		page := d.open(path, 200)
		if len(page) > 300_000 {
			t.Errorf("%s has %d bytes", path, len(page))
		}
		for _, bad := range []string{"<script>", " style=", " onclick=", "ZgotmplZ", "<no value>", "%!", "javascript:"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s has %q in it", path, bad)
			}
		}
		for _, link := range regexp.MustCompile(`(?:href|src|action)="(https?:)?//`).FindAllString(page, -1) {
			t.Errorf("%s links to another host: %s", path, link)
		}
	}
	d.open("nothing", 404)
	d.open("sg/sg-00000000", 404)
	d.open("clb/lb-00000000", 404)
	d.open("cvm/ins-00000000/security", 404)
	d.open("docs/none", 404)
}

// Every link that a page has leads somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	d.settle()
	seen := map[string]bool{}
	queue := w.pages()
	for len(queue) > 0 && len(seen) < 400 {
		path := queue[0]
		queue = queue[1:]
		if seen[path] {
			continue
		}
		seen[path] = true
		page := d.open(path, 200)
		for _, link := range regexp.MustCompile(`href="/console/([^"#]*)`).FindAllStringSubmatch(page, -1) {
			to := strings.ReplaceAll(link[1], "&amp;", "&")
			if !strings.HasPrefix(to, "static/") && !strings.HasPrefix(to, "verdicts/explain") {
				queue = append(queue, to)
			}
		}
	}
	if len(seen) < len(w.pages()) {
		t.Errorf("only %d pages were seen", len(seen))
	}
}

func TestHeaders(t *testing.T) {
	d := newDesk(t)
	for _, path := range []string{"login", "", "static/" + d.static.version + "/console.css", "nothing"} {
		answer, err := d.client.Get(d.server.URL + Root + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		for name, want := range map[string]string{"Content-Security-Policy": policyHeader, "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "same-origin"} {
			if got := answer.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		kept := strings.Contains(answer.Header.Get("Cache-Control"), "immutable")
		if kept != strings.HasPrefix(path, "static/") {
			t.Errorf("%s: Cache-Control is %q", path, answer.Header.Get("Cache-Control"))
		}
	}
}

func TestLogin(t *testing.T) {
	d := newDesk(t)
	d.open("sg", 401)
	d.says("Log in")
	d.fill("login", 401, "SecretId", testID, "SecretKey", "wrong")
	d.says("do not belong together")
	d.says(`value="AKIDTEST"`)
	d.saysNot("wrong")
	d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
	d.says("<h1>Security groups</h1>") // where it was going
	var cookie *http.Cookie
	r, _ := http.NewRequest("POST", d.server.URL+Root+"login", strings.NewReader(url.Values{"SecretId": {testID}, "SecretKey": {testKey}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		cookie = c
	}
	if cookie == nil || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != Root || len(cookie.Value) < 40 {
		t.Errorf("the cookie is %+v", cookie)
	}
	d.fill("logout", 200)
	d.open("sg", 401)
}

func TestLoginLeadsNowhereElse(t *testing.T) {
	for path, want := range map[string]string{
		"/console/sg?q=a": "/console/sg?q=a", "https://example.com/console/": Root, "//example.com/console/": Root, "/elsewhere": Root,
		"/console/../x": "/console/../x", "": Root, "\\\\example.com": Root, "/console//example.com": Root, "javascript:alert(1)": Root,
	} {
		if got := ours(path); got != want {
			t.Errorf("ours(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestLoginIsThrottled(t *testing.T) {
	d := newDesk(t)
	d.open("login", 200)
	for range freeFailures {
		d.fill("login", 401, "SecretId", testID, "SecretKey", "wrong")
	}
	d.fill("login", 429, "SecretId", testID, "SecretKey", testKey)
	d.says("Too many attempts")
	*d.clock = d.clock.Add(maxWait)
	d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
}

func TestLoginExpires(t *testing.T) {
	d := newDesk(t)
	d.login()
	for range 5 {
		*d.clock = d.clock.Add(idleLimit - time.Minute)
		d.open("sg", 200)
	}
	*d.clock = d.clock.Add(idleLimit + time.Second)
	d.open("sg", 401)
	d.says("has expired")
	d.login()
	for elapsed := time.Duration(0); elapsed < wholeLimit; elapsed += idleLimit - time.Minute {
		d.open("sg", 200)
		*d.clock = d.clock.Add(idleLimit - time.Minute)
	}
	d.open("sg", 401)
}

// What was typed when the login had expired comes back behind the next one.
func TestExpiredLoginKeepsWhatWasTyped(t *testing.T) {
	d := newDesk(t)
	d.login()
	d.open("sg/new", 200)
	*d.clock = d.clock.Add(idleLimit + time.Second)
	d.fill("sg/new", 401, "GroupName", "a name & more", "GroupDescription", "typed with care", "template", "open")
	d.says("What you typed is kept")
	if n := d.api.Store.State().Groups.Len(); n != 0 {
		t.Fatalf("%d groups were made without a login", n)
	}
	d.fill("login", 200, "SecretId", testID, "SecretKey", testKey)
	d.says("a name &amp; more")
	d.says("typed with care")
}

func TestForgedFormsAreRefused(t *testing.T) {
	d := newDesk(t)
	d.login()
	d.open("sg/new", 200)
	form := url.Values{"GroupName": {"forged"}, "template": {"custom"}}
	for name, change := range map[string]func(){"no token": func() {}, "wrong token": func() { form.Set("csrf", "guess") }} {
		change()
		d.sendForm("sg/new", 403, form)
		if d.api.Store.State().Groups.Len() != 0 {
			t.Errorf("%s: the form was taken", name)
		}
	}
	form.Set("csrf", csrfField.FindStringSubmatch(d.open("sg/new", 200))[1])
	r, _ := http.NewRequest("POST", d.server.URL+Root+"sg/new", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "https://example.com")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	d.send(r, 403)
	d.sendForm("sg/new", 200, form)
	form.Set("csrf", strings.Repeat("x", maxForm))
	d.sendForm("sg/new", 413, form)
}

func TestTheme(t *testing.T) {
	d := newDesk(t)
	d.login()
	d.fill("theme", 200, "theme", "dark", "here", "/console/sg")
	d.says(`data-theme="dark"`)
	d.says("<h1>Security groups</h1>")
	d.fill("theme", 200, "theme", "auto", "here", "/console/")
	d.saysNot("data-theme=")
}

// upload sends a file as a browser would.
func (d *desk) upload(path string, want int, file string, pairs ...string) {
	d.Helper()
	values := d.hidden()
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	for name, list := range values {
		_ = w.WriteField(name, list[0])
	}
	part, _ := w.CreateFormFile("file", "rules.csv")
	_, _ = io.WriteString(part, file)
	w.Close()
	r, _ := http.NewRequest("POST", d.server.URL+Root+path, &body)
	r.Header.Set("Content-Type", w.FormDataContentType())
	d.send(r, want)
}

// inbound is a group's inbound rules in one text.
func (d *desk) inbound(id string) string {
	d.Helper()
	var out struct{ SecurityGroupPolicySet policySet }
	d.do(vpcVersion, "DescribeSecurityGroupPolicies", m{"SecurityGroupId": id}, &out)
	var all []string
	for _, r := range out.SecurityGroupPolicySet.Ingress {
		l := lineOf(r)
		all = append(all, l.Policy+" "+l.Service+" "+l.Source)
	}
	return strings.Join(all, "; ")
}

func (d *desk) wants(id, want string) {
	d.Helper()
	if got := d.inbound(id); got != want {
		d.Errorf("the rules are\n %s\nwant\n %s", got, want)
	}
}
