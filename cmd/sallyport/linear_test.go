// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// A process is `sallyport server` as a process of its own. Its listener is
// ours, so the address outlives it.
type process struct {
	t        *testing.T
	dir      string
	listener *os.File
	address  string
	cmd      *exec.Cmd
}

func newProcess(t *testing.T) *process {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: t.TempDir(), address: l.Addr().String()}
	if p.listener, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { p.kill(); p.listener.Close() })
	p.start()
	return p
}

func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0], "server", "--data", p.dir, "--listen", p.address, "--listen-fd", "3",
		"--node-listen", "127.0.0.1:0", "--record", filepath.Join(p.dir, "record.json"))
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.ExtraFiles = []*os.File{p.listener}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// patience is how long a call may take that has to be answered, also on a
// machine that is busy with other things.
const patience = time.Minute

// client waits until the server is up and returns a client with a connection
// pool of its own, which waits so long for an answer.
func (p *process) client(timeout time.Duration) *cloudapi.Client {
	p.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		var c connection
		raw, err := os.ReadFile(filepath.Join(p.dir, "record.json"))
		if err == nil && json.Unmarshal(raw, &c) == nil {
			return &cloudapi.Client{Endpoint: c.Endpoint, SecretID: c.SecretID, SecretKey: c.SecretKey, Region: c.Region,
				HTTP: &http.Client{Timeout: timeout, Transport: &http.Transport{}}}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the server wrote no record: %v", err)
		}
		time.Sleep(10 * time.Millisecond) // until the condition above
	}
}

// An op is one call about one object, and a result what came of it.
type op struct{ object, kind, arg string }

type result struct {
	unknown bool   // no answer: it may have happened, or may still
	code    string // of a refusal; "" for success
	value   string // what a read saw
}

// linear says what each op does to the state of its object, which is a text:
// of a group's name, the name; of its rules, "VERSION a,b,c"; of an instance's
// groups, "sg-1,sg-2"; of a target, its weight. A write whose outcome is not
// known takes place at some time or, being last, never to anybody's notice.
func linear(state string, in op, out result) (bool, string) {
	is := func(legal bool, next string) (bool, string) {
		if out.unknown {
			return true, next
		}
		return legal, next
	}
	items := func(list string) []string { return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) }
	switch in.kind {
	case "read":
		return out.unknown || out.code == "" && out.value == state, state
	case "write":
		return is(out.code == "", in.arg)
	case "set": // if the version is still the one that was read
		version, _, _ := strings.Cut(state, " ")
		expected, content, _ := strings.Cut(in.arg, " ")
		if version != expected {
			return is(out.code == "UnsupportedOperation.VersionMismatch", state)
		}
		return is(out.code == "", next(version)+" "+content)
	case "put": // whatever the version is
		version, _, _ := strings.Cut(state, " ")
		return is(out.code == "", next(version)+" "+in.arg)
	case "append":
		version, list, _ := strings.Cut(state, " ")
		if len(items(list)) >= 100 {
			return is(out.code == "LimitExceeded.SecurityGroupPolicySet", state)
		}
		return is(out.code == "", next(version)+" "+strings.Join(append(items(list), in.arg), ","))
	case "bind":
		bound := items(state)
		if !slices.Contains(bound, in.arg) {
			bound = append(bound, in.arg)
		}
		return is(out.code == "", strings.Join(bound, ","))
	case "unbind":
		bound := items(state)
		if slices.Equal(bound, []string{in.arg}) {
			return is(out.code == "FailedOperation.SecurityGroupActionFailed", state)
		}
		return is(out.code == "", strings.Join(slices.DeleteFunc(bound, func(g string) bool { return g == in.arg }), ","))
	}
	return false, state
}

func next(version string) string {
	n, _ := strconv.Atoi(version)
	return strconv.Itoa(n + 1)
}

// A recorder runs ops of several clients and keeps what they saw.
type recorder struct {
	t       *testing.T
	began   time.Time
	site    site
	initial map[string]string
	mu      sync.Mutex
	history []porcupine.Operation
	clients int
	tasks   []string // request ids of acknowledged writes of clb
	writes  []string // of all acknowledged writes
}

