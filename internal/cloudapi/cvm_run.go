// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"unicode/utf8"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// maxInstancesPerCall bounds InstanceCount and lists of InstanceIds.
const maxInstancesPerCall = 100

type placementIn struct {
	Zone      string   `tc:""`
	ProjectId *int64   `tc:"range=0-"`
	_         struct{} `unserved:"HostIds HostId HostIps DedicatedClusterId RackId PartitionId DedicatedResourcePackTenancy DedicatedResourcePackIds"`
}

type prepaidIn struct {
	Period    *int64  `tc:""`
	RenewFlag *string `tc:""`
}

type diskIn struct {
	DiskType           *string  `tc:"enum=CLOUD_BASIC|CLOUD_PREMIUM|CLOUD_SSD|CLOUD_BSSD|CLOUD_HSSD|CLOUD_TSSD|CLOUD_BIGDATA|CLOUD_HIGHIO|LOCAL_BASIC|LOCAL_SSD|LOCAL_NVME|LOCAL_PRO"`
	DiskSize           *int64   `tc:"range=0-32000"`
	DiskName           *string  `tc:""`
	DeleteWithInstance *bool    `tc:""`
	_                  struct{} `unserved:"DiskId SnapshotId Encrypt KmsKeyId ThroughputPerformance CdcId BurstPerformance"`
}

type privateCloudIn struct {
	VpcId              string   `tc:""`
	SubnetId           string   `tc:""`
	PrivateIpAddresses []string `tc:""`
	Ipv6AddressCount   int64    `tc:"range=0-1"`
	_                  struct{} `unserved:"AsVpcGateway"`
}

type internetIn struct {
	InternetChargeType      *string  `tc:"echo,enum=TRAFFIC_POSTPAID_BY_HOUR|BANDWIDTH_POSTPAID_BY_HOUR|BANDWIDTH_PACKAGE|BANDWIDTH_PREPAID"`
	InternetMaxBandwidthOut *int64   `tc:"echo,range=0-65535"`
	PublicIpAssigned        bool     `tc:""`
	_                       struct{} `unserved:"BandwidthPackageId InternetServiceProvider IPv4AddressType IPv6AddressType AntiDDoSPackageId"`
}

type loginIn struct {
	KeepImageLogin string   `tc:"only=FALSE|false|TRUE|true"`
	_              struct{} `unserved:"Password KeyIds"`
}

type switchIn struct {
	Enabled *bool `tc:""`
}

type enhancedIn struct {
	SecurityService   *switchIn `tc:""`
	MonitorService    *switchIn `tc:""`
	AutomationService *switchIn `tc:""`
}

type tagSpecificationIn struct {
	ResourceType string `tc:"required,only=instance"`
	Tags         []Tag  `tc:"required"`
}

type runInstancesIn struct {
	InstanceChargeType    *string              `tc:"echo,enum=POSTPAID_BY_HOUR|PREPAID|SPOTPAID|CDHPAID|CDCPAID|UNDERWRITE"`
	InstanceChargePrepaid *prepaidIn           `tc:"echo"`
	Placement             placementIn          `tc:""`
	InstanceType          *string              `tc:"echo"`
	ImageId               *string              `tc:"echo"`
	SystemDisk            *diskIn              `tc:"echo"`
	DataDisks             []diskIn             `tc:"echo"`
	VirtualPrivateCloud   privateCloudIn       `tc:""`
	InternetAccessible    internetIn           `tc:""`
	InstanceCount         *int64               `tc:"range=1-100"`
	InstanceName          string               `tc:"len=128,code=InvalidInstanceName.TooLong"`
	LoginSettings         loginIn              `tc:""`
	SecurityGroupIds      []string             `tc:""`
	EnhancedService       *enhancedIn          `tc:"echo"`
	ClientToken           string               `tc:"len=64,code=InvalidClientToken.TooLong"`
	HostName              *string              `tc:"echo"`
	TagSpecification      []tagSpecificationIn `tc:""`
	UserData              *string              `tc:"echo"`
	DisableApiTermination *bool                `tc:"echo,acts"`   // it protects
	MinCount              *int64               `tc:"range=1-100"` // all are made, or none
	DryRun                bool                 `tc:""`
	_                     struct{}             `unserved:"ActionTimer DisasterRecoverGroupIds InstanceMarketOptions Metadata CpuTopology CamRoleName HpcClusterId LaunchTemplate DedicatedClusterId ChcIds PartitionNumber EnableJumboFrame NetworkInterfaces"`
}

