// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// openPorts is "one-click open": what people who need nothing else want.
func (v *visit) openPorts() error {
	id, dir := v.r.PathValue("id"), v.dir()
	g, err := v.group(id)
	if err != nil {
		return err
	}
	q := confirmation{Heading: "One-click open", Button: "Allow these", Back: Root + rulesPath(id, dir), Hidden: [][2]string{{"dir", dir}},
		Text: "This puts rules at the top of " + g.SecurityGroupName + " that allow ICMP and TCP 20, 21, 22, 80, 443 and 3389 for all addresses. Rules that are there already stay as they are."}
	if v.posted() {
		set, err := v.policies(id)
		if err != nil {
			return err
		}
		rules := missingLines(openLines(), set.list(dir))
		if len(rules) == 0 {
			return v.to(rulesPath(id, dir), "All of it is allowed by rules already.")
		}
		err = v.do(vpcVersion, "CreateSecurityGroupPolicies", m{"SecurityGroupId": id,
			"SecurityGroupPolicySet": m{"Version": set.Version, apiDirection(dir): rules}}, nil)
		if err == nil {
			return v.to(rulesPath(id, dir), "Allowed at the top: ICMP and TCP 20, 21, 22, 80, 443, 3389.")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("sg", q)
}

// missingLines are lines for both families, without those that a list has.
func missingLines(lines []line, have []policyRule) []m {
	var all []m
	for _, l := range lines {
		for _, family := range []struct{ source, icmp string }{{"0.0.0.0/0", "ICMP"}, {"::/0", "ICMPv6"}} {
			want := l
			want.Source = family.source
			if l.Service == "ICMP" {
				want.Service = family.icmp
			}
			if slices.ContainsFunc(have, func(r policyRule) bool {
				h := lineOf(r)
				return h.Source == want.Source && strings.EqualFold(h.Service, want.Service) && h.Policy == want.Policy
			}) {
				continue
			}
			p := want.policy()
			p["PolicyIndex"] = 0
			all = append(all, p)
		}
	}
	return all
}

type importData struct {
	G       group
	Dir     string
	Version string
	Seen    string
	Texts   string
	F       form
	Preview []line
	Faults  map[int]string // of Preview's lines, by index
	Refused bool           // these lines cannot be imported
	Have    int
}

// importRules reads CSV, shows it, and then writes it in one call.
func (v *visit) importRules() error {
	id := v.r.PathValue("id")
	g, err := v.group(id)
	if err != nil {
		return err
	}
	set, err := v.policies(id)
	if err != nil {
		return err
	}
	d := importData{G: g, Dir: v.dir(), Version: set.Version, F: v.initial("mode", "overwrite")}
	d.Seen, d.Texts, d.Have = idsOf(set.list(d.Dir)), textsOf(set.list(d.Dir)), len(set.list(d.Dir))
	if v.draft != nil { // seen before the login expired
		d.Version, d.Seen, d.Texts = v.draft.Get("version"), v.draft.Get("seen"), v.draft.Get("texts")
	}
	if v.posted() {
		d.F = v.typed()
		if err := v.upload(&d); err != nil {
			return err
		}
		d.Preview, err = readCSV(d.F.V("csv"))
		switch {
		case err != nil:
			d.F = d.F.fault("csv", err.Error())
		case len(d.Preview) == 0:
			d.F = d.F.fault("csv", "There are no rules in it.")
		case d.F.V("step") == "import":
			if done, err := v.importLines(&d, set); done || err != nil {
				return err
			}
		default:
			if err := v.tryLines(&d, set); err != nil {
				return err
			}
		}
	}
	return v.show(d.F.status(), "rule-import", "sg", "Import rules", d)
}

// upload puts a sent file's text in the place of a typed one.
func (v *visit) upload(d *importData) error {
	text, err := v.uploaded()
	if err == nil && text != "" {
		d.F.Values.Set("csv", text)
		d.F.Values.Del("step")
	}
	return err
}

// uploaded is a sent file's text, "" without one.
func (v *visit) uploaded() (string, error) {
	file, _, err := v.r.FormFile("file")
	if err != nil {
		return "", nil // none was sent
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if len(bytes.TrimSpace(text)) == 0 {
		return "", err
	}
	return string(text), err
}

func (v *visit) importLines(d *importData, set policySet) (done bool, err error) {
	if f, marks := v.stale(d.F, set, nil); marks != nil {
		d.F = f
		return false, nil
	}
	err = v.setLines(d, set, d.Preview, false)
	if err == nil {
		return true, v.to(rulesPath(d.G.SecurityGroupId, d.Dir), "Imported "+plural(len(d.Preview), "line")+".")
	}
	if f, marks := v.stale(d.F, set, err); marks != nil {
		d.F = f
		return false, nil
	}
	f, other := d.F.refused(err)
	if other != nil {
		return false, other
	}
	d.F = f
	if row := faultRow(f.Field); row >= 0 && row < len(d.Preview) {
		return false, v.tryLines(d, set)
	}
	return false, nil
}

// setLines makes lines one direction's rules, or finds out whether they could
// be.
func (v *visit) setLines(d *importData, set policySet, lines []line, dry bool) error {
	rules := policiesOf(lines)
	if d.F.V("mode") == "append" {
		rules = append(rules, storedAll(set.list(d.Dir))...)
	}
	return v.do(ourVersion, "SetSecurityGroupPolicies", m{"SecurityGroupId": d.G.SecurityGroupId, "Version": set.Version,
		"Direction": apiDirection(d.Dir), "Policies": rules, "DryRun": dry}, nil)
}

// maxLineFaults is how many lines at fault are named at once.
const maxLineFaults = 10

// tryLines asks the API about the previewed lines and writes nothing. It tells
// one fault at a time, so lines at fault are left out and the rest is asked
// about again.
func (v *visit) tryLines(d *importData, set policySet) error {
	left := make([]int, len(d.Preview)) // indexes of the lines that are asked about
	for i := range left {
		left[i] = i
	}
	d.Faults = map[int]string{}
	var said []string
	for len(d.Faults) < maxLineFaults {
		lines := make([]line, len(left))
		for i, at := range left {
			lines[i] = d.Preview[at]
		}
		err := v.setLines(d, set, lines, true)
		if err == nil {
			break
		}
		f, err := d.F.refused(err)
		if err != nil {
			return err
		}
		row := faultRow(f.Field)
		if row < 0 || row >= len(left) {
			if len(said) == 0 {
				d.F = f
			}
			break
		}
		fault := f.Fault
		if column := lineColumn(f.Field); column != "" {
			fault = column + ": " + fault
		}
		d.Faults[left[row]] = fault
		said = append(said, fmt.Sprintf("Row %d, %s", left[row]+1, fault))
		left = slices.Delete(left, row, row+1)
	}
	d.Refused = d.F.Fault != "" || len(said) > 0
	if len(said) > 0 {
		d.F = d.F.fault("csv", strings.Join(said, " · "))
	}
	return nil
}

// exportRules sends one direction's rules as CSV.
func (v *visit) exportRules() error {
	id, dir := v.r.PathValue("id"), v.dir()
	set, err := v.policies(id)
	if err != nil {
		return err
	}
	lines := make([]line, 0, len(set.list(dir)))
	for _, r := range set.list(dir) {
		lines = append(lines, lineOf(r))
	}
	var b bytes.Buffer
	if err := writeCSV(&b, lines); err != nil {
		return err
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/csv; charset=utf-8")
	h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", id+"-"+dir+"bound.csv"))
	v.w.WriteHeader(http.StatusOK)
	_, _ = v.w.Write(b.Bytes())
	return nil
}

// A binding is where a group is in force, as far as its rules need to know.
type binding struct {
	CLB, CVM int
	Probes   []probe
}

// A probe is where health checks of the group's instances come from.
type probe struct {
	LoadBalancerId, VIP string
	address             netip.Addr
}

// bindingOf finds the load balancers that probe a group's instances.
func (v *visit) bindingOf(g group) (binding, error) {
	b := binding{CLB: g.CLB, CVM: g.CVM}
	if g.CVM == 0 {
		return b, nil
	}
	var out struct {
		Sources []struct {
			LoadBalancerId string
			Addresses      []string
		}
	}
	err := v.do(ourVersion, "DescribeProbeSources", m{"SecurityGroupId": g.SecurityGroupId}, &out)
	for _, l := range out.Sources {
		for _, vip := range l.Addresses {
			if a, err := netip.ParseAddr(vip); err == nil {
				b.Probes = append(b.Probes, probe{l.LoadBalancerId, vip, a})
			}
		}
	}
	return b, err
}

// probesNamed is how many load balancers the rule page names.
const probesNamed = 5

// Few are the first probes, to be named; More how many there are beside them.
func (b binding) Few() []probe { return b.Probes[:min(probesNamed, len(b.Probes))] }

// More is how many probes Few leaves out; rules are held against all.
func (b binding) More() int { return len(b.Probes) - len(b.Few()) }

// sees says which source addresses a rule will see on the ways that lead to
// what its group is bound to.
func (b binding) sees(dir string, r policyRule) []string {
	if dir == dirOut {
		if b.CVM == 0 && b.CLB > 0 {
			return []string{"not asked at gate 1"}
		}
		return []string{"what the instance opens"}
	}
	if r.SecurityGroupId != "" {
		return []string{"members' private addresses"}
	}
	if r.AddressTemplate.AddressId+r.AddressTemplate.AddressGroupId != "" {
		return []string{"the template's addresses"}
	}
	p, err := netip.ParsePrefix(r.CidrBlock + r.Ipv6CidrBlock)
	if err != nil {
		a, err := netip.ParseAddr(r.CidrBlock + r.Ipv6CidrBlock)
		if err != nil {
			return nil
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	within := func(text string) bool {
		wide := netip.MustParsePrefix(text)
		return wide.Bits() <= p.Bits() && wide.Contains(p.Addr())
	}
	switch {
	case within("100.127.0.0/16"):
		return []string{"shared pool of kept-alive connections"}
	case within("100.64.0.0/16"):
		return []string{"probe range, allowed without a rule"}
	}
	var all []string
	probes := slices.ContainsFunc(b.Probes, func(q probe) bool { return p.Contains(q.address) })
	if !probes || !p.IsSingleIP() {
		all = append(all, "client")
	}
	if probes && (r.Protocol == "" || slices.Contains([]string{"TCP", "UDP", "ICMP", "ALL"}, strings.ToUpper(r.Protocol))) {
		all = append(all, "VIP probe")
	}
	return all
}

// Text says in a sentence what the group guards.
func (b binding) Text() string {
	var parts []string
	if b.CLB > 0 {
		parts = append(parts, fmt.Sprintf("gate 1 of %s, where it sees the client's own address and the listener port", plural(b.CLB, "load balancer")))
	}
	if b.CVM > 0 {
		parts = append(parts, fmt.Sprintf("gate 2 of %s, where it sees the client's own address and the service port", plural(b.CVM, "instance")))
	}
	return cmp.Or(strings.Join(parts, "; and "), "")
}
