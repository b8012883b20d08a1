// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// demoName names the example's load balancer; one that exists is left alone.
const demoName = "demo"

// The names of the example's two groups, one at each gate.
const (
	clbGroupName = "clb-web"
	cvmGroupName = "cvm-web"
)

// A demo is the document's example, as the commands that are printed need it.
type demo struct {
	balancer, vip      string
	clbGroup, cvmGroup string
	web                hostInstance // one of the targets, with a public address
}

// do runs one action and, where the service answers before the work is done,
// waits for the work.
func (u *upper) do(ctx context.Context, service, action string, in, out any) error {
	if err := u.client.Do(ctx, service, apiVersions()[service], action, in, out); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}

// clb runs a writing action of clb and waits for its task.
func (u *upper) clb(ctx context.Context, action string, in map[string]any) (clbAnswer, error) {
	var a clbAnswer
	if err := u.do(ctx, "clb", action, in, &a); err != nil {
		return a, err
	}
	for {
		var task struct {
			Status  int
			Message string
		}
		if err := u.do(ctx, "clb", "DescribeTaskStatus", map[string]any{"TaskId": a.RequestId}, &task); err != nil {
			return a, err
		}
		switch task.Status {
		case 0:
			return a, nil
		case 1:
			return a, fmt.Errorf("%s: %s", action, task.Message)
		}
		if err := pauseFor(ctx, retryPause); err != nil {
			return a, err
		}
	}
}

// clbAnswer holds the ids that clb's creating actions answer with.
type clbAnswer struct {
	RequestId                                 string
	LoadBalancerIds, ListenerIds, LocationIds []string
}

// buildDemo makes the example by the product's own API, or finds the one that
// the data directory brought back.
func (u *upper) buildDemo(ctx context.Context) (*demo, error) {
	balancers, err := listBalancers(ctx, u.client)
	if err != nil {
		return nil, err
	}
	for _, b := range balancers {
		if b.Name == demoName {
			return u.findDemo(ctx, b)
		}
	}
	d := &demo{}
	vpc, subnet, err := u.demoNetwork(ctx)
	if err != nil {
		return nil, err
	}
	d.clbGroup, err = u.demoGroup(ctx, clbGroupName, "gate 1 of the example", []rule{
		{Protocol: "TCP", Port: "80", CidrBlock: "0.0.0.0/0", Action: "ACCEPT", PolicyDescription: "the listener"},
		{Protocol: "ALL", Port: "ALL", CidrBlock: "0.0.0.0/0", Action: "DROP", PolicyDescription: "everything else"},
	})
	if err != nil {
		return nil, err
	}
	d.cvmGroup, err = u.demoGroup(ctx, cvmGroupName, "gate 2 of the example", []rule{
		{Protocol: "TCP", Port: "8080", CidrBlock: "0.0.0.0/0", Action: "ACCEPT", PolicyDescription: "the service"},
		{Protocol: "TCP", Port: "22", CidrBlock: "0.0.0.0/0", Action: "ACCEPT", PolicyDescription: "SSH"},
		{Protocol: "TCP", Port: "3389", CidrBlock: "0.0.0.0/0", Action: "ACCEPT", PolicyDescription: "RDP"},
		{Protocol: "ICMP", Port: "ALL", CidrBlock: "0.0.0.0/0", Action: "ACCEPT", PolicyDescription: "ping"},
	})
	if err != nil {
		return nil, err
	}
	instances, err := u.demoInstances(ctx, vpc, subnet, d.cvmGroup)
	if err != nil {
		return nil, err
	}
	if err := u.demoBalancer(ctx, d, vpc, instances); err != nil {
		return nil, err
	}
	return d, u.demoWeb(ctx, d, instances[0])
}

func (u *upper) demoNetwork(ctx context.Context) (vpc, subnet string, err error) {
	var v struct{ Vpc struct{ VpcId string } }
	err = u.do(ctx, "vpc", "CreateVpc", map[string]any{"VpcName": demoName, "CidrBlock": "10.0.0.0/16"}, &v)
	if err != nil {
		return "", "", err
	}
	var s struct{ Subnet struct{ SubnetId string } }
	err = u.do(ctx, "vpc", "CreateSubnet", map[string]any{
		"VpcId": v.Vpc.VpcId, "SubnetName": demoName, "CidrBlock": "10.0.1.0/24", "Zone": u.o.region + "-1",
	}, &s)
	return v.Vpc.VpcId, s.Subnet.SubnetId, err
}

// A rule is one line of a group as the API takes it.
type rule struct{ Protocol, Port, CidrBlock, Action, PolicyDescription string }

func (u *upper) demoGroup(ctx context.Context, name, description string, ingress []rule) (string, error) {
	var g struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	err := u.do(ctx, "vpc", "CreateSecurityGroupWithPolicies", map[string]any{
		"GroupName": name, "GroupDescription": description,
		"SecurityGroupPolicySet": map[string]any{"Ingress": ingress},
	}, &g)
	return g.SecurityGroup.SecurityGroupId, err
}

