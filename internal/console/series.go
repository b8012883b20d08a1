// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// seriesAnswer is what DescribeSeries tells.
type seriesAnswer struct {
	Metric, Source, Since string
	Series                []series
	Others                *struct {
		Count    int
		Complete bool
		Total    uint64
		Values   []uint64
	}
	Untold uint64
}

type series struct {
	Gate, Direction, Reason                        string
	LoadBalancerId, ListenerId, LocationId, Status string
	InstanceId, SecurityGroupId, PolicyId, Object  string
	Port, PolicyPosition                           int
	Total                                          uint64
	Values                                         []uint64
}

// noNodes is what is shown instead of charts by a server that hears of nothing.
const noNodes = "This server has no nodes to hear from."

// noRight is what is shown instead of charts to a key for some projects.
const noRight = "Charts count the packets of all projects, and your key is not for all of them."

// askSeries asks for counts over the span that the page shows; missing says
// why there are none.
func (v *visit) askSeries(in m) (out seriesAnswer, missing string, err error) {
	s := v.span()
	in["Step"], in["Points"] = s.Step, s.Points
	if in["Limit"] == nil {
		in["Limit"] = chartParts
	}
	err = v.do(ourVersion, "DescribeSeries", in, &out)
	if e := (*cloudapi.Error)(nil); errors.As(err, &e) && e.Code == "UnsupportedOperation" {
		return out, noNodes, nil
	} else if e != nil && e.Code == "UnauthorizedOperation" {
		return out, noRight, nil
	}
	return out, "", err
}

func (v *visit) span() span { return spanOf(v.r.URL.Query().Get("span")) }

// notes say what an answer lacks.
func (v *visit) notes(a seriesAnswer) (all []string) {
	if since, err := time.Parse(time.RFC3339Nano, a.Since); err == nil && v.Now().Sub(since) < time.Duration(v.span().Step*v.span().Points)*time.Second {
		all = append(all, "Counted since "+since.UTC().Format("15:04:05")+" UTC, when the server began.")
	}
	if a.Untold > 0 {
		all = append(all, fmt.Sprintf("A sample: nodes could not tell %d verdicts of this time.", a.Untold))
	}
	if a.Others != nil && !a.Others.Complete && a.Metric != "health" {
		all = append(all, "More things were counted than the server can tell apart.")
	}
	return all
}

// chartOf draws an answer; name says what a part is called, its class and where
// it leads. Without a class parts get the next colour.
func (v *visit) chartOf(title, unit string, lines bool, in m, name func(series) (name, class, href string)) (chart, error) {
	a, missing, err := v.askSeries(in)
	c := chart{Title: title, Unit: unit, Lines: lines, Span: v.span(), Missing: missing, Notes: v.notes(a)}
	if err != nil || missing != "" {
		return c, err
	}
	if since, err := time.Parse(time.RFC3339Nano, a.Since); err == nil {
		counted := int(v.Now().Sub(since)/time.Second) / c.Span.Step
		c.begin = min(max(0, c.Span.Points-1-counted), c.Span.Points-1)
	}
	for i, s := range a.Series {
		p := chartPart{values: s.Values}
		if p.Name, p.Class, p.Href = name(s); p.Class == "" {
			p.Class = "s" + strconv.Itoa(i)
		}
		c.Parts = append(c.Parts, p)
	}
	if a.Others != nil && a.Others.Total > 0 {
		c.Parts = append(c.Parts, chartPart{Name: plural(a.Others.Count, "other"), Class: "rest", values: a.Others.Values})
	}
	c.draw()
	return c, nil
}

