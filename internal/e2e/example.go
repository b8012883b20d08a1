// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
)

// A Call sends one action and decodes the answer into out, unless that is nil.
type Call func(ctx context.Context, service, action string, in, out any) error

// An Example is the document's: HTTP:80 to two instances on 8080, a group at
// each gate; and beside it TCP:8000 to 8081 of both.
type Example struct {
	Balancer   string
	VIP        netip.Addr
	Edge, Web  string // the groups at gate 1 and gate 2
	HTTP, TCP  string // the listeners
	Location   string
	Instances  []string
	Public     []netip.Addr // of the instances
	HTTPTarget int          // port on the instances
	TCPTarget  int
}

// A Rule is a policy rule as the API takes it.
type Rule map[string]any

// Accept lets a protocol, port and source pass.
func Accept(protocol, port, source string) Rule {
	return Rule{"Action": "ACCEPT", "Protocol": protocol, "Port": port, "CidrBlock": source}
}

// Drop refuses all that comes from a source.
func Drop(source string) Rule {
	return Rule{"Action": "DROP", "Protocol": "ALL", "Port": "ALL", "CidrBlock": source}
}

// Wait sends an action and, if it is one of clb's that answer before the work
// is done, waits for the end of its task.
func Wait(ctx context.Context, call Call, service, action string, in, out any) error {
	var raw json.RawMessage
	if err := call(ctx, service, action, in, &raw); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
	}
	var id struct{ RequestId string }
	if err := json.Unmarshal(raw, &id); err != nil || service != "clb" || len(action) > 8 && action[:8] == "Describe" {
		return err
	}
	var task struct {
		Status  int // 0 done, 1 failed, 2 running
		Message string
	}
	err := Until(ctx, "the task of "+action+" ends", func() (bool, error) {
		err := call(ctx, "clb", "DescribeTaskStatus", map[string]any{"TaskId": id.RequestId}, &task)
		return task.Status != 2, err
	})
	if err == nil && task.Status != 0 {
		err = fmt.Errorf("%s: the task failed: %s", action, task.Message)
	}
	return err
}

// Make builds the example and waits until its targets are Alive.
func Make(ctx context.Context, call Call) (*Example, error) {
	e := &Example{HTTPTarget: 8080, TCPTarget: 8081}
	do := func(service, action string, in map[string]any, out any) error {
		return Wait(ctx, call, service, action, in, out)
	}
	var vpc struct{ Vpc struct{ VpcId string } }
	if err := do("vpc", "CreateVpc", map[string]any{"VpcName": "site", "CidrBlock": "10.1.0.0/16"}, &vpc); err != nil {
		return nil, err
	}
	var subnet struct{ Subnet struct{ SubnetId string } }
	in := map[string]any{"VpcId": vpc.Vpc.VpcId, "SubnetName": "web", "CidrBlock": "10.1.1.0/24", "Zone": "local-1"}
	if err := do("vpc", "CreateSubnet", in, &subnet); err != nil {
		return nil, err
	}
	var err error
	if e.Edge, err = group(do, "edge", Accept("TCP", "80", "0.0.0.0/0"), Accept("TCP", "8000", "0.0.0.0/0"), Drop("0.0.0.0/0")); err != nil {
		return nil, err
	}
	e.Web, err = group(do, "web", Accept("TCP", "8080", "0.0.0.0/0"), Accept("TCP", "8081", "0.0.0.0/0"),
		Accept("TCP", "22", "0.0.0.0/0"), Accept("TCP", "3389", "0.0.0.0/0"), Accept("ICMP", "ALL", "0.0.0.0/0"))
	if err != nil {
		return nil, err
	}
	var run struct{ InstanceIdSet []string }
	in = map[string]any{"InstanceCount": 2, "InstanceName": "web", "ImageId": "img-lab", "Placement": map[string]any{"Zone": "local-1"},
		"VirtualPrivateCloud": map[string]any{"VpcId": vpc.Vpc.VpcId, "SubnetId": subnet.Subnet.SubnetId},
		"InternetAccessible":  map[string]any{"PublicIpAssigned": true}, "SecurityGroupIds": []string{e.Web}}
	if err := do("cvm", "RunInstances", in, &run); err != nil {
		return nil, err
	}
	e.Instances = run.InstanceIdSet
	if err := e.balance(do, vpc.Vpc.VpcId); err != nil {
		return nil, err
	}
	return e, e.await(ctx, call)
}

func group(do func(string, string, map[string]any, any) error, name string, rules ...Rule) (string, error) {
	var made struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	if err := do("vpc", "CreateSecurityGroup", map[string]any{"GroupName": name, "GroupDescription": "e2e"}, &made); err != nil {
		return "", err
	}
	id := made.SecurityGroup.SecurityGroupId
	return id, do("vpc", "CreateSecurityGroupPolicies", policies(id, rules...), nil)
}