func (u *upper) demoInstances(ctx context.Context, vpc, subnet, group string) ([]string, error) {
	var ids []string
	for _, name := range []string{"web-1", "web-2"} {
		var run struct{ InstanceIdSet []string }
		err := u.do(ctx, "cvm", "RunInstances", map[string]any{
			"InstanceName": name, "InstanceCount": 1,
			"Placement":           map[string]any{"Zone": u.o.region + "-1"},
			"VirtualPrivateCloud": map[string]any{"VpcId": vpc, "SubnetId": subnet},
			"InternetAccessible":  map[string]any{"PublicIpAssigned": true},
			"SecurityGroupIds":    []string{group},
			"ImageId":             "img-echo0web",
			"InstanceType":        "LAB.1",
			"InstanceChargeType":  "POSTPAID_BY_HOUR",
		}, &run)
		if err != nil {
			return nil, err
		}
		ids = append(ids, run.InstanceIdSet...)
	}
	return ids, nil
}

func (u *upper) demoBalancer(ctx context.Context, d *demo, vpc string, instances []string) error {
	made, err := u.clb(ctx, "CreateLoadBalancer", map[string]any{"LoadBalancerType": "OPEN", "LoadBalancerName": demoName, "VpcId": vpc})
	if err != nil {
		return err
	}
	if len(made.LoadBalancerIds) != 1 {
		return errors.New("CreateLoadBalancer answered without an id")
	}
	d.balancer = made.LoadBalancerIds[0]
	balancers, err := listBalancers(ctx, u.client)
	if err != nil {
		return err
	}
	for _, b := range balancers {
		if b.ID == d.balancer && len(b.VIPs) > 0 {
			d.vip = b.VIPs[0]
		}
	}
	if _, err := u.clb(ctx, "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": d.balancer, "SecurityGroups": []string{d.clbGroup}}); err != nil {
		return err
	}
	listeners, err := u.clb(ctx, "CreateListener", map[string]any{
		"LoadBalancerId": d.balancer, "Ports": []int{80}, "Protocol": "HTTP", "ListenerNames": []string{"web"},
	})
	if err != nil {
		return err
	}
	listener := strings.Join(listeners.ListenerIds, "")
	locations, err := u.clb(ctx, "CreateRule", map[string]any{
		"LoadBalancerId": d.balancer, "ListenerId": listener,
		"Rules": []any{map[string]any{"Domain": d.vip, "Url": "/", "HealthCheck": map[string]any{
			"HealthSwitch": 1, "CheckType": "HTTP", "HttpCheckPath": "/", "HttpCheckMethod": "GET",
			"IntervalTime": 2, "TimeOut": 2, "HealthNum": 2, "UnHealthNum": 2,
		}}},
	})
	if err != nil {
		return err
	}
	var targets []any
	for _, id := range instances {
		targets = append(targets, map[string]any{"InstanceId": id, "Port": 8080, "Weight": 10})
	}
	_, err = u.clb(ctx, "RegisterTargets", map[string]any{
		"LoadBalancerId": d.balancer, "ListenerId": listener, "LocationId": strings.Join(locations.LocationIds, ""), "Targets": targets,
	})
	return err
}

// demoWeb looks up the addresses of one target.
func (u *upper) demoWeb(ctx context.Context, d *demo, id string) error {
	hosts, err := u.describeHosts(ctx, 0, 0)
	if err != nil {
		return err
	}
	for _, i := range hosts.Instances {
		if i.InstanceId == id {
			d.web = i
			return nil
		}
	}
	return fmt.Errorf("%s is not among the hosts", id)
}

// findDemo recognises the example in a data directory by its names. Parts that
// were removed since leave fields empty.
func (u *upper) findDemo(ctx context.Context, b readyBalancer) (*demo, error) {
	d := &demo{balancer: b.ID}
	if len(b.VIPs) > 0 {
		d.vip = b.VIPs[0]
	}
	var groups struct {
		SecurityGroupSet []struct{ SecurityGroupId, SecurityGroupName string }
	}
	if err := u.do(ctx, "vpc", "DescribeSecurityGroups", map[string]any{"Limit": "100"}, &groups); err != nil {
		return nil, err
	}
	for _, g := range groups.SecurityGroupSet {
		switch g.SecurityGroupName {
		case clbGroupName:
			d.clbGroup = g.SecurityGroupId
		case cvmGroupName:
			d.cvmGroup = g.SecurityGroupId
		}
	}
	hosts, err := u.describeHosts(ctx, 0, 0)
	if err != nil {
		return nil, err
	}
	for _, i := range hosts.Instances {
		if strings.HasPrefix(i.InstanceName, "web-") && i.PublicAddress != "" {
			d.web = i
			break
		}
	}
	return d, nil
}

// awaitDemo waits until every target of the example is Alive.
func (u *upper) awaitDemo(ctx context.Context, d *demo) error {
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	for {
		why := "its targets are unknown"
		if s, err := describeStatus(ctx, u.client); err == nil {
			why = s.unhealthy(d.balancer)
		}
		if why == "" {
			return nil
		}
		if pauseFor(ctx, retryPause) != nil {
			return fmt.Errorf("the example is not ready after %v: %s", demoLimit, why)
		}
	}
}

// unhealthy says which target of a load balancer is not Alive, and "" if none.
func (s statusAnswer) unhealthy(balancer string) string {
	seen := 0
	for _, t := range s.Targets {
		if t.LoadBalancerId != balancer {
			continue
		}
		seen++
		if t.Health != "Alive" {
			text := fmt.Sprintf("%s:%d is %s", t.InstanceId, t.Port, t.Health)
			if t.HealthReason != nil && t.HealthReason.Text != "" {
				text += ", " + t.HealthReason.Text
			}
			return text
		}
	}
	if seen == 0 {
		return "its targets are unknown"
	}
	return ""
}