// requests charts HTTP requests by the class of their status, of one load
// balancer or of all.
func (v *visit) requests(balancer string) (chart, error) {
	c, err := v.chartOf("HTTP requests", "requests", false, of(m{"Metric": "requests", "GroupBy": []string{"Status"}}, "LoadBalancerId", balancer), func(s series) (string, string, string) {
		class := map[string]string{"2xx": "ok", "3xx": "s1", "4xx": "warn", "5xx": "bad"}[s.Status]
		name := s.Status
		if s.Status == "none" {
			name = "client left"
		}
		if class == "" {
			class = "rest"
		}
		return name, class, ""
	})
	slices.SortFunc(c.Parts, func(a, b chartPart) int { return compareText(a.Name, b.Name) })
	return c, err
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// of adds a field to a request unless it is empty.
func of(in m, field, value string) m {
	if value != "" {
		in[field] = value
	}
	return in
}

// flowsByGate charts new flows at either gate. A flow that passes both is in
// both lines.
func (v *visit) flowsByGate(balancer string) (chart, error) {
	in := of(m{"Metric": "flows", "Source": "verdicts", "GroupBy": []string{"Gate"}}, "LoadBalancerId", balancer)
	return v.chartOf("New flows", "flows", true, in, func(s series) (string, string, string) {
		class := map[string]string{"clb": "s0", "cvm": "s1"}[s.Gate]
		return gateWord(s.Gate), class, Root + "verdicts?" + query("gate", s.Gate, "action", "ACCEPT", "clb", balancer)
	})
}

// flowsOfInstance charts new flows to and from an instance.
func (v *visit) flowsOfInstance(id string) (chart, error) {
	return v.chartOf("New flows at gate 2", "flows", true, m{"Metric": "flows", "Gate": "cvm", "InstanceId": id, "GroupBy": []string{"Direction"}}, func(s series) (string, string, string) {
		return map[string]string{dirIn: "inbound", dirOut: "outbound"}[s.Direction], "", ""
	})
}

// byRule charts flows or refusals by the rule that decided.
func (v *visit) byRule(title, metric, field, id string) (chart, error) {
	in := of(m{"Metric": metric, "GroupBy": []string{"Gate", "Direction", "SecurityGroupId", "PolicyId", "Object", "Reason"}}, field, id)
	if field != "LoadBalancerId" && field != "InstanceId" {
		in["GroupBy"] = []string{"Direction", "SecurityGroupId", "PolicyId", "Object"}
	}
	a := []series{}
	c, err := v.chartOf(title, metric, false, in, func(s series) (string, string, string) {
		a = append(a, s)
		return "", "", ""
	})
	if err != nil {
		return c, err
	}
	names, err := v.groupNames(a)
	for i, s := range a {
		c.Parts[i].Name, c.Parts[i].Href = ruleName(s, names)
	}
	return c, err
}

// groupNames are the names of the groups in an answer.
func (v *visit) groupNames(all []series) (map[string]string, error) {
	var ids []string
	for _, s := range all {
		if s.SecurityGroupId != "" && !contains(ids, s.SecurityGroupId) {
			ids = append(ids, s.SecurityGroupId)
		}
	}
	groups, err := v.named(ids)
	names := map[string]string{}
	for _, g := range groups {
		names[g.SecurityGroupId] = g.SecurityGroupName
	}
	return names, err
}

// ruleName says what decided, and where it is.
func ruleName(s series, names map[string]string) (name, href string) {
	if s.PolicyId == "" {
		switch {
		case s.Object == "":
			return gateWord(s.Gate) + ": " + reasonWord(s.Reason), Root + "verdicts?" + query("gate", s.Gate, "clb", s.LoadBalancerId)
		case len(s.Object) > 3 && s.Object[:3] == "lb-":
			return "implicit last rule of " + s.Object, Root + "clb/" + s.Object + "/security"
		}
		return "implicit last rule of " + s.Object, Root + "cvm/" + s.Object + "/security"
	}
	if number, ok := strings.CutPrefix(s.PolicyId, "sys-"); ok {
		return "system rule " + number, Root + "verdicts?" + query("gate", s.Gate, "clb", s.LoadBalancerId)
	}
	name = names[s.SecurityGroupId]
	if s.Direction == dirOut {
		name += " outbound"
	}
	if s.PolicyPosition == 0 {
		return name + ", a rule that is gone", Root + "sg/" + s.SecurityGroupId + "?" + query("dir", s.Direction)
	}
	return fmt.Sprintf("%s rule %d", name, s.PolicyPosition), Root + "sg/" + s.SecurityGroupId + "?" + query("dir", s.Direction) + "#rule-" + s.PolicyId
}

// stripTargets is how many targets a page shows the health of over time; the
// ill come first.
const stripTargets = 20

// probes shows the health of targets over time, of a load balancer or of an
// instance.
func (v *visit) probes(field, id string) (strip, error) {
	a, missing, err := v.askSeries(m{"Metric": "health", field: id, "Limit": stripTargets})
	s := strip{Span: v.span(), Width: chartWidth, Height: 14, Missing: missing, Notes: v.notes(a)}
	for _, t := range a.Series {
		row := stripRow{Name: fmt.Sprintf("%s:%d", t.InstanceId, t.Port), Href: Root + "cvm/" + t.InstanceId}
		if field == "InstanceId" {
			row.Name, row.Href = fmt.Sprintf("%s %s, port %d", t.LoadBalancerId, t.ListenerId, t.Port), Root+"clb/"+t.LoadBalancerId
		}
		row.runs(t.Values, s.Span)
		s.Rows = append(s.Rows, row)
	}
	if a.Others != nil {
		s.More = a.Others.Count
	}
	return s, err
}

// A traffic is the charts of a page.
type traffic struct {
	Spans  []spanLink
	Charts []chart
	Strip  *strip
}

// A spanLink shows a page with another span.
type spanLink struct {
	Name, Href string
	Current    bool
}

// trafficOf gathers the charts of the page at a path; the first error ends it.
func (v *visit) trafficOf(path string, charts ...func() (chart, error)) (traffic, error) {
	t := traffic{}
	for _, s := range chartSpans() {
		q := v.r.URL.Query()
		q.Set("span", s.Word)
		t.Spans = append(t.Spans, spanLink{s.Name, Root + path + "?" + q.Encode() + "#charts", s.Word == v.span().Word})
	}
	for _, make := range charts {
		c, err := make()
		if err != nil {
			return t, err
		}
		t.Charts = append(t.Charts, c)
	}
	return t, nil
}
