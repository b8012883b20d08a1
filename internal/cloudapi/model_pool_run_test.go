// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"pgregory.net/rapid"

	"github.com/sallyport/sallyport/internal/lb"
)

// newPool makes a target group of either type.
func (w *world) newPool() {
	p := &modelPool{kind: "TARGETGROUP", vpc: w.network(), port: rapid.SampledFrom([]int64{8080, 8080, 0}).Draw(w.T, "port"), weight: -1}
	params := map[string]any{"TargetGroupName": "workers", "Port": p.port}
	if p.vpc != "" {
		params["VpcId"] = p.vpc
	}
	v2 := w.chance()
	if v2 {
		p.kind, params["Type"] = "TARGETGROUP-V2", "v2"
	}
	if v2 != (rapid.IntRange(0, 9).Draw(w.T, "odd") == 0) {
		p.protocol = rapid.SampledFrom([]string{"TCP", "UDP", "HTTP"}).Draw(w.T, "protocol")
		params["Protocol"] = p.protocol
	}
	p.weight, p.gap = w.poolChange(params, v2)
	var out struct{ TargetGroupId string }
	codes := w.createPool(p)
	if w.ask("CreateTargetGroup", params, codes, &out); len(codes) == 0 {
		if v2 && p.gap == 0 {
			p.gap = 5
		}
		w.pools[out.TargetGroupId] = p
	}
}

// poolChange draws a default weight (-1: none) and the time between checks (0:
// none) of a group: mostly of v2, which alone has them.
func (w *world) poolChange(params map[string]any, v2 bool) (weight, gap int64) {
	weight = -1
	if v2 == (rapid.IntRange(0, 5).Draw(w.T, "odd") == 0) {
		return weight, 0
	}
	if w.chance() {
		weight = rapid.SampledFrom([]int64{0, 10, 100, 101}).Draw(w.T, "weight")
		params["Weight"] = weight
	}
	if w.chance() {
		gap = rapid.SampledFrom([]int64{1, 7, 9, 300}).Draw(w.T, "gap")
		params["HealthCheck"] = map[string]any{"HealthSwitch": true, "GapTime": gap}
	}
	return weight, gap
}

// editPool adds a member, takes one out, changes the group or deletes it.
func (w *world) editPool() {
	id := w.pool()
	switch rapid.IntRange(0, 7).Draw(w.T, "change") {
	case 0:
		w.did("DeleteTargetGroups", map[string]any{"TargetGroupIds": []string{id}}, w.deletePool(id), id)
		return
	case 1, 2:
		params := map[string]any{"TargetGroupId": id}
		weight, gap := w.poolChange(params, w.pools[id] != nil && w.pools[id].kind == "TARGETGROUP-V2")
		w.ask("ModifyTargetGroupAttribute", params, w.modifyPool(id, weight, gap), nil)
		return
	}
	t := modelTarget{instance: w.instance(), port: w.targetPort(), weight: w.weight()}
	address := "203.0.113.99" // of nobody
	if i := w.b.Store.State().Instances.Get(lb.InstanceID(t.instance)); i != nil {
		address = i.Private.String()
	}
	member := map[string]any{"BindIP": address, "Port": t.port, "Weight": t.weight}
	if rapid.IntRange(0, 3).Draw(w.T, "weightless") == 0 {
		delete(member, "Weight")
		t.weight = noWeight
	}
	params := map[string]any{"TargetGroupId": id, "TargetGroupInstances": []any{member}}
	if rapid.IntRange(0, 2).Draw(w.T, "leave") == 0 {
		w.ask("DeregisterTargetGroupInstances", params, w.delist(id, t), nil)
		return
	}
	w.ask("RegisterTargetGroupInstances", params, w.enlist(id, t), nil)
}

func (w *world) associatePool() {
	clb, id := w.listenerOf()
	location, group := w.location(id), w.pool()
	if rapid.IntRange(0, 3).Draw(w.T, "fitting") > 0 {
		clb, id, location = w.fitting(group)
	}
	params := map[string]any{"Associations": []any{map[string]any{"LoadBalancerId": clb, "ListenerId": id, "LocationId": location, "TargetGroupId": group}}}
	if rapid.IntRange(0, 3).Draw(w.T, "apart") == 0 {
		w.ask("DisassociateTargetGroups", params, w.unfollow(clb, id, location, group), nil)
		return
	}
	w.ask("AssociateTargetGroups", params, w.follow(clb, id, location, group), nil)
}

// fitting draws a place whose type, protocol and VPC are a target group's; any
// where there is none.
func (w *world) fitting(group string) (clb, id, location string) {
	at := map[string][3]string{}
	if g := w.pools[group]; g != nil {
		for id, l := range w.listeners {
			if g.protocol != "" && g.protocol != l.kind || w.clbs[l.clb].vpc != g.vpc {
				continue
			}
			if !l.layer7() && l.from == g.kind {
				at[id] = [3]string{l.clb, id}
			}
			for rule, r := range l.rules {
				if r.from == g.kind {
					at[rule] = [3]string{l.clb, id, rule}
				}
			}
		}
	}
	if len(at) == 0 {
		clb, id = w.listenerOf()
		return clb, id, w.location(id)
	}
	of := at[rapid.SampledFrom(keysOf(at)).Draw(w.T, "place")]
	return of[0], of[1], of[2]
}
