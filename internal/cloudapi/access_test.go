// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// Every action says what it needs: reading or writing, and of whom.
func TestEveryActionDeclaresAccess(t *testing.T) {
	for _, a := range undeclared(Actions()) {
		t.Errorf("%s is not in accesses(): name it where it belongs, else no key may call it", a)
	}
	served := map[string]bool{}
	for _, a := range Actions() {
		served[a.Name] = true
	}
	for name := range accesses() {
		if !served[name] {
			t.Errorf("accesses() names %s, which is not an action", name)
		}
	}
	planted := append(Actions(), action(serviceCLB, "Probe", func(*Call, *probeIn) (*done, error) { return nil, nil }))
	if got := undeclared(planted); !slices.Contains(got, "Probe") {
		t.Errorf("a planted action without declaration: found %v", got)
	}
}

func undeclared(actions []Action) []string {
	var names []string
	for _, a := range actions {
		if a.access.right == 0 {
			names = append(names, a.Name)
		}
	}
	return names
}

// addKey makes a key of a role and returns its id.
func (b *bench) addKey(role lb.KeyRole, projects ...string) string {
	b.Helper()
	in, _ := json.Marshal(map[string]any{"Name": rand.Text(), "Role": role, "Projects": projects})
	var out newKeyOut
	b.must("CreateAccessKey", string(in), &out)
	return out.SecretId
}

// as calls an action with a key's role and projects.
func (b *bench) as(key, action, params string) (string, error) {
	b.Helper()
	raw, err := b.DoAs(b.Context(), Caller{KeyID: key, Address: "203.0.113.9"}, b.versionOf(action), action, json.RawMessage(params))
	return string(raw), err
}

// What each role may do, for every action there is.
func TestRoles(t *testing.T) {
	b := newBench(t)
	want := map[right][]lb.KeyRole{
		toRead: {"admin", "operator", "auditor"}, toWrite: {"admin", "operator"}, toOversee: {"admin", "auditor"}, toAdminister: {"admin"},
	}
	for _, role := range append(lb.KeyRoles(), "guest") {
		for _, a := range Actions() {
			err := a.authorise(&lb.AccessKey{ID: "AKIDX", Role: role})
			if got, want := err == nil, slices.Contains(want[a.access.right], role); got != want {
				t.Errorf("%s may %s: %v, want %v", role, a.Name, got, want)
			}
			if err != nil && (code(err) != codeUnauthorized || !strings.Contains(err.Error(), a.Name) || !strings.Contains(err.Error(), string(role))) {
				t.Errorf("%s is refused %s by: %v", role, a.Name, err)
			}
		}
	}
	auditor := b.addKey(lb.KeyAuditor)
	if _, err := b.as(auditor, "CreateVpc", `{"VpcName":"v","CidrBlock":"10.0.0.0/16"}`); code(err) != codeUnauthorized || b.State().VPCs.Len() != 0 {
		t.Errorf("an auditor made a VPC: %v", err)
	}
	if _, err := b.as(auditor, "DescribeVpcs", `{}`); err != nil {
		t.Errorf("an auditor reads: %v", err)
	}
	if _, err := b.as("AKIDNOBODY", "DescribeVpcs", `{}`); code(err) != "AuthFailure.SecretIdNotFound" {
		t.Errorf("nobody: %v", err)
	}
	// The zero request is nobody's.
	if _, err := b.run(t.Context(), &request{version: serviceVPC.Version, action: "DescribeVpcs"}); code(err) != codeUnauthorized {
		t.Errorf("a request without key: %v", err)
	}
}

// State is the bench's newest state.
func (b *bench) State() *lb.State { return b.Store.State() }

