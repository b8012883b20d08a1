// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// The states of an EIP that are served: writes are applied before they are
// answered, so nothing is ever on its way.
const (
	addressBound   = "BIND"
	addressUnbound = "UNBIND"
)

// eipOut is an EIP as clients read it. Its fields are never null where clients
// dereference them.
type eipOut struct {
	AddressId, AddressName, AddressStatus, AddressIp string
	InstanceId, InstanceType                         *string
	CreatedTime                                      string
	NetworkInterfaceId, PrivateAddressIp             *string
	IsArrears, IsBlocked, IsEipDirectConnection      bool
	AddressType                                      string
	CascadeRelease                                   bool
	InternetServiceProvider                          string
	LocalBgp                                         bool
	Bandwidth                                        int64
	InternetChargeType                               string
	TagSet                                           []Tag
	Egress, AntiDDoSPackageId, BandwidthPackageId    *string
	DedicatedClusterId, DeadlineDate, RenewFlag      *string
	UnVpcId                                          *string
}

func showAddress(st *lb.State, a *lb.Address) eipOut {
	out := eipOut{
		AddressId: string(a.ID), AddressName: a.Name, AddressStatus: addressUnbound, AddressIp: a.IP.String(), CreatedTime: a.Created.UTC().Format(time.RFC3339),
		AddressType: "EIP", InternetServiceProvider: echoed(a.Echo, "InternetServiceProvider", "BGP"),
		Bandwidth:          echoed(a.Echo, "InternetMaxBandwidthOut", int64(1)),
		InternetChargeType: echoed(a.Echo, "InternetChargeType", "TRAFFIC_POSTPAID_BY_HOUR"), TagSet: tagsOut(a.Tags),
	}
	if b := st.Balancers.Get(a.Balancer); b != nil {
		id, kind, private, network := string(b.ID), "CLB", b.VIPs[0].String(), string(b.VPC)
		out.AddressStatus, out.InstanceId, out.InstanceType, out.PrivateAddressIp, out.UnVpcId = addressBound, &id, &kind, &private, &network
	}
	return out
}

type describeAddressesIn struct {
	AddressIds []string `tc:""`
	Filters    []Filter `tc:"code=InvalidParameter.InvalidFilter" filters:"address-id address-name address-ip address-status=CREATING|BINDING|BIND|UNBINDING|UNBIND|OFFLINING|BIND_ENI address-type=EIP|WanIP|AnycastEIP|HighQualityEIP|AntiDDoSEIP address-isp instance-id instance-type private-ip-address network-interface-id is-arrears=TRUE|FALSE tag-value tag-key tag:KEY"`
	Paging
}

type describeAddressesOut struct {
	TotalCount int
	AddressSet []eipOut
}

// describeAddresses lists EIPs, newest last. Ids that do not exist are left
// out: clients poll until one is gone. The public addresses that instances
// were made with are no EIPs.
func describeAddresses(c *Call, in *describeAddressesIn) (*describeAddressesOut, error) {
	st := c.State()
	all := slices.Collect(st.Addresses.Values())
	if len(in.AddressIds) > 0 {
		if slices.ContainsFunc(in.Filters, func(f Filter) bool { return f.Name == "address-id" }) {
			return nil, refuse(lb.Coexist, "AddressIds", "the filter address-id is given too", "give one of them")
		}
		for i, id := range in.AddressIds {
			if !hasShape("eip-", id) {
				return nil, errorf("InvalidParameterValue.AddressIdMalformed", "AddressIds.%d: %q is not the id of an EIP; ids look like eip-12345678", i, clip(id, 40))
			}
		}
		all = slices.DeleteFunc(all, func(a *lb.Address) bool { return !slices.Contains(in.AddressIds, string(a.ID)) })
	}
	all, err := filter(all, in.Filters, addressFilters(st), func(a *lb.Address) lb.Tags { return a.Tags })
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b *lb.Address) int { return cmp.Or(a.Created.Compare(b.Created), a.IP.Compare(b.IP)) })
	cut := page(all, in.Paging)
	out := &describeAddressesOut{TotalCount: len(all), AddressSet: []eipOut{}}
	for _, a := range cut {
		out.AddressSet = append(out.AddressSet, showAddress(st, a))
	}
	return out, nil
}

