// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
)

// A world is one scenario's own part of what the engine holds: a load
// balancer, its listeners, its groups, and the instances it borrows.
type world struct {
	engine    Engine
	script    *Script
	without   *Decisive
	balancer  string
	private   bool // the load balancer is
	vip       netip.Addr
	eip       netip.Addr // bound to the load balancer; zero: none
	eipID     string
	groups    map[string]string // name → id
	templates map[string]template
	nested    bool              // a rule names a group, so groups cannot go in any order
	names     map[string]string // id → name
	instances map[string]Instance
	home      map[string][]string // instance id → groups it had before
	listeners map[door]listener
	warm      map[string]bool // "client listener-port" pairs that were served at layer 7
}

// A door is where a listener is: the first of its ports, of TCP or of UDP.
type door struct {
	port uint16
	udp  bool
}

type listener struct {
	last         uint16 // of its ports
	id, location string
	group        string // the target group's id; "": targets are bound one by one
	layer7       bool
}

// newWorld makes the load balancer and borrows the instances of a script.
func newWorld(ctx context.Context, e Engine, s *Script, without *Decisive) (*world, error) {
	w := &world{
		engine: e, script: s, without: without, groups: map[string]string{}, templates: map[string]template{}, names: map[string]string{},
		instances: map[string]Instance{}, home: map[string][]string{}, listeners: map[door]listener{}, warm: map[string]bool{},
	}
	for _, name := range s.Hosts() {
		i, err := e.Instance(ctx, name, strings.HasPrefix(name, "web-"))
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", name, err)
		}
		if s.IPv6() {
			if i, err = w.giveIPv6(ctx, i); err != nil {
				return nil, fmt.Errorf("instance %s: %w", name, err)
			}
		}
		w.instances[name] = i
		if w.home[i.ID], err = w.instanceGroups(ctx, i); err != nil {
			return nil, err
		}
	}
	if len(s.Lines) > 0 && s.Lines[0].Verb == "balancer" {
		return w, nil
	}
	return w, w.makeBalancer(ctx, []string{"public"})
}

// close gives back what the scenario made, whatever state it stopped in.
func (w *world) close(ctx context.Context) error {
	if err := w.dropBalancer(ctx); err != nil {
		return err
	}
	if err := w.dropTargetGroups(ctx); err != nil {
		return err
	}
	for _, i := range w.instances {
		if err := w.bindInstance(ctx, i, w.home[i.ID]); err != nil {
			return err
		}
	}
	for _, id := range w.groups {
		if !w.nested {
			break
		}
		clearing := map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": map[string]any{"Version": "0"}}
		if err := w.engine.Call(ctx, apiVPC(), "ModifySecurityGroupPolicies", clearing, nil); err != nil {
			return err
		}
	}
	for _, id := range w.groups {
		if err := w.engine.Call(ctx, apiVPC(), "DeleteSecurityGroup", map[string]any{"SecurityGroupId": id}, nil); err != nil {
			return err
		}
	}
	return w.dropTemplates(ctx)
}

// A balancer is what DescribeLoadBalancers says of the parts that scenarios look at.
type balancer struct {
	LoadBalancerId           string
	LoadBalancerType         string
	LoadBalancerVips         []string
	SecureGroups             []string
	LoadBalancerPassToTarget bool
}

func (w *world) describe(ctx context.Context) (balancer, error) {
	var out struct{ LoadBalancerSet []balancer }
	if err := w.engine.Call(ctx, apiCLB(), "DescribeLoadBalancers", map[string]any{"LoadBalancerIds": []string{w.balancer}}, &out); err != nil {
		return balancer{}, err
	}
	if len(out.LoadBalancerSet) != 1 {
		return balancer{}, fmt.Errorf("%s: described %d times", w.balancer, len(out.LoadBalancerSet))
	}
	return out.LoadBalancerSet[0], nil
}

// task calls an asynchronous action of clb and waits for its end.
func (w *world) task(ctx context.Context, action string, in, out any) error {
	var raw map[string]any
	if err := w.engine.Call(ctx, apiCLB(), action, in, &raw); err != nil {
		return err
	}
	if out != nil {
		if err := remarshal(raw, out); err != nil {
			return err
		}
	}
	id, _ := raw["RequestId"].(string)
	var status struct {
		Status  int // 0 done, 1 failed, 2 running
		Message string
	}
	err := until(ctx, func() (bool, error) {
		err := w.engine.Call(ctx, apiCLB(), "DescribeTaskStatus", map[string]any{"TaskId": id}, &status)
		return status.Status != 2, err
	})
	if err == nil && status.Status != 0 {
		err = fmt.Errorf("%s: the task failed: %s", action, status.Message)
	}
	return err
}

func (w *world) instanceGroups(ctx context.Context, i Instance) ([]string, error) {
	var out struct {
		InstanceSet []struct{ SecurityGroupIds []string }
	}
	if err := w.engine.Call(ctx, apiCVM(), "DescribeInstances", map[string]any{"InstanceIds": []string{i.ID}}, &out); err != nil {
		return nil, err
	}
	if len(out.InstanceSet) != 1 {
		return nil, fmt.Errorf("%s: described %d times", i.ID, len(out.InstanceSet))
	}
	return out.InstanceSet[0].SecurityGroupIds, nil
}

func (w *world) bindInstance(ctx context.Context, i Instance, groups []string) error {
	in := map[string]any{"InstanceIds": []string{i.ID}, "SecurityGroups": groups}
	return w.engine.Call(ctx, apiCVM(), "ModifyInstancesAttribute", in, nil)
}

// address is what a name stands for: a client, an instance, the VIP or the EIP.
func (w *world) address(name string) (netip.Addr, bool) {
	switch name {
	case "vip":
		return w.vip, w.vip.IsValid()
	case "eip":
		return w.eip, w.eip.IsValid()
	}
	if plain, six := strings.CutSuffix(name, sixSuffix); six {
		return w.address6(plain)
	}
	if i, ok := w.instances[name]; ok {
		return i.Address(), true
	}
	a, ok := clients()[name]
	return a, ok
}

func (w *world) host(name string) (Host, error) {
	a, ok := w.address(name)
	if !ok || name == "vip" || name == "eip" {
		return Host{}, fmt.Errorf("no host %s", name)
	}
	name = strings.TrimSuffix(name, sixSuffix)
	return Host{Name: name, Address: a, Instance: w.instances[name].ID}, nil
}

// groupIDs translates names of groups; naming one that was not applied is an error.
func (w *world) groupIDs(names []string) ([]string, error) {
	ids := make([]string, 0, len(names))
	for _, name := range names {
		id, ok := w.groups[name]
		if !ok {
			return nil, fmt.Errorf("no group %s; apply it first", name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}
