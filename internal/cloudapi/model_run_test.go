// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	flags "flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
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
	calls, refused int
	gone           []string // ids that existed
}

func newWorld(t *testing.T, r *rapid.T) *world {
	q := lb.DefaultQuotas()
	q.Groups, q.RulesPerDirection, q.References, q.RulesOnBalancer = 8, 6, 2, 5
	q.GroupsPerBalancer, q.GroupsPerInstance, q.InstancesPerGroup = 2, 3, 3
	q.ListenersPerLB, q.TargetsPerListener, q.BalancersPerType = 3, 2, 3
	q.RulesPerListener, q.Templates, q.TemplateMembers, q.TargetGroups = 2, 2, 3, 2
	w := &world{T: r, model: newModel(q), b: newBench(t, func(o *Options) { o.Quotas = q })}
	if os.Getenv("SALLYPORT_MODEL_TIME") == "" { // what a moment finds differs from run to run: only long ones tell of codes that are not declared
		w.b.Server = New(w.b.Options)
	}
	w.do = func(action string, body []byte) (json.RawMessage, error) {
		return w.b.Do(context.Background(), w.b.versionOf(action), action, body)
	}
	w.b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: "gw-1", Num: tx.NextNum(), Role: lb.RoleGateway, Address: netip.MustParseAddr("10.9.0.1")})
	})
	return w
}

// furnish makes one of each in half of the worlds, so that calls which need
// many others before them are seen too.
func (w *world) furnish() {
	if !w.chance() {
		return
	}
	for _, make := range []func(){w.createGroup, w.createGroup, w.runInstance, w.runInstance, w.createLoadBalancer, w.newListener, w.newListener, w.newRules,
		w.newTargetGroup, w.newTemplate, w.newNetwork, w.newNetwork, w.registerTargets, w.editTargetGroup} {
		make()
	}
}