func addressFilters(st *lb.State) map[string]func(*lb.Address) []string {
	text := func(read func(eipOut) *string) func(*lb.Address) []string {
		return func(a *lb.Address) []string {
			if v := read(showAddress(st, a)); v != nil {
				return []string{*v}
			}
			return nil
		}
	}
	return map[string]func(*lb.Address) []string{
		"address-id":           text(func(o eipOut) *string { return &o.AddressId }),
		"address-name":         text(func(o eipOut) *string { return &o.AddressName }),
		"address-ip":           text(func(o eipOut) *string { return &o.AddressIp }),
		"address-status":       text(func(o eipOut) *string { return &o.AddressStatus }),
		"address-type":         text(func(o eipOut) *string { return &o.AddressType }),
		"address-isp":          text(func(o eipOut) *string { return &o.InternetServiceProvider }),
		"instance-id":          text(func(o eipOut) *string { return o.InstanceId }),
		"instance-type":        text(func(o eipOut) *string { return o.InstanceType }),
		"private-ip-address":   text(func(o eipOut) *string { return o.PrivateAddressIp }),
		"network-interface-id": text(func(o eipOut) *string { return o.NetworkInterfaceId }),
		"is-arrears":           func(*lb.Address) []string { return []string{"FALSE"} },
		"tag-value":            func(a *lb.Address) []string { return slices.Collect(maps.Values(a.Tags)) },
	}
}

type describeAddressQuotaIn struct{}

type addressQuotaOut struct {
	QuotaId                  string
	QuotaCurrent, QuotaLimit int
	QuotaGroup               string
}

type describeAddressQuotaOut struct{ QuotaSet []addressQuotaOut }

func describeAddressQuota(c *Call, _ *describeAddressQuotaIn) (*describeAddressQuotaOut, error) {
	return &describeAddressQuotaOut{[]addressQuotaOut{{"TOTAL_EIP_QUOTA", c.State().Addresses.Len(), maxAddresses, "ADDRESS"}}}, nil
}

type describeTaskResultIn struct {
	TaskId *int64   `tc:""`
	_      struct{} `unserved:"DealName"`
}

type describeTaskResultOut struct {
	TaskId int64
	Result string
}

// describeTaskResult tells how a write about EIPs ended. Writes are applied
// before they are answered, so a task that is known has succeeded.
func describeTaskResult(c *Call, in *describeTaskResultIn) (*describeTaskResultOut, error) {
	if in.TaskId == nil {
		return nil, refuse(lb.Missing, "TaskId", "no task is named", "give the TaskId of the call that made it")
	}
	_, ok, err := c.Store.Task(c.Context(), addressTaskKey(strconv.FormatInt(*in.TaskId, 10)))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(lb.Invalid, "TaskId", fmt.Sprintf("there is no task %d", *in.TaskId), "tasks are kept for 24 hours")
	}
	return &describeTaskResultOut{*in.TaskId, "SUCCESS"}, nil
}

type describeBandwidthPackagesIn struct {
	BandwidthPackageIds []string `tc:""`
	Filters             []Filter `tc:"" filters:"bandwidth-package-id bandwidth-package-name network-type charge-type resource.resource-type resource.resource-id resource.address-ip tag-key tag:KEY"`
	Paging
}

type describeBandwidthPackagesOut struct {
	TotalCount          int
	BandwidthPackageSet []json.RawMessage
}

// describeBandwidthPackages lists what nobody can make here, whatever is asked
// for: clients look whether an EIP belongs to one.
func describeBandwidthPackages(*Call, *describeBandwidthPackagesIn) (*describeBandwidthPackagesOut, error) {
	return &describeBandwidthPackagesOut{BandwidthPackageSet: []json.RawMessage{}}, nil
}
