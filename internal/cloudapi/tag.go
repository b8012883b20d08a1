// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func tagActions() []Action {
	return []Action{
		action(serviceTag, "DescribeResourceTagsByResourceIds", describeResourceTags).fails("InvalidParameterValue", "UnsupportedOperation"),
		action(serviceTag, "ModifyResourceTags", modifyResourceTags).fails("InvalidParameterCombination", "InvalidParameterValue", "ResourceNotFound"),
	}
}

// A taggable is a kind of object that has labels.
type taggable struct {
	service, prefix string
	tags            func(st *lb.State, id string) (lb.Tags, bool)
	put             func(tx *store.Tx, id string, tags lb.Tags)
}

func taggables() []taggable {
	all := []taggable{
		tagsOfKind("clb", "clb", func(st *lb.State) lb.Table[lb.BalancerID, lb.LoadBalancer] { return st.Balancers }, func(b *lb.LoadBalancer) *lb.Tags { return &b.Tags }, (*store.Tx).PutBalancer),
		tagsOfKind("clb", "targetgroup", func(st *lb.State) lb.Table[lb.TargetGroupID, lb.TargetGroup] { return st.TargetGroups }, func(g *lb.TargetGroup) *lb.Tags { return &g.Tags }, (*store.Tx).PutTargetGroup),
		tagsOfKind("cvm", "instance", func(st *lb.State) lb.Table[lb.InstanceID, lb.Instance] { return st.Instances }, func(i *lb.Instance) *lb.Tags { return &i.Tags }, (*store.Tx).PutInstance),
		tagsOfKind("cvm", "sg", func(st *lb.State) lb.Table[lb.GroupID, lb.SecurityGroup] { return st.Groups }, func(g *lb.SecurityGroup) *lb.Tags { return &g.Tags }, (*store.Tx).PutGroup),
		tagsOfKind("vpc", "vpc", func(st *lb.State) lb.Table[lb.VPCID, lb.VPC] { return st.VPCs }, func(v *lb.VPC) *lb.Tags { return &v.Tags }, (*store.Tx).PutVPC),
		tagsOfKind("vpc", "eip", func(st *lb.State) lb.Table[lb.AddressID, lb.Address] { return st.Addresses }, func(e *lb.Address) *lb.Tags { return &e.Tags }, (*store.Tx).PutAddress),
		tagsOfKind("vpc", "subnet", func(st *lb.State) lb.Table[lb.SubnetID, lb.Subnet] { return st.Subnets }, func(n *lb.Subnet) *lb.Tags { return &n.Tags }, (*store.Tx).PutSubnet),
		tagsOfKind("ssl", "certificate", func(st *lb.State) lb.Table[lb.CertificateID, lb.Certificate] { return st.Certificates }, func(c *lb.Certificate) *lb.Tags { return &c.Tags }, (*store.Tx).PutCertificate),
	}
	kinds := templateKinds()
	for i, prefix := range []string{"address", "addressgroup", "service", "servicegroup"} {
		all = append(all, tagsOfKind("vpc", prefix, kinds[i].all, func(t *lb.Template) *lb.Tags { return &t.Tags }, (*store.Tx).PutTemplate))
	}
	return all
}

// tagsOfKind makes the objects of one kind taggable.
func tagsOfKind[K ~string, V any](service, prefix string, objects func(*lb.State) lb.Table[K, V], tags func(*V) *lb.Tags, put func(*store.Tx, *V)) taggable {
	return taggable{service, prefix,
		func(st *lb.State, id string) (lb.Tags, bool) {
			if o := objects(st).Get(K(id)); o != nil {
				return *tags(o), true
			}
			return nil, false
		},
		func(tx *store.Tx, id string, given lb.Tags) {
			o := *objects(tx.State()).Get(K(id))
			*tags(&o) = given
			put(tx, &o)
		}}
}

func findTaggable(field, service, prefix string) (taggable, error) {
	for _, t := range taggables() {
		if t.service == service && t.prefix == prefix {
			return t, nil
		}
	}
	return taggable{}, refuse(lb.Unsupported, field, fmt.Sprintf("resources %s/%s have no tags here", clip(service, 40), clip(prefix, 40)),
		"served: clb/clb, clb/targetgroup, cvm/instance, cvm/sg, vpc/vpc, vpc/subnet, vpc/eip, vpc/address, vpc/addressgroup, vpc/service, vpc/servicegroup (templates), ssl/certificate")
}

