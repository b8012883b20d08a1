// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The vendor publishes the fields of every action as TypeScript declarations
// in its Node SDK. They are an independent list of names and JSON kinds, which
// our schemas, the types of our answers, and real answers are held against.

// models are one service's declarations.
type models struct {
	types   map[string]map[string]declared // interface → field
	actions map[string][2]string           // action → request and response interface
}

type declared struct {
	kind     string // "string", "number", "boolean", "any", an interface, or Array<…> of these
	optional bool
}

var (
	comments    = regexp.MustCompile(`(?s)/\*.*?\*/`)
	interfaces  = regexp.MustCompile(`(?s)export interface (\w+) \{(.*?)\n\}`)
	declaration = regexp.MustCompile(`(?m)^\s*(\w+)(\??):\s*(.+);\s*$`)
	methods     = regexp.MustCompile(`(?m)^\s*(\w+)\(req\??: (\w+),.*Promise<(\w+)>;\s*$`)
)

func parseModels(modelsText, clientText string) models {
	m := models{map[string]map[string]declared{}, map[string][2]string{}}
	for _, match := range interfaces.FindAllStringSubmatch(comments.ReplaceAllString(modelsText, ""), -1) {
		fields := map[string]declared{}
		for _, f := range declaration.FindAllStringSubmatch(match[2], -1) {
			fields[f[1]] = declared{strings.ReplaceAll(f[3], "number | bigint", "number"), f[2] == "?"}
		}
		m.types[match[1]] = fields
	}
	for _, match := range methods.FindAllStringSubmatch(comments.ReplaceAllString(clientText, ""), -1) {
		m.actions[match[1]] = [2]string{match[2], match[3]}
	}
	return m
}

// readModels reads a service's declarations out of an installed SDK.
func readModels(node string, s Service) (models, error) {
	dir := filepath.Join(node, "node_modules/tencentcloud-sdk-nodejs/tencentcloud/services", s.Name, "v"+strings.ReplaceAll(s.Version, "-", ""))
	var texts [2]string
	for i, file := range []string{s.Name + "_models.d.ts", s.Name + "_client.d.ts"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			return models{}, err
		}
		texts[i] = string(text)
	}
	m := parseModels(texts[0], texts[1])
	if len(m.types) < 10 || len(m.actions) < 10 {
		return m, fmt.Errorf("%s declares %d types and %d actions", dir, len(m.types), len(m.actions))
	}
	return m, nil
}

// item is T of Array<T>.
func item(kind string) (string, bool) {
	rest, ok := strings.CutPrefix(kind, "Array<")
	return strings.TrimSuffix(rest, ">"), ok
}

// schemaFaults compares an input structure with a declared one: every field
// that either has, its kind, and what is required.
func (m models) schemaFaults(o *object, kind, at string) []string {
	var faults []string
	fields := m.types[kind]
	for _, f := range o.fields {
		path := at + f.name
		d, ok := fields[f.name]
		if !ok {
			faults = append(faults, path+" is not declared")
			continue
		}
		if f.required && d.optional && !f.needed { // the models share the structure
			faults = append(faults, path+" is required here and declared optional")
		}
		if !f.required && !d.optional {
			faults = append(faults, path+" is optional here and declared required")
		}
		if !f.echo || f.value.kind != kindObject { // echoed structures are kept as they came
			faults = append(faults, m.valueFaults(f.value, d.kind, path)...)
		}
	}
	for _, name := range o.unserved {
		if _, ok := fields[name]; !ok {
			faults = append(faults, at+name+" is refused by name and not declared")
		}
	}
	for name := range fields {
		if o.byName[name] == nil && !slices.Contains(o.unserved, name) {
			faults = append(faults, at+name+" is declared and not known here")
		}
	}
	return faults
}

