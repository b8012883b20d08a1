// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// dir is the direction that an address names, in by default.
func (v *visit) dir() string {
	if v.r.FormValue("dir") == dirOut {
		return dirOut
	}
	return dirIn
}

// A ruleRow is one rule as the rule page shows it.
type ruleRow struct {
	N      int // 1-based
	R      policyRule
	L      line
	Sees   []string
	Hits   counter
	Mark   string // what changed since the reader loaded the page
	First  bool
	Last   bool
	Ticked bool
}

type rulePageData struct {
	G       group
	Dir     string
	Version string
	Seen    string // the rules' ids, for telling what changed
	Texts   string // and what they were
	Rows    []ruleRow
	Bound   binding
	Traffic traffic
	Barred  bool   // the key may not know the hits
	Moved   string // the button that was pressed, which keeps the focus
	F       form
}

func (v *visit) rulePage() error { return v.showRules(form{}, nil) }

func (v *visit) showRules(f form, marks map[string]string) error {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	set, err := v.policies(g.SecurityGroupId)
	if err != nil {
		return err
	}
	counters, barred, err := v.counters(g.SecurityGroupId)
	if err != nil {
		return err
	}
	bound, err := v.bindingOf(g)
	if err != nil {
		return err
	}
	dir := v.dir()
	d := rulePageData{G: g, Dir: dir, Version: set.Version, Seen: idsOf(set.list(dir)), Texts: textsOf(set.list(dir)), Bound: bound, Barred: barred, Moved: v.r.URL.Query().Get("moved"), F: f}
	for i, r := range set.list(dir) {
		d.Rows = append(d.Rows, ruleRow{N: i + 1, R: r, L: lineOf(r), Sees: bound.sees(dir, r), Hits: counters[dir+"/"+r.PolicyId],
			Mark: marks[r.PolicyId], First: i == 0, Last: i == len(set.list(dir))-1, Ticked: f.Has("rule", r.PolicyId)})
	}
	if d.Traffic, err = v.trafficOf("sg/"+g.SecurityGroupId, func() (chart, error) {
		return v.byRule("New flows by rule", "flows", "SecurityGroupId", g.SecurityGroupId)
	},
		func() (chart, error) {
			return v.byRule("Refusals by rule", "refusals", "SecurityGroupId", g.SecurityGroupId)
		}); err != nil {
		return err
	}
	status := f.status()
	if marks != nil {
		status = http.StatusConflict
	}
	return v.show(status, "rules", "sg", g.SecurityGroupName+": rules", d)
}

func idsOf(rules []policyRule) string {
	ids := make([]string, len(rules))
	for i, r := range rules {
		ids[i] = r.PolicyId
	}
	return strings.Join(ids, ",")
}

// stale is the conflict between what a form's author saw and what is there:
// nil when there is none.
func (v *visit) stale(f form, set policySet, err error) (form, map[string]string) {
	e := (*cloudapi.Error)(nil)
	if errors.As(err, &e) && e.Code == "UnsupportedOperation.VersionMismatch" {
		if now, err := v.policies(v.r.PathValue("id")); err == nil {
			set = now
		}
	} else if f.V("version") == set.Version {
		return f, nil
	}
	c := changes(f.V("seen"), f.V("texts"), set.list(v.dir()))
	f.Changes = c.List
	return f.fault("", c.Text), c.Marks
}

type ruleFormData struct {
	G       group
	Dir     string
	Version string
	Seen    string
	Texts   string
	At      string // 0-based place, "" is the end
	Places  []choice
	Lines   []line
	Row     int // the line at fault
	F       form
	Types   []ruleType
	Groups  []group
	Rule    string // the id of the rule being edited
	N       int
}

// Fault is the fault of one part of one line.
func (d ruleFormData) Fault(row int, part string) string {
	if d.F.Fault != "" && row == d.Row && lineField(d.F.Field) == part {
		return d.F.Fault
	}
	return ""
}

