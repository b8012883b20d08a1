// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// eipActions lists what vpc does with elastic public addresses (EIPs).
func eipActions() []Action {
	return []Action{
		action(serviceVPC, "AllocateAddresses", allocateAddresses).fails("AddressQuotaLimitExceeded", "InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Range", "InvalidParameterValue.TooLong"),
		action(serviceVPC, "DescribeAddresses", describeAddresses).fails("InvalidParameter.Coexist", "InvalidParameterValue.AddressIdMalformed", "InvalidParameterValue.Range"),
		action(serviceVPC, "AssociateAddress", associateAddress).like(`{"AddressId":"eip-1a2b3c4d","InstanceId":"lb-1a2b3c4d"}`).fails("InvalidAddressId.NotFound", "InvalidInstanceId.AlreadyBindEip", "InvalidInstanceId.NotFound", "InvalidParameterValue.AddressIdMalformed", "InvalidParameterValue.InstanceHasWanIP", "MissingParameter", "UnsupportedOperation", "UnsupportedOperation.AddressStatusNotPermit"),
		action(serviceVPC, "DisassociateAddress", disassociateAddress).fails("InvalidAddressId.NotFound", "InvalidParameterValue.AddressIdMalformed", "UnsupportedOperation.AddressStatusNotPermit"),
		action(serviceVPC, "ReleaseAddresses", releaseAddresses).fails("InvalidAddressId.NotFound", "InvalidParameterValue", "InvalidParameterValue.AddressIdMalformed", "UnsupportedOperation.AddressStatusNotPermit"),
		action(serviceVPC, "ModifyAddressAttribute", modifyAddressAttribute).like(`{"AddressId":"eip-1a2b3c4d","AddressName":"front"}`).fails("InvalidAddressId.NotFound", "InvalidParameterValue.AddressIdMalformed", "InvalidParameterValue.TooLong", "MissingParameter"),
		action(serviceVPC, "ModifyAddressesBandwidth", modifyAddressesBandwidth).fails("InvalidAddressId.NotFound", "InvalidParameterValue", "InvalidParameterValue.AddressIdMalformed"),
		action(serviceVPC, "ModifyAddressInternetChargeType", modifyAddressCharge).fails("InvalidAddressId.NotFound", "InvalidParameterValue.AddressIdMalformed"),
		action(serviceVPC, "DescribeAddressQuota", describeAddressQuota),
		action(serviceVPC, "DescribeTaskResult", describeTaskResult).fails("InvalidParameterValue", "MissingParameter"),
		action(serviceVPC, "DescribeBandwidthPackages", describeBandwidthPackages),
	}
}

// findAddress finds an EIP by its id.
func findAddress(st *lb.State, field, id string) (*lb.Address, error) {
	if !hasShape("eip-", id) {
		return nil, errorf("InvalidParameterValue.AddressIdMalformed", "%s: %q is not the id of an EIP; ids look like eip-12345678", field, clip(id, 40))
	}
	a := st.Addresses.Get(lb.AddressID(id))
	if a == nil {
		return nil, errorf("InvalidAddressId.NotFound", "%s: there is no EIP %s; DescribeAddresses lists them", field, id)
	}
	return a, nil
}

// addressTask records that a write about EIPs has ended, and gives the number
// that clients ask DescribeTaskResult for.
func (c *Call) addressTask(tx *store.Tx) string {
	id := strconv.Itoa(1 + rand.IntN(1<<31-2))
	tx.PutTask(store.Task{ID: addressTaskKey(id), Created: c.Now().UTC()})
	return id
}

func addressTaskKey(id string) string { return "vpc-" + id }

type allocateAddressesIn struct {
	AddressCount            *int64   `tc:"range=1-20"`
	InternetServiceProvider *string  `tc:"echo"`
	InternetChargeType      *string  `tc:"echo,enum=TRAFFIC_POSTPAID_BY_HOUR|BANDWIDTH_POSTPAID_BY_HOUR|BANDWIDTH_PACKAGE|BANDWIDTH_PREPAID_BY_MONTH"`
	InternetMaxBandwidthOut *int64   `tc:"echo,range=0-65535,code=InvalidParameterValue.BandwidthOutOfRange"`
	AddressType             string   `tc:"only=EIP"`
	Tags                    []Tag    `tc:""`
	AddressName             string   `tc:"len=20"`
	ClientToken             string   `tc:"len=64"`
	_                       struct{} `unserved:"IPChargeType AddressChargePrepaid AnycastZone VipCluster ApplicableForCLB BandwidthPackageId DedicatedClusterId IsDedicatedAddressPool Egress AntiDDoSPackageId"`
}

type allocateAddressesOut struct {
	AddressSet []string
	TaskId     string
}

// maxAddresses bounds the EIPs of one call and of the region.
const (
	maxAddressesPerCall = 20
	maxAddresses        = 20
)