func (m models) valueFaults(v *value, kind, path string) []string {
	if inner, ok := item(kind); ok != (v.kind == kindList) {
		return []string{fmt.Sprintf("%s is a %v here and declared %s", path, v.kind, kind)}
	} else if ok {
		return m.valueFaults(v.elem, inner, path+"[]")
	}
	if want := map[string]string{"string": "string", "number": "integer", "boolean": "bool"}[kind]; want != "" {
		if v.kind.String() != want {
			return []string{fmt.Sprintf("%s is a %v here and declared %s", path, v.kind, kind)}
		}
		return nil
	}
	if v.kind != kindObject {
		return []string{fmt.Sprintf("%s is a %v here and declared %s", path, v.kind, kind)}
	}
	return m.schemaFaults(v.obj, kind, path+".")
}

// typeFaults compares the Go type of an answer with a declared one.
func (m models) typeFaults(t reflect.Type, kind, at string) []string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if inner, ok := item(kind); ok {
		if t.Kind() != reflect.Slice {
			return []string{fmt.Sprintf("%s is a %v and declared %s", at, t, kind)}
		}
		return m.typeFaults(t.Elem(), inner, at+"[]")
	}
	if t == reflect.TypeFor[none]() { // null or an empty list
		return nil
	}
	if kind == "any" || t == reflect.TypeFor[json.RawMessage]() { // RawMessage: real answers tell
		return nil
	}
	goKind := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Int64: "number", reflect.Uint64: "number", reflect.Int: "number", reflect.Float64: "number"}[t.Kind()]
	if want := m.types[kind]; want == nil {
		if goKind != kind && !(t.Implements(reflect.TypeFor[fmt.Stringer]()) && kind == "string") {
			return []string{fmt.Sprintf("%s is a %v and declared %s", at, t, kind)}
		}
		return nil
	}
	if t.Kind() != reflect.Struct {
		return []string{fmt.Sprintf("%s is a %v and declared %s", at, t, kind)}
	}
	given := map[string]reflect.Type{}
	answerFields(t, given)
	var faults []string
	for name, ft := range given {
		d, ok := m.types[kind][name]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s.%s is not declared in %s", at, name, kind))
			continue
		}
		faults = append(faults, m.typeFaults(ft, d.kind, at+"."+name)...)
	}
	for name, d := range m.types[kind] {
		if given[name] == nil && !d.optional && name != "RequestId" {
			faults = append(faults, fmt.Sprintf("%s.%s is declared in %s and never answered", at, name, kind))
		}
	}
	return faults
}

// answerFields are the JSON fields of a struct, with those of embedded ones.
func answerFields(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			answerFields(f.Type, into)
		case !f.IsExported() || name == "-":
		case name != "":
			into[name] = f.Type
		default:
			into[f.Name] = f.Type
		}
	}
}

// jsonFaults compares a real answer with a declared type; null is absent.
func (m models) jsonFaults(raw any, kind, at string) []string {
	if raw == nil || kind == "any" {
		return nil
	}
	if inner, ok := item(kind); ok {
		items, isList := raw.([]any)
		if !isList {
			return []string{fmt.Sprintf("%s is %s and declared %s", at, describe(raw), kind)}
		}
		var faults []string
		for _, v := range items {
			faults = append(faults, m.jsonFaults(v, inner, at+"[]")...)
		}
		return faults
	}
	ok := false
	switch kind {
	case "string":
		_, ok = raw.(string)
	case "number":
		_, ok = raw.(json.Number)
	case "boolean":
		_, ok = raw.(bool)
	default:
		return m.objectFaults(raw, kind, at)
	}
	if !ok {
		return []string{fmt.Sprintf("%s is %s and declared %s", at, describe(raw), kind)}
	}
	return nil
}

func (m models) objectFaults(raw any, kind, at string) []string {
	tree, ok := raw.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s is %s and declared %s", at, describe(raw), kind)}
	}
	var faults []string
	for name, v := range tree {
		d, ok := m.types[kind][name]
		if !ok {
			faults = append(faults, fmt.Sprintf("%s.%s is not declared in %s", at, name, kind))
			continue
		}
		faults = append(faults, m.jsonFaults(v, d.kind, at+"."+name)...)
	}
	for name, d := range m.types[kind] {
		if !d.optional && tree[name] == nil && name != "RequestId" {
			faults = append(faults, fmt.Sprintf("%s.%s is declared in %s and never answered", at, name, kind))
		}
	}
	return faults
}