func (v *visit) ruleForm(set policySet) (ruleFormData, error) {
	g, err := v.group(v.r.PathValue("id"))
	if err != nil {
		return ruleFormData{}, err
	}
	dir := v.dir()
	d := ruleFormData{G: g, Dir: dir, Version: set.Version, Seen: idsOf(set.list(dir)), Texts: textsOf(set.list(dir)), Row: -1, Types: ruleTypes(), At: v.r.FormValue("at")}
	for i, r := range set.list(dir) {
		l := lineOf(r)
		d.Places = append(d.Places, choice{Id: strconv.Itoa(i), Name: fmt.Sprintf("above rule %d: %s %s %s", i+1, l.Policy, l.Service, l.Source)})
	}
	if v.draft != nil { // seen before the login expired
		d.Version, d.Seen, d.Texts = v.draft.Get("version"), v.draft.Get("seen"), v.draft.Get("texts")
	}
	d.Groups, _, err = v.searchGroups("", 0, 50)
	return d, err
}

// lines reads the rows of a rule form.
func (f form) lines() []line {
	var all []line
	for i := range f.Values["Source"] {
		at := func(name string) string {
			if list := f.Values[name]; i < len(list) {
				return list[i]
			}
			return ""
		}
		all = append(all, line{at("Source"), at("Service"), at("Policy"), at("Notes")})
	}
	return all
}

// addRules inserts rows at one place, in one call.
func (v *visit) addRules() error {
	set, err := v.policies(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d, err := v.ruleForm(set)
	if err != nil {
		return err
	}
	d.F = v.initial()
	if d.Lines = d.F.lines(); len(d.Lines) == 0 {
		d.Lines = []line{{Policy: "Allow"}}
	}
	if v.posted() {
		d.F = v.typed()
		d.Lines = d.F.lines()
		if d.F.V("more") != "" {
			d.Lines = append(d.Lines, line{Policy: "Allow"})
			return v.show(200, "rule-add", "sg", "Add rules", d)
		}
		done, err := v.insertLines(&d, set)
		if done || err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "rule-add", "sg", "Add rules", d)
}

// insertLines tries to write the form's rows. When it is refused, d tells why.
func (v *visit) insertLines(d *ruleFormData, set policySet) (done bool, err error) {
	var rows []m
	var places []int // row in the call → row in the form
	for i, l := range d.Lines {
		if strings.TrimSpace(l.Source+l.Service+l.Notes) == "" {
			continue
		}
		p := l.policy()
		if n, err := strconv.Atoi(d.At); err == nil {
			p["PolicyIndex"] = n
		}
		rows, places = append(rows, p), append(places, i)
	}
	if len(rows) == 0 {
		d.F = d.F.fault("Protocol", "Fill in at least one row: where from, which protocol and port.")
		d.Row = 0
		return false, nil
	}
	if f, marks := v.stale(d.F, set, nil); marks != nil {
		d.F = f
		return false, nil
	}
	err = v.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": d.G.SecurityGroupId,
		"SecurityGroupPolicySet": m{"Version": set.Version, apiDirection(d.Dir): rows}}, nil)
	if err == nil {
		return true, v.to(rulesPath(d.G.SecurityGroupId, d.Dir), fmt.Sprintf("Added %s. In force for new and open flows at once.", plural(len(rows), "rule")))
	}
	if f, marks := v.stale(d.F, set, err); marks != nil {
		d.F = f
		return false, nil
	}
	if d.F, err = d.F.refused(err); err == nil {
		if row := faultRow(d.F.Field); row >= 0 && row < len(places) {
			d.Row = places[row]
		}
	}
	return false, err
}

// faultRow is the index in "SecurityGroupPolicySet.Ingress.2.Port", or -1.
func faultRow(field string) int {
	for part := range strings.SplitSeq(field, ".") {
		if n, err := strconv.Atoi(part); err == nil {
			return n
		}
	}
	return -1
}