// site is what the ops are about.
type site struct {
	groups             []string
	instance           string
	balancer, listener string
}

// run makes one call and records it.
func (r *recorder) run(client *cloudapi.Client, id int, in op) (result, error) {
	call := time.Since(r.began).Nanoseconds()
	out, request, err := r.do(client, in)
	back := time.Since(r.began).Nanoseconds()
	e := (*cloudapi.Error)(nil)
	switch {
	case errors.As(err, &e) && e.Code != "InternalError":
		out.code, err = e.Code, nil
	case err != nil:
		out.unknown, back, err = true, math.MaxInt64, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: back})
	if !out.unknown && out.code == "" && in.kind != "read" {
		r.writes = append(r.writes, request)
		if strings.HasPrefix(in.object, "weight") {
			r.tasks = append(r.tasks, request)
		}
	}
	return out, err
}

// do translates an op into an action of the API.
func (r *recorder) do(c *cloudapi.Client, in op) (out result, request string, err error) {
	kind, id, _ := strings.Cut(in.object, " ")
	what := kind + " " + in.kind
	m := map[string]any{}
	action, service, version := "", "vpc", "2017-03-12"
	rules := func(list ...string) []any {
		var all []any
		for _, text := range list {
			n, _ := strconv.Atoi(strings.TrimLeft(text, "abcdefghij"))
			all = append(all, map[string]any{"Action": "ACCEPT", "Protocol": "tcp", "Port": strconv.Itoa(1 + n%60000), "CidrBlock": "192.0.2.0/24", "PolicyDescription": text})
		}
		return all
	}
	switch what {
	case "name read":
		action, m["SecurityGroupIds"] = "DescribeSecurityGroups", []string{id}
	case "name write":
		action, m["SecurityGroupId"], m["GroupName"] = "ModifySecurityGroupAttribute", id, in.arg
	case "rules read":
		action, m["SecurityGroupId"] = "DescribeSecurityGroupPolicies", id
	case "rules set":
		expected, content, _ := strings.Cut(in.arg, " ")
		service, version, action = ownService, ownVersion, "SetSecurityGroupPolicies"
		m["SecurityGroupId"], m["Version"], m["Direction"], m["Policies"] = id, expected, "Ingress", rules(content)
	case "rules put":
		action, m["SecurityGroupId"] = "ModifySecurityGroupPolicies", id
		m["SecurityGroupPolicySet"] = map[string]any{"Version": "1", "Ingress": rules(in.arg)}
	case "rules append":
		action, m["SecurityGroupId"] = "CreateSecurityGroupPolicies", id
		m["SecurityGroupPolicySet"] = map[string]any{"Ingress": rules(in.arg)}
	case "groups read":
		action, m["InstanceIds"] = "DescribeInstances", []string{id}
	case "groups bind", "groups unbind":
		action, m["InstanceIds"], m["SecurityGroupIds"] = map[string]string{"bind": "AssociateSecurityGroups", "unbind": "DisassociateSecurityGroups"}[in.kind], []string{id}, []string{in.arg}
	case "weight read":
		service, version, action, m["LoadBalancerId"] = "clb", "2018-03-17", "DescribeTargets", r.site.balancer
	case "weight write":
		service, version, action = "clb", "2018-03-17", "ModifyTargetWeight"
		weight, _ := strconv.Atoi(in.arg)
		m["LoadBalancerId"], m["ListenerId"] = r.site.balancer, r.site.listener
		m["Targets"] = []any{map[string]any{"InstanceId": r.site.instance, "Port": 80, "Weight": weight}}
	}
	var answer seen
	err = c.Do(context.Background(), service, version, action, m, &answer)
	out.value = answer.value(kind)
	return out, answer.RequestID, err
}

// seen is what any of the answers holds.
type seen struct {
	RequestID              string `json:"RequestId"`
	SecurityGroupSet       []struct{ SecurityGroupName string }
	SecurityGroupPolicySet struct {
		Version string
		Ingress []struct{ PolicyDescription string }
	}
	InstanceSet []struct{ SecurityGroupIds []string }
	Listeners   []struct{ Targets []struct{ Weight int } }
}

