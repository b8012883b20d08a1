// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func interfaceActions() []Action {
	return []Action{
		action(serviceVPC, "DescribeNetworkInterfaces", describeNetworkInterfaces).fails("InvalidParameter.Coexist", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "ResourceNotFound"),
		action(serviceVPC, "AssociateNetworkInterfaceSecurityGroups", associateInterfaceGroups).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "LimitExceeded", "LimitExceeded.CvmsVifsPerSecGroupLimitExceeded", "ResourceNotFound", "UnsupportedOperation.SgNumExceedLimit"),
		action(serviceVPC, "DisassociateNetworkInterfaceSecurityGroups", disassociateInterfaceGroups).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceNotFound", "UnsupportedOperation"),
	}
}

// interfaceID is the id of an instance's only network interface.
func interfaceID(id lb.InstanceID) string { return "eni-" + strings.TrimPrefix(string(id), "ins-") }

// findInterface finds the instance that an interface belongs to.
func findInterface(st *lb.State, field, id string) (*lb.Instance, error) {
	if !hasShape("eni-", id) {
		return nil, refuse(lb.Malformed, field, strconv.Quote(clip(id, 40))+" is not the id of a network interface", "ids look like eni-12345678")
	}
	if i := st.Instances.Get(lb.InstanceID("ins-" + strings.TrimPrefix(id, "eni-"))); i != nil {
		return i, nil
	}
	return nil, refuse(lb.NotFound, field, "there is no network interface "+id, "each instance has one, DescribeNetworkInterfaces lists them")
}

type privateIPOut struct {
	PrivateIpAddress string
	Primary          bool
	PublicIpAddress  string
	AddressId        string
	Description      string
	IsWanIpBlocked   bool
	State            string
}

type attachmentOut struct {
	InstanceId        string
	DeviceIndex       int
	InstanceAccountId string
	AttachTime        string
}

type interfaceOut struct {
	NetworkInterfaceId          string
	NetworkInterfaceName        string
	NetworkInterfaceDescription string
	VpcId                       string
	SubnetId                    string
	GroupSet                    []string
	Primary                     bool
	State                       string
	NetworkInterfaceState       string
	PrivateIpAddressSet         []privateIPOut
	Ipv6AddressSet              []ipv6AddressOut
	Attachment                  attachmentOut
	Zone                        string
	CreatedTime                 string
	TagSet                      []Tag
	EniType                     int // 1: the primary one
	Business                    string
	CdcId                       string
}

// interfaceToOut shows an instance's interface; its MAC address is the
// machine's business and not known here.
func (c *Call) interfaceToOut(i *lb.Instance) interfaceOut {
	out := interfaceOut{
		NetworkInterfaceId: interfaceID(i.ID), NetworkInterfaceName: i.Name, VpcId: string(i.VPC), SubnetId: string(i.Subnet), Primary: true,
		State: "AVAILABLE", NetworkInterfaceState: "INUSE", Zone: c.Zone(), CreatedTime: stamp(i.Created), EniType: 1, Business: "cvm",
		Attachment: attachmentOut{InstanceId: string(i.ID), AttachTime: stamp(i.Created)},
	}
	for _, g := range i.Groups {
		out.GroupSet = append(out.GroupSet, string(g))
	}
	out.Ipv6AddressSet = ipv6AddressesOut(i)
	if i.Private.IsValid() {
		own := privateIPOut{PrivateIpAddress: i.Private.String(), Primary: true, State: "AVAILABLE"}
		if i.Public.IsValid() {
			own.PublicIpAddress = i.Public.String()
		}
		out.PrivateIpAddressSet = []privateIPOut{own}
	}
	return out
}

type describeInterfacesIn struct {
	NetworkInterfaceIds []string `tc:""`
	Filters             []Filter `tc:"" filters:"network-interface-id network-interface-name vpc-id subnet-id attachment.instance-id address-ip public-address-ip is-primary=true|false eni-type=0|1|2|3 groups.security-group-id"`
	Paging
}

type describeInterfacesOut struct {
	NetworkInterfaceSet []interfaceOut
	TotalCount          int
}