func policies(group string, rules ...Rule) map[string]any {
	return map[string]any{"SecurityGroupId": group, "SecurityGroupPolicySet": map[string]any{"Ingress": rules}}
}

// balance makes the load balancer with its listeners and targets.
func (e *Example) balance(do func(string, string, map[string]any, any) error, vpc string) error {
	var made struct{ LoadBalancerIds, ListenerIds, LocationIds []string }
	if err := do("clb", "CreateLoadBalancer", map[string]any{"LoadBalancerType": "OPEN", "LoadBalancerName": "site", "VpcId": vpc}, &made); err != nil {
		return err
	}
	e.Balancer = made.LoadBalancerIds[0]
	check := map[string]any{"HealthSwitch": 1, "TimeOut": 2, "IntervalTime": 2, "HealthNum": 2, "UnHealthNum": 2}
	in := map[string]any{"LoadBalancerId": e.Balancer, "SecurityGroups": []string{e.Edge}}
	if err := do("clb", "SetLoadBalancerSecurityGroups", in, nil); err != nil {
		return err
	}
	in = map[string]any{"LoadBalancerId": e.Balancer, "Ports": []int{80}, "Protocol": "HTTP", "ListenerNames": []string{"web"}}
	if err := do("clb", "CreateListener", in, &made); err != nil {
		return err
	}
	e.HTTP = made.ListenerIds[0]
	in = map[string]any{"LoadBalancerId": e.Balancer, "ListenerId": e.HTTP,
		"Rules": []any{map[string]any{"Domain": "www.example.com", "Url": "/", "HealthCheck": check}}}
	if err := do("clb", "CreateRule", in, &made); err != nil {
		return err
	}
	e.Location = made.LocationIds[0]
	in = map[string]any{"LoadBalancerId": e.Balancer, "Ports": []int{8000}, "Protocol": "TCP", "ListenerNames": []string{"raw"}, "HealthCheck": check}
	if err := do("clb", "CreateListener", in, &made); err != nil {
		return err
	}
	e.TCP = made.ListenerIds[0]
	targets := func(port int) (all []any) {
		for _, id := range e.Instances {
			all = append(all, map[string]any{"InstanceId": id, "Port": port})
		}
		return all
	}
	in = map[string]any{"LoadBalancerId": e.Balancer, "ListenerId": e.HTTP, "LocationId": e.Location, "Targets": targets(e.HTTPTarget)}
	if err := do("clb", "RegisterTargets", in, nil); err != nil {
		return err
	}
	in = map[string]any{"LoadBalancerId": e.Balancer, "ListenerId": e.TCP, "Targets": targets(e.TCPTarget)}
	return do("clb", "RegisterTargets", in, nil)
}

// await reads the addresses and waits for the probes.
func (e *Example) await(ctx context.Context, call Call) error {
	var balancers struct {
		LoadBalancerSet []struct{ LoadBalancerVips []netip.Addr }
	}
	if err := call(ctx, "clb", "DescribeLoadBalancers", map[string]any{"LoadBalancerIds": []string{e.Balancer}}, &balancers); err != nil {
		return err
	}
	e.VIP = balancers.LoadBalancerSet[0].LoadBalancerVips[0]
	var instances struct {
		InstanceSet []struct {
			InstanceId        string
			PublicIpAddresses []netip.Addr
		}
	}
	if err := call(ctx, "cvm", "DescribeInstances", map[string]any{"InstanceIds": e.Instances}, &instances); err != nil {
		return err
	}
	for _, id := range e.Instances {
		for _, i := range instances.InstanceSet {
			if i.InstanceId == id {
				e.Public = append(e.Public, i.PublicIpAddresses...)
			}
		}
	}
	return Until(ctx, "all targets are Alive", func() (bool, error) {
		var s Status
		if err := call(ctx, "sallyport", "DescribeStatus", nil, &s); err != nil {
			return false, err
		}
		alive := 0
		for _, t := range s.Targets {
			if t.Health == "Alive" {
				alive++
			}
		}
		return alive == 2*len(e.Instances), nil
	})
}

// Refuse puts a refusal of a source at the top of a group.
func (l *Lab) Refuse(ctx context.Context, group, source string) error {
	rule := Drop(source)
	rule["PolicyIndex"] = 0
	return l.Do(ctx, "vpc", "CreateSecurityGroupPolicies", policies(group, rule), nil)
}

// Allow takes the refusal of a source out of a group.
func (l *Lab) Allow(ctx context.Context, group, source string) error {
	return l.Do(ctx, "vpc", "DeleteSecurityGroupPolicies", policies(group, Drop(source)), nil)
}