func (s seen) value(kind string) string {
	switch {
	case kind == "name" && len(s.SecurityGroupSet) == 1:
		return s.SecurityGroupSet[0].SecurityGroupName
	case kind == "rules":
		var list []string
		for _, p := range s.SecurityGroupPolicySet.Ingress {
			list = append(list, p.PolicyDescription)
		}
		return s.SecurityGroupPolicySet.Version + " " + strings.Join(list, ",")
	case kind == "groups" && len(s.InstanceSet) == 1:
		return strings.Join(s.InstanceSet[0].SecurityGroupIds, ",")
	case kind == "weight" && len(s.Listeners) == 1 && len(s.Listeners[0].Targets) == 1:
		return strconv.Itoa(s.Listeners[0].Targets[0].Weight)
	}
	return ""
}

// newRecorder builds what the ops are about and reads how it begins.
func newRecorder(t *testing.T, c *cloudapi.Client) *recorder {
	t.Helper()
	r := &recorder{t: t, began: time.Now(), initial: map[string]string{}}
	must := func(service, version, action string, in map[string]any, out any) {
		t.Helper()
		if err := c.Do(t.Context(), service, version, action, in, out); err != nil {
			t.Fatalf("%s: %v", action, err)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		var made struct {
			SecurityGroup struct{ SecurityGroupId string }
		}
		must("vpc", "2017-03-12", "CreateSecurityGroup", map[string]any{"GroupName": name, "GroupDescription": "d"}, &made)
		r.site.groups = append(r.site.groups, made.SecurityGroup.SecurityGroupId)
	}
	var instances struct{ InstanceIdSet []string }
	must("cvm", "2017-03-12", "RunInstances", map[string]any{"InstanceName": "web", "SecurityGroupIds": r.site.groups[:1]}, &instances)
	r.site.instance = instances.InstanceIdSet[0]
	var balancers struct{ LoadBalancerIds []string }
	must("clb", "2018-03-17", "CreateLoadBalancer", map[string]any{"LoadBalancerType": "OPEN"}, &balancers)
	r.site.balancer = balancers.LoadBalancerIds[0]
	var listeners struct{ ListenerIds []string }
	must("clb", "2018-03-17", "CreateListener", map[string]any{"LoadBalancerId": r.site.balancer, "Protocol": "TCP", "Ports": []int{80}}, &listeners)
	r.site.listener = listeners.ListenerIds[0]
	must("clb", "2018-03-17", "RegisterTargets", map[string]any{"LoadBalancerId": r.site.balancer, "ListenerId": r.site.listener,
		"Targets": []any{map[string]any{"InstanceId": r.site.instance, "Port": 80, "Weight": 10}}}, nil)
	for _, object := range r.objects() {
		out, _, err := r.do(c, op{object, "read", ""})
		if err != nil {
			t.Fatal(err)
		}
		r.initial[object] = out.value
	}
	return r
}

func (r *recorder) objects() []string {
	return []string{"name " + r.site.groups[0], "rules " + r.site.groups[1], "groups " + r.site.instance, "weight " + r.site.balancer}
}

// written counts the writes that were acknowledged.
func (r *recorder) written() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.writes)
}

// act is one client's life: it reads and writes at random until the end.
func (r *recorder) act(c *cloudapi.Client, id int, over func() bool) {
	for n := 0; !over(); n++ {
		object := r.objects()[rand.N(4)]
		in := op{object, "read", ""}
		mark := fmt.Sprintf("%c%d", 'a'+rune(id%10), 10*n+id%10) // no two rules are the same
		if rand.N(2) == 0 {
			switch kind, _, _ := strings.Cut(object, " "); kind {
			case "name":
				in.kind, in.arg = "write", mark
			case "rules":
				in.kind, in.arg = []string{"append", "put"}[rand.N(2)], mark
				if rand.N(2) == 0 {
					seen, _ := r.run(c, id, op{object, "read", ""})
					if seen.unknown {
						id += 100
						continue
					}
					version, _, _ := strings.Cut(seen.value, " ")
					in.kind, in.arg = "set", version+" "+mark
				}
			case "groups":
				in.kind, in.arg = []string{"bind", "unbind"}[rand.N(2)], r.site.groups[rand.N(3)]
			case "weight":
				in.kind, in.arg = "write", strconv.Itoa(rand.N(100))
			}
		}
		out, err := r.run(c, id, in)
		if err != nil {
			r.t.Error(err)
			return
		}
		if out.unknown {
			id += 100 // its last call may still be under way
			c.HTTP.CloseIdleConnections()
		}
	}
}