// ask runs an action and compares its outcome with the model's codes.
func (w *world) ask(action string, params map[string]any, codes []string, out any) {
	w.Helper()
	body, err := json.Marshal(params)
	if err != nil {
		w.Fatal(err)
	}
	before := w.b.Store.State()
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

// one draws one of the ids there are, of those there were, or none there is.
func (w *world) one(what string, there []string, prefix string) string {
	slices.Sort(there)
	never := prefix + "00000000"
	all := slices.Repeat(there, 6) // likelier than the others
	for _, id := range w.gone {
		if strings.HasPrefix(id, prefix) {
			all = append(all, id)
			break
		}
	}
	return rapid.SampledFrom(append(all, never)).Draw(w.T, what)
}

func (w *world) group() string    { return w.one("group", keysOf(w.groups), "sg-") }
func (w *world) clb() string      { return w.one("clb", keysOf(w.clbs), "lb-") }
func (w *world) instance() string { return w.one("instance", keysOf(w.model.instances), "ins-") }
func (w *world) direction() string {
	return rapid.SampledFrom([]string{"Ingress", "Egress"}).Draw(w.T, "direction")
}
func (w *world) somePort() int64 {
	return rapid.SampledFrom([]int64{80, 81, 82, 443, 80, 81, 82, 443, 0, 65536}).Draw(w.T, "port")
}
func (w *world) targetPort() int64 {
	return rapid.SampledFrom([]int64{8080, 8080, 8080, 8081, 8081, 8081, 8081, 0}).Draw(w.T, "target port")
}
func (w *world) weight() int64 {
	return rapid.SampledFrom([]int64{0, 10, 10, 100, 100, 100, 101, -1}).Draw(w.T, "weight")
}
func (w *world) chance() bool { return rapid.Bool().Draw(w.T, "chance") }
func (w *world) listenerOf() (clb, id string) {
	id = w.one("listener", keysOf(w.listeners), "lbl-")
	clb = w.clb()
	if l := w.listeners[id]; l != nil && rapid.IntRange(0, 9).Draw(w.T, "right") > 0 {
		clb = l.clb
	}
	return clb, id
}

func keysOf[V any](m map[string]V) []string { return sortedKeys(m) }

// rule draws a rule; one in five has a fault.
func (w *world) rule() writtenRule {
	peers := append([]string{"10.0.0.0/8", "203.0.113.7", "0.0.0.0/0", "six", "none"}, w.group(), w.template())
	peer := rapid.SampledFrom(peers).Draw(w.T, "peer")
	r := modelRule{action: "ACCEPT", proto: "TCP", port: rapid.SampledFrom([]string{"80", "443", "8000-8010", "80,443", "ALL"}).Draw(w.T, "ports")}
	if w.chance() {
		r.action = "DROP"
	}
	if w.chance() {
		r.text = "described"
	}
	out := writtenRule{fields: map[string]any{"Action": r.action, "Protocol": r.proto, "Port": r.port, "PolicyDescription": r.text}}
	switch {
	case strings.HasPrefix(peer, "sg-"):
		r.group, out.fields["SecurityGroupId"] = peer, peer
		out.becomes = []modelRule{r}
		if w.groups[peer] == nil {
			out.codes = append(out.codes, codeGone)
		}
	case strings.HasPrefix(peer, "ipm-"):
		r.template, out.fields["AddressTemplate"] = peer, map[string]any{"AddressId": peer}
		out.becomes = []modelRule{r}
		if w.templates[peer] == nil {
			out.codes = append(out.codes, codeGone)
		}
	case peer == "six":
		r.cidr6, out.fields["Ipv6CidrBlock"] = "2001:db8::/32", "2001:db8::/32"
		out.becomes = []modelRule{r}
	case peer == "none": // every address: a rule of each family
		four, six := r, r
		four.cidr, six.cidr6 = "0.0.0.0/0", "::/0"
		out.becomes = []modelRule{four, six}
	default:
		r.cidr, out.fields["CidrBlock"] = peer, peer
		out.becomes = []modelRule{r}
	}
	w.spoil(&out)
	return out
}

// spoil puts one fault into one in five rules.
func (w *world) spoil(out *writtenRule) {
	if rapid.IntRange(0, 4).Draw(w.T, "spoilt") > 0 {
		return
	}
	faults := []struct {
		field string
		value any
		code  string
	}{
		{"Action", "MAYBE", "InvalidParameterValue"}, {"Action", "", codeMissing}, {"Protocol", "SCTP", "InvalidParameterValue"},
		{"Port", "80-", "InvalidParameterValue.Malformed"}, {"Port", "90-80", "InvalidParameterValue.Range"}, {"Port", "70000", "InvalidParameterValue.Range"},
		{"PolicyDescription", strings.Repeat("d", 101), "InvalidParameterValue.TooLong"},
	}
	f := rapid.SampledFrom(faults).Draw(w.T, "fault")
	out.fields[f.field] = f.value
	out.codes = append(out.codes, f.code)
}

func (w *world) rules() (rules []writtenRule, fields []map[string]any) {
	for range rapid.IntRange(1, 4).Draw(w.T, "rules") {
		r := w.rule()
		rules, fields = append(rules, r), append(fields, r.fields)
	}
	return rules, fields
}

// version draws none, the present one or a wrong one.
func (w *world) version(group string) string {
	g := w.groups[group]
	now := 0
	if g != nil {
		now = g.version
	}
	return rapid.SampledFrom([]string{"", "", strconv.Itoa(now), strconv.Itoa(now + 1)}).Draw(w.T, "version")
}

func policySet(dir, version string, rules any) map[string]any {
	set := map[string]any{dir: rules}
	if version != "" {
		set["Version"] = version
	}
	return set
}

func (w *world) actions() map[string]func(*rapid.T) {
	acts := map[string]func(*rapid.T){}
	for name, fn := range map[string]func(){
		"CreateSecurityGroup": w.createGroup, "DeleteSecurityGroup": w.deleteGroup, "CreateSecurityGroupPolicies": w.insertRules,
		"ReplaceSecurityGroupPolicy": w.replaceRule, "DeleteSecurityGroupPolicies": w.deleteRules, "ModifySecurityGroupPolicies": w.resetRules,
		"CreateLoadBalancer": w.createLoadBalancer, "ModifyLoadBalancer": w.changeLoadBalancer, "BindLoadBalancer": w.bindLoadBalancer,
		"CreateListener": w.newListener, "DeleteListener": w.dropListener, "RegisterTargets": w.registerTargets, "ChangeTargets": w.changeTargets,
		"RunInstances": w.runInstance, "BindInstance": w.bindInstance, "TerminateInstances": w.endInstance,
		"CreateAddressTemplate": w.newTemplate, "ChangeAddressTemplate": w.editTemplate, "CreateNetwork": w.newNetwork, "DeleteNetwork": w.dropNetwork,
		"CreateRule": w.newRules, "DeleteRule": w.dropRule, "CreateTargetGroup": w.newTargetGroup, "ChangeTargetGroup": w.editTargetGroup, "AssociateTargetGroups": w.associateGroup,
	} {
		acts[name] = func(t *rapid.T) { w.T = t; fn() }
	}
	acts[""] = func(t *rapid.T) { w.T = t; w.check() }
	return acts
}

func (w *world) createGroup() {
	name := rapid.SampledFrom([]string{"web", "db", "web", "db", "", strings.Repeat("n", 61)}).Draw(w.T, "name")
	var out struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	codes := w.model.createGroup(name)
	w.ask("CreateSecurityGroup", map[string]any{"GroupName": name, "GroupDescription": ""}, codes, &out)
	if len(codes) == 0 {
		w.groups[out.SecurityGroup.SecurityGroupId] = &modelGroup{name: name, rules: map[string][]modelRule{}}
	}
}

func (w *world) deleteGroup() {
	id := w.group()
	codes := w.model.deleteGroup(id)
	if w.ask("DeleteSecurityGroup", map[string]any{"SecurityGroupId": id}, codes, nil); len(codes) == 0 {
		w.gone = append([]string{id}, w.gone...)
	}
}

func (w *world) insertRules() {
	id, dir := w.group(), w.direction()
	rules, fields := w.rules()
	version := w.version(id)
	var index *int64
	if w.chance() {
		index = ptr(rapid.Int64Range(-1, 4).Draw(w.T, "index"))
		for _, f := range fields {
			f["PolicyIndex"] = *index
		}
	}
	codes := w.insert(id, dir, rules, index, version)
	w.ask("CreateSecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, version, fields)}, codes, nil)
}

func (w *world) replaceRule() {
	id, dir, rule := w.group(), w.direction(), w.rule()
	version, index := w.version(id), rapid.Int64Range(-1, 4).Draw(w.T, "index")
	rule.fields["PolicyIndex"] = index
	codes := w.replace(id, dir, rule, index, version)
	w.ask("ReplaceSecurityGroupPolicy", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, version, []any{rule.fields})}, codes, nil)
}