// An action that is declared to read cannot write, whatever its handler does.
func TestReadsDoNotWrite(t *testing.T) {
	b := newBench(t)
	for _, right := range []right{toRead, toOversee} {
		sly := action(serviceVPC, "Sly", func(c *Call, _ *describeKeysIn) (*done, error) {
			return &done{}, c.Update(func(tx *store.Tx) error { tx.PutVPC(&lb.VPC{ID: "vpc-sly"}); return nil })
		})
		sly.access = access{right: right, scoped: true}
		b.actions[actionKey{serviceVPC.Version, "Sly"}] = &sly
		if err := b.try("Sly", `{}`, nil); code(err) != codeInternal || b.State().VPCs.Len() != 0 {
			t.Errorf("a %v that writes: %v, %v", right, err, b.State().VPCs)
		}
	}
	// Call.Update and the audit log's own lines are the only ways to the store.
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := strings.Count(string(text), "Store.Update(")
		if allowed := map[string]int{"call.go": 1, "audit.go": 1, "key.go": 1}[file]; !strings.HasSuffix(file, "_test.go") && n != allowed {
			t.Errorf("%s writes to the store %d times past Call.Update, which checks rights, want %d", file, n, allowed)
		}
	}
}

// twoProjects has objects in project 7 and in project 8, some of which refer to
// each other. Those of 8 have "foreign" in everything that tells of them.
func twoProjects(t *testing.T) *bench {
	b := newBench(t, func(o *Options) { o.Facts = &reported{} })
	b.Server = New(b.Options) // its refusals are no rows: parameters are made up
	b.seed(func(tx *store.Tx) {
		tx.PutVPC(&lb.VPC{ID: "vpc-shared00"})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-third000", Name: "foreign0", ProjectID: "8"})
		tx.PutSubnet(&lb.Subnet{ID: "subnet-share", VPC: "vpc-shared00"})
		for project, name := range map[string]string{"7": "ours0000", "8": "foreign0"} {
			other := map[string]string{"7": "foreign0", "8": "ours0000"}[project]
			tx.PutGroup(&lb.SecurityGroup{ID: lb.GroupID("sg-" + name), Name: name, ProjectID: project, Tags: lb.Tags{name: name}, Ingress: []lb.PolicyRule{
				{ID: lb.RuleID("pol-" + name), Action: lb.Accept, Proto: lb.TCP, PeerGroup: lb.GroupID("sg-" + name), Description: name}}})
			tx.PutCertificate(&lb.Certificate{ID: lb.CertificateID("cert-" + name), Alias: name, ProjectID: project})
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID("ins-" + name), Name: name, VPC: "vpc-shared00", Subnet: "subnet-share", State: lb.Running,
				Groups: []lb.GroupID{lb.GroupID("sg-" + name), lb.GroupID("sg-" + other)}, Echo: map[string]string{"Placement.ProjectId": project}})
			tx.PutBalancer(&lb.LoadBalancer{ID: lb.BalancerID("lb-" + name), Num: tx.NextNum(), Name: name, Type: lb.Open, VPC: "vpc-shared00",
				Groups: []lb.GroupID{lb.GroupID("sg-" + name), lb.GroupID("sg-" + other)}, Echo: map[string]string{"ProjectId": project}})
			tx.PutNode(&lb.Node{ID: lb.NodeID("node-" + name), Num: tx.NextNum(), Role: lb.RoleHost, Instance: lb.InstanceID("ins-" + name)})
			tx.PutListener(&lb.Listener{ID: lb.ListenerID("lbl-" + name), Num: tx.NextNum(), Balancer: lb.BalancerID("lb-" + name), Name: name, Protocol: lb.ListenTCP, Port: 80,
				Targets: []lb.Target{{Num: tx.NextNum(), Instance: lb.InstanceID("ins-" + name), Port: 80}, {Num: tx.NextNum(), Instance: lb.InstanceID("ins-" + other), Port: 81}}})
		}
	})
	return b
}

