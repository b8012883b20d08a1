// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A verdictFilter is what somebody looks for in the stream.
type verdictFilter struct {
	Gate, Action, Group, Address, Balancer, Instance string

	Protocol string // TCP, UDP or ICMP, whose IPv6 one is meant too
	Port     string // of the destination
	Rule     string // its number in its group, or its id
	Probes   string // hide: without health checks
}

func verdictFilterOf(q url.Values) verdictFilter {
	return verdictFilter{q.Get("gate"), q.Get("action"), q.Get("group"), strings.TrimSpace(q.Get("address")), q.Get("clb"), strings.TrimSpace(q.Get("cvm")),
		q.Get("protocol"), strings.TrimSpace(q.Get("port")), strings.TrimSpace(q.Get("rule")), q.Get("probes")}
}

// Query is the filter as an address writes it.
func (f verdictFilter) Query() string {
	return query("gate", f.Gate, "action", f.Action, "group", f.Group, "address", f.Address, "clb", f.Balancer, "cvm", f.Instance,
		"protocol", f.Protocol, "port", f.Port, "rule", f.Rule, "probes", f.Probes)
}

func (f verdictFilter) filters() []m {
	var all []m
	for _, p := range [][2]string{{"gate", f.Gate}, {"action", f.Action}, {"security-group-id", f.Group}, {"load-balancer-id", f.Balancer}, {"instance-id", f.Instance}, {"source-address", f.Address}} {
		if p[1] != "" {
			all = append(all, m{"Name": p[0], "Values": []string{p[1]}})
		}
	}
	return all
}

func (f verdictFilter) matches(v verdict) bool {
	for _, p := range [][2]string{{f.Gate, v.Gate}, {f.Action, v.Action}, {f.Group, v.SecurityGroupId}, {f.Balancer, v.LoadBalancerId},
		{f.Instance, v.InstanceId}, {f.Address, addressOf(v.Source)}} {
		if p[0] != "" && p[0] != p[1] {
			return false
		}
	}
	switch {
	case f.Probes == "hide" && v.probe,
		f.Protocol != "" && !strings.EqualFold(f.Protocol, strings.TrimSuffix(strings.ToUpper(v.Protocol), "V6")),
		f.Port != "" && f.Port != portOf(v.Destination),
		f.Rule != "" && f.Rule != v.PolicyId && (v.SecurityGroupId == "" || f.Rule != strconv.Itoa(v.PolicyPosition)):
		return false
	}
	return true
}

// portOf is an address's port, "" when it has none.
func portOf(text string) string {
	if a, err := netip.ParseAddrPort(text); err == nil {
		return strconv.Itoa(int(a.Port()))
	}
	return ""
}

// A verdictRow is a verdict with the address that explains it.
type verdictRow struct {
	verdict
	Clock   string
	Explain string
}

func rowOf(v verdict) verdictRow {
	clock := v.Time
	if _, after, ok := strings.Cut(v.Time, "T"); ok {
		clock = strings.TrimSuffix(after[:min(12, len(after))], "Z")
	}
	return verdictRow{v, clock, Root + "verdicts/explain?" + query("time", v.Time, "gate", v.Gate, "action", v.Action, "reason", v.Reason,
		"group", v.SecurityGroupId, "rule", v.PolicyId, "position", strconv.Itoa(v.PolicyPosition), "revision", strconv.FormatUint(uint64(v.Revision), 10),
		"protocol", v.Protocol, "source", v.Source, "destination", v.Destination, "direction", v.Direction,
		"clb", v.LoadBalancerId, "listener", v.ListenerId, "cvm", v.InstanceId, "node", v.Node)}
}

// readVerdicts reads matching verdicts after a cursor, newest last.
func (v *visit) readVerdicts(ctx context.Context, f verdictFilter, after int64, wait int) (rows []verdictRow, next int64, lost uint64, err error) {
	var out struct {
		Verdicts []verdict
		Next     int64
		Lost     uint64
	}
	err = v.as(ctx, ourVersion, "DescribeVerdicts", m{"After": after, "Limit": 1000, "WaitSeconds": wait, "Filters": f.filters()}, &out)
	v.history.tellProbes(out.Verdicts)
	for _, one := range out.Verdicts {
		if f.matches(one) {
			rows = append(rows, rowOf(one))
		}
	}
	return rows, out.Next, out.Lost, err
}

// shownVerdicts is how many rows the page has.
const shownVerdicts = 100

type verdictsData struct {
	F       verdictFilter
	Rows    []verdictRow // newest first
	Fault   string       // of the address
	PortBad string       // of the port
	NoNodes bool
	Barred  bool // the key may not see verdicts
	Groups  []group
	CLBs    []balancer

	Unlisted string // the load balancer of the filter, when CLBs has not got it
}

