// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"runtime"
	"slices"
)

// What an instance of the lab is, said in the words of the cvm service: one
// image, one type, one zone, one region, no key pairs.
const (
	labImage  = "img-labecho1"
	labType   = "LAB.SMALL1"
	labFamily = "LAB"
)

type describeZonesOut struct {
	TotalCount int
	ZoneSet    []zoneInfoOut
}

type zoneInfoOut struct{ Zone, ZoneName, ZoneId, ZoneState string }

type nothingIn struct{}

func describeZones(c *Call, _ *nothingIn) (*describeZonesOut, error) {
	return &describeZonesOut{1, []zoneInfoOut{{c.Zone(), c.Zone(), "1", "AVAILABLE"}}}, nil
}

type describeRegionsOut struct {
	TotalCount int
	RegionSet  []regionOut
}

type regionOut struct{ Region, RegionName, RegionState string }

func describeRegions(c *Call, _ *nothingIn) (*describeRegionsOut, error) {
	return &describeRegionsOut{1, []regionOut{{c.Region, c.Region, "AVAILABLE"}}}, nil
}

type describeImagesIn struct {
	ImageIds     []string `tc:""`
	Filters      []Filter `tc:"" filters:"image-id image-type=PUBLIC_IMAGE|PRIVATE_IMAGE|SHARED_IMAGE image-name platform image-state=CREATING|NORMAL|CREATEFAILED|USING|SYNCING|IMPORTING|IMPORTFAILED tag-key tag-value"`
	InstanceType *string  `tc:""` // the image runs on every type
	Paging
}

type describeImagesOut struct {
	TotalCount int
	ImageSet   []imageOut
}

type imageOut struct {
	ImageId, ImageName, ImageDescription, ImageType, ImageState, ImageSource, ImageCreator string
	OsName, Platform, Architecture, CreatedTime, LicenseType, ImageFamily                  string
	ImageSize, SyncPercent                                                                 int
	IsSupportCloudinit, ImageDeprecated                                                    bool
	SnapshotSet                                                                            []struct{}
	Tags                                                                                   []Tag
}

// theImage is what an instance here runs, whatever ImageId it was asked for.
func theImage() imageOut {
	arch := "x86_64"
	if runtime.GOARCH == "arm64" {
		arch = "arm"
	}
	return imageOut{
		ImageId: labImage, ImageName: "lab", ImageDescription: "A network namespace of the lab with a web server that answers who asked",
		ImageType: "PUBLIC_IMAGE", ImageState: "NORMAL", ImageSource: "OFFICIAL", OsName: "Linux", Platform: "Other Linux", Architecture: arch,
		CreatedTime: "2026-11-23T00:00:00Z", ImageSize: 1, SyncPercent: 100,
	}
}

func describeImages(c *Call, in *describeImagesIn) (*describeImagesOut, error) {
	if len(in.ImageIds) > 0 && len(in.Filters) > 0 {
		return nil, errorf("InvalidParameter.InvalidParameterCoexistImageIdsFilters", "ImageIds: Filters are given too; give one of the two")
	}
	images := []imageOut{theImage()}
	filters := in.Filters
	for _, id := range in.ImageIds {
		if !hasShape("img-", id) {
			return nil, errorf("InvalidImageId.Malformed", "ImageIds: %q is not the id of an image; ids look like %s", clip(id, 40), labImage)
		}
	}
	if len(in.ImageIds) > 0 {
		filters = []Filter{{Name: "image-id", Values: in.ImageIds}}
	}
	one := func(read func(imageOut) string) func(imageOut) []string {
		return func(i imageOut) []string { return []string{read(i)} }
	}
	images, err := filter(images, filters, map[string]func(imageOut) []string{
		"image-id": one(func(i imageOut) string { return i.ImageId }), "image-type": one(func(i imageOut) string { return i.ImageType }),
		"image-name": one(func(i imageOut) string { return i.ImageName }), "platform": one(func(i imageOut) string { return i.Platform }),
		"image-state": one(func(i imageOut) string { return i.ImageState }),
		"tag-key":     func(imageOut) []string { return nil }, "tag-value": func(imageOut) []string { return nil },
	}, nil)
	if err != nil {
		return nil, err
	}
	shown := page(images, in.Paging)
	return &describeImagesOut{len(images), shown}, nil
}

