// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"unicode"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type internetAccessible struct {
	InternetChargeType      *string `tc:"enum=TRAFFIC_POSTPAID_BY_HOUR|BANDWIDTH_POSTPAID_BY_HOUR|BANDWIDTH_PACKAGE|BANDWIDTH_PREPAID"`
	InternetMaxBandwidthOut *int64  `tc:"range=0-65535"`
	BandwidthpkgSubType     *string `tc:""`
}

type createLoadBalancerIn struct {
	LoadBalancerType         string              `tc:"required,only=OPEN|INTERNAL"`
	Forward                  *int64              `tc:"only=1"`
	LoadBalancerName         string              `tc:"len=80"`
	VpcId                    string              `tc:""`
	SubnetId                 string              `tc:""`
	EipAddressId             string              `tc:""`
	AddressIPVersion         string              `tc:"only=IPV4|ipv4|IPv6FullChain|IPV6FullChain|ipv6fullchain"`
	Number                   *int64              `tc:"range=1-20"`
	MasterZoneId             string              `tc:""`
	ZoneId                   string              `tc:""`
	Vip                      string              `tc:""`
	Tags                     []clbTag            `tc:""`
	ClientToken              string              `tc:"len=64,code=InvalidParameter.ClientTokenLimitExceeded"`
	LoadBalancerPassToTarget *bool               `tc:""`
	ProjectId                *int64              `tc:"echo,range=0-"`
	InternetAccessible       *internetAccessible `tc:"echo"`
	LBChargeType             *string             `tc:"echo,enum=POSTPAID_BY_HOUR|POSTPAID|PREPAID"`
	_                        struct{}            `unserved:"VipIsp BandwidthPackageId ExclusiveCluster SlaType ClusterIds SnatPro SnatIps ClusterTag SlaveZoneId DynamicVip Egress LBChargePrepaid AccessLogTopicId AdvancedRoute AvailableZoneAffinityInfo"`
}

type createLoadBalancerOut struct {
	LoadBalancerIds []string
}

const maxBalancersPerCall = 20

func createLoadBalancer(c *Call, in *createLoadBalancerIn) (*createLoadBalancerOut, error) {
	number, err := c.checkCreate(in)
	if err != nil {
		return nil, err
	}
	var ids []string
	err = c.Update(func(tx *store.Tx) error {
		var err error
		ids, err = c.once(tx, in.ClientToken, in, func() (made []string, err error) {
			for range number {
				b, err := c.newBalancer(tx, in)
				if err != nil {
					return nil, err
				}
				tx.PutBalancer(b)
				made = append(made, string(b.ID))
			}
			return made, nil
		})
		c.made = ids
		return err
	})
	return &createLoadBalancerOut{LoadBalancerIds: ids}, err
}

func (c *Call) checkCreate(in *createLoadBalancerIn) (number int64, err error) {
	if in.LoadBalancerType == "" {
		return 0, refuse(lb.Missing, "LoadBalancerType", "no type is given", "use OPEN or INTERNAL")
	}
	if err := checkBalancerName(in.LoadBalancerName); err != nil {
		return 0, err
	}
	for _, zone := range []struct{ field, name string }{{"MasterZoneId", in.MasterZoneId}, {"ZoneId", in.ZoneId}} {
		if zone.name != "" && zone.name != c.Zone() {
			return 0, refuse(lb.Invalid, zone.field, fmt.Sprintf("there is no zone %q", clip(zone.name, 40)), "the region's zone is "+c.Zone())
		}
	}
	if in.Forward != nil && *in.Forward == 0 { // a number that says something, unlike other zeroes
		return 0, errorf("UnsupportedOperation", "Forward: 0, a classic load balancer, is not made any more; leave it out, or use ImportLoadBalancer")
	}
	if isFullChain(in.AddressIPVersion) && in.LoadBalancerPassToTarget != nil && !*in.LoadBalancerPassToTarget {
		return 0, refuse(lb.Invalid, "LoadBalancerPassToTarget", "the traffic of an IPv6 load balancer always passes gate 2", "leave it out")
	}
	number = 1
	if in.Number != nil {
		number = *in.Number
	}
	if in.Vip != "" && number > 1 {
		return 0, refuse(lb.Coexist, "Vip", "one VIP cannot serve several load balancers", "leave out Number or Vip")
	}
	if in.EipAddressId != "" && number > 1 {
		return 0, refuse(lb.Coexist, "EipAddressId", "one EIP cannot serve several load balancers", "leave out Number or EipAddressId")
	}
	return number, nil
}

