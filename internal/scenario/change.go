// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// apply makes a group of the section's rules, or gives an existing group
// exactly those.
func (w *world) apply(ctx context.Context, args []string) error {
	name, section := args[0], args[len(args)-1]
	if _, ok := w.script.Groups[section]; !ok {
		return fmt.Errorf("no section -- %s --", section)
	}
	id := w.groups[name]
	if id == "" {
		var made struct {
			SecurityGroup struct{ SecurityGroupId string }
		}
		in := map[string]any{"GroupName": name, "GroupDescription": w.script.Name}
		if err := w.engine.Call(ctx, apiVPC(), "CreateSecurityGroup", in, &made); err != nil {
			return err
		}
		id = made.SecurityGroup.SecurityGroupId
		w.groups[name], w.names[id] = id, name
	}
	set, err := w.policySet(section)
	if err != nil {
		return err
	}
	now, err := w.policies(ctx, id)
	if err != nil {
		return err
	}
	// A list that is empty in the request leaves its direction alone; "0" clears both.
	if len(now.Ingress) > 0 && len(set.Ingress) == 0 || len(now.Egress) > 0 && len(set.Egress) == 0 {
		clearing := map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": map[string]any{"Version": "0"}}
		if err := w.engine.Call(ctx, apiVPC(), "ModifySecurityGroupPolicies", clearing, nil); err != nil {
			return err
		}
	}
	if len(set.Ingress)+len(set.Egress) == 0 {
		return nil
	}
	in := map[string]any{"SecurityGroupId": id, "SortPolicys": true, "SecurityGroupPolicySet": set}
	return w.engine.Call(ctx, apiVPC(), "ModifySecurityGroupPolicies", in, nil)
}

// policySet is both directions of a group as the API writes them.
type policySet struct {
	Ingress []map[string]any `json:",omitempty"`
	Egress  []map[string]any `json:",omitempty"`
}

func (w *world) policySet(section string) (set policySet, err error) {
	if set.Ingress, err = w.policyList(w.script.rules(section, false, w.without)); err != nil {
		return set, err
	}
	set.Egress, err = w.policyList(w.script.rules(section, true, w.without))
	return set, err
}

// policyList reads rules: accept|drop PROTOCOL|TEMPLATE PEER [PORT].
func (w *world) policyList(rules []string) ([]map[string]any, error) {
	var list []map[string]any
	for _, rule := range rules {
		words := strings.Fields(rule)
		if len(words) < 3 || len(words) > 4 {
			return nil, fmt.Errorf("rule %q: write accept|drop PROTOCOL|TEMPLATE PEER [PORT]", rule)
		}
		policy := map[string]any{"Action": strings.ToUpper(words[0])}
		if t, ok := w.templates[words[1]]; ok {
			field, value := t.named()
			policy[field] = value
		} else {
			policy["Protocol"] = strings.ToUpper(words[1])
		}
		field, value := w.peer(words[2])
		policy[field] = value
		if len(words) == 4 {
			policy["Port"] = words[3]
		}
		list = append(list, policy)
	}
	return list, nil
}

func (w *world) policies(ctx context.Context, id string) (policySet, error) {
	var out struct{ SecurityGroupPolicySet policySet }
	err := w.engine.Call(ctx, apiVPC(), "DescribeSecurityGroupPolicies", map[string]any{"SecurityGroupId": id}, &out)
	return out.SecurityGroupPolicySet, err
}

// bind gives the load balancer or an instance exactly the groups named.
func (w *world) bind(ctx context.Context, args []string) error {
	ids, err := w.groupIDs(args[1:])
	if err != nil {
		return err
	}
	if args[0] == "clb" {
		return w.task(ctx, "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": w.balancer, "SecurityGroups": ids}, nil)
	}
	i, ok := w.instances[args[0]]
	if !ok {
		return fmt.Errorf("no instance %s", args[0])
	}
	return w.bindInstance(ctx, i, ids)
}