func (w *world) deleteRules() {
	id, dir := w.group(), w.direction()
	indexes := rapid.SliceOfNDistinct(rapid.Int64Range(0, 4), 1, 3, rapid.ID).Draw(w.T, "indexes")
	version := w.version(id)
	var fields []any
	for _, i := range indexes {
		fields = append(fields, map[string]any{"PolicyIndex": i})
	}
	codes := w.remove(id, dir, indexes, version)
	w.ask("DeleteSecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, version, fields)}, codes, nil)
}

func (w *world) resetRules() {
	id, dir := w.group(), w.direction()
	if rapid.IntRange(0, 5).Draw(w.T, "clear") == 0 {
		codes := w.clear(id)
		w.ask("ModifySecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": map[string]any{"Version": "0"}}, codes, nil)
		return
	}
	rules, fields := w.rules()
	codes := w.reset(id, dir, rules)
	w.ask("ModifySecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, "", fields), "SortPolicys": true}, codes, nil)
}

func (w *world) createLoadBalancer() {
	var out struct{ LoadBalancerIds []string }
	params, vpc, subnet := map[string]any{"LoadBalancerType": "OPEN"}, "", ""
	private := len(w.vpcs) > 0 && w.chance()
	if private {
		vpc, subnet = w.vpc(), w.subnet()
		params = map[string]any{"LoadBalancerType": "INTERNAL", "VpcId": vpc, "SubnetId": subnet}
	}
	codes := w.createCLB(private, vpc, subnet)
	if w.ask("CreateLoadBalancer", params, codes, &out); len(codes) == 0 {
		w.clbs[out.LoadBalancerIds[0]] = &modelCLB{vpc: vpc, subnet: subnet}
	}
}

func (w *world) changeLoadBalancer() {
	id := w.clb()
	if rapid.IntRange(0, 3).Draw(w.T, "delete") == 0 {
		codes := w.deleteCLB(id)
		if w.ask("DeleteLoadBalancer", map[string]any{"LoadBalancerIds": []string{id}}, codes, nil); len(codes) == 0 {
			w.gone = append([]string{id}, w.gone...)
		}
		return
	}
	pass, protected := w.chance(), rapid.IntRange(0, 3).Draw(w.T, "protect") == 0
	w.ask("ModifyLoadBalancerAttributes", map[string]any{"LoadBalancerId": id, "LoadBalancerPassToTarget": pass, "DeleteProtect": protected}, w.modifyCLB(id, &pass, &protected), nil)
}

func (w *world) bindLoadBalancer() {
	id := w.clb()
	if w.chance() {
		group, operation := w.group(), rapid.SampledFrom([]string{"ADD", "DEL", "ADD", "SWAP"}).Draw(w.T, "operation")
		w.ask("SetSecurityGroupForLoadbalancers", map[string]any{"LoadBalancerIds": []string{id}, "SecurityGroup": group, "OperationType": operation},
			w.setGroupForCLB(id, group, operation), nil)
		return
	}
	groups := []string{}
	for range rapid.IntRange(0, 3).Draw(w.T, "groups") {
		groups = append(groups, w.group())
	}
	w.ask("SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": id, "SecurityGroups": groups},
		w.bindCLB(id, groups), nil)
}