func (v *visit) verdicts() error {
	d := verdictsData{F: verdictFilterOf(v.r.URL.Query())}
	if d.F.Address != "" {
		if _, err := netip.ParseAddr(d.F.Address); err != nil {
			d.Fault = "This is not an address; give one such as 203.0.113.10."
		}
	}
	if _, err := strconv.ParseUint(d.F.Port, 10, 16); err != nil && d.F.Port != "" {
		d.PortBad = "This is not a port; give one from 0 to 65535."
	}
	var err error
	if d.Groups, _, err = v.searchGroups("", 0, 100); err != nil {
		return err
	}
	if d.CLBs, _, err = v.balancers(m{"Limit": 100}); err != nil {
		return err
	}
	if id := d.F.Balancer; !slices.ContainsFunc(d.CLBs, func(b balancer) bool { return b.LoadBalancerId == id }) {
		d.Unlisted = id
	}
	d.Barred = v.who().Scoped()
	if d.Fault+d.PortBad == "" && !d.Barred {
		var found []verdict
		found, d.NoNodes = v.history.newest(shownVerdicts, d.F.matches)
		for _, one := range found {
			d.Rows = append(d.Rows, rowOf(one))
		}
	}
	return v.show(200, "verdicts", "verdicts", "Verdicts", d)
}

type explainData struct {
	V       verdict
	Now     explained
	Fault   string
	Ours    int // the gate of Now that is the verdict's, -1 none
	Changed bool
}

// explainVerdict shows one verdict again and asks who would decide now.
func (v *visit) explainVerdict() error {
	q := v.r.URL.Query()
	revision, _ := strconv.ParseUint(q.Get("revision"), 10, 32)
	position, _ := strconv.Atoi(q.Get("position"))
	d := explainData{Ours: -1, V: verdict{Time: q.Get("time"), Node: q.Get("node"), Gate: q.Get("gate"), Action: q.Get("action"), Reason: q.Get("reason"),
		SecurityGroupId: q.Get("group"), PolicyId: q.Get("rule"), PolicyPosition: position, Revision: uint32(revision), Protocol: q.Get("protocol"),
		Source: q.Get("source"), Destination: q.Get("destination"), Direction: q.Get("direction"), LoadBalancerId: q.Get("clb"),
		ListenerId: q.Get("listener"), InstanceId: q.Get("cvm")}}
	in, err := v.questionOf(d.V)
	if err == nil {
		d.Now, err = v.explain(in)
	}
	if err != nil {
		f, err := form{}.wrong(err)
		if err != nil {
			return err
		}
		d.Fault = f.Fault
	}
	for i, g := range d.Now.Gates {
		if g.Gate == d.V.Gate && (g.Gate == "clb" || g.InstanceId == d.V.InstanceId) && (d.V.Direction == "" || g.Direction == d.V.Direction) {
			d.Ours = i
			d.Changed = g.Action != d.V.Action
			break
		}
	}
	d.Now.Gates = together(d.Now.Gates, d.V.InstanceId)
	return v.show(200, "explain", "verdicts", "Why was this "+map[bool]string{true: "allowed", false: "refused"}[d.V.Action == "ACCEPT"]+"?", d)
}

// questionOf is the packet of a verdict as its client sent it: to the load
// balancer's listener, or straight to the instance.
func (v *visit) questionOf(e verdict) (m, error) {
	in := m{"Source": addressOf(e.Source), "Protocol": e.Protocol}
	port := 0
	if a, err := netip.ParseAddrPort(e.Destination); err == nil {
		port = int(a.Port())
	}
	switch {
	case e.Gate == "cvm" && e.Direction == dirOut:
		return nil, fieldError{"", "This is what an instance sent by itself. Its outbound rules decide; see its security groups."}
	case e.LoadBalancerId == "" && e.InstanceId == "":
		return nil, fieldError{"", "This verdict names no object of this region."}
	case e.LoadBalancerId == "":
		in["InstanceId"] = e.InstanceId
	default:
		in["LoadBalancerId"] = e.LoadBalancerId
		if e.Gate == "cvm" && e.ListenerId != "" {
			var out struct{ Listeners []listener }
			if err := v.do(clbVersion, "DescribeListeners", m{"LoadBalancerId": e.LoadBalancerId, "ListenerIds": []string{e.ListenerId}}, &out); err != nil {
				return nil, err
			}
			if len(out.Listeners) == 0 {
				return nil, fieldError{"", "The listener that this came through has been deleted since."}
			}
			port = out.Listeners[0].Port
		}
	}
	if port != 0 {
		in["Port"] = port
	}
	return in, nil
}
