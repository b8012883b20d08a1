// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

func assistantActions() []Action {
	add := []string{"InvalidParameterValue", "InvalidParameterValue.Duplicate", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "InvalidParameterValue.VpcCidrConflict", "LimitExceeded", "ResourceNotFound"}
	change := append(slices.Clone(add), "ResourceInUse")
	return []Action{
		action(serviceVPC, "CreateAssistantCidr", createAssistantCidr).fails(add...),
		action(serviceVPC, "ModifyAssistantCidr", modifyAssistantCidr).fails(change...),
		action(serviceVPC, "DeleteAssistantCidr", deleteAssistantCidr).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceInUse", "ResourceNotFound"),
		action(serviceVPC, "CheckAssistantCidr", checkAssistantCidr).fails("InvalidParameterValue", "InvalidParameterValue.Malformed", "ResourceNotFound"),
		action(serviceVPC, "DescribeAssistantCidr", describeAssistantCidr).fails("LimitExceeded", "InvalidParameter.Coexist", "InvalidParameterValue.Malformed", "InvalidParameterValue.Range", "ResourceNotFound"),
	}
}

type assistantOut struct {
	VpcId         string
	CidrBlock     string
	AssistantType int // 0: an ordinary one
	SubnetSet     []subnetOut
}

// assistantsOut shows a VPC's further ranges with the subnets in each.
func assistantsOut(st *lb.State, v *lb.VPC) []assistantOut {
	var all []assistantOut
	for _, p := range v.Assistant {
		one := assistantOut{VpcId: string(v.ID), CidrBlock: p.String()}
		for _, id := range st.Subnets.Sorted() {
			if n := st.Subnets.Get(id); n.VPC == v.ID && within(n.Cidr, p) {
				one.SubnetSet = append(one.SubnetSet, subnetToOut(st, n))
			}
		}
		all = append(all, one)
	}
	return all
}

// cidrs reads a list of ranges for a VPC, each once.
func cidrs(field string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for i, text := range texts {
		at := field + "." + strconv.Itoa(i)
		p, err := networkCidr(at, text, 12, 28)
		if err != nil {
			return nil, err
		}
		if err := privateRange(at, p); err != nil {
			return nil, err
		}
		if slices.Contains(all, p) {
			return nil, refuse(lb.Duplicate, at, text+" is given twice", "give each range once")
		}
		all = append(all, p)
	}
	return all, nil
}

// An assistantChange adds ranges to a VPC and takes some away.
type assistantChange struct {
	oldField, newField string
	old, fresh         []string
}

// apply makes the change to a copy of the VPC.
func (a assistantChange) apply(c *Call, tx *store.Tx, id string) (*lb.VPC, error) {
	st := tx.State()
	have, err := findVPC(st, "VpcId", id)
	if err != nil {
		return nil, err
	}
	if len(a.old)+len(a.fresh) == 0 {
		return nil, refuse(lb.Invalid, a.newField, "no ranges are given", "give at least one")
	}
	v := *have
	v.Assistant = slices.Clone(have.Assistant)
	for i, text := range a.old {
		at := a.oldField + "." + strconv.Itoa(i)
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, refuse(lb.Malformed, at, strconv.Quote(clip(text, 40))+" is not a CIDR", "DescribeAssistantCidr lists those there are")
		}
		place := slices.Index(v.Assistant, p)
		if place < 0 {
			return nil, refuse(lb.NotFound, at, fmt.Sprintf("%v is no further range of %s", p, v.ID), "DescribeAssistantCidr lists those there are")
		}
		for _, n := range st.Subnets.Sorted() {
			if st.Subnets.Get(n).VPC == v.ID && within(st.Subnets.Get(n).Cidr, p) {
				return nil, refuse(lb.InUse, at, fmt.Sprintf("subnet %s (%v) lies in %v", n, st.Subnets.Get(n).Cidr, p), "DeleteSubnet first")
			}
		}
		v.Assistant = slices.Delete(v.Assistant, place, place+1)
	}
	fresh, err := cidrs(a.newField, a.fresh)
	if err != nil {
		return nil, err
	}
	for i, p := range fresh {
		for _, other := range v.Ranges() {
			if other.Overlaps(p) {
				return nil, errorf("InvalidParameterValue.VpcCidrConflict", "%s.%d: %v overlaps %v, which %s has; choose a range that is free", a.newField, i, p, other, v.ID)
			}
		}
		v.Assistant = append(v.Assistant, p)
	}
	if n := len(v.Assistant); n > c.Quotas.AssistantCidrs {
		return nil, refuse(lb.LimitExceeded, a.newField, fmt.Sprintf("%s would have %d further ranges, at most %d are allowed", v.ID, n, c.Quotas.AssistantCidrs), "delete one that is not used")
	}
	return &v, nil
}

type assistantSetOut struct{ AssistantCidrSet []assistantOut }