func rulesPath(id, dir string) string { return "sg/" + id + "?dir=" + dir }

// editRule changes one rule in its place.
func (v *visit) editRule() error {
	id := v.r.PathValue("id")
	set, err := v.policies(id)
	if err != nil {
		return err
	}
	d, err := v.ruleForm(set)
	if err != nil {
		return err
	}
	list := set.list(d.Dir)
	d.Rule = v.r.FormValue("rule")
	at := slices.IndexFunc(list, func(r policyRule) bool { return r.PolicyId == d.Rule })
	if at < 0 {
		return v.editGone(d, set)
	}
	d.N, d.F, d.Lines = at+1, v.initial(), []line{lineOf(list[at])}
	if typed := d.F.lines(); len(typed) == 1 {
		d.Lines = typed
	}
	if !v.posted() {
		return v.show(200, "rule-edit", "sg", fmt.Sprintf("Edit rule %d", d.N), d)
	}
	d.F, d.Row = v.typed(), 0
	d.Lines = d.F.lines()
	if len(d.Lines) != 1 {
		return v.problem(http.StatusBadRequest, "This form is broken", "Nothing was changed. Load the rule again.")
	}
	f, marks := v.stale(d.F, set, nil)
	if marks == nil {
		p := d.Lines[0].policy()
		p["PolicyIndex"] = at
		err := v.do(vpcVersion, "ReplaceSecurityGroupPolicy", m{"SecurityGroupId": id,
			"SecurityGroupPolicySet": m{"Version": set.Version, apiDirection(d.Dir): []m{p}}}, nil)
		if err == nil {
			return v.to(rulesPath(id, d.Dir), fmt.Sprintf("Saved rule %d.", d.N))
		}
		if f, marks = v.stale(d.F, set, err); marks == nil {
			if f, err = d.F.refused(err); err != nil {
				return err
			}
		}
	}
	d.F = f
	return v.show(d.F.status(), "rule-edit", "sg", fmt.Sprintf("Edit rule %d", d.N), d)
}

// editGone answers who edits a rule that is no more. What was typed is offered
// as a new rule in its place.
func (v *visit) editGone(d ruleFormData, set policySet) error {
	d.F = v.initial()
	if v.posted() {
		d.F = v.typed()
	}
	if d.Lines = d.F.lines(); len(d.Lines) != 1 {
		return v.problem(http.StatusNotFound, "This rule is gone", "Somebody removed or rewrote it since you loaded the page.")
	}
	at := slices.Index(strings.Split(d.F.V("seen"), ","), d.Rule)
	if d.At = ""; at >= 0 && at < len(d.Places) {
		d.At = strconv.Itoa(at)
	}
	d.Version, d.Seen, d.Texts = set.Version, idsOf(set.list(d.Dir)), textsOf(set.list(d.Dir))
	c := changes(d.F.V("seen"), d.F.V("texts"), set.list(d.Dir))
	d.F.Changes = c.List
	d.F = d.F.fault("", c.Text+" The rule that you edited is not there any more; what you typed is below, as a new rule.")
	return v.show(d.F.status(), "rule-add", "sg", "Add rules", d)
}

