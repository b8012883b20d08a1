// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type cloneGroupIn struct {
	SecurityGroupId  string  `tc:"required"`
	GroupName        *string `tc:"len=60"`  // the source's when it is not given
	GroupDescription *string `tc:"len=100"` // so too
	ProjectId        string  `tc:""`
	RemoteRegion     string  `tc:""` // the source's region: there is one
	Tags             []Tag   `tc:""`
	IsCloneTags      bool    `tc:""`
}

// cloneSecurityGroup copies a group's rules, in both directions, into a new
// group that is bound to nothing. Names may repeat. A rule that names its own
// group names the source in the copy too.
func cloneSecurityGroup(c *Call, in *cloneGroupIn) (*createGroupOut, error) {
	if in.RemoteRegion != "" && in.RemoteRegion != c.Region {
		return nil, errorf("UnsupportedRegion", "RemoteRegion: %q is not this region; the only one is %s", clip(in.RemoteRegion, 40), c.Region)
	}
	if err := groupName(in.GroupName); err != nil {
		return nil, err
	}
	project, err := projectID(in.ProjectId)
	if err != nil {
		return nil, err
	}
	tags, err := tagsIn("Tags", in.Tags)
	if err != nil {
		return nil, err
	}
	var g *lb.SecurityGroup
	err = c.Update(func(tx *store.Tx) error {
		source, err := findGroup(tx.State(), "SecurityGroupId", in.SecurityGroupId)
		if err != nil {
			return err
		}
		for _, r := range slices.Concat(source.Ingress, source.Egress) {
			if peer := tx.State().Groups.Get(r.PeerGroup); peer != nil && peer.ProjectID != project {
				return refuse(lb.Invalid, "ProjectId", fmt.Sprintf("the rules name %s, which is in project %s, and a group's rules name groups of its own project", peer.ID, peer.ProjectID), "clone into project "+peer.ProjectID)
			}
		}
		g = &lb.SecurityGroup{Name: source.Name, Desc: source.Desc, ProjectID: project, Tags: lb.Tags{},
			Ingress: slices.Clone(source.Ingress), Egress: slices.Clone(source.Egress)}
		if in.GroupName != nil {
			g.Name = *in.GroupName
		}
		if in.GroupDescription != nil {
			g.Desc = *in.GroupDescription
		}
		if in.IsCloneTags {
			maps.Copy(g.Tags, source.Tags)
		}
		maps.Copy(g.Tags, tags)
		return addGroup(c, tx, g)
	})
	if err != nil {
		return nil, err
	}
	return &createGroupOut{groupOut(g)}, nil
}