type typeConfigsIn struct {
	Filters []Filter `tc:"" filters:"zone instance-family instance-type"`
}

type typeConfigsOut struct{ InstanceTypeConfigSet []typeConfigOut }

type typeConfigOut struct {
	Zone, InstanceType, InstanceFamily string
	CPU, Memory, GPU, FPGA             int
	GpuCount                           int
}

// describeInstanceTypeConfigs lists the one type: what it says of CPU and
// memory is a name, an instance has what the machine has.
func describeInstanceTypeConfigs(c *Call, in *typeConfigsIn) (*typeConfigsOut, error) {
	all := []typeConfigOut{{Zone: c.Zone(), InstanceType: labType, InstanceFamily: labFamily, CPU: 1, Memory: 1}}
	shown, err := filter(all, in.Filters, map[string]func(typeConfigOut) []string{
		"zone":            func(t typeConfigOut) []string { return []string{t.Zone} },
		"instance-family": func(t typeConfigOut) []string { return []string{t.InstanceFamily} },
		"instance-type":   func(t typeConfigOut) []string { return []string{t.InstanceType} },
	}, nil)
	return &typeConfigsOut{shown}, err
}

type zoneConfigsOut struct{ InstanceTypeQuotaSet []zoneConfigOut }

type zoneConfigOut struct {
	Zone, InstanceType, InstanceChargeType, InstanceFamily, TypeName, Status, StatusCategory string
	CpuType, Frequency, Remark, SoldOutReason                                                string
	Cpu, Memory, Gpu, Fpga, GpuCount, NetworkCard, StorageBlockAmount                        int
	InstanceBandwidth, InstancePps                                                           int
	LocalDiskTypeList                                                                        []struct{}
	Externals                                                                                struct{}
	Price                                                                                    zonePriceOut
}

// zonePriceOut is what an instance costs here: nothing.
type zonePriceOut struct {
	UnitPrice, UnitPriceDiscount, OriginalPrice, DiscountPrice, Discount float64
	ChargeUnit                                                           string
}

type zoneConfigsIn struct {
	Filters []Filter `tc:"" filters:"zone instance-family instance-type instance-charge-type=PREPAID|POSTPAID_BY_HOUR|CDHPAID|SPOTPAID|CDCPAID sort-keys=cpu:asc|cpu:desc|mem:asc|mem:desc"`
}

func describeZoneInstanceConfigInfos(c *Call, in *zoneConfigsIn) (*zoneConfigsOut, error) {
	filters := slices.DeleteFunc(in.Filters, func(f Filter) bool { return f.Name == "sort-keys" }) // one type is in every order
	all := []zoneConfigOut{{
		Zone: c.Zone(), InstanceType: labType, InstanceFamily: labFamily, TypeName: "Lab", InstanceChargeType: "POSTPAID_BY_HOUR",
		Status: "SELL", StatusCategory: "EnoughStock", Cpu: 1, Memory: 1, Price: zonePriceOut{ChargeUnit: "HOUR"},
	}}
	shown, err := filter(all, filters, map[string]func(zoneConfigOut) []string{
		"zone":                 func(t zoneConfigOut) []string { return []string{t.Zone} },
		"instance-family":      func(t zoneConfigOut) []string { return []string{t.InstanceFamily} },
		"instance-type":        func(t zoneConfigOut) []string { return []string{t.InstanceType} },
		"instance-charge-type": func(t zoneConfigOut) []string { return []string{t.InstanceChargeType} },
	}, nil)
	return &zoneConfigsOut{shown}, err
}

type describeKeyPairsIn struct {
	KeyIds  []string `tc:""`
	Filters []Filter `tc:"" filters:"project-id key-name tag-key tag-value"`
	Paging
}

type describeKeyPairsOut struct {
	TotalCount int
	KeyPairSet []struct{}
}

// describeKeyPairs lists none: nobody logs in to an instance of the lab.
func describeKeyPairs(c *Call, in *describeKeyPairsIn) (*describeKeyPairsOut, error) {
	none := func(struct{}) []string { return nil }
	all, err := filter([]struct{}{}, in.Filters, map[string]func(struct{}) []string{
		"project-id": none, "key-name": none, "tag-key": none, "tag-value": none}, nil)
	return &describeKeyPairsOut{0, page(all, in.Paging)}, err
}
