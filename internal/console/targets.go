// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

type targetsData struct {
	listenerFormData
	Instances                []instance
	Hidden                   []string // ticked, and not shown by the search
	Search                   string
	Total                    int // that the search finds
	InstanceId, Port, Weight string
}

func (d targetsData) place() m {
	in := m{"LoadBalancerId": d.B.LoadBalancerId, "ListenerId": d.L.ListenerId}
	if d.Location != "" {
		in["LocationId"] = d.Location
	}
	return in
}

// addTargets binds ticked instances, each with its port and weight.
func (v *visit) addTargets() error {
	l, err := v.findListener()
	if err != nil {
		return err
	}
	d := targetsData{listenerFormData: l}
	d.F = v.initial("Port", "8080", "Weight", "10")
	if v.posted() {
		d.F = v.typed()
	}
	d.Search = strings.TrimSpace(d.F.V("q"))
	in := instanceSearch(d.Search, 0, pageSize)
	filters, _ := in["Filters"].([]m)
	in["Filters"] = append(filters, m{"Name": "vpc-id", "Values": []string{d.B.VpcId}})
	if d.Instances, d.Total, err = v.instances(in); err != nil {
		return err
	}
	for _, id := range d.F.Values["id"] {
		if !slices.ContainsFunc(d.Instances, func(i instance) bool { return i.InstanceId == id }) {
			d.Hidden = append(d.Hidden, id)
		}
	}
	if v.posted() && d.F.V("search") == "" {
		targets, err := d.ticked()
		if err == nil {
			in := d.place()
			in["Targets"] = targets
			err = v.do(clbVersion, "RegisterTargets", in, nil)
		}
		if err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Bound "+plural(len(targets), "target")+". Health follows in a few seconds.")
		}
		if d.F, err = d.F.wrong(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "target-add", "clb", "Bind targets", d)
}

// ticked are the form's targets. A row without its own port or weight takes
// the default ones.
func (d targetsData) ticked() ([]m, error) {
	var all []m
	for _, id := range d.F.Values["id"] {
		t := m{"InstanceId": id}
		for _, part := range []struct{ field, own string }{{"Port", "port-" + id}, {"Weight", "weight-" + id}} {
			name := part.field
			if strings.TrimSpace(d.F.V(part.own)) != "" {
				name = part.own
			}
			n, err := d.F.number(name)
			if err != nil {
				return nil, err
			}
			t[part.field] = n
		}
		all = append(all, t)
	}
	if len(all) == 0 {
		return nil, fieldError{"id", "Tick at least one instance."}
	}
	return all, nil
}

// findTarget is the target that the address names by instance and port.
func (v *visit) findTarget() (d targetsData, t target, err error) {
	if d.listenerFormData, err = v.findListener(); err != nil {
		return d, t, err
	}
	targets := d.L.Targets
	if d.Http {
		targets = d.R.Targets
	}
	d.InstanceId = v.r.URL.Query().Get("instance")
	port, _ := strconv.Atoi(v.r.URL.Query().Get("port"))
	at := slices.IndexFunc(targets, func(t target) bool { return t.InstanceId == d.InstanceId && t.Port == port })
	if at < 0 {
		return d, t, missing("target", fmt.Sprintf("%s port %d", d.InstanceId, port))
	}
	return d, targets[at], nil
}

// editTarget changes a target's weight and port.
func (v *visit) editTarget() error {
	d, t, err := v.findTarget()
	if err != nil {
		return err
	}
	d.Stamp = stamp(t.Weight, t.Port)
	d.F = v.initial("Weight", strconv.Itoa(t.Weight), "NewPort", strconv.Itoa(t.Port))
	if v.posted() {
		d.F = v.typed()
		if d.F.V("stamp") != d.Stamp {
			d.F = d.F.changed(fmt.Sprintf("the weight is now %d, the port %d", t.Weight, t.Port))
			return v.show(d.F.status(), "target-edit", "clb", "Weight and port", d)
		}
		if err = v.changeTarget(d, t); err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Saved the target.")
		}
		if d.F, err = d.F.wrong(err); err != nil {
			return err
		}
	}
	return v.show(d.F.status(), "target-edit", "clb", "Weight and port", d)
}

func (v *visit) changeTarget(d targetsData, t target) error {
	weight, err := d.F.number("Weight")
	if err != nil {
		return err
	}
	port, err := d.F.number("NewPort")
	if err != nil {
		return err
	}
	in := d.place()
	if weight != int64(t.Weight) {
		in["Targets"] = []m{{"InstanceId": t.InstanceId, "Port": t.Port, "Weight": weight}}
		if err := v.do(clbVersion, "ModifyTargetWeight", in, nil); err != nil {
			return err
		}
	}
	if port == int64(t.Port) {
		return nil
	}
	in["Targets"], in["NewPort"] = []m{{"InstanceId": t.InstanceId, "Port": t.Port}}, port
	return v.do(clbVersion, "ModifyTargetPort", in, nil)
}

func (v *visit) removeTarget() error {
	d, t, err := v.findTarget()
	if err != nil {
		return err
	}
	q := confirmation{Heading: fmt.Sprintf("Unbind %s port %d", t.InstanceId, t.Port), Danger: true, Button: "Unbind",
		Back: Root + listenersPath(d.B.LoadBalancerId, d.L.ListenerId), Text: "It gets no new flows through this listener. The instance itself stays as it is."}
	if v.posted() {
		in := d.place()
		in["Targets"] = []m{{"InstanceId": t.InstanceId, "Port": t.Port}}
		err := v.do(clbVersion, "DeregisterTargets", in, nil)
		if err == nil {
			return v.to(listenersPath(d.B.LoadBalancerId, d.L.ListenerId), "Unbound.")
		}
		if q.F, err = v.typed().refused(err); err != nil {
			return err
		}
	}
	return v.confirm("clb", q)
}
