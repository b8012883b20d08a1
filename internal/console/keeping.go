// SPDX-License-Identifier: Apache-2.0

package console

import "net/http"

// keepsFlows says whether open flows of a load balancer or an instance keep
// their verdict when rules change. kind is LoadBalancerId or InstanceId.
func (v *visit) keepsFlows(kind, id string) (bool, error) {
	var out struct {
		FlowKeepingSet []struct{ KeepFlows bool }
	}
	err := v.do(ourVersion, "DescribeFlowKeeping", m{kind + "s": []string{id}}, &out)
	if err != nil || len(out.FlowKeepingSet) == 0 {
		return false, firstOf(err, missing("setting of", id))
	}
	return out.FlowKeepingSet[0].KeepFlows, nil
}

func (v *visit) keepOfBalancer() error { return v.keep("clb", "LoadBalancerId", "gate 1") }
func (v *visit) keepOfInstance() error { return v.keep("cvm", "InstanceId", "gate 2") }

// keep switches what becomes of open flows when rules change, after saying what
// it means.
func (v *visit) keep(section, kind, gate string) error {
	id := v.r.PathValue("id")
	now, err := v.keepsFlows(kind, id)
	if err != nil {
		return err
	}
	base, want := section+"/"+id, "true"
	q := confirmation{Heading: "Keep open flows", Button: "Keep them", Back: Root + base,
		Text: "When rules change, open flows keep the verdict that " + gate + " once gave them until they are idle. New flows meet the new rules at once."}
	if now {
		want, q.Heading, q.Button, q.Danger = "false", "Judge open flows by changed rules", "Judge them", true
		q.Text = "Open flows are judged by today's rules of " + gate + " with their next packet, also those that were kept so far. What the rules refuse ends in silence."
	}
	q.Hidden = [][2]string{{"to", want}}
	if !v.posted() {
		return v.confirm(section, q)
	}
	f := v.typed()
	if f.V("to") != want {
		return v.problem(http.StatusConflict, "The setting was changed meanwhile", "Somebody set it to what you asked for already. Nothing was changed.")
	}
	err = v.do(ourVersion, "ModifyFlowKeeping", m{kind: id, "KeepFlows": !now}, nil)
	if err == nil {
		return v.to(base, map[bool]string{true: "Open flows are judged by the rules of now.", false: "Open flows keep their verdict."}[now])
	}
	if q.F, err = f.refused(err); err != nil {
		return err
	}
	return v.confirm(section, q)
}
