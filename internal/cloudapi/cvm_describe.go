// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"net/netip"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// An instanceOut is an instance as clients read it. Machine sizes that we do
// not know are 1: clients treat 0 as a broken answer.
type instanceOut struct {
	Placement                placementOut
	InstanceId               string
	InstanceName             string
	InstanceType             string
	ImageId                  string
	OsName                   string
	CPU                      int
	Memory                   int
	RestrictState            string
	InstanceChargeType       string
	RenewFlag                string
	SystemDisk               diskOut
	DataDisks                []diskOut
	PrivateIpAddresses       []string
	PublicIpAddresses        []string
	IPv6Addresses            []string
	InternetAccessible       internetOut
	VirtualPrivateCloud      privateCloudOut
	CreatedTime              string
	ExpiredTime              *string
	SecurityGroupIds         []string
	LoginSettings            struct{}
	InstanceState            string
	StopChargingMode         string
	Uuid                     string
	LatestOperation          string
	LatestOperationState     string
	LatestOperationRequestId string
	HostName                 string
	DisableApiTermination    bool
	Tags                     []Tag
}

// chargedByHour is how instances are charged that say nothing of it.
const chargedByHour = "POSTPAID_BY_HOUR"

type placementOut struct {
	Zone      string
	ProjectId int64
}

type diskOut struct {
	DiskType string
	DiskId   string
	DiskSize int64
}

type internetOut struct {
	InternetChargeType      string
	InternetMaxBandwidthOut int64
	PublicIpAssigned        bool
}

type privateCloudOut struct {
	VpcId        string
	SubnetId     string
	AsVpcGateway bool
}

func (c *Call) instanceOut(i *lb.Instance) instanceOut {
	out := instanceOut{
		Placement:  placementOut{c.Zone(), echoed(i.Echo, "Placement.ProjectId", int64(0))},
		InstanceId: string(i.ID), InstanceName: i.Name,
		InstanceType: echoed(i.Echo, "InstanceType", labType), ImageId: echoed(i.Echo, "ImageId", labImage),
		CPU: 1, Memory: 1, RestrictState: "NORMAL",
		InstanceChargeType: echoed(i.Echo, "InstanceChargeType", chargedByHour), RenewFlag: "NOTIFY_AND_MANUAL_RENEW",
		SystemDisk:         diskToOut(echoed(i.Echo, "SystemDisk", diskIn{}), i.ID),
		PrivateIpAddresses: privateAddresses(i), PublicIpAddresses: publicAddresses(i), IPv6Addresses: ipv6Texts(i),
		InternetAccessible: internetOut{
			InternetChargeType:      echoed(i.Echo, "InternetAccessible.InternetChargeType", "TRAFFIC_POSTPAID_BY_HOUR"),
			InternetMaxBandwidthOut: echoed(i.Echo, "InternetAccessible.InternetMaxBandwidthOut", int64(0)),
			PublicIpAssigned:        i.Public.IsValid(),
		},
		VirtualPrivateCloud: privateCloudOut{VpcId: string(i.VPC), SubnetId: string(i.Subnet)},
		CreatedTime:         i.Created.UTC().Format(time.RFC3339),
		SecurityGroupIds:    groupTextsOf(i.Groups),
		InstanceState:       string(i.State), StopChargingMode: "NOT_APPLICABLE",
		LatestOperation: cmp.Or(i.Operation, "RunInstances"), LatestOperationState: "SUCCESS", LatestOperationRequestId: i.OperationID,
		Uuid: instanceUUID(i), DisableApiTermination: echoed(i.Echo, "DisableApiTermination", false), OsName: theImage().OsName,
		HostName: echoed(i.Echo, "HostName", ""), Tags: tagsOut(i.Tags),
	}
	switch i.State {
	case lb.Pending, lb.Starting, lb.Stopping, lb.Rebooting:
		out.LatestOperationState = "OPERATING"
	case lb.LaunchFailed:
		out.LatestOperationState = "FAILED"
	}
	for _, d := range echoed(i.Echo, "DataDisks", []diskIn{}) {
		out.DataDisks = append(out.DataDisks, diskToOut(d, i.ID))
	}
	return out
}

// diskToOut shows a disk that exists only on paper. Its id does not begin with
// "disk-", so that no client asks the disk service for it.
func diskToOut(d diskIn, id lb.InstanceID) diskOut {
	out := diskOut{DiskType: "LOCAL_BASIC", DiskId: "ldisk-" + strings.TrimPrefix(string(id), "ins-"), DiskSize: 50}
	if d.DiskType != nil && *d.DiskType != "" {
		out.DiskType = *d.DiskType
	}
	if d.DiskSize != nil && *d.DiskSize > 0 {
		out.DiskSize = *d.DiskSize
	}
	return out
}

// privateAddresses are all IPv4 ones of a machine that joined, the tunnel's
// first.
func privateAddresses(i *lb.Instance) []string {
	var all []string
	for _, a := range append([]netip.Addr{i.Private}, i.Others...) {
		if a.Is4() {
			all = append(all, a.String())
		}
	}
	return all
}

func publicAddresses(i *lb.Instance) []string {
	if !i.Public.IsValid() {
		return nil
	}
	return []string{i.Public.String()}
}

func groupTextsOf(groups []lb.GroupID) []string {
	out := make([]string, len(groups))
	for n, id := range groups {
		out[n] = string(id)
	}
	return out
}
