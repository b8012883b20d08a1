// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// sixSuffix behind a host's name stands for its IPv6 address.
const sixSuffix = ".6"

// clients6 are the IPv6 addresses of the lab's client hosts.
func clients6() map[string]netip.Addr {
	return map[string]netip.Addr{
		"client-1": netip.MustParseAddr("2001:db8:113::10"),
		"client-2": netip.MustParseAddr("2001:db8:51:100::20"),
		"client-3": netip.MustParseAddr("2001:db8:113::30"),
	}
}

// ipv6Pool is where the VPCs of the engines in process have their IPv6 ranges.
func ipv6Pool() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("2001:db8:200::/40")} }

// IPv6 reports whether the story needs IPv6 addresses on its instances.
func (s *Script) IPv6() bool {
	return slices.ContainsFunc(s.Lines, func(l Line) bool {
		return l.Verb == "balancer" && slices.Contains(l.Args, "ipv6") || slices.ContainsFunc(l.Args, func(arg string) bool {
			name, _, _ := strings.Cut(arg, "/")
			name, _, _ = strings.Cut(name, ":")
			return strings.HasSuffix(name, sixSuffix)
		})
	})
}

// address6 is the IPv6 address of a client or instance.
func (w *world) address6(name string) (netip.Addr, bool) {
	if i, ok := w.instances[name]; ok {
		return i.IPv6, i.IPv6.IsValid()
	}
	a, ok := clients6()[name]
	return a, ok
}

// sameFamily is the address with which a host reaches to: by IPv6 its IPv6 one.
func (w *world) sameFamily(h Host, to netip.Addr) (Host, error) {
	if !to.Is6() || h.Address.Is6() {
		return h, nil
	}
	a, ok := w.address6(h.Name)
	if !ok {
		return h, fmt.Errorf("%s has no IPv6 address", h.Name)
	}
	h.Address = a
	return h, nil
}

// giveIPv6 gives an instance an IPv6 address, and its VPC and subnet ranges
// first. It keeps what there is: other stories use the same network.
func (w *world) giveIPv6(ctx context.Context, i Instance) (Instance, error) {
	if i.IPv6.IsValid() {
		return i, nil
	}
	type seen struct {
		IPv6Addresses       []netip.Addr
		VirtualPrivateCloud struct{ VpcId, SubnetId string }
	}
	var out struct{ InstanceSet []seen }
	one := map[string]any{"InstanceIds": []string{i.ID}}
	if err := w.engine.Call(ctx, apiCVM(), "DescribeInstances", one, &out); err != nil {
		return i, err
	}
	if len(out.InstanceSet[0].IPv6Addresses) == 0 {
		if err := w.ranges6(ctx, out.InstanceSet[0].VirtualPrivateCloud.VpcId, out.InstanceSet[0].VirtualPrivateCloud.SubnetId); err != nil {
			return i, err
		}
		eni := map[string]any{"NetworkInterfaceId": "eni-" + strings.TrimPrefix(i.ID, "ins-"), "Ipv6AddressCount": 1}
		if err := w.engine.Call(ctx, apiVPC(), "AssignIpv6Addresses", eni, nil); err != nil {
			return i, err
		}
		if err := w.engine.Call(ctx, apiCVM(), "DescribeInstances", one, &out); err != nil {
			return i, err
		}
	}
	i.IPv6 = out.InstanceSet[0].IPv6Addresses[0]
	return i, w.engine.Addressed(ctx, i)
}

// ranges6 gives a VPC and one of its subnets IPv6 ranges, unless they have some.
// Another stage of the same lab may do so at the same time.
func (w *world) ranges6(ctx context.Context, vpc, subnet string) error {
	for _, call := range []struct {
		action string
		in     map[string]any
	}{
		{"AssignIpv6CidrBlock", map[string]any{"VpcId": vpc}},
		{"AssignIpv6SubnetCidrBlock", map[string]any{"VpcId": vpc, "Ipv6SubnetCidrBlocks": []any{map[string]any{"SubnetId": subnet}}}},
	} {
		if err := w.engine.Call(ctx, apiVPC(), call.action, call.in, nil); err != nil && refused(err, "ResourceInUse") != nil {
			return err
		}
	}
	return nil
}

// Addressed has nothing to wait for.
func (r *Ref) Addressed(context.Context, Instance) error { return nil }

// Addressed waits until the instance's host has its IPv6 address.
func (l *Stage) Addressed(ctx context.Context, i Instance) error {
	err := until(ctx, func() (bool, error) {
		data, err := l.command(ctx, "lab", "ls", "--json")
		return strings.Contains(string(data), `"`+i.IPv6.String()+`"`), err
	})
	if err != nil {
		return fmt.Errorf("the host of %s has no %v: %w", i.ID, i.IPv6, err)
	}
	l.instances[i.Name] = i
	return nil
}

// echoOf is the protocol of a ping to an address.
func echoOf(to netip.Addr) lb.Proto {
	if to.Is6() {
		return lb.ICMPv6
	}
	return lb.ICMP
}

// cidrField is where a rule names addresses of that family.
func cidrField(a netip.Addr) string {
	if a.Is6() {
		return "Ipv6CidrBlock"
	}
	return "CidrBlock"
}

// An echo is how ping looks in a family.
type echo struct {
	network        string
	request, reply byte
}

func echoIn(to netip.Addr) echo {
	if to.Is6() {
		return echo{"ip6:ipv6-icmp", 128, 129}
	}
	return echo{"ip4:icmp", 8, 0}
}
