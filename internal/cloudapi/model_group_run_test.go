// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strconv"
	"strings"

	"pgregory.net/rapid"
)

// rule draws a rule; some have a fault.
func (w *world) rule() writtenRule {
	peers := append([]string{"10.0.0.0/8", "203.0.113.7", "0.0.0.0/0", "six", "none"}, w.group(), w.template("ipm-"), w.template("ipmg-"))
	peer := rapid.SampledFrom(peers).Draw(w.T, "peer")
	r := modelRule{action: "ACCEPT", proto: "TCP", port: rapid.SampledFrom([]string{"80", "443", "8000-8010", "80,443", "ALL"}).Draw(w.T, "ports")}
	if w.chance() {
		r.action = "DROP"
	}
	if w.chance() {
		r.text = "described"
	}
	out := writtenRule{fields: map[string]any{"Action": r.action, "PolicyDescription": r.text}}
	if rapid.IntRange(0, 4).Draw(w.T, "by template") == 0 {
		r.proto, r.port, r.service = "", "", w.template(rapid.SampledFrom([]string{"ppm-", "ppmg-"}).Draw(w.T, "kind"))
		out.fields["ServiceTemplate"] = named("Service", r.service)
	} else {
		out.fields["Protocol"], out.fields["Port"] = r.proto, r.port
	}
	switch {
	case strings.HasPrefix(peer, "sg-"):
		r.group, out.fields["SecurityGroupId"] = peer, peer
		out.becomes = []modelRule{r}
	case strings.HasPrefix(peer, "ipm"):
		r.template, out.fields["AddressTemplate"] = peer, named("Address", peer)
		out.becomes = []modelRule{r}
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

// named is a template as rules name it: a list, or a group of lists.
func named(what, id string) map[string]any {
	if isGroupOfLists(id) {
		return map[string]any{what + "GroupId": id}
	}
	return map[string]any{what + "Id": id}
}

// spoil puts one fault into some rules.
func (w *world) spoil(out *writtenRule) {
	if rapid.IntRange(0, 7).Draw(w.T, "spoilt") > 0 {
		return
	}
	if out.fields["ServiceTemplate"] != nil {
		out.fields["Protocol"] = "TCP"
		out.codes = append(out.codes, "InvalidParameter.Coexist")
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
	for range rapid.IntRange(1, 3).Draw(w.T, "rules") {
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

func (w *world) createGroup() {
	name := rapid.SampledFrom([]string{"web", "db", "web", "db", "", strings.Repeat("n", 61)}).Draw(w.T, "name")
	project := rapid.SampledFrom([]string{"0", "0", "0", "0", "7", "7", "x"}).Draw(w.T, "project")
	w.makeGroup(name, project, w.model.createGroup(name, project))
}

func (w *world) makeGroup(name, project string, codes []string) {
	var out struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	w.ask("CreateSecurityGroup", map[string]any{"GroupName": name, "GroupDescription": "", "ProjectId": project}, codes, &out)
	if len(codes) == 0 {
		w.groups[out.SecurityGroup.SecurityGroupId] = &modelGroup{name: name, project: project, rules: map[string][]modelRule{}}
	}
}

func (w *world) deleteGroup() {
	id := w.group()
	w.did("DeleteSecurityGroup", map[string]any{"SecurityGroupId": id}, w.model.deleteGroup(id), id)
}

func (w *world) insertRules() {
	id, dir := w.group(), w.direction()
	rules, fields := w.rules()
	version := w.version(id)
	var index *int64
	if w.chance() {
		index = ptr(w.index(w.length(id, dir)))
		for _, f := range fields {
			f["PolicyIndex"] = *index
		}
	}
	codes := w.insert(id, dir, rules, index, version)
	w.ask("CreateSecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, version, fields)}, codes, nil)
}

func (w *world) replaceRule() {
	id, dir, rule := w.group(), w.direction(), w.rule()
	version, index := w.version(id), w.index(w.length(id, dir)-1)
	rule.fields["PolicyIndex"] = index
	codes := w.replace(id, dir, rule, index, version)
	w.ask("ReplaceSecurityGroupPolicy", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet(dir, version, []any{rule.fields})}, codes, nil)
}

func (w *world) deleteRules() {
	id, dir := w.group(), w.direction()
	indexes := rapid.SliceOfNDistinct(rapid.Int64Range(0, int64(max(1, w.length(id, dir)))), 1, 2, rapid.ID).Draw(w.T, "indexes")
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