// listen makes a listener with its targets; HTTP gets one rule for every URL.
func (w *world) listen(ctx context.Context, args []string) error {
	check := map[string]any{"HealthSwitch": 1, "TimeOut": 2, "IntervalTime": 2, "HealthNum": 2, "UnHealthNum": 2}
	proto, portText, args := args[0], args[1], args[2:]
	if w.vip.Is6() {
		check["IntervalTime"] = lb.LeastInterval6
	}
	for len(args) > 3 && !strings.HasSuffix(args[0], ">") {
		if err := checkOption(check, args[0], args[1]); err != nil {
			return err
		}
		args = args[2:]
	}
	ports, _, err := lb.ParsePorts("", portText)
	if err != nil || len(ports) != 1 || args[0] != "->" && args[0] != "=>" || !slices.Contains([]string{"tcp", "udp", "http"}, proto) {
		return fmt.Errorf("write %s", verbs["listen"].usage)
	}
	at := door{ports[0].First, proto == "udp"}
	l := listener{last: ports[0].Last, layer7: proto == "http"}
	in := map[string]any{"LoadBalancerId": w.balancer, "Ports": []uint16{at.port}, "Protocol": strings.ToUpper(proto)}
	if l.last != at.port {
		in["EndPort"] = l.last
	}
	if !l.layer7 {
		in["HealthCheck"], in["TargetType"] = check, targetType(args[0])
	}
	var made struct{ ListenerIds []string }
	if err := w.task(ctx, "CreateListener", in, &made); err != nil {
		return err
	}
	l.id = made.ListenerIds[0]
	if l.layer7 {
		rule := map[string]any{"Domain": "www.example.com", "Url": "/", "HealthCheck": check, "TargetType": targetType(args[0])}
		in := map[string]any{"LoadBalancerId": w.balancer, "ListenerId": l.id, "Rules": []any{rule}}
		var made struct{ LocationIds []string }
		if err := w.task(ctx, "CreateRule", in, &made); err != nil {
			return err
		}
		l.location = made.LocationIds[0]
	}
	w.listeners[at] = l
	if args[0] == "=>" {
		return w.associate(ctx, at, args[1:])
	}
	var targets []map[string]any
	for _, arg := range args[1:] {
		name, port, err := target(arg)
		if err != nil {
			return err
		}
		targets = append(targets, map[string]any{"InstanceId": w.instances[name].ID, "Port": port})
	}
	in = map[string]any{"LoadBalancerId": w.balancer, "ListenerId": l.id, "Targets": targets}
	if l.layer7 {
		in["LocationId"] = l.location
	}
	return w.task(ctx, "RegisterTargets", in, nil)
}

// checkOption reads "source-ip-type 1" or "check TYPE": a type of check, for
// CUSTOM with what is sent and expected, as in custom:SEND:RECEIVE.
func checkOption(check map[string]any, name, value string) error {
	words := strings.Split(value, ":")
	switch {
	case name == "source-ip-type" && (value == "0" || value == "1"):
		check["SourceIpType"] = int(value[0] - '0')
		return nil
	case name == "check" && len(words) <= 3:
		check["CheckType"] = strings.ToUpper(words[0])
		if check["CheckType"] == "HTTP" {
			check["HttpVersion"], check["HttpCheckDomain"] = "HTTP/1.1", ""
		}
		if len(words) == 3 {
			check["ContextType"], check["SendContext"], check["RecvContext"] = "TEXT", words[1], words[2]
		}
		return nil
	}
	return fmt.Errorf("write %s", verbs["listen"].usage)
}

func (w *world) switchOn(ctx context.Context, args []string) error {
	if args[0] == "return-path" {
		return w.returnPath(ctx, args[1])
	}
	if args[1] != "on" && args[1] != "off" {
		return fmt.Errorf("write %s", verbs["switch"].usage)
	}
	if args[0] != "pass-to-target" {
		return w.startOrStop(ctx, args[0], args[1] == "on")
	}
	return w.task(ctx, "ModifyLoadBalancerAttributes", map[string]any{"LoadBalancerId": w.balancer, "LoadBalancerPassToTarget": args[1] == "on"}, nil)
}

// returnPath says which way answers of the load balancer take, and reads it back.
func (w *world) returnPath(ctx context.Context, want string) error {
	in := map[string]any{"LoadBalancerId": w.balancer, "ReturnPath": want}
	if err := w.engine.Call(ctx, apiSallyport(), "ModifyReturnPath", in, nil); err != nil {
		return err
	}
	var out struct {
		ReturnPathSet []struct{ ReturnPath string }
	}
	in = map[string]any{"LoadBalancerIds": []string{w.balancer}}
	err := w.engine.Call(ctx, apiSallyport(), "DescribeReturnPaths", in, &out)
	if err == nil && (len(out.ReturnPathSet) != 1 || out.ReturnPathSet[0].ReturnPath != want) {
		err = fmt.Errorf("it reads back as %v", out.ReturnPathSet)
	}
	return err
}

// shows compares what the API reads back.
func (w *world) shows(ctx context.Context, args []string) error {
	got, err := w.shown(ctx, args)
	if err != nil {
		return err
	}
	if want := args[1:]; !slices.Equal(got, want) {
		return fmt.Errorf("it shows %s", strings.Join(got, " "))
	}
	return nil
}