// deleteRules removes the ticked rules, after asking.
func (v *visit) deleteRules() error {
	f, id := v.typed(), v.r.PathValue("id")
	set, err := v.policies(id)
	if err != nil {
		return err
	}
	dir := v.dir()
	if f, marks := v.stale(f, set, nil); marks != nil {
		return v.showRules(f, marks)
	}
	q := confirmation{Danger: true, Button: "Delete", Back: Root + rulesPath(id, dir),
		Text:   "What these rules allowed is judged again at once, open flows too.",
		Hidden: [][2]string{{"dir", dir}, {"version", set.Version}, {"seen", f.V("seen")}, {"texts", f.V("texts")}, {"step", "confirmed"}}}
	var gone []m
	for i, r := range set.list(dir) {
		if f.Has("rule", r.PolicyId) {
			l := lineOf(r)
			gone = append(gone, m{"PolicyIndex": i})
			q.List = append(q.List, fmt.Sprintf("%d: %s %s %s %s", i+1, l.Policy, l.Service, cmp.Or(l.Source, "all"), l.Notes))
			q.Hidden = append(q.Hidden, [2]string{"rule", r.PolicyId})
		}
	}
	if len(gone) == 0 {
		return v.showRules(f.fault("rule", "Tick at least one rule."), nil)
	}
	q.Heading = "Delete " + plural(len(gone), "rule")
	if f.V("step") != "confirmed" {
		return v.confirm("sg", q)
	}
	err = v.do(vpcVersion, "DeleteSecurityGroupPolicies", m{"SecurityGroupId": id,
		"SecurityGroupPolicySet": m{"Version": set.Version, apiDirection(dir): gone}}, nil)
	if err == nil {
		return v.to(rulesPath(id, dir), "Deleted "+plural(len(gone), "rule")+".")
	}
	return v.rulesRefused(f, set, err)
}

// rulesRefused shows the rule page with a refusal or a conflict on it.
func (v *visit) rulesRefused(f form, set policySet, err error) error {
	if f, marks := v.stale(f, set, err); marks != nil {
		return v.showRules(f, marks)
	}
	if f, err = f.refused(err); err != nil {
		return err
	}
	return v.showRules(f, nil)
}

// orderRules writes a new order: one rule moved by a button ("pol-x:up"), or
// all of them dragged.
func (v *visit) orderRules() error {
	f, id := v.typed(), v.r.PathValue("id")
	set, err := v.policies(id)
	if err != nil {
		return err
	}
	if f, marks := v.stale(f, set, nil); marks != nil {
		return v.showRules(f, marks)
	}
	dir := v.dir()
	ids, err := reorder(strings.Split(idsOf(set.list(dir)), ","), f)
	if err != nil {
		return v.showRules(f.fault("", err.Error()), nil)
	}
	var rules []m
	for _, want := range ids {
		for _, r := range set.list(dir) {
			if r.PolicyId == want {
				rules = append(rules, stored(r))
			}
		}
	}
	err = v.do(ourVersion, "SetSecurityGroupPolicies", m{"SecurityGroupId": id, "Version": set.Version,
		"Direction": apiDirection(dir), "Policies": rules}, nil)
	if err == nil {
		return v.to(rulesPath(id, dir)+"&"+query("moved", f.V("move")), "Moved. The first rule that matches decides.")
	}
	return v.rulesRefused(f, set, err)
}

// reorder is the list in the order that a form asks for.
func reorder(ids []string, f form) ([]string, error) {
	ids = slices.Clone(ids)
	if order := f.V("order"); order != "" {
		want := strings.Split(order, ",")
		sorted, have := slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(ids))
		if !slices.Equal(sorted, have) {
			return nil, errors.New("The order that was sent is not of this list. Nothing was changed.")
		}
		return want, nil
	}
	id, way, _ := strings.Cut(f.V("move"), ":")
	at := slices.Index(ids, id)
	to := at - 1
	if way == "down" {
		to = at + 1
	}
	if at < 0 || to < 0 || to >= len(ids) {
		return nil, errors.New("It cannot move any further.")
	}
	ids[at], ids[to] = ids[to], ids[at]
	return ids, nil
}

// Since says from when hits are counted.
func (d rulePageData) Since() string {
	if d.Barred {
		return "Hits are counted over all projects and not shown to a key with projects."
	}
	earliest := ""
	for _, r := range d.Rows {
		if b := r.Hits.Baseline; b != "" && (earliest == "" || b < earliest) {
			earliest = b
		}
	}
	if earliest == "" {
		return "Nothing has been counted yet."
	}
	return "Hits are packets since " + toSecond(earliest) + "."
}
