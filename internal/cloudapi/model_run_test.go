// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	flags "flag"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// modelTime is how long random sequences run: long in CI and for `make
// soak-api`, which set the variable, and a moment otherwise.
func modelTime(t *testing.T) time.Duration {
	text := os.Getenv("SALLYPORT_MODEL_TIME")
	if text == "" {
		return 2 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("SALLYPORT_MODEL_TIME: %v", err)
	}
	return d
}

// Random valid and invalid sequences: the API answers what a simple model
// answers, refusals store nothing, the state is consistent after each call, and
// a snapshot assembles for every node.
func TestModel(t *testing.T) {
	long := modelTime(t)
	setRapid(t, map[string]string{"rapid.checks": "1000000", "rapid.steps": "60", "rapid.nofailfile": "true"})
	calls, refused, sequences := 0, 0, 0
	end, failing := time.Now().Add(long), false
	rapid.Check(t, func(r *rapid.T) {
		if time.Now().After(end) && !failing { // while one fails, it is made smaller
			return // the number of checks is only a bound
		}
		sequences++
		w := newWorld(t, r)
		defer func() { calls, refused, failing = calls+w.calls, refused+w.refused, failing || r.Failed() }()
		w.furnish()
		r.Repeat(w.actions())
	})
	t.Logf("%d calls in %d sequences, %d of them refused", calls, sequences, refused)
}

// setRapid sets options of rapid until the test ends.
func setRapid(t *testing.T, options map[string]string) {
	for name, value := range options {
		before := flags.Lookup(name).Value.String()
		if err := flags.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := flags.Set(name, before); err != nil {
				t.Error(err)
			}
		})
	}
}

// A world is a server beside its model.
type world struct {
	*rapid.T
	*model
	b              *bench
	do             func(action string, body []byte) (json.RawMessage, error)
	keys           map[lb.KeyRole]string // of all projects; and "scoped"
	key            string                // who calls; "" is the server itself
	papers         map[string]pemPair    // certificates, by what is wrong with them
	checked        *lb.State             // when last everything was read back
	calls, refused int
	gone           []string // ids that existed
}

func newWorld(t *testing.T, r *rapid.T) *world {
	q := lb.DefaultQuotas()
	q.Groups, q.RulesPerDirection, q.References, q.RulesOnBalancer, q.ExpandedRules = 8, 6, 2, 5, 9
	q.GroupsPerBalancer, q.GroupsPerInstance, q.InstancesPerGroup = 2, 3, 3
	q.ListenersPerLB, q.TargetsPerListener, q.BalancersPerType = 3, 2, 3
	q.RulesPerListener, q.Templates, q.TemplateMembers, q.GroupsPerTemplate, q.TargetGroups = 3, 2, 3, 2, 2
	w := &world{T: r, model: newModel(q), b: newBench(t, func(o *Options) { o.Quotas = q })}
	if os.Getenv("SALLYPORT_MODEL_TIME") == "" { // what a moment finds differs from run to run: only long ones tell of codes that are not declared
		w.b.Server = New(w.b.Options)
	}
	w.do = func(action string, body []byte) (json.RawMessage, error) {
		if w.key != "" {
			return w.b.DoAs(context.Background(), Caller{KeyID: w.key, Address: "203.0.113.9"}, w.b.versionOf(action), action, body)
		}
		return w.b.Do(context.Background(), w.b.versionOf(action), action, body)
	}
	w.keys = map[lb.KeyRole]string{lb.KeyOperator: w.b.addKey(lb.KeyOperator), lb.KeyAuditor: w.b.addKey(lb.KeyAuditor), "scoped": w.b.addKey(lb.KeyOperator, strconv.Itoa(scoped))}
	good, other := issued(t, "www.example.com", w.b.tomorrow(), nil), issued(t, "other.example.com", w.b.tomorrow(), nil)
	w.papers = map[string]pemPair{"good": good, "another's key": {chain: good.chain, key: other.key}, "partial": {chain: good.chain}, "broken": {chain: "no certificate", key: good.key}}
	w.b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gw-1", Num: tx.NextNum(), Role: lb.RoleGateway, Address: netip.MustParseAddr("10.9.0.1")})
	})
	return w
}

// furnish makes some of each in most worlds, so that calls which need many
// others before them are seen too.
func (w *world) furnish() {
	if rapid.IntRange(0, 3).Draw(w.T, "bare") == 3 {
		return
	}
	for _, want := range w.furniture() {
		for range 12 { // most succeed sooner
			if want.there() {
				break
			}
			want.make()
		}
	}
}

// A furnishing is something that is made until it is there.
type furnishing struct {
	make  func()
	there func() bool
}