// check decides whether the history is one that a single copy of everything,
// changed by one call at a time, could have shown.
func (r *recorder) check() (object string, verdict porcupine.CheckResult) {
	parts := map[string][]porcupine.Operation{}
	for _, o := range r.history {
		parts[o.Input.(op).object] = append(parts[o.Input.(op).object], o)
	}
	for object, ops := range parts {
		parts[object] = telling(ops)
	}
	for _, object := range r.objects() {
		model := porcupine.Model{
			Init: func() any { return r.initial[object] },
			Step: func(state, in, out any) (bool, any) {
				ok, now := linear(state.(string), in.(op), out.(result))
				return ok, now
			},
		}
		if got := porcupine.CheckOperationsTimeout(model, parts[object], patience); got != porcupine.Ok {
			r.tell(model, parts[object])
			return object, got
		}
	}
	return "", porcupine.Ok
}

// telling leaves out what says nothing: reads without answer, and writes without
// answer of what nobody read. Such a write may stand last, or between two others,
// so there is an order with it if and only if there is one without; and each
// that is left doubles what the checker has to try.
func telling(history []porcupine.Operation) []porcupine.Operation {
	read := map[string]bool{}
	for _, o := range history {
		if o.Input.(op).kind == "read" {
			read[o.Output.(result).value] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(history), func(o porcupine.Operation) bool {
		in := o.Input.(op)
		return o.Output.(result).unknown && (in.kind == "read" || in.kind == "write" && !read[in.arg])
	})
}

// tell logs the shortest beginning of a history that cannot be explained.
func (r *recorder) tell(model porcupine.Model, history []porcupine.Operation) {
	if r.t == nil {
		return
	}
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	upTo := func(n int) []porcupine.Operation { // what had begun when the n-th call returned
		var begun []porcupine.Operation
		for _, o := range history {
			if o.Call <= history[n].Return {
				if o.Return > history[n].Return {
					out := o.Output.(result)
					out.unknown = true
					o.Output, o.Return = out, math.MaxInt64
				}
				begun = append(begun, o)
			}
		}
		return begun
	}
	n := sort.Search(len(history)-1, func(n int) bool {
		return porcupine.CheckOperationsTimeout(model, upTo(n), 10*time.Second) != porcupine.Ok
	})
	for _, o := range history[max(0, n-12) : n+1] {
		r.t.Logf("client %d, %d to %d µs: %+v → %+v", o.ClientId, o.Call/1000, o.Return/1000, o.Input, o.Output)
	}
	for _, o := range history {
		if o.Return == math.MaxInt64 {
			r.t.Logf("without answer: client %d, from %d µs: %+v", o.ClientId, o.Call/1000, o.Input)
		}
	}
}

// soakTime is how long the clients go on; SALLYPORT_SOAK_API says longer.
func soakTime(t *testing.T) time.Duration {
	text := os.Getenv("SALLYPORT_SOAK_API")
	if text == "" {
		return 9 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SALLYPORT_SOAK_API: %v", err)
	}
	return d
}

// Several clients read and write at once while the server is killed and
// started again, over and over. What they saw is linearizable: no update is
// lost, no read is older than what was acknowledged. Whatever was acknowledged
// has its task and its line in the audit log, which has no gaps; client tokens
// are known.
func TestLinearizableAcrossKills(t *testing.T) {
	if testing.Short() {
		t.Skip("starts and kills servers")
	}
	// A long soak is many histories: deciding about one grows faster than it.
	for end := time.Now().Add(soakTime(t)); ; {
		oneHistory(t, min(9*time.Second, max(time.Until(end), 3*time.Second)))
		if time.Now().After(end) || t.Failed() {
			return
		}
	}
}

// harass kills the server again and again while the clients of r write, and
// returns how often: for some time, and longer where little was written by
// then, because the machine is busy with other things.
func (p *process) harass(r *recorder, length time.Duration) (kills int) {
	began := time.Now()
	over := func() bool {
		return time.Since(began) > length && kills > 0 && r.written() >= enoughWrites || time.Since(began) > 20*length
	}
	for {
		before := r.written()
		time.Sleep(time.Duration(1500+rand.N(1500)) * time.Millisecond) // the clients' work is what is waited for
		for r.written() == before && !over() {
			time.Sleep(10 * time.Millisecond) // until the condition above
		}
		if over() {
			return kills
		}
		if kills < mostKills { // each leaves calls without answer, which make a history hard to decide
			p.kill()
			p.start()
			kills++
		}
	}
}

// mostKills bounds those of one history.
const mostKills = 6

// enoughWrites is how many a history needs to show anything.
const enoughWrites = 20

func oneHistory(t *testing.T, length time.Duration) {
	p := newProcess(t)
	defer p.kill()
	r := newRecorder(t, p.client(patience))
	token := map[string]any{"ClientToken": "once", "InstanceName": "once", "SecurityGroupIds": r.site.groups[:1]}
	run := func(in map[string]any) (ids []string, err error) {
		var made struct{ InstanceIdSet []string }
		err = p.client(patience).Do(t.Context(), "cvm", "2017-03-12", "RunInstances", in, &made)
		return made.InstanceIdSet, err
	}
	once, err := run(token)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var over atomic.Bool
	for id := range 4 {
		c := p.client(10 * time.Second)
		wg.Go(func() { r.act(c, id, over.Load) })
	}
	kills := p.harass(r, length)
	over.Store(true)
	wg.Wait()
	c := p.client(patience)
	for _, object := range r.objects() {
		if out, err := r.run(c, 99, op{object, "read", ""}); err != nil || out.unknown {
			t.Fatalf("the last read of %s: %+v, %v", object, out, err)
		}
	}
	unknown := 0
	for _, o := range r.history {
		if o.Output.(result).unknown {
			unknown++
		}
	}
	if object, got := r.check(); got != porcupine.Ok {
		t.Errorf("the history of %s is %s", object, got)
	}
	t.Logf("%d calls, %d acknowledged writes, %d without answer, %d kills", len(r.history), len(r.writes), unknown, kills)
	if len(r.writes) < enoughWrites || kills == 0 {
		t.Error("too little happened to show anything")
	}
	for _, task := range r.tasks {
		var status struct{ Status int }
		if err := c.Do(t.Context(), "clb", "2018-03-17", "DescribeTaskStatus", map[string]any{"TaskId": task}, &status); err != nil || status.Status != 0 {
			t.Errorf("task %s: status %d, %v", task, status.Status, err)
		}
	}
	checkAudit(t, c, r.writes)
	if again, err := run(token); err != nil || !slices.Equal(once, again) {
		t.Errorf("the same client token made %v and, after kills, %v, %v", once, again, err)
	}
	token["InstanceCount"] = 2
	if _, err := run(token); err == nil || !strings.Contains(err.Error(), "InvalidParameterValue") {
		t.Errorf("the token with other parameters, after kills: %v", err)
	}
}

// checkAudit holds the audit log against the writes that were acknowledged.
func checkAudit(t *testing.T, c *cloudapi.Client, writes []string) {
	t.Helper()
	lines := map[string]int{}
	for after, last := uint64(0), uint64(0); ; {
		var page struct {
			Lines []struct {
				Number    uint64
				RequestID string `json:"RequestId"`
			}
			Next uint64
			More bool
		}
		if err := c.Do(t.Context(), ownService, ownVersion, "DescribeAuditLog", map[string]any{"After": after, "Limit": 100}, &page); err != nil {
			t.Fatal(err)
		}
		for _, l := range page.Lines {
			if l.Number != last+1 {
				t.Fatalf("line %d follows line %d", l.Number, last)
			}
			last = l.Number
			lines[l.RequestID]++
		}
		if after = page.Next; !page.More {
			break
		}
	}
	for _, request := range writes {
		if lines[request] != 1 {
			t.Errorf("the write %s has %d lines in the audit log", request, lines[request])
		}
	}
}

// A stale transport answers some reads with what it saw first.
type stale struct {
	http.RoundTripper
	mu    sync.Mutex
	first map[string][]byte
	reads int
}

func (s *stale) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := s.RoundTripper.RoundTrip(r)
	if err != nil || !strings.HasPrefix(r.Header.Get("X-TC-Action"), "Describe") {
		return answer, err
	}
	body, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	action := r.Header.Get("X-TC-Action")
	if s.reads++; s.first[action] == nil {
		s.first[action] = body
	} else if s.reads%5 == 0 {
		body = s.first[action]
	}
	answer.Body, answer.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return answer, nil
}

