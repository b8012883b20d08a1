// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// makeBalancer makes the load balancer of the kind that the line says; the
// former one is taken away, with its listeners and its EIP.
func (w *world) makeBalancer(ctx context.Context, args []string) error {
	if err := w.dropBalancer(ctx); err != nil {
		return err
	}
	kind, words := args[0], args[1:]
	has := func(word string) bool { return slices.Contains(words, word) }
	in := map[string]any{"LoadBalancerType": "OPEN", "LoadBalancerName": strings.TrimSuffix(w.script.Name, ".txtar")}
	if kind == "private" {
		in["LoadBalancerType"] = "INTERNAL"
		if !has("basic") {
			if err := w.inDefaultSubnet(ctx, in); err != nil {
				return err
			}
		}
	} else if kind != "public" {
		return fmt.Errorf("write %s", verbs["balancer"].usage)
	}
	if has("basic") {
		in["Network"] = "BASIC"
	}
	if has("ipv6") {
		in["AddressIPVersion"] = "IPv6FullChain"
		if err := w.inDefaultSubnet(ctx, in); err != nil {
			return err
		}
	}
	var err error
	if at := slices.Index(words, "classic"); at >= 0 && at+1 < len(words) {
		in["Forward"], in["CreateTime"] = 0, words[at+1]
	}
	if has("basic") || has("classic") {
		var made struct{ LoadBalancerId string }
		err = w.engine.Call(ctx, apiSallyport(), "ImportLoadBalancer", in, &made)
		w.balancer = made.LoadBalancerId
	} else {
		var made struct{ LoadBalancerIds []string }
		if err = w.task(ctx, "CreateLoadBalancer", in, &made); err == nil {
			w.balancer = made.LoadBalancerIds[0]
		}
	}
	if err != nil {
		return err
	}
	w.private, w.listeners, w.warm = kind == "private", map[door]listener{}, map[string]bool{}
	b, err := w.describe(ctx)
	if err == nil {
		w.vip, err = netip.ParseAddr(b.LoadBalancerVips[0])
	}
	if err == nil && has("eip") {
		err = w.bindEIP(ctx)
	}
	if err == nil && w.script.Return != "" {
		err = w.returnPath(ctx, w.script.Return)
	}
	return err
}

// inDefaultSubnet names the subnet of the instances that say nothing else.
func (w *world) inDefaultSubnet(ctx context.Context, in map[string]any) error {
	var out struct {
		SubnetSet []struct{ VpcId, SubnetId string }
	}
	filter := map[string]any{"Filters": []any{map[string]any{"Name": "is-default", "Values": []string{"true"}}}}
	if err := w.engine.Call(ctx, apiVPC(), "DescribeSubnets", filter, &out); err != nil {
		return err
	}
	if len(out.SubnetSet) != 1 {
		return fmt.Errorf("%d default subnets", len(out.SubnetSet))
	}
	in["VpcId"], in["SubnetId"] = out.SubnetSet[0].VpcId, out.SubnetSet[0].SubnetId
	return nil
}

// dropBalancer takes away what makeBalancer made.
func (w *world) dropBalancer(ctx context.Context) error {
	if w.balancer != "" {
		if err := w.task(ctx, "DeleteLoadBalancer", map[string]any{"LoadBalancerIds": []string{w.balancer}}, nil); err != nil {
			return err
		}
		w.balancer = ""
	}
	if w.eipID != "" {
		if err := w.engine.Call(ctx, apiVPC(), "ReleaseAddresses", map[string]any{"AddressIds": []string{w.eipID}}, nil); err != nil {
			return err
		}
		w.eipID, w.eip = "", netip.Addr{}
	}
	return nil
}

// An eipState is what DescribeAddresses says of the parts that stories look at.
type eipState struct {
	AddressStatus, AddressIp string
}

// bindEIP gives the load balancer an EIP and polls as Terraform does.
func (w *world) bindEIP(ctx context.Context) error {
	var made struct{ AddressSet []string }
	if err := w.engine.Call(ctx, apiVPC(), "AllocateAddresses", map[string]any{}, &made); err != nil {
		return err
	}
	w.eipID = made.AddressSet[0]
	in := map[string]any{"AddressId": w.eipID, "InstanceId": w.balancer}
	if err := w.engine.Call(ctx, apiVPC(), "AssociateAddress", in, nil); err != nil {
		return err
	}
	return until(ctx, func() (bool, error) {
		a, err := w.describeEIP(ctx)
		if err == nil && a.AddressStatus == "BIND" {
			w.eip, err = netip.ParseAddr(a.AddressIp)
			return true, err
		}
		return false, err
	})
}

func (w *world) describeEIP(ctx context.Context) (eipState, error) {
	var out struct{ AddressSet []eipState }
	if err := w.engine.Call(ctx, apiVPC(), "DescribeAddresses", map[string]any{"AddressIds": []string{w.eipID}}, &out); err != nil {
		return eipState{}, err
	}
	if len(out.AddressSet) != 1 {
		return eipState{}, fmt.Errorf("%s: described %d times", w.eipID, len(out.AddressSet))
	}
	return out.AddressSet[0], nil
}

// otherNetwork is the VPC of the instances other-N, made by the first.
func otherNetwork(ctx context.Context, e Engine) (map[string]any, error) {
	filter := map[string]any{"Filters": []any{map[string]any{"Name": "subnet-name", "Values": []string{"other"}}}}
	var found struct {
		SubnetSet []struct{ VpcId, SubnetId string }
	}
	if err := e.Call(ctx, apiVPC(), "DescribeSubnets", filter, &found); err != nil {
		return nil, err
	}
	if len(found.SubnetSet) > 0 {
		return map[string]any{"VpcId": found.SubnetSet[0].VpcId, "SubnetId": found.SubnetSet[0].SubnetId}, nil
	}
	var vpc struct{ Vpc struct{ VpcId string } }
	if err := e.Call(ctx, apiVPC(), "CreateVpc", map[string]any{"VpcName": "other", "CidrBlock": "10.40.0.0/16"}, &vpc); err != nil {
		return nil, err
	}
	var subnet struct {
		Subnet struct{ SubnetId, Zone string }
	}
	in := map[string]any{"VpcId": vpc.Vpc.VpcId, "SubnetName": "other", "CidrBlock": "10.40.0.0/20", "Zone": "local-1"}
	if err := e.Call(ctx, apiVPC(), "CreateSubnet", in, &subnet); err != nil {
		return nil, err
	}
	return map[string]any{"VpcId": vpc.Vpc.VpcId, "SubnetId": subnet.Subnet.SubnetId}, nil
}