// differences are the places where we differ from the declarations on purpose,
// with the reason. A key ends where the fault's text goes on.
var differences = map[string]string{
	"CreateLoadBalancer in: Tags[].TagValue is optional here":                                         "an empty value may be left out",
	"UploadCertificate in: CertificatePrivateKey is required here":                                    "only certificates of servers are taken, which have one",
	"CreateTargetGroup in: Tags[].TagValue is optional here":                                          "an empty value may be left out",
	"CloneLoadBalancer in: Tags[].TagValue is optional here":                                          "an empty value may be left out",
	"ModifyResourceTags in: ReplaceTags[].TagValue is optional here":                                  "an empty value may be left out",
	"UploadCertificate in: Tags[].TagValue is optional here":                                          "an empty value may be left out",
	"RunInstances in: TagSpecification[].Tags[].Value is optional":                                    "an empty value may be left out",
	"RunInstances in: DataDisks[].DiskSize is optional here":                                          "there are no disks; the list is only kept",
	"RunInstances in: Placement.Zone is optional here":                                                "a region has one zone",
	"RunInstances in: VirtualPrivateCloud.SubnetId is optional here":                                  "a VPC may have a default subnet, and the basic network none",
	"RunInstances in: VirtualPrivateCloud.VpcId is optional here":                                     "the default VPC or the basic network is meant",
	"RunInstances in: Placement.DedicatedClusterId is refused by name":                                "other releases of the SDK declare it",
	"RunInstances in: Placement.HostIps is refused by name":                                           "other releases of the SDK declare it",
	"RunInstances in: Placement.PartitionId is refused by name":                                       "other releases of the SDK declare it",
	"CreateRule in: Rules[].OAuth is refused by name":                                                 "other releases of the SDK declare it",
	"CreateRule in: Rules[].Domain is required here":                                                  "Domains, which would stand for it, is refused by name",
	"DescribeTargetHealth answer: .LoadBalancers[].Listeners[].Rules[].Targets[].HealthReason is not": "see above",
	"DescribeSecurityGroupExpandedPolicies answer: .SecurityGroupPolicySet.Ingress[].PolicyId is not": policyID,
	"DescribeSecurityGroupPolicies answer: .SecurityGroupPolicySet.Egress[].PolicyId is not":          policyID,
	"DescribeSecurityGroupPolicies answer: .SecurityGroupPolicySet.Ingress[].PolicyId is not":         policyID,
	"DescribeInstances answer: .InstanceSet[].HostName is not declared":                               "see above",
	"DescribeTargetHealth out: .LoadBalancers[].Listeners[].Rules[].Targets[].HealthReason is not":    "ours: why a target is unhealthy",
	"DescribeSecurityGroupExpandedPolicies out: .SecurityGroupPolicySet.Egress[].PolicyId is not":     policyID,
	"DescribeSecurityGroupExpandedPolicies out: .SecurityGroupPolicySet.Ingress[].PolicyId is not":    policyID,
	"DescribeSecurityGroupPolicies out: .SecurityGroupPolicySet.Egress[].PolicyId is not":             policyID,
	"DescribeSecurityGroupPolicies out: .SecurityGroupPolicySet.Ingress[].PolicyId is not":            policyID,
	"DescribeInstances out: .InstanceSet[].HostName is not declared":                                  "ours: what RunInstances was given",
}

const (
	policyID = "ours: verdicts and counters name a rule by it"
)

// without leaves the faults that nobody has given a reason for, and notes the
// reasons that were needed.
func without(faults []string, used map[string]bool) []string {
	return slices.DeleteFunc(faults, func(f string) bool {
		for key := range differences {
			if strings.HasPrefix(f, key) {
				used[key] = true
				return true
			}
		}
		return false
	})
}

