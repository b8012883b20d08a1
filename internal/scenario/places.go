// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// targetType is the TargetType of what an arrow leads to.
func targetType(arrow string) string {
	if arrow == "=>" {
		return "TARGETGROUP"
	}
	return "NODE"
}

// A groupMember is an instance's port as target groups name it.
type groupMember struct {
	BindIP string
	Port   uint16
}

func (w *world) groupMembers(args []string) ([]groupMember, error) {
	var list []groupMember
	for _, arg := range args {
		name, port, err := target(arg)
		if err != nil {
			return nil, err
		}
		list = append(list, groupMember{w.instances[name].Private.String(), port})
	}
	return list, nil
}

// associate makes a target group of the members and lets the listener on port,
// or its rule, have its targets from there.
func (w *world) associate(ctx context.Context, at door, args []string) error {
	list, err := w.groupMembers(args)
	if err != nil {
		return err
	}
	var made struct{ TargetGroupId string }
	if err := w.task(ctx, "CreateTargetGroup", map[string]any{"TargetGroupInstances": list}, &made); err != nil {
		return err
	}
	l := w.listeners[at]
	l.group = made.TargetGroupId
	w.listeners[at] = l
	one := map[string]any{"LoadBalancerId": w.balancer, "ListenerId": l.id, "TargetGroupId": l.group, "LocationId": l.location}
	return w.task(ctx, "AssociateTargetGroups", map[string]any{"Associations": []any{one}}, nil)
}

// members gives the target group of the listener on a port exactly these
// members.
func (w *world) members(ctx context.Context, args []string) error {
	l, err := w.listenerOn(args[0])
	if err != nil {
		return err
	}
	want, err := w.groupMembers(args[1:])
	if err != nil {
		return err
	}
	filter := map[string]any{"Name": "TargetGroupId", "Values": []string{l.group}}
	var now struct {
		TargetGroupInstanceSet []struct {
			PrivateIpAddresses []string
			Port               uint16
		}
	}
	if err := w.engine.Call(ctx, apiCLB(), "DescribeTargetGroupInstances", map[string]any{"Filters": []any{filter}}, &now); err != nil {
		return err
	}
	var gone []groupMember
	for _, m := range now.TargetGroupInstanceSet {
		have := groupMember{m.PrivateIpAddresses[0], m.Port}
		if at := slices.Index(want, have); at >= 0 {
			want = slices.Delete(want, at, at+1)
		} else {
			gone = append(gone, have)
		}
	}
	for _, step := range []struct {
		action string
		list   []groupMember
	}{{"RegisterTargetGroupInstances", want}, {"DeregisterTargetGroupInstances", gone}} {
		if len(step.list) == 0 {
			continue
		}
		if err := w.task(ctx, step.action, map[string]any{"TargetGroupId": l.group, "TargetGroupInstances": step.list}, nil); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) listenerOn(port string) (listener, error) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err == nil {
		for _, udp := range []bool{false, true} {
			if l, ok := w.listenerAt(uint16(n), udp); ok {
				return l, nil
			}
		}
	}
	return listener{}, fmt.Errorf("no listener on %s", port)
}

// listenerAt is the listener that takes what is sent to a port.
func (w *world) listenerAt(port uint16, udp bool) (listener, bool) {
	for at, l := range w.listeners {
		if at.udp == udp && at.port <= port && port <= l.last {
			return l, true
		}
	}
	return listener{}, false
}

// redirect lets the HTTP listener on one port send clients to another's.
func (w *world) redirect(ctx context.Context, args []string) error {
	from, err := w.listenerOn(args[0])
	if err != nil {
		return err
	}
	to, err := w.listenerOn(args[1])
	if err != nil {
		return err
	}
	info := map[string]any{"SourceLocationId": from.location, "TargetLocationId": to.location}
	return w.task(ctx, "ManualRewrite", map[string]any{"LoadBalancerId": w.balancer, "SourceListenerId": from.id, "TargetListenerId": to.id, "RewriteInfos": []any{info}}, nil)
}

// startOrStop switches the load balancer, or the listener on a port.
func (w *world) startOrStop(ctx context.Context, what string, on bool) error {
	in := map[string]any{"LoadBalancerId": w.balancer, "OperationType": "Stop"}
	if on {
		in["OperationType"] = "Start"
	}
	if what != "clb" {
		l, err := w.listenerOn(what)
		if err != nil {
			return err
		}
		in["ListenerIds"] = []string{l.id}
	}
	return w.task(ctx, "SetLoadBalancerStartStatus", in, nil)
}

// dropTargetGroups deletes the groups that the story made, after its listeners.
func (w *world) dropTargetGroups(ctx context.Context) error {
	var ids []string
	for _, l := range w.listeners {
		if l.group != "" {
			ids = append(ids, l.group)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return w.engine.Call(ctx, apiCLB(), "DeleteTargetGroups", map[string]any{"TargetGroupIds": ids}, nil)
}