// fill makes parameters for an action from its schema: whatever is called an
// id names the objects of one project.
func fill(o *object, name string, optional bool) map[string]any {
	params := map[string]any{}
	for _, f := range o.fields {
		if f.required || optional && (strings.HasSuffix(f.name, "Id") || strings.HasSuffix(f.name, "Ids")) {
			params[f.name] = fillValue(f, f.value, name, optional)
		}
	}
	return params
}

func fillValue(f *field, v *value, name string, optional bool) any {
	switch v.kind {
	case kindList:
		return []any{fillValue(f, v.elem, name, optional)}
	case kindObject:
		return fill(v.obj, name, optional)
	case kindInt:
		return 7
	case kindBool:
		return true
	}
	if values := append(slices.Clone(f.only), f.enum...); len(values) > 0 {
		return values[0]
	}
	for part, prefix := range map[string]string{"LoadBalancerId": "lb-", "ListenerId": "lbl-", "SecurityGroup": "sg-", "InstanceId": "ins-", "SgId": "sg-", "CertificateId": "cert-", "CertId": "cert-"} {
		if strings.Contains(f.name, part) {
			return prefix + name
		}
	}
	switch {
	case strings.Contains(f.name, "VpcId"):
		return "vpc-shared00"
	case strings.Contains(f.name, "SubnetId"):
		return "subnet-share"
	case strings.Contains(f.name, "IpAddress"):
		return "10.0.0.7"
	case f.name == "Attributes":
		return "UserData"
	}
	return "x"
}

// A scoped key sees its own projects' objects, in every action that is open to
// it: nothing that such an action answers tells of another project's object,
// other than an id that an object of its own names.
func TestScopedReads(t *testing.T) {
	for _, a := range Actions() {
		if a.access.right != toRead {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			b := twoProjects(t)
			key := b.addKey(lb.KeyOperator, "7")
			before := b.State()
			answered := 0
			for _, try := range []struct {
				name     string
				optional bool
			}{{"ours0000", false}, {"ours0000", true}, {"foreign0", true}} {
				params, _ := json.Marshal(fill(a.fields, try.name, try.optional))
				out, err := b.as(key, a.Name, string(params))
				switch {
				case code(err) == codeInternal:
					t.Errorf("%s %s: %s", a.Name, params, b.log)
				case !a.access.scoped && code(err) != codeUnauthorized:
					t.Errorf("%s is for the whole region and answers a scoped key: %s, %v", a.Name, out, err)
				case err == nil:
					answered++
				}
				for _, id := range []string{"sg-foreign0", "ins-foreign0"} {
					out = strings.ReplaceAll(out, id, "") // named by objects of project 7
				}
				if strings.Contains(out, "foreign0") {
					t.Errorf("%s %s tells of project 8: %s", a.Name, params, out)
				}
			}
			if a.access.scoped && answered == 0 && a.Name != "DescribeTaskStatus" && a.Name != "DescribeResourceTagsByResourceIds" {
				t.Errorf("%s never answered: the test shows nothing", a.Name)
			}
			if b.State() != before {
				t.Errorf("%s is declared to read, and the state changed", a.Name)
			}
		})
	}
}

// A scoped key changes nothing of another project, by any action.
func TestScopedWrites(t *testing.T) {
	for _, a := range Actions() {
		if !a.access.right.writes() {
			continue
		}
		t.Run(a.Name, func(t *testing.T) {
			b := twoProjects(t)
			key := b.addKey(lb.KeyAdmin, "7")
			before := foreign(b.State())
			for _, try := range []struct {
				name     string
				optional bool
			}{{"foreign0", false}, {"foreign0", true}, {"ours0000", false}, {"ours0000", true}} {
				params, _ := json.Marshal(fill(a.fields, try.name, try.optional))
				_, err := b.as(key, a.Name, string(params))
				if code(err) == codeInternal {
					t.Errorf("%s %s: %s", a.Name, params, b.log)
				}
				if !a.access.scoped && code(err) != codeUnauthorized {
					t.Errorf("%s is for the whole region and takes a scoped key: %v", a.Name, err)
				}
			}
			if after := foreign(b.State()); after != before {
				t.Errorf("%s changed project 8:\n%s\n%s", a.Name, before, after)
			}
		})
	}
}