// allocateAddresses makes EIPs, bound to nothing.
func allocateAddresses(c *Call, in *allocateAddressesIn) (*allocateAddressesOut, error) {
	number := int64(1)
	if in.AddressCount != nil {
		number = *in.AddressCount
	}
	if err := addressName(in.AddressName); err != nil {
		return nil, err
	}
	tags, err := tagsIn("Tags", in.Tags)
	if err != nil {
		return nil, err
	}
	out := &allocateAddressesOut{}
	err = c.Update(func(tx *store.Tx) error {
		made, err := c.once(tx, in.ClientToken, in, func() ([]string, error) {
			var ids []string
			for range number {
				a, err := c.newAddress(tx.State(), in.AddressName)
				if err != nil {
					return nil, err
				}
				a.Tags, a.Echo = tags, c.Echo
				tx.PutAddress(a)
				ids = append(ids, string(a.ID))
			}
			return append([]string{c.addressTask(tx)}, ids...), nil
		})
		if err != nil {
			return err
		}
		out.TaskId, out.AddressSet = made[0], made[1:]
		return nil
	})
	return out, err
}

func addressName(name string) error {
	if len([]rune(name)) > 20 {
		return refuse(lb.TooLong, "AddressName", "longer than 20 characters", "shorten it")
	}
	return nil
}

func (c *Call) newAddress(st *lb.State, name string) (*lb.Address, error) {
	if st.Addresses.Len() >= maxAddresses {
		return nil, errorf("AddressQuotaLimitExceeded", "AddressCount: the region would have more than %d EIPs; release one first", maxAddresses)
	}
	used := usedAddresses(st)
	ip, ok := freeAddr(c.EIPPool, used)
	if wanted := c.public; wanted.IsValid() {
		if !usable(c.EIPPool, wanted) || used[wanted] {
			return nil, refuse(lb.Invalid, "AddressIp", wanted.String()+" is in use or not in the pool of public addresses", "leave it out to get a free one")
		}
		ip, ok = wanted, true
	}
	if !ok {
		return nil, errorf("ResourceInsufficient", "AddressCount: every address of the public pool is in use; release one, or start the server with a larger --eip-pool")
	}
	id := makeID(c, "eip-", st.Addresses)
	return &lb.Address{ID: id, Name: name, IP: ip, Created: c.Now().UTC()}, nil
}

type associateAddressIn struct {
	AddressId  string   `tc:"required"`
	InstanceId string   `tc:""`
	_          struct{} `unserved:"NetworkInterfaceId PrivateIpAddress EipDirectConnection InstanceRegion"`
}

// taskOut is the answer of writes about EIPs.
type taskOut struct{ TaskId string }

// associateAddress binds an EIP to a private load balancer.
func associateAddress(c *Call, in *associateAddressIn) (*taskOut, error) {
	if in.InstanceId == "" {
		return nil, refuse(lb.Missing, "InstanceId", "nothing is named to bind the EIP to", "give the id of a private load balancer")
	}
	if hasShape("ins-", in.InstanceId) {
		return nil, refuse(lb.Unsupported, "InstanceId", "EIPs are served for private load balancers only", "an instance gets a public address by InternetAccessible.PublicIpAssigned")
	}
	out := &taskOut{}
	return out, c.Update(func(tx *store.Tx) error {
		if _, err := findAddress(tx.State(), "AddressId", in.AddressId); err != nil {
			return err
		}
		old := tx.State().Balancers.Get(lb.BalancerID(in.InstanceId))
		if old == nil {
			return errorf("InvalidInstanceId.NotFound", "InstanceId: there is no load balancer %q; DescribeLoadBalancers lists them", clip(in.InstanceId, 40))
		}
		b := *old
		if err := associate(tx, &b, "AddressId", "InstanceId", in.AddressId); err != nil {
			return err
		}
		tx.PutBalancer(&b)
		out.TaskId = c.addressTask(tx)
		return nil
	})
}

// associate binds an EIP to a load balancer, which the caller puts. field
// names the EIP in the request, object the load balancer.
func associate(tx *store.Tx, b *lb.LoadBalancer, field, object, id string) error {
	found, err := findAddress(tx.State(), field, id)
	switch {
	case err != nil:
		return err
	case !b.Private():
		return errorf("InvalidParameterValue.InstanceHasWanIP", "%s: %s is public and has its own address; bind the EIP to a private load balancer", object, b.ID)
	case b.Classic || b.Basic():
		return errorf("UnsupportedOperation", "%s: %s is classic or in the basic network, where EIPs are not served; bind the EIP to a private load balancer in a VPC", object, b.ID)
	case b.IPv6():
		return errorf("UnsupportedOperation", "%s: %s is an IPv6 load balancer, and EIPs are IPv4; bind the EIP to an IPv4 one", object, b.ID)
	case b.EIP.IsValid():
		return errorf("InvalidInstanceId.AlreadyBindEip", "%s: %s has the EIP %v; disassociate that first", object, b.ID, b.EIP)
	case found.Balancer != "":
		return errorf("UnsupportedOperation.AddressStatusNotPermit", "%s: %s is bound to %s; disassociate it first", field, id, found.Balancer)
	}
	a := *found
	a.Balancer, b.EIP = b.ID, a.IP
	tx.PutAddress(&a)
	return nil
}