type describeTagsIn struct {
	ServiceType    string   `tc:"required"`
	ResourcePrefix string   `tc:"required"`
	ResourceIds    []string `tc:"required"`
	ResourceRegion string   `tc:"required"`
	_              struct{} `unserved:"Category"`
	Offset         *int64   `tc:"range=0-"`
	Limit          *int64   `tc:"range=1-400"`
}

type tagResourceOut struct {
	TagKey      string
	TagValue    string
	ResourceId  string
	ServiceType string
}

type describeTagsOut struct {
	TotalCount int
	Offset     int64
	Limit      int64
	Tags       []tagResourceOut
}

// describeResourceTags lists the tags of resources, in the order of the ids
// given. Resources that do not exist have none.
func describeResourceTags(c *Call, in *describeTagsIn) (*describeTagsOut, error) {
	kind, err := findTaggable("ResourcePrefix", in.ServiceType, in.ResourcePrefix)
	if err != nil {
		return nil, err
	}
	if in.ResourceRegion != c.Region {
		return nil, refuse(lb.Invalid, "ResourceRegion", strconv.Quote(clip(in.ResourceRegion, 40))+" is not this region", "the only one is "+c.Region)
	}
	out := &describeTagsOut{Limit: defaultLimit}
	if in.Offset != nil {
		out.Offset = *in.Offset
	}
	if in.Limit != nil {
		out.Limit = *in.Limit
	}
	st := c.State()
	var all []tagResourceOut
	for _, id := range in.ResourceIds {
		tags, _ := kind.tags(st, id)
		for _, t := range tagsOut(tags) {
			all = append(all, tagResourceOut{TagKey: t.Key, TagValue: t.Value, ResourceId: id, ServiceType: in.ServiceType})
		}
	}
	out.TotalCount = len(all)
	from := min(out.Offset, int64(len(all)))
	out.Tags = all[from:min(from+out.Limit, int64(len(all)))]
	return out, nil
}

type tagObject struct {
	TagKey   string   `tc:"required"`
	TagValue string   `tc:""`
	_        struct{} `unserved:"Category"`
}

type tagKeyObject struct {
	TagKey string `tc:"required"`
}

type modifyTagsIn struct {
	Resource    string         `tc:"required"`
	ReplaceTags []tagObject    `tc:""`
	DeleteTags  []tagKeyObject `tc:""`
}

// modifyResourceTags sets and removes tags of one resource, named as
// qcs::cvm:REGION:uin/:instance/ins-12345678.
func modifyResourceTags(c *Call, in *modifyTagsIn) (*done, error) {
	parts := strings.Split(in.Resource, ":")
	if len(parts) != 6 || parts[0] != "qcs" || strings.Count(parts[5], "/") != 1 {
		return nil, refuse(lb.Malformed, "Resource", strconv.Quote(clip(in.Resource, 80))+" is not a resource", "write qcs::cvm:"+c.Region+":uin/:instance/ins-12345678")
	}
	if parts[3] != c.Region {
		return nil, refuse(lb.Invalid, "Resource", strconv.Quote(clip(parts[3], 40))+" is not this region", "the only one is "+c.Region)
	}
	prefix, id, _ := strings.Cut(parts[5], "/")
	kind, err := findTaggable("Resource", parts[2], prefix)
	if err != nil {
		return nil, err
	}
	var set []Tag
	for _, t := range in.ReplaceTags {
		set = append(set, Tag{t.TagKey, t.TagValue})
	}
	given, err := tagsIn("ReplaceTags", set)
	if err != nil {
		return nil, refield(err, func(field string) string { return strings.TrimSuffix(field, "Key") + "TagKey" })
	}
	for i, t := range in.DeleteTags {
		if _, both := given[t.TagKey]; both {
			return nil, refuse(lb.Coexist, fmt.Sprintf("DeleteTags.%d.TagKey", i), strconv.Quote(clip(t.TagKey, 60))+" is in ReplaceTags too", "set or delete it")
		}
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, ok := kind.tags(tx.State(), id)
		if !ok {
			return refuse(lb.NotFound, "Resource", "there is no "+prefix+" "+clip(id, 40), "its service's Describe action lists them")
		}
		tags := lb.Tags{}
		maps.Copy(tags, old)
		maps.Copy(tags, given)
		maps.DeleteFunc(tags, func(k, _ string) bool {
			return slices.ContainsFunc(in.DeleteTags, func(t tagKeyObject) bool { return t.TagKey == k })
		})
		kind.put(tx, id, tags)
		return nil
	})
}