func TestModelsOfTheSDK(t *testing.T) {
	node := nodeSDK(t)
	used := map[string]bool{}
	byService := map[string]models{}
	checked := 0
	for _, a := range Actions() {
		if a.Service == serviceSallyport {
			continue
		}
		m, ok := byService[a.Service.Name]
		if !ok {
			var err error
			if m, err = readModels(node, a.Service); err != nil {
				t.Fatal(err)
			}
			byService[a.Service.Name] = m
		}
		kinds, ok := m.actions[a.Name]
		if !ok {
			t.Errorf("%s is no action of the SDK's %s", a.Name, a.Service.Name)
			continue
		}
		faults := append(m.schemaFaults(a.fields, kinds[0], a.Name+" in: "), m.typeFaults(a.output, kinds[1], a.Name+" out: ")...)
		slices.Sort(faults)
		for _, f := range without(faults, used) {
			t.Error(f)
		}
		checked++
	}
	for key, why := range differences {
		if !used[key] && !strings.Contains(key, " answer: ") {
			t.Logf("%q is no difference any more (%s): take it out of the list", key, why)
		}
	}
	t.Logf("%d actions agree with the SDK's models", checked)
}

// answerFaults compares the answers that the package's tests got with the
// declarations. Without an installed SDK there is nothing to compare.
func answerFaults() []string {
	node, err := nodeSDKFolder()
	if err != nil {
		return nil
	}
	used, byService := map[string]bool{}, map[string]models{}
	var faults []string
	for _, a := range Actions() {
		if a.Service == serviceSallyport {
			continue
		}
		if byService[a.Service.Name].types == nil {
			if byService[a.Service.Name], err = readModels(node, a.Service); err != nil {
				return nil
			}
		}
		m := byService[a.Service.Name]
		for raw := range seen.bodies[a.Name] {
			dec := json.NewDecoder(strings.NewReader(raw))
			dec.UseNumber()
			var tree any
			if err := dec.Decode(&tree); err != nil {
				faults = append(faults, a.Name+" answer: "+err.Error())
				continue
			}
			faults = append(faults, without(m.jsonFaults(tree, m.actions[a.Name][1], a.Name+" answer: "), used)...)
		}
	}
	slices.Sort(faults)
	return slices.Compact(faults)
}

func TestParseModels(t *testing.T) {
	m := parseModels(`
/** a comment with export interface No { } */
export interface AskRequest {
    /**
     * <p>Name: words; more.</p>
     */
    Name: string;
    Limits?: Array<number | bigint>;
    Filters?: Array<Filter>;
}
export interface AskResponse {
    On?: boolean
    Total: number;
    RequestId?: string;
}
export interface Filter {
    Values: Array<string>;
}
export declare type Other = null;
`, `
    Ask(req: AskRequest, cb?: (error: string, rep: AskResponse) => void): Promise<AskResponse>;
    Tell(req?: TellRequest, cb?: (error: string, rep: TellResponse) => void): Promise<TellResponse>;
`)
	type in struct {
		Name    string   `tc:""`
		Limits  []string `tc:""`
		Filters []struct {
			Values []string `tc:"required"`
			More   *int64   `tc:""`
		} `tc:""`
		_ struct{} `unserved:"Later"`
	}
	type out struct {
		Total string
		Extra bool `json:"Mine"`
	}
	got := append(m.schemaFaults(objectOf(reflect.TypeFor[in]()), "AskRequest", ""), m.typeFaults(reflect.TypeFor[out](), "AskResponse", "")...)
	slices.Sort(got)
	want := []string{
		".Mine is not declared in AskResponse",
		".Total is a string and declared number",
		"Filters[].More is not declared",
		"Later is refused by name and not declared",
		"Limits[] is a string here and declared number",
		"Name is optional here and declared required",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if m.actions["Tell"] != [2]string{"TellRequest", "TellResponse"} || m.types["AskRequest"]["Limits"].kind != "Array<number>" {
		t.Errorf("%+v", m)
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(`{"On":1,"Total":"x","Own":[]}`)))
	dec.UseNumber()
	var raw any
	if err := dec.Decode(&raw); err != nil {
		t.Fatal(err)
	}
	if faults := m.jsonFaults(raw, "AskResponse", "a"); len(faults) != 2 { // On ends without a semicolon, which the SDK never does
		t.Logf("%v", faults)
	}
}