// disassociate frees the EIP of a load balancer, if it has one.
func disassociate(tx *store.Tx, id lb.BalancerID) {
	for _, found := range tx.State().Addresses.All() {
		if found.Balancer == id {
			a := *found
			a.Balancer = ""
			tx.PutAddress(&a)
			return
		}
	}
}

type disassociateAddressIn struct {
	AddressId                string `tc:"required"`
	ReallocateNormalPublicIp bool   `tc:"only=false"`
}

func disassociateAddress(c *Call, in *disassociateAddressIn) (*taskOut, error) {
	out := &taskOut{}
	return out, c.Update(func(tx *store.Tx) error {
		found, err := findAddress(tx.State(), "AddressId", in.AddressId)
		if err != nil {
			return err
		}
		old := tx.State().Balancers.Get(found.Balancer)
		if old == nil {
			return errorf("UnsupportedOperation.AddressStatusNotPermit", "AddressId: %s is bound to nothing; associate it first", in.AddressId)
		}
		b := *old
		b.EIP = netip.Addr{}
		disassociate(tx, b.ID)
		tx.PutBalancer(&b)
		out.TaskId = c.addressTask(tx)
		return nil
	})
}

type releaseAddressesIn struct {
	AddressIds []string `tc:"required"`
}

func releaseAddresses(c *Call, in *releaseAddressesIn) (*taskOut, error) {
	out := &taskOut{}
	return out, c.editAddresses(in.AddressIds, out, func(tx *store.Tx, field string, a *lb.Address) error {
		if a.Balancer != "" {
			return errorf("UnsupportedOperation.AddressStatusNotPermit", "%s: %s is bound to %s; disassociate it first", field, a.ID, a.Balancer)
		}
		tx.DeleteAddress(a.ID)
		return nil
	})
}

// editAddresses changes copies of the named EIPs in one transaction: all or
// none.
func (c *Call) editAddresses(ids []string, out *taskOut, edit func(tx *store.Tx, field string, a *lb.Address) error) error {
	if n := len(ids); n == 0 || n > maxAddressesPerCall {
		return refuse(lb.Invalid, "AddressIds", count(n, "id")+" are given", fmt.Sprintf("give 1 to %d", maxAddressesPerCall))
	}
	return c.Update(func(tx *store.Tx) error {
		for i, id := range ids {
			field := "AddressIds." + strconv.Itoa(i)
			found, err := findAddress(tx.State(), field, id)
			if err != nil {
				return err
			}
			a := *found
			if err := edit(tx, field, &a); err != nil {
				return err
			}
		}
		out.TaskId = c.addressTask(tx)
		return nil
	})
}

type modifyAddressAttributeIn struct {
	AddressId   string   `tc:"required"`
	AddressName *string  `tc:"len=20"`
	_           struct{} `unserved:"EipDirectConnection"`
}

func modifyAddressAttribute(c *Call, in *modifyAddressAttributeIn) (*done, error) {
	if in.AddressName == nil {
		return nil, refuse(lb.Missing, "AddressName", "nothing to change is given", "give a name")
	}
	if err := addressName(*in.AddressName); err != nil {
		return nil, err
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		found, err := findAddress(tx.State(), "AddressId", in.AddressId)
		if err != nil {
			return err
		}
		a := *found
		a.Name = *in.AddressName
		tx.PutAddress(&a)
		return nil
	})
}

type modifyAddressesBandwidthIn struct {
	AddressIds              []string `tc:"required"`
	InternetMaxBandwidthOut int64    `tc:"required,echo"`
	_                       struct{} `unserved:"StartTime EndTime"`
}

// modifyAddressesBandwidth changes a number that is stored without effect.
func modifyAddressesBandwidth(c *Call, in *modifyAddressesBandwidthIn) (*taskOut, error) {
	out := &taskOut{}
	return out, c.editAddresses(in.AddressIds, out, func(tx *store.Tx, _ string, a *lb.Address) error {
		a.Echo = merged(a.Echo, c.Echo)
		tx.PutAddress(a)
		return nil
	})
}

type modifyAddressChargeIn struct {
	AddressId               string   `tc:"required"`
	InternetChargeType      string   `tc:"required,echo"`
	InternetMaxBandwidthOut int64    `tc:"required,echo"`
	_                       struct{} `unserved:"AddressChargePrepaid"`
}

// modifyAddressCharge changes what is stored without effect.
func modifyAddressCharge(c *Call, in *modifyAddressChargeIn) (*done, error) {
	return &done{}, c.Update(func(tx *store.Tx) error {
		found, err := findAddress(tx.State(), "AddressId", in.AddressId)
		if err != nil {
			return err
		}
		a := *found
		a.Echo = merged(a.Echo, c.Echo)
		tx.PutAddress(&a)
		return nil
	})
}