func (w *world) newListener() {
	clb, port := w.clb(), w.somePort()
	var out struct{ ListenerIds []string }
	kind, grouped := rapid.SampledFrom([]string{"TCP", "UDP", "HTTP"}).Draw(w.T, "protocol"), rapid.IntRange(0, 2).Draw(w.T, "grouped") == 0
	params := map[string]any{"LoadBalancerId": clb, "Ports": []int64{port}, "Protocol": kind}
	if grouped {
		params["TargetType"] = "TARGETGROUP"
	}
	codes := w.createListener(clb, kind, port, grouped)
	if w.ask("CreateListener", params, codes, &out); len(codes) == 0 {
		w.listeners[out.ListenerIds[0]] = &modelListener{clb: clb, kind: kind, port: port, modelPlace: modelPlace{grouped: grouped}, rules: map[string]*modelPlace{}}
	}
}

func (w *world) dropListener() {
	clb, id := w.listenerOf()
	codes := w.deleteListener(clb, id)
	if w.ask("DeleteListener", map[string]any{"LoadBalancerId": clb, "ListenerId": id}, codes, nil); len(codes) == 0 {
		w.gone = append([]string{id}, w.gone...)
	}
}

func (w *world) targets() (targets []modelTarget, fields []map[string]any) {
	for range rapid.IntRange(1, 2).Draw(w.T, "targets") {
		t := modelTarget{w.instance(), w.targetPort(), w.weight()}
		targets = append(targets, t)
		field := map[string]any{"InstanceId": t.instance, "Port": t.port, "Weight": t.weight}
		if i := w.b.Store.State().Instances.Get(lb.InstanceID(t.instance)); i != nil && w.chance() { // by address, which comes to the same
			delete(field, "InstanceId")
			field["EniIp"] = i.Private.String()
		}
		fields = append(fields, field)
	}
	return targets, fields
}

func (w *world) registerTargets() {
	clb, id := w.listenerOf()
	targets, fields := w.targets()
	location, params := w.location(id), map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Targets": fields}
	if location != "" {
		params["LocationId"] = location
	}
	w.ask("RegisterTargets", params, w.register(clb, id, location, targets), nil)
}

func (w *world) changeTargets() {
	clb, id := w.listenerOf()
	targets, fields := w.targets()
	location, params := w.location(id), map[string]any{"LoadBalancerId": clb, "ListenerId": id, "Targets": fields}
	if location != "" {
		params["LocationId"] = location
	}
	if w.chance() {
		w.ask("ModifyTargetWeight", params, w.weigh(clb, id, location, targets), nil)
		return
	}
	w.ask("DeregisterTargets", params, w.deregister(clb, id, location, targets), nil)
}