// describeNetworkInterfaces lists the one interface that each instance has.
func describeNetworkInterfaces(c *Call, in *describeInterfacesIn) (*describeInterfacesOut, error) {
	one := func(read func(*lb.Instance) string) func(*lb.Instance) []string {
		return func(i *lb.Instance) []string { return []string{read(i)} }
	}
	instances, total, err := listObjects(c, query[lb.InstanceID, lb.Instance]{
		field: "NetworkInterfaceIds", ids: in.NetworkInterfaceIds, filters: in.Filters, paging: in.Paging,
		objects: c.State().Instances, find: findInterface,
		keys: map[string]func(*lb.Instance) []string{
			"network-interface-id":   one(func(i *lb.Instance) string { return interfaceID(i.ID) }),
			"network-interface-name": one(func(i *lb.Instance) string { return i.Name }),
			"vpc-id":                 one(func(i *lb.Instance) string { return string(i.VPC) }),
			"subnet-id":              one(func(i *lb.Instance) string { return string(i.Subnet) }),
			"attachment.instance-id": one(func(i *lb.Instance) string { return string(i.ID) }),
			"address-ip":             one(func(i *lb.Instance) string { return i.Private.String() }),
			"public-address-ip":      one(func(i *lb.Instance) string { return i.Public.String() }),
			"is-primary":             one(func(*lb.Instance) string { return "true" }),
			"eni-type":               one(func(*lb.Instance) string { return "1" }),
			"groups.security-group-id": func(i *lb.Instance) (ids []string) {
				for _, g := range i.Groups {
					ids = append(ids, string(g))
				}
				return ids
			},
		},
		order: func(a, b *lb.Instance) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	out := &describeInterfacesOut{TotalCount: total}
	for _, i := range instances {
		out.NetworkInterfaceSet = append(out.NetworkInterfaceSet, c.interfaceToOut(i))
	}
	return out, nil
}

type interfaceGroupsIn struct {
	NetworkInterfaceIds []string `tc:"required,items=100"`
	SecurityGroupIds    []string `tc:"required,items=100"`
}

// edit changes the instances of the interfaces in one transaction; change
// returns false where nothing is to be done.
func (in *interfaceGroupsIn) edit(c *Call, change func(i *lb.Instance, g lb.GroupID) (bool, error)) (*done, error) {
	for field, ids := range map[string][]string{"NetworkInterfaceIds": in.NetworkInterfaceIds, "SecurityGroupIds": in.SecurityGroupIds} {
		if len(ids) == 0 {
			return nil, refuse(lb.Invalid, field, "no ids are given", "give at least one")
		}
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		for n, id := range in.NetworkInterfaceIds {
			old, err := findInterface(tx.State(), "NetworkInterfaceIds."+strconv.Itoa(n), id)
			if err != nil {
				return err
			}
			i, changed := *old, false
			i.Groups = slices.Clone(old.Groups)
			for k, group := range in.SecurityGroupIds {
				g, err := findGroup(tx.State(), "SecurityGroupIds."+strconv.Itoa(k), group)
				if err != nil {
					return err
				}
				did, err := change(&i, g.ID)
				if err != nil {
					return err
				}
				changed = changed || did
			}
			if !changed {
				continue
			}
			if n := len(i.Groups); n > c.Quotas.GroupsPerInstance {
				return refuse(lb.LimitExceeded, "SecurityGroupIds", "an instance would have "+count(n, "group"), "at most "+strconv.Itoa(c.Quotas.GroupsPerInstance)+" are allowed")
			}
			tx.PutInstance(&i)
			if err := c.checkMembers(tx, i.Groups); err != nil {
				return err
			}
		}
		return nil
	})
}

// associateInterfaceGroups binds groups, at the lowest priority, in the order
// in which they are given. An instance's interface has the instance's groups.
func associateInterfaceGroups(c *Call, in *interfaceGroupsIn) (*done, error) {
	return in.edit(c, func(i *lb.Instance, g lb.GroupID) (bool, error) {
		if slices.Contains(i.Groups, g) && !i.Observe {
			return false, nil
		}
		if !slices.Contains(i.Groups, g) {
			i.Groups = append(i.Groups, g)
		}
		i.Observe = false // the first binding of a machine that joined closes its gate
		return true, nil
	})
}

// disassociateInterfaceGroups unbinds groups. An instance keeps at least one.
func disassociateInterfaceGroups(c *Call, in *interfaceGroupsIn) (*done, error) {
	return in.edit(c, func(i *lb.Instance, g lb.GroupID) (bool, error) {
		at := slices.Index(i.Groups, g)
		if at < 0 {
			return false, nil
		}
		if len(i.Groups) == 1 {
			return false, refuse(lb.Unsupported, "SecurityGroupIds", string(g)+" is the only group of "+string(i.ID)+", and an instance keeps at least one", "bind another first")
		}
		i.Groups = slices.Delete(i.Groups, at, at+1)
		return true, nil
	})
}