// foreign is all there is of project 8, and what belongs to no project.
func foreign(st *lb.State) string {
	text, _ := json.Marshal([]any{st.Groups.Get("sg-foreign0"), st.Groups.Get("sg-third000"), st.Balancers.Get("lb-foreign0"), st.Instances.Get("ins-foreign0"), st.Listeners.Get("lbl-foreign0"),
		st.VPCs, st.Subnets, st.Nodes, st.Keys})
	return string(text)
}

// Ways across projects that a change could take, with code and words of the
// refusal. Objects of project 8 that one of project 7 names are known to be
// there, others are not.
func TestScopeRefusals(t *testing.T) {
	for _, tc := range []struct{ action, params, code, want string }{
		{"CreateSecurityGroup", `{"GroupName":"g","GroupDescription":"d"}`, codeUnauthorized, "would put a new group into project 0"},
		{"CreateSecurityGroup", `{"GroupName":"g","GroupDescription":"d","ProjectId":"8"}`, codeUnauthorized, "into project 8"},
		{"CreateSecurityGroup", `{"GroupName":"g","GroupDescription":"d","ProjectId":"7"}`, "", ""},
		{"ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-foreign0","GroupName":"n"}`, codeUnauthorized, "group sg-foreign0, which is outside"},
		{"ModifySecurityGroupAttribute", `{"SecurityGroupId":"sg-ours0000","GroupName":"n"}`, "", ""},
		{"AssociateSecurityGroups", `{"InstanceIds":["ins-ours0000"],"SecurityGroupIds":["sg-third000"]}`, "InvalidSecurityGroupId.NotFound", "no security group sg-third000"},
		{"SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"lb-ours0000","SecurityGroups":["sg-foreign0","sg-ours0000"]}`, "", ""}, // it was bound before
		{"RegisterTargets", `{"LoadBalancerId":"lb-foreign0","ListenerId":"lbl-foreign0","Targets":[{"InstanceId":"ins-ours0000","Port":99}]}`, "InvalidParameter.LBIdNotFound", "lb-foreign0"},
		{"ModifyInstancesProject", `{"InstanceIds":["ins-ours0000"],"ProjectId":8}`, codeUnauthorized, "would move instance ins-ours0000 to project 8"},
		{"CreateLoadBalancer", `{"LoadBalancerType":"OPEN","VpcId":"vpc-shared00"}`, codeUnauthorized, "would put a new load balancer into project 0; name"},
		{"CloneLoadBalancer", `{"LoadBalancerId":"lb-ours0000","LoadBalancerName":"c","ProjectId":7}`, codeUnauthorized, "foreign0, which is outside"},
		{"CreateVpc", `{"VpcName":"v","CidrBlock":"10.9.0.0/16"}`, codeUnauthorized, "about the whole region"},
	} {
		b := twoProjects(t)
		_, err := b.as(b.addKey(lb.KeyOperator, "7"), tc.action, tc.params)
		if code(err) != tc.code || tc.code != "" && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s %s: %v, want %s %q", tc.action, tc.params, err, tc.code, tc.want)
		}
	}
}

// Every key may know its own role and projects.
func TestDescribeCaller(t *testing.T) {
	b := newBench(t)
	scoped := b.addKey(lb.KeyOperator, "7")
	if got, err := b.as(scoped, "DescribeCaller", `{}`); err != nil || !strings.Contains(got, `"Role":"operator"`) || !strings.Contains(got, `"Projects":["7"]`) || !strings.Contains(got, scoped) {
		t.Errorf("%s, %v", got, err)
	}
	var out describeCallerOut
	if b.must("DescribeCaller", `{}`, &out); out.KeyId != "" || out.Role != "admin" {
		t.Errorf("in process: %+v", out)
	}
}