// runInstance makes an instance and its host.
func (w *world) runInstance() {
	groups := []string{w.group()}
	if w.chance() {
		groups = append(groups, w.group())
	}
	codes := append(w.instanceFaults(groups), w.crowded("", groups)...)
	var out struct{ InstanceIdSet []string }
	w.ask("RunInstances", map[string]any{"ImageId": "img-lab", "Placement": map[string]any{"Zone": "local-1"}, "SecurityGroupIds": groups}, codes, &out)
	if len(codes) > 0 {
		return
	}
	id := out.InstanceIdSet[0]
	w.model.instances[id] = groups
	w.b.seed(func(tx *store.Tx) {
		tx.PutNode(&lb.Node{ID: lb.NodeID(id), Num: tx.NextNum(), Role: lb.RoleHost, Instance: lb.InstanceID(id), Address: netip.AddrFrom4([4]byte{10, 9, 1, byte(tx.NextNum())})})
	})
}

func (w *world) bindInstance() {
	id, group := w.instance(), w.group()
	params := map[string]any{"InstanceIds": []string{id}, "SecurityGroupIds": []string{group}}
	switch rapid.IntRange(0, 2).Draw(w.T, "how") {
	case 0:
		w.ask("AssociateSecurityGroups", params, w.associate(id, group), nil)
	case 1:
		w.ask("DisassociateSecurityGroups", params, w.disassociate(id, group), nil)
	default:
		groups := []string{group, w.group()}[:1+rapid.IntRange(0, 1).Draw(w.T, "more")]
		w.ask("ModifyInstancesAttribute", map[string]any{"InstanceIds": []string{id}, "SecurityGroups": groups}, w.regroup(id, groups), nil)
	}
}

func (w *world) endInstance() {
	id := w.instance()
	codes := w.terminate(id)
	if w.ask("TerminateInstances", map[string]any{"InstanceIds": []string{id}}, codes, nil); len(codes) == 0 {
		w.gone = append([]string{id}, w.gone...)
		w.b.seed(func(tx *store.Tx) { tx.DeleteNode(lb.NodeID(id)) })
	}
}

// check reads everything back, and looks at what may never be.
func (w *world) check() {
	st := w.b.Store.State()
	if found := inconsistencies(st); len(found) > 0 {
		w.Fatalf("the state is inconsistent:\n%s", strings.Join(found, "\n"))
	}
	for id := range st.Nodes.All() {
		s, err := snapshot.Assemble(st, id, func(uint32, uint32) [2]uint64 { return [2]uint64{1, 2} }, w.b.Compile)
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			w.Fatalf("the snapshot of %s: %v", id, err)
		}
	}
	if want, got := w.described(), w.read(); want != got {
		w.Fatalf("the model is\n%s\nand the API answers\n%s", want, got)
	}
}

// described is the model as text.
func (w *world) described() string {
	var b strings.Builder
	for _, id := range keysOf(w.groups) {
		g := w.groups[id]
		fmt.Fprintf(&b, "%s %s %d %v %v\n", id, g.name, g.version, g.rules["Ingress"], g.rules["Egress"])
	}
	for _, id := range keysOf(w.clbs) {
		fmt.Fprintf(&b, "%s %v %v %s\n", id, w.clbs[id].pass, w.clbs[id].groups, w.clbs[id].subnet)
		for _, lid := range keysOf(w.listeners) {
			l := w.listeners[lid]
			if l.clb != id {
				continue
			}
			fmt.Fprintf(&b, "%s %s %d %v\n", lid, l.kind, l.port, l.targets)
			for _, rid := range keysOf(l.rules) {
				fmt.Fprintf(&b, "%s %s%s %v\n", rid, l.rules[rid].domain, l.rules[rid].url, l.rules[rid].targets)
			}
		}
	}
	for _, id := range keysOf(w.model.instances) {
		fmt.Fprintf(&b, "%s %v\n", id, w.model.instances[id])
	}
	w.describeMore(&b)
	return b.String()
}