type runInstancesOut struct{ InstanceIdSet []string }

// runInstances makes instances; each is PENDING until its node has its gate in
// force. A client token that was used before answers with what it made then.
func runInstances(c *Call, in *runInstancesIn) (*runInstancesOut, error) {
	tags, err := in.check(c)
	if err != nil {
		return nil, err
	}
	out := &runInstancesOut{}
	err = c.Update(func(tx *store.Tx) error {
		var err error
		out.InstanceIdSet, err = c.once(tx, in.ClientToken, in, func() ([]string, error) {
			made := &runInstancesOut{}
			err := in.make(c, tx, tags, made)
			if err == nil && in.DryRun {
				err = errDryRun
			}
			return made.InstanceIdSet, err
		})
		return err
	})
	if errors.Is(err, errDryRun) {
		return &runInstancesOut{}, nil
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (in *runInstancesIn) count() int {
	if in.InstanceCount == nil {
		return 1
	}
	return int(*in.InstanceCount)
}

// check finds the faults that need no state and reads the tags.
func (in *runInstancesIn) check(c *Call) (lb.Tags, error) {
	net := in.VirtualPrivateCloud
	switch {
	case in.Placement.Zone != "" && in.Placement.Zone != c.Zone():
		return nil, errorf("InvalidZone.MismatchRegion", "Placement.Zone: %q is not a zone of this region; the only one is %s", clip(in.Placement.Zone, 40), c.Zone())
	case (net.VpcId == "") != (net.SubnetId == ""):
		return nil, refuse(lb.Missing, "VirtualPrivateCloud", "only one of VpcId and SubnetId is given", "give both, or none for the default network")
	case len(net.PrivateIpAddresses) > 0 && len(net.PrivateIpAddresses) != in.count():
		return nil, refuse(lb.Invalid, "VirtualPrivateCloud.PrivateIpAddresses", fmt.Sprintf("%d are given for %s", len(net.PrivateIpAddresses), count(in.count(), "instance")), "give one for each or none")
	}
	if n := in.MinCount; n != nil && (*n < 1 || *n > int64(in.count())) {
		return nil, refuse(lb.Range, "MinCount", fmt.Sprintf("%d is outside 1-%d", *n, in.count()), "it is at most InstanceCount")
	}
	if err := instanceName("InstanceName", in.InstanceName); err != nil {
		return nil, err
	}
	if in.UserData != nil {
		if err := checkUserData(*in.UserData); err != nil {
			return nil, err
		}
	}
	if in.HostName != nil {
		if err := checkHostName(*in.HostName); err != nil {
			return nil, err
		}
	}
	var given []Tag
	for _, s := range in.TagSpecification {
		given = append(given, s.Tags...)
	}
	return tagsIn("TagSpecification.0.Tags", given)
}

// make puts the instances into the transaction.
func (in *runInstancesIn) make(c *Call, tx *store.Tx, tags lb.Tags, out *runInstancesOut) error {
	subnet, err := in.subnet(c, tx)
	if err != nil {
		return err
	}
	return in.makeIn(c, tx, subnet, tags, out)
}

// makeIn is make in a subnet that is known, or in the basic network.
func (in *runInstancesIn) makeIn(c *Call, tx *store.Tx, subnet *lb.Subnet, tags lb.Tags, out *runInstancesOut) error {
	groups, err := in.groups(c, tx)
	if err != nil {
		return err
	}
	plan := newAddressPlan(tx.State(), subnet)
	names := instanceNames(in.InstanceName, in.count())
	for n, name := range names {
		i := &lb.Instance{
			ID: makeID(c, "ins-", tx.State().Instances), Name: name, VPC: subnet.VPC, Subnet: subnet.ID, Groups: groups,
			State: lb.Pending, Created: c.Now().UTC(), Tags: tags, Echo: c.Echo,
		}
		if in.Placement.ProjectId != nil {
			i.Echo = withEcho(i.Echo, "Placement.ProjectId", strconv.FormatInt(*in.Placement.ProjectId, 10))
		}
		wanted := ""
		if given := in.VirtualPrivateCloud.PrivateIpAddresses; len(given) > 0 {
			wanted = given[n]
		}
		if i.Private, err = plan.private("VirtualPrivateCloud.PrivateIpAddresses."+strconv.Itoa(n), wanted); err != nil {
			return err
		}
		if in.VirtualPrivateCloud.Ipv6AddressCount > 0 {
			if err := giveIPv6(tx.State(), i, "VirtualPrivateCloud.Ipv6AddressCount", ""); err != nil {
				return err
			}
		}
		if in.InternetAccessible.PublicIpAssigned {
			if i.Public, err = plan.public(c.EIPPool, c.public); err != nil {
				return err
			}
		}
		tx.PutInstance(i)
		out.InstanceIdSet = append(out.InstanceIdSet, string(i.ID))
	}
	return c.checkMembers(tx, groups)
}

// subnet is the named one or the default, which is made on first use.
func (in *runInstancesIn) subnet(c *Call, tx *store.Tx) (*lb.Subnet, error) {
	net := in.VirtualPrivateCloud
	if net.SubnetId == "" || net.SubnetId == "DEFAULT" && net.VpcId == "DEFAULT" {
		return c.defaultSubnet(tx), nil
	}
	v, err := findVPC(tx.State(), "VirtualPrivateCloud.VpcId", net.VpcId)
	if err != nil {
		return nil, err
	}
	n, err := findSubnet(tx.State(), "VirtualPrivateCloud.SubnetId", net.SubnetId)
	if err != nil {
		return nil, err
	}
	if n.VPC != v.ID {
		return nil, refuse(lb.Invalid, "VirtualPrivateCloud.SubnetId", fmt.Sprintf("%s belongs to %s, not to %s", n.ID, n.VPC, v.ID), "name the subnet's own VPC")
	}
	return n, nil
}

// groups are the named ones, or the project's default group.
func (in *runInstancesIn) groups(c *Call, tx *store.Tx) ([]lb.GroupID, error) {
	if len(in.SecurityGroupIds) > 0 {
		return c.groupList(tx.State(), "SecurityGroupIds", in.SecurityGroupIds)
	}
	project := "0"
	if in.Placement.ProjectId != nil {
		project = strconv.FormatInt(*in.Placement.ProjectId, 10)
	}
	g, err := defaultGroup(c, tx, project)
	if err != nil {
		return nil, err
	}
	return []lb.GroupID{g.ID}, nil
}

// namePattern is {R:7}: a number that begins at 7 and grows by instance.
var namePattern = regexp.MustCompile(`\{R:(\d{1,6})\}`)

// instanceNames are the names of n instances made together: counted where the
// name has a pattern, else with a number behind when there are several.
func instanceNames(name string, n int) []string {
	if name == "" {
		name = "Unnamed"
	}
	names := make([]string, n)
	for i := range names {
		counted := namePattern.ReplaceAllStringFunc(name, func(m string) string {
			first, _ := strconv.Atoi(namePattern.FindStringSubmatch(m)[1]) // digits only
			return strconv.Itoa(first + i)
		})
		if counted == name && n > 1 {
			counted += strconv.Itoa(i + 1)
		}
		names[i] = counted
	}
	return names
}

func instanceName(field, name string) error {
	if utf8.RuneCountInString(name) > 128 {
		return errorf("InvalidInstanceName.TooLong", "%s: longer than 128 characters; shorten it", field)
	}
	return nil
}