// A server that answered one client's reads from an old copy would be caught,
// and so would one that lost an update.
func TestLinearCheckFindsFaults(t *testing.T) {
	record, _ := startServer(t, "--data", t.TempDir(), "--listen", "127.0.0.1:0")
	client := func() *cloudapi.Client {
		return &cloudapi.Client{Endpoint: record.Endpoint, SecretID: record.SecretID, SecretKey: record.SecretKey, HTTP: &http.Client{Transport: &http.Transport{}}}
	}
	run := func(fault bool) (string, porcupine.CheckResult) {
		r := newRecorder(t, client())
		until := time.Now().Add(time.Second)
		var wg sync.WaitGroup
		for id := range 3 {
			c := client()
			if fault && id == 0 {
				c.HTTP.Transport = &stale{RoundTripper: c.HTTP.Transport, first: map[string][]byte{}}
			}
			wg.Go(func() { r.act(c, id, func() bool { return time.Now().After(until) }) })
		}
		wg.Wait()
		return r.check()
	}
	if object, got := run(false); got != porcupine.Ok {
		t.Errorf("without a fault: %s of %s", got, object)
	}
	// On a busy machine a second may be too short for a read that differs.
	got := porcupine.Ok
	for deadline := time.Now().Add(30 * time.Second); got == porcupine.Ok && time.Now().Before(deadline); {
		_, got = run(true)
	}
	if got != porcupine.Illegal {
		t.Errorf("stale reads: %s", got)
	}
	lost := &recorder{site: site{groups: []string{"g", "g"}, instance: "i", balancer: "b"}, initial: map[string]string{"rules g": "0 "}}
	for n, o := range []porcupine.Operation{
		{Input: op{"rules g", "append", "a1"}, Output: result{}},
		{Input: op{"rules g", "append", "b1"}, Output: result{}},
		{Input: op{"rules g", "read", ""}, Output: result{value: "1 b1"}},
	} {
		o.Call, o.Return = int64(2*n), int64(2*n+1)
		lost.history = append(lost.history, o)
	}
	if _, got := lost.check(); got != porcupine.Illegal {
		t.Errorf("a lost update: %s", got)
	}
	// A write without answer counts where it was read.
	torn := &recorder{site: lost.site, initial: map[string]string{"name g": "a"}}
	for n, o := range []porcupine.Operation{
		{Input: op{"name g", "write", "b"}, Output: result{unknown: true}},
		{Input: op{"name g", "write", "c"}, Output: result{unknown: true}},
		{Input: op{"name g", "read", ""}, Output: result{value: "b"}},
		{Input: op{"name g", "read", ""}, Output: result{value: "a"}},
	} {
		if o.Call, o.Return = int64(2*n), int64(2*n+1); n < 2 {
			o.Return = math.MaxInt64
		}
		torn.history = append(torn.history, o)
	}
	if _, got := torn.check(); got != porcupine.Illegal {
		t.Errorf("a write that was read and is gone again: %s", got)
	}
	torn.history = torn.history[:3]
	if left := telling(torn.history); len(left) != 2 {
		t.Errorf("%d calls tell something, want the write of b and its read", len(left))
	}
	if _, got := torn.check(); got != porcupine.Ok {
		t.Errorf("a write that was read: %s", got)
	}
}