// read is what Describe actions answer, in the same words.
func (w *world) read() string {
	var b strings.Builder
	var groups struct{ SecurityGroupSet []groupView }
	w.ask("DescribeSecurityGroups", map[string]any{"Limit": "100"}, nil, &groups)
	slices.SortFunc(groups.SecurityGroupSet, func(x, y groupView) int { return strings.Compare(x.SecurityGroupId, y.SecurityGroupId) })
	for _, g := range groups.SecurityGroupSet {
		var rules struct {
			SecurityGroupPolicySet struct {
				Version         string
				Ingress, Egress []ruleView
			}
		}
		w.ask("DescribeSecurityGroupPolicies", map[string]any{"SecurityGroupId": g.SecurityGroupId}, nil, &rules)
		set := rules.SecurityGroupPolicySet
		fmt.Fprintf(&b, "%s %s %s %v %v\n", g.SecurityGroupId, g.SecurityGroupName, set.Version, views(w, set.Ingress), views(w, set.Egress))
	}
	w.readBalancers(&b)
	var instances struct {
		InstanceSet []struct {
			InstanceId       string
			SecurityGroupIds []string
		}
	}
	w.ask("DescribeInstances", map[string]any{"Limit": 100}, nil, &instances)
	bound := map[string][]string{}
	for _, i := range instances.InstanceSet {
		bound[i.InstanceId] = i.SecurityGroupIds
	}
	for _, id := range keysOf(bound) {
		fmt.Fprintf(&b, "%s %v\n", id, bound[id])
	}
	w.readMore(&b)
	return b.String()
}

type groupView struct{ SecurityGroupId, SecurityGroupName string }

type ruleView struct {
	PolicyIndex                                                                          int
	Action, Protocol, Port, CidrBlock, Ipv6CidrBlock, SecurityGroupId, PolicyDescription string

	AddressTemplate struct{ AddressId string }
}

func views(w *world, rules []ruleView) []modelRule {
	out := []modelRule{}
	for i, r := range rules {
		if r.PolicyIndex != i {
			w.Fatalf("rule %d has index %d", i, r.PolicyIndex)
		}
		out = append(out, modelRule{r.Action, r.Protocol, r.Port, r.CidrBlock, r.Ipv6CidrBlock, r.SecurityGroupId, r.AddressTemplate.AddressId, r.PolicyDescription})
	}
	return out
}

func (w *world) readBalancers(b *strings.Builder) {
	var clbs struct {
		LoadBalancerSet []struct {
			LoadBalancerId           string
			LoadBalancerPassToTarget bool
			LoadBalancerType         string
			SubnetId                 string
			SecureGroups             []string
		}
	}
	w.ask("DescribeLoadBalancers", map[string]any{"Limit": 100}, nil, &clbs)
	lines := map[string]string{}
	for _, c := range clbs.LoadBalancerSet {
		var bound struct {
			Listeners []struct {
				ListenerId string
				Protocol   string
				Port       int64
				Targets    []targetView
				Rules      []struct {
					LocationId, Domain, Url string
					Targets                 []targetView
				}
			}
		}
		w.ask("DescribeTargets", map[string]any{"LoadBalancerId": c.LoadBalancerId}, nil, &bound)
		listeners := map[string]string{}
		for _, l := range bound.Listeners {
			text, rules := fmt.Sprintf("%s %s %d %v\n", l.ListenerId, l.Protocol, l.Port, targetViews(l.Targets)), map[string]string{}
			for _, r := range l.Rules {
				rules[r.LocationId] = fmt.Sprintf("%s %s%s %v\n", r.LocationId, r.Domain, r.Url, targetViews(r.Targets))
			}
			for _, id := range keysOf(rules) {
				text += rules[id]
			}
			listeners[l.ListenerId] = text
		}
		subnet := map[bool]string{true: c.SubnetId}[c.LoadBalancerType == "INTERNAL"]
		text := fmt.Sprintf("%s %v %v %s\n", c.LoadBalancerId, c.LoadBalancerPassToTarget, c.SecureGroups, subnet)
		for _, id := range keysOf(listeners) {
			text += listeners[id]
		}
		lines[c.LoadBalancerId] = text
	}
	for _, id := range keysOf(lines) {
		b.WriteString(lines[id])
	}
}
