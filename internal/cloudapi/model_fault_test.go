// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"encoding/json"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// plantedFaults are wrong handlers and wrong models. Each changes a world.
func plantedFaults() map[string]func(w *world) {
	// on wraps one action of the server.
	on := func(action string, wrap func(w *world, body []byte, real func([]byte) (json.RawMessage, error)) (json.RawMessage, error)) func(*world) {
		return func(w *world) {
			inner := w.do
			w.do = func(name string, body []byte) (json.RawMessage, error) {
				if name != action {
					return inner(name, body)
				}
				return wrap(w, body, func(b []byte) (json.RawMessage, error) { return inner(action, b) })
			}
		}
	}
	type real = func([]byte) (json.RawMessage, error)
	writes := func(action, old, now string) func(*world) { // another value is stored
		return on(action, func(_ *world, body []byte, do real) (json.RawMessage, error) {
			return do(bytes.ReplaceAll(body, []byte(old), []byte(now)))
		})
	}
	return map[string]func(*world){
		"a weight is not taken":         writes("RegisterTargets", `"Weight":100`, `"Weight":10`),
		"a member's weight is not":      writes("RegisterTargetGroupInstances", `"Weight":100`, `"Weight":10`),
		"a listener is of another kind": writes("CreateListener", `"UDP"`, `"TCP"`),
		"a drop becomes an accept":      writes("CreateSecurityGroupPolicies", `"DROP"`, `"ACCEPT"`),
		"a rule's URL is another":       writes("CreateRule", `"/img"`, `"/pic"`),
		"an address is forgotten":       writes("ModifyAddressTemplateAttribute", `"10.1.0.0/16"`, `"10.1.0.0/17"`),
		"a code is another": on("DeleteSubnet", func(_ *world, body []byte, do real) (json.RawMessage, error) {
			raw, err := do(body)
			if err != nil {
				err = errorf("InvalidParameter", "SubnetId: %v", err)
			}
			return raw, err
		}),
		"a refusal stores something": on("CreateRule", func(w *world, body []byte, do real) (json.RawMessage, error) {
			raw, err := do(body)
			if err != nil {
				w.b.seed(func(tx *store.Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-12345678", Name: "stray"}) })
			}
			return raw, err
		}),
		"a success stores nothing": on("DisassociateSecurityGroups", func(_ *world, body []byte, do real) (json.RawMessage, error) {
			before, err := do([]byte(strings.Replace(string(body), `["sg-`, `["sg-0000000000`, 1)))
			if err == nil {
				return before, nil
			}
			return json.RawMessage(`{"RequestId":"1"}`), nil
		}),
		"a read tells an old state": on("DescribeVpcs", func(*world, []byte, real) (json.RawMessage, error) {
			return json.RawMessage(`{"TotalCount":0,"VpcSet":[],"RequestId":"1"}`), nil
		}),
		"the state is inconsistent": on("DeleteListener", func(w *world, body []byte, do real) (json.RawMessage, error) {
			raw, err := do(body)
			if err == nil {
				w.b.seed(func(tx *store.Tx) {
					tx.PutListener(&lb.Listener{ID: "lbl-12345678", Balancer: "lb-87654321", Protocol: "TCP", Port: 80})
				})
			}
			return raw, err
		}),
		"a range ends earlier":                writes("CreateListener", `"EndPort":443`, `"EndPort":442`),
		"a redirect's code is another":        writes("ManualRewrite", `"RewriteCode":307`, `"RewriteCode":301`),
		"a service is another":                writes("CreateServiceTemplate", `"icmp"`, `"udp:7"`),
		"a project is lost":                   writes("RunInstances", `"ProjectId":7`, `"ProjectId":0`),
		"a tag is another":                    writes("ModifyResourceTags", `"TagValue":"a"`, `"TagValue":"c"`),
		"a check is another":                  writes("ModifyTargetGroupAttribute", `"GapTime":9`, `"GapTime":10`),
		"a certificate is not shown":          writes("CreateListener", `"CertName":"good"`, `"CertName":"bad"`),
		"a reset is a stop":                   on("ResetInstance", stops),
		"an auditor may write":                func(w *world) { w.keys[lb.KeyAuditor] = w.keys[lb.KeyOperator] },
		"a scoped key sees everything":        func(w *world) { w.keys["scoped"] = w.keys[lb.KeyOperator] },
		"one target too many":                 func(w *world) { w.quotas.TargetsPerListener++ },
		"one rule too few of instances":       func(w *world) { w.quotas.ExpandedRules-- },
		"one rule too many on load balancers": func(w *world) { w.quotas.RulesOnBalancer++ },
		"one rule too few in listeners":       func(w *world) { w.quotas.RulesPerListener-- },
		"one target group too many":           func(w *world) { w.quotas.TargetGroups++ },
	}
}

// stops leaves every instance on its way out of service where the call was taken.
func stops(w *world, body []byte, do func([]byte) (json.RawMessage, error)) (json.RawMessage, error) {
	raw, err := do(body)
	if err == nil {
		w.b.seed(func(tx *store.Tx) {
			for i := range tx.State().Instances.Values() {
				own := *i
				own.State = lb.Stopping
				tx.PutInstance(&own)
			}
		})
	}
	return raw, err
}

// focus names the actions that show a fault, where others would mostly be drawn.
func focus() map[string][]string {
	return map[string][]string{
		"a check is another": {"ChangeTargetGroup", "AssociateTargetGroups"}, "a redirect's code is another": {"ManualRewrite", "DeleteRewrite"}, "a reset is a stop": {"PowerInstance"},
		"one target too many": {"RegisterTargets"}, "a range ends earlier": {"CreateListener", "DeleteListener"}, "a certificate is not shown": {"CreateListener", "DeleteListener"},
		"one rule too many on load balancers": {"BindLoadBalancer", "CreateSecurityGroupPolicies", "ModifySecurityGroupPolicies"}, "an address is forgotten": {"ChangeTemplate"},
		"a rule's URL is another": {"CreateRule", "DeleteRule"}, "a weight is not taken": {"RegisterTargets", "ChangeTargets"}, "a member's weight is not": {"ChangeTargetGroup"},
		"a service is another": {"CreateTemplate", "ChangeTemplate"}, "a tag is another": {"ModifyResourceTags"}, "a project is lost": {"RunInstances", "TerminateInstances"},
		"one rule too few of instances": {"BindInstance", "CreateSecurityGroupPolicies"},
	}
}

// only are the actions named, or all, with the check after each.
func (w *world) only(names []string) map[string]func(*rapid.T) {
	all := w.actions()
	maps.DeleteFunc(all, func(name string, _ func(*rapid.T)) bool {
		return name != "" && len(names) > 0 && !slices.Contains(names, name)
	})
	return all
}

// A verdict takes what a check says of a world, in place of a test.
type verdict struct {
	testing.TB
	failed bool
}

func (v *verdict) Helper()               {}
func (v *verdict) Logf(string, ...any)   {}
func (v *verdict) Log(...any)            {}
func (v *verdict) Errorf(string, ...any) { v.failed = true }
func (v *verdict) Error(...any)          { v.failed = true }
func (v *verdict) Fail()                 { v.failed = true }
func (v *verdict) Failed() bool          { return v.failed }
func (v *verdict) FailNow()              { v.failed = true; runtime.Goexit() }
func (v *verdict) Fatalf(string, ...any) { v.FailNow() }
func (v *verdict) Fatal(...any)          { v.FailNow() }

// Every fault that is planted in the server or in the model is found, and a
// world without one passes: TestModel would see what it is there to see.
func TestModelFindsFaults(t *testing.T) {
	faults := plantedFaults()
	for _, name := range sortedKeys(faults) {
		t.Run(name, func(t *testing.T) {
			setRapid(t, map[string]string{"rapid.checks": "400", "rapid.steps": "100", "rapid.nofailfile": "true", "rapid.shrinktime": "0s", "rapid.seed": "5"})
			v, ended := &verdict{TB: t}, make(chan struct{})
			sequences := 0
			go func() {
				defer close(ended)
				rapid.Check(v, func(r *rapid.T) {
					sequences++
					w := newWorld(t, r)
					w.b.Server = New(w.b.Options) // what a fault answers is no answer of ours
					faults[name](w)
					w.furnish()
					r.Repeat(w.only(focus()[name]))
				})
			}()
			<-ended
			if !v.failed {
				t.Fatalf("%d sequences found nothing", sequences)
			}
			t.Logf("found, in %d sequences", sequences)
		})
	}
}