func (w *world) furniture() []furnishing {
	templates := func(kind string) func() bool {
		return func() bool { return len(w.kindOf(keysOf(w.templates), kind)) > 0 }
	}
	listeners := func(n int, kinds ...string) func() bool {
		return func() bool {
			for _, l := range w.listeners {
				if slices.Contains(kinds, l.kind) {
					n--
				}
			}
			return n <= 0
		}
	}
	rules := func(n int) func() bool {
		return func() bool {
			sum := 0
			for _, l := range w.listeners {
				sum += len(l.rules)
			}
			return sum >= n
		}
	}
	return []furnishing{
		{w.createGroup, func() bool { return len(w.groups) > 2 }}, {w.newTemplate, templates("ipm-")}, {w.newTemplate, templates("ppm-")},
		{w.newTemplate, templates("ipmg-")}, {w.newTemplate, templates("ppmg-")}, {w.insertRules, func() bool { return w.expanded(slices.Concat(w.allRules()...)) > 4 }},
		{w.newNetwork, func() bool { return len(w.subnets) > 0 }}, {w.runInstance, func() bool { return len(w.model.instances) > 1 }},
		{w.upload, func() bool { return len(w.certs) > 0 }}, {w.createLoadBalancer, func() bool { return len(w.clbs) > 1 }},
		{w.newListener, listeners(1, "HTTPS")}, {w.newListener, listeners(1, "HTTP")}, {w.newListener, listeners(2, "TCP", "UDP")},
		{w.newRules, rules(2)}, {w.newRules, rules(4)}, {w.newPool, func() bool { return len(w.pools) > 1 }},
		{w.editPool, func() bool {
			return slices.ContainsFunc(keysOf(w.pools), func(id string) bool { return len(w.pools[id].targets) > 0 })
		}},
		{w.registerTargets, func() bool { return strings.Contains(w.described(), " 808") }},
	}
}

// ask runs an action and compares its outcome with the model's codes. Some
// writes are the operator's, and some are tried by an auditor before.
func (w *world) ask(action string, params map[string]any, codes []string, out any) {
	w.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		w.Fatal(err)
	}
	before := w.b.Store.State()
	if w.key == "" && !strings.HasPrefix(action, "Describe") {
		switch rapid.IntRange(0, 9).Draw(w.T, "who") {
		case 0:
			w.key = w.keys[lb.KeyAuditor]
			if _, err := w.do(action, body); code(err) != codeUnauthorized || w.b.Store.State() != before {
				w.Fatalf("%s %s\nanswers an auditor %v", action, body, err)
			}
			w.key = ""
		case 1:
			w.key = w.keys[lb.KeyOperator]
			defer func() { w.key = "" }()
		}
	}
	raw, err := w.do(action, body)
	w.calls++
	switch {
	case len(codes) == 0 && err != nil:
		w.Fatalf("%s %s\nanswers %v\nand the model takes it", action, body, err)
	case len(codes) > 0 && err == nil:
		w.Fatalf("%s %s\nanswers %s\nand the model refuses it with %v", action, body, raw, codes)
	case len(codes) > 0 && !slices.Contains(codes, code(err)):
		w.Fatalf("%s %s\nanswers %v\nand the model %v", action, body, err, codes)
	}
	if err != nil {
		w.refused++
		if w.b.Store.State() != before {
			w.Fatalf("%s %s\nanswers %v\nand stored something", action, body, err)
		}
		return
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			w.Fatal(err)
		}
	}
}

// did is ask, and forgets an id where the call takes it away.
func (w *world) did(action string, params map[string]any, codes []string, id string) {
	w.Helper()
	w.ask(action, params, codes, nil)
	if len(codes) == 0 {
		w.gone = append([]string{id}, w.gone...)
	}
}

func (w *world) actions() map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){}
	for name, fn := range map[string]func(){
		"CreateSecurityGroup": w.createGroup, "DeleteSecurityGroup": w.deleteGroup, "CreateSecurityGroupPolicies": w.insertRules,
		"ReplaceSecurityGroupPolicy": w.replaceRule, "DeleteSecurityGroupPolicies": w.deleteRules, "ModifySecurityGroupPolicies": w.resetRules,
		"CreateLoadBalancer": w.createLoadBalancer, "ModifyLoadBalancer": w.changeLoadBalancer, "BindLoadBalancer": w.bindLoadBalancer,
		"CreateListener": w.newListener, "DeleteListener": w.dropListener, "RegisterTargets": w.registerTargets, "ChangeTargets": w.changeTargets,
		"RunInstances": w.runInstance, "BindInstance": w.bindInstance, "TerminateInstances": w.endInstance, "PowerInstance": w.powerInstance,
		"CreateTemplate": w.newTemplate, "ChangeTemplate": w.editTemplate, "CreateNetwork": w.newNetwork, "DeleteNetwork": w.dropNetwork,
		"CreateRule": w.newRules, "DeleteRule": w.dropRule, "CreateTargetGroup": w.newPool, "ChangeTargetGroup": w.editPool, "AssociateTargetGroups": w.associatePool,
		"ManualRewrite": w.manualRewrites, "AutoRewrite": w.autoRewrites, "DeleteRewrite": w.dropRewrite,
		"UploadCertificate": w.upload, "DeleteCertificate": w.dropCert, "ChangeTLS": w.editTLS,
		"ModifyResourceTags": w.tagSomething, "ModifyProject": w.moveSomething, "ScopedKey": w.scopedCall,
	} {
		acts[name] = func(t *rapid.T) { w.T = t; fn() }
	}
	acts[""] = func(t *rapid.T) { w.T = t; w.check() }
	return acts
}