// shown is the line's tail as it would have to be.
func (w *world) shown(ctx context.Context, args []string) ([]string, error) {
	what := args[0] + " " + args[1]
	switch {
	case what == "clb groups", what == "clb type":
		b, err := w.describe(ctx)
		if args[1] == "type" {
			return []string{"type", strings.ToLower(b.LoadBalancerType)}, err
		}
		return append([]string{"groups"}, w.named(b.SecureGroups)...), err
	case what == "eip status":
		a, err := w.describeEIP(ctx)
		return []string{"status", a.AddressStatus}, err
	case args[0] == "listener":
		return w.shownListener(ctx, args[1])
	case args[1] == "groups":
		i, ok := w.instances[args[0]]
		if !ok {
			return nil, fmt.Errorf("no instance %s", args[0])
		}
		ids, err := w.instanceGroups(ctx, i)
		return append([]string{"groups"}, w.named(ids)...), err
	case args[1] == "bound":
		return w.shownBound(ctx, args[0])
	case args[1] == "rules" && len(args) == 3:
		return w.shownRules(ctx, args[0], args[2])
	}
	return nil, fmt.Errorf("nothing shows %q", what)
}

// shownListener is "PORT PROTOCOL INSTANCE:PORT …".
func (w *world) shownListener(ctx context.Context, port string) ([]string, error) {
	type backends []struct {
		InstanceId string
		Port       uint16
	}
	var out struct {
		Listeners []struct {
			Protocol string
			Port     int
			Targets  backends
			Rules    []struct{ Targets backends }
		}
	}
	if err := w.engine.Call(ctx, apiCLB(), "DescribeTargets", map[string]any{"LoadBalancerId": w.balancer}, &out); err != nil {
		return nil, err
	}
	for _, l := range out.Listeners {
		if strconv.Itoa(l.Port) != port {
			continue
		}
		shown := []string{port, strings.ToLower(l.Protocol)}
		all := l.Targets
		for _, r := range l.Rules {
			all = append(all, r.Targets...)
		}
		for _, t := range all {
			for name, i := range w.instances {
				if i.ID == t.InstanceId {
					shown = append(shown, fmt.Sprintf("%s:%d", name, t.Port))
				}
			}
		}
		slices.Sort(shown[2:])
		return shown, nil
	}
	return nil, fmt.Errorf("no listener on %s", port)
}

// shownBound is "bound clb=N cvm=N".
func (w *world) shownBound(ctx context.Context, group string) ([]string, error) {
	var out struct {
		SecurityGroupAssociationStatisticsSet []struct{ CLB, CVM int }
	}
	in := map[string]any{"SecurityGroupIds": []string{w.groups[group]}}
	if err := w.engine.Call(ctx, apiVPC(), "DescribeSecurityGroupAssociationStatistics", in, &out); err != nil {
		return nil, err
	}
	if len(out.SecurityGroupAssociationStatisticsSet) != 1 {
		return nil, fmt.Errorf("%s: statistics of %d groups", group, len(out.SecurityGroupAssociationStatisticsSet))
	}
	n := out.SecurityGroupAssociationStatisticsSet[0]
	return []string{"bound", fmt.Sprintf("clb=%d", n.CLB), fmt.Sprintf("cvm=%d", n.CVM)}, nil
}

// shownRules reads a group's rules back and compares them with a section:
// action, protocol, peer and port of each, in order, numbered from 0.
func (w *world) shownRules(ctx context.Context, group, section string) ([]string, error) {
	want, err := w.policySet(section)
	if err != nil {
		return nil, err
	}
	got, err := w.policies(ctx, w.groups[group])
	if err != nil {
		return nil, err
	}
	for _, lists := range [][2][]map[string]any{{want.Ingress, got.Ingress}, {want.Egress, got.Egress}} {
		if len(lists[0]) != len(lists[1]) {
			return nil, fmt.Errorf("%s has %d rules where %s has %d", group, len(lists[1]), section, len(lists[0]))
		}
		for i, rule := range lists[0] {
			if read := lists[1][i]; !sameRule(rule, read) || fmt.Sprint(read["PolicyIndex"]) != strconv.Itoa(i) {
				return nil, fmt.Errorf("rule %d reads back as %v", i+1, read)
			}
		}
	}
	return []string{"rules", section}, nil
}

func sameRule(want, got map[string]any) bool {
	for _, field := range []string{"Action", "Protocol", "CidrBlock", "SecurityGroupId", "Port"} {
		w, _ := want[field].(string)
		g, _ := got[field].(string)
		if field == "Port" && w == "" && want["ServiceTemplate"] == nil {
			w = "ALL"
		}
		if !strings.EqualFold(w, g) {
			return false
		}
	}
	return templateOf(want["AddressTemplate"]) == templateOf(got["AddressTemplate"]) && templateOf(want["ServiceTemplate"]) == templateOf(got["ServiceTemplate"])
}

func remarshal(in, out any) error {
	data, err := json.Marshal(in)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, out)
}