// checkBalancerName refuses names that the published rule does not allow; ""
// is no name.
func checkBalancerName(name string) error {
	for _, r := range name {
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_' {
			return refuse(lb.Invalid, "LoadBalancerName", fmt.Sprintf("%q cannot be in a name", r), "use letters, digits, - and _")
		}
	}
	return nil
}

func (c *Call) newBalancer(tx *store.Tx, in *createLoadBalancerIn) (*lb.LoadBalancer, error) {
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	b := &lb.LoadBalancer{
		ID: makeID(c, "lb-", tx.State().Balancers), Type: lb.BalancerType(in.LoadBalancerType),
		Created: c.Now().UTC(), Tags: tags, Echo: c.Echo,
	}
	if err := c.place(tx, b, in.VpcId, in.SubnetId, in.Vip, isFullChain(in.AddressIPVersion)); err != nil {
		return nil, err
	}
	if in.LoadBalancerPassToTarget != nil { // an IPv6 one refuses false, see checkFamilies
		b.PassToTarget = *in.LoadBalancerPassToTarget
	}
	if in.EipAddressId != "" {
		if err := associate(tx, b, "EipAddressId", "EipAddressId", in.EipAddressId); err != nil {
			return nil, err
		}
	}
	nameBalancer(tx.State(), b, in.LoadBalancerName)
	b.Num = tx.NextNum()
	return b, nil
}

// balancerVPC is the VPC named, or the default one.
func (c *Call) balancerVPC(tx *store.Tx, id string) (lb.VPCID, error) {
	if id == "" {
		return c.defaultVPC(tx).ID, nil
	}
	if tx.State().VPCs.Get(lb.VPCID(id)) == nil {
		return "", refuse(lb.NotFound, "VpcId", fmt.Sprintf("there is no VPC %q", clip(id, 40)), "DescribeVpcs lists them")
	}
	return lb.VPCID(id), nil
}

// pickVIP takes the wanted address of the VIP pool, or a free one of the family.
func (c *Call) pickVIP(st *lb.State, wanted string, ipv6 bool) (netip.Addr, error) {
	taken := usedAddresses(st)
	pool := slices.DeleteFunc(slices.Clone(c.VIPPool), func(p netip.Prefix) bool { return p.Addr().Is6() != ipv6 })
	if wanted == "" {
		vip, ok := freeAddr(pool, taken)
		if !ok {
			return vip, errorf("ResourceInsufficient", "every address of the VIP pool is in use; delete a load balancer or start the server with a larger --vip-pool")
		}
		return vip, nil
	}
	vip, err := netip.ParseAddr(wanted)
	if err != nil {
		return vip, refuse(lb.Malformed, "Vip", fmt.Sprintf("%q is not an address", clip(wanted, 60)), "write one like 192.0.2.1")
	}
	if !usable(pool, vip) {
		return vip, refuse(lb.Invalid, "Vip", vip.String()+" is not in the VIP pool", "leave it out to get a free one")
	}
	for n := range st.Nodes.Values() {
		if slices.Contains(gatewayAddresses(n), vip) {
			return vip, refuse(lb.Invalid, "Vip", fmt.Sprintf("%v is the address of %s", vip, n.ID), "leave it out to get a free one")
		}
	}
	if taken[vip] {
		return vip, refuse(lb.Invalid, "Vip", vip.String()+" is in use", "leave it out to get a free one")
	}
	return vip, nil
}

