// SPDX-License-Identifier: Apache-2.0

package console

import (
	"cmp"
	"slices"
	"strings"
)

type instanceListData struct {
	Instances []instance
	P         pager
}

func (v *visit) instanceList() error {
	search, offset := v.r.URL.Query().Get("q"), v.offset()
	all, total, err := v.instances(instanceSearch(search, offset, pageSize))
	if err != nil {
		return err
	}
	return v.show(200, "cvm-list", "cvm", "Instances", instanceListData{all, v.pager("cvm", search, offset, len(all), total)})
}

// instanceSearch asks for instances by name, id or private address.
func instanceSearch(search string, offset, limit int) m {
	in := m{"Offset": offset, "Limit": limit}
	if search != "" {
		name := "instance-name"
		switch {
		case len(search) > 4 && search[:4] == "ins-":
			name = "instance-id"
		case search[0] >= '0' && search[0] <= '9':
			name = "private-ip-address"
		}
		in["Filters"] = []m{{"Name": name, "Values": []string{search}}}
	}
	return in
}

type newInstanceData struct {
	F      form
	Groups []group
	Search string
	Chosen string // the group that is chosen, when the search does not show it
	Total  int    // groups that the search finds
}

func (v *visit) newInstance() error {
	d := newInstanceData{F: v.initial("PublicIpAssigned", "true")}
	var err error
	if v.posted() {
		d.F = v.typed()
	}
	d.Search = strings.TrimSpace(d.F.V("q"))
	if d.Groups, d.Total, err = v.searchGroups(d.Search, 0, pageSize); err != nil {
		return err
	}
	if id := d.F.V("SecurityGroupIds"); !slices.ContainsFunc(d.Groups, func(g group) bool { return g.SecurityGroupId == id }) {
		d.Chosen = id
	}
	if v.posted() && d.F.V("search") == "" {
		in := m{"InstanceName": d.F.V("InstanceName"), "InternetAccessible": m{"PublicIpAssigned": d.F.V("PublicIpAssigned") == "true"}}
		if id := d.F.V("SecurityGroupIds"); id != "" {
			in["SecurityGroupIds"] = []string{id}
		}
		var out struct{ InstanceIdSet []string }
		err := v.do(vpcVersion, "RunInstances", in, &out)
		if err == nil {
			return v.to("cvm/"+firstText(out.InstanceIdSet), "Created. It runs once its host has its gate in force.")
		}
		if d.F, err = d.F.refused(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "cvm-new", "cvm", "Create an instance", d)
}

type instanceData struct {
	I       instance
	Groups  []group
	Behind  []targetStatus // the ill first
	More    int            // that are left out
	Nodes   []node
	Traffic traffic
	Keep    bool // open flows keep their verdict
}

func (v *visit) instanceBasic() error {
	i, err := v.instance(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	d := instanceData{I: i}
	if d.Groups, err = v.named(i.SecurityGroupIds); err != nil {
		return err
	}
	if d.Keep, err = v.keepsFlows("InstanceId", i.InstanceId); err != nil {
		return err
	}
	s, err := v.status()
	if err != nil {
		return err
	}
	for _, t := range s.Targets {
		if t.InstanceId == i.InstanceId {
			d.Behind = append(d.Behind, t)
		}
	}
	slices.SortStableFunc(d.Behind, func(a, b targetStatus) int { return cmp.Compare(b2i(b.Health == "Dead"), b2i(a.Health == "Dead")) })
	if d.More = len(d.Behind) - pageSize; d.More > 0 {
		d.Behind = d.Behind[:pageSize]
	}
	at := slices.IndexFunc(s.Nodes, func(n node) bool { return n.InstanceId == i.InstanceId })
	if at >= 0 {
		d.Nodes = s.Nodes[at : at+1]
	}
	if d.Traffic, err = v.trafficOf("cvm/"+i.InstanceId, func() (chart, error) { return v.flowsOfInstance(i.InstanceId) },
		func() (chart, error) { return v.byRule("Refusals by rule", "refusals", "InstanceId", i.InstanceId) }); err != nil {
		return err
	}
	if len(d.Behind) > 0 {
		probes, err := v.probes("InstanceId", i.InstanceId)
		if err != nil {
			return err
		}
		d.Traffic.Strip = &probes
	}
	return v.show(200, "cvm-basic", "cvm", i.InstanceName, d)
}