// change applies the change and answers with what the VPC has then.
func (a assistantChange) change(c *Call, id string) (*assistantSetOut, error) {
	err := c.Update(func(tx *store.Tx) error {
		v, err := a.apply(c, tx, id)
		if err == nil {
			tx.PutVPC(v)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	st := c.State()
	out := &assistantSetOut{}
	if v := st.VPCs.Get(lb.VPCID(id)); v != nil {
		out.AssistantCidrSet = assistantsOut(st, v)
	}
	return out, nil
}

type createAssistantIn struct {
	VpcId      string   `tc:"required"`
	CidrBlocks []string `tc:"required"`
}

// createAssistantCidr gives a VPC further ranges, in which subnets can lie.
func createAssistantCidr(c *Call, in *createAssistantIn) (*assistantSetOut, error) {
	return assistantChange{newField: "CidrBlocks", fresh: in.CidrBlocks}.change(c, in.VpcId)
}

type modifyAssistantIn struct {
	VpcId         string   `tc:"required"`
	NewCidrBlocks []string `tc:""`
	OldCidrBlocks []string `tc:""`
}

// modifyAssistantCidr takes ranges away and adds others, all or nothing.
func modifyAssistantCidr(c *Call, in *modifyAssistantIn) (*assistantSetOut, error) {
	return assistantChange{"OldCidrBlocks", "NewCidrBlocks", in.OldCidrBlocks, in.NewCidrBlocks}.change(c, in.VpcId)
}

type deleteAssistantIn struct {
	VpcId      string   `tc:"required"`
	CidrBlocks []string `tc:"required"`
}

// deleteAssistantCidr takes ranges away in which no subnet lies.
func deleteAssistantCidr(c *Call, in *deleteAssistantIn) (*done, error) {
	_, err := assistantChange{oldField: "CidrBlocks", newField: "CidrBlocks", old: in.CidrBlocks}.change(c, in.VpcId)
	return &done{}, err
}

// conflictItemOut has its id under both spellings that clients know.
type conflictItemOut struct{ ConflictId, ConfilctId, DestinationItem string }

type conflictOut struct {
	ConflictSourceId string
	SourceItem       string
	ConflictItemSet  []conflictItemOut
}

type checkAssistantOut struct{ ConflictSourceSet []conflictOut }

// checkAssistantCidr lists, for each range that would be added, the ranges of
// the VPC that it overlaps. Nothing is changed.
func checkAssistantCidr(c *Call, in *modifyAssistantIn) (*checkAssistantOut, error) {
	st := c.State()
	v, err := findVPC(st, "VpcId", in.VpcId)
	if err != nil {
		return nil, err
	}
	if len(in.NewCidrBlocks)+len(in.OldCidrBlocks) == 0 {
		return nil, refuse(lb.Invalid, "NewCidrBlocks", "no ranges are given", "give at least one, there or in OldCidrBlocks")
	}
	left := v.Ranges()
	for i, text := range in.OldCidrBlocks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, refuse(lb.Malformed, "OldCidrBlocks."+strconv.Itoa(i), strconv.Quote(clip(text, 40))+" is not a CIDR", "DescribeAssistantCidr lists those there are")
		}
		left = slices.DeleteFunc(left, func(have netip.Prefix) bool { return have == p && have != v.Cidr })
	}
	out := &checkAssistantOut{}
	for i, text := range in.NewCidrBlocks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, refuse(lb.Malformed, "NewCidrBlocks."+strconv.Itoa(i), strconv.Quote(clip(text, 40))+" is not a CIDR", `write "10.0.0.0/16"`)
		}
		one := conflictOut{ConflictSourceId: in.VpcId, SourceItem: text}
		for _, have := range left {
			if have.Overlaps(p) {
				one.ConflictItemSet = append(one.ConflictItemSet, conflictItemOut{in.VpcId, in.VpcId, have.String()})
			}
		}
		if len(one.ConflictItemSet) > 0 {
			out.ConflictSourceSet = append(out.ConflictSourceSet, one)
		}
	}
	return out, nil
}

type describeAssistantIn struct {
	VpcIds  []string `tc:""`
	Filters []Filter `tc:"" filters:"vpc-id"`
	Paging
}

type describeAssistantOut struct {
	AssistantCidrSet []assistantOut
	TotalCount       int
}

// describeAssistantCidr lists the further ranges of VPCs, oldest VPC first.
func describeAssistantCidr(c *Call, in *describeAssistantIn) (*describeAssistantOut, error) {
	st := c.State()
	vpcs, _, err := listObjects(c, query[lb.VPCID, lb.VPC]{
		field: "VpcIds", ids: in.VpcIds, filters: in.Filters, objects: st.VPCs, find: findVPC, whole: true,
		keys:  map[string]func(*lb.VPC) []string{"vpc-id": func(v *lb.VPC) []string { return []string{string(v.ID)} }},
		order: func(a, b *lb.VPC) int { return older(a.Created, b.Created, a.ID, b.ID) },
	})
	if err != nil {
		return nil, err
	}
	var found []assistantOut
	for _, v := range vpcs {
		found = append(found, assistantsOut(st, v)...)
	}
	out := &describeAssistantOut{TotalCount: len(found)}
	out.AssistantCidrSet = page(found, in.Paging)
	return out, nil
}