// freeAddr is the lowest address of the pool that is not taken. The first and
// last address of an IPv4 prefix wider than /31 are not given out.
func freeAddr(pool []netip.Prefix, taken map[netip.Addr]bool) (netip.Addr, bool) {
	for _, p := range pool {
		for a := p.Masked().Addr(); p.Contains(a); a = a.Next() {
			if !taken[a] && usable([]netip.Prefix{p}, a) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// usable reports whether the pool may give out the address.
func usable(pool []netip.Prefix, a netip.Addr) bool {
	for _, p := range pool {
		if !p.Contains(a) {
			continue
		}
		edge := a == p.Masked().Addr() || !p.Contains(a.Next())
		return !edge || p.Addr().BitLen()-p.Bits() < 2
	}
	return false
}

func tagsOf(list []clbTag) (lb.Tags, error) {
	if len(list) == 0 {
		return nil, nil
	}
	tags := lb.Tags{}
	for _, t := range list {
		if _, twice := tags[t.TagKey]; twice || t.TagKey == "" {
			return nil, refuse(lb.Invalid, "Tags", fmt.Sprintf("key %q is empty or given twice", clip(t.TagKey, 60)), "give each key once")
		}
		tags[t.TagKey] = t.TagValue
	}
	return tags, nil
}

type modifyLoadBalancerAttributesIn struct {
	LoadBalancerId           string              `tc:"required"`
	LoadBalancerName         *string             `tc:"len=80"`
	LoadBalancerPassToTarget *bool               `tc:""`
	DeleteProtect            *bool               `tc:""`
	InternetChargeInfo       *internetAccessible `tc:"echo"`
	_                        struct{}            `unserved:"TargetRegionInfo SwitchFlag SnatPro ModifyClassicDomain AssociateEndpoint"`
}

func modifyLoadBalancerAttributes(c *Call, in *modifyLoadBalancerAttributesIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		b, err := changeBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		if in.LoadBalancerName != nil && *in.LoadBalancerName != b.Name {
			if *in.LoadBalancerName == "" {
				return refuse(lb.Invalid, "LoadBalancerName", "a name has 1 to 80 characters", "leave it out to keep the name")
			}
			if err := checkBalancerName(*in.LoadBalancerName); err != nil {
				return err
			}
			b.Name = *in.LoadBalancerName
		}
		if in.LoadBalancerPassToTarget != nil {
			b.PassToTarget = *in.LoadBalancerPassToTarget
			if b.IPv6() && !b.PassToTarget {
				return errSixPasses(b)
			}
			if err := checkPassToTarget(b); err != nil {
				return err
			}
		}
		if in.DeleteProtect != nil {
			b.Protected = *in.DeleteProtect
		}
		if text, ok := c.Echo["InternetChargeInfo"]; ok { // reads return it under the name of creation
			b.Echo = withEcho(b.Echo, "InternetAccessible", text)
		}
		tx.PutBalancer(b)
		return nil
	})
}

// withEcho is echo with one entry changed; the old map stays as it is.
func withEcho(echo map[string]string, name, text string) map[string]string {
	next := map[string]string{name: text}
	for k, v := range echo {
		if k != name {
			next[k] = v
		}
	}
	return next
}

type deleteLoadBalancerIn struct {
	LoadBalancerIds []string `tc:"required,count=1-20"`
	ForceDelete     bool     `tc:""`
}

// riskyTargets is how many bound targets make a deletion need ForceDelete.
const riskyTargets = 20

func deleteLoadBalancer(c *Call, in *deleteLoadBalancerIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		st := tx.State()
		for i, id := range in.LoadBalancerIds {
			b, err := findBalancer(st, id)
			if err != nil {
				return inList(err, "LoadBalancerIds", i)
			}
			if b.Protected {
				return errorf("FailedOperation", "LoadBalancerIds.%d: load balancer %s is protected; set DeleteProtect to false first", i, id)
			}
			bound := 0
			for _, l := range listenersIn(tx, b.ID) {
				bound += targetCount(l)
				tx.DeleteListener(l.ID)
			}
			if bound >= riskyTargets && !in.ForceDelete {
				return errorf("FailedOperation.TargetNumCheckRisk", "load balancer %s has %s; unbind them or set ForceDelete", id, count(bound, "target"))
			}
			disassociate(tx, b.ID)
			tx.DeleteBalancer(b.ID)
		}
		return nil
	})
}

func targetCount(l *lb.Listener) int {
	n := len(l.Targets)
	for _, r := range l.Rules {
		n += len(r.Targets)
	}
	return n
}
