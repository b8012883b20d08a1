// SPDX-License-Identifier: Apache-2.0

package console

import "net/http"

// The words of ModifyReturnPath.
const (
	returnDirect  = "direct"
	returnGateway = "gateway"
)

// returnPathOf is the way that answers of a load balancer take.
func (v *visit) returnPathOf(id string) (string, error) {
	var out struct {
		ReturnPathSet []struct{ ReturnPath string }
	}
	err := v.do(ourVersion, "DescribeReturnPaths", m{"LoadBalancerIds": []string{id}}, &out)
	if err != nil || len(out.ReturnPathSet) == 0 {
		return "", firstOf(err, missing("load balancer", id))
	}
	return out.ReturnPathSet[0].ReturnPath, nil
}

// returnPath switches the way of answers, after saying what it is for.
func (v *visit) returnPath() error {
	b, err := v.balancer(v.r.PathValue("id"))
	if err != nil {
		return err
	}
	now, err := v.returnPathOf(b.LoadBalancerId)
	if err != nil {
		return err
	}
	base, want := "clb/"+b.LoadBalancerId, returnGateway
	q := confirmation{Heading: "Answer through the gateway", Button: "Through the gateway", Back: Root + base,
		Text: "Answers of layer-4 listeners will go back through the gateway. It is for networks that let no host send from a VIP; the gateway then carries both directions. Open connections go on."}
	if now == returnGateway {
		want, q.Heading, q.Button = returnDirect, "Answer directly", "Directly"
		q.Text = "Answers of layer-4 listeners will leave the instance's host directly, with the VIP as their source. The network has to let them. Open connections go on."
	}
	q.Hidden = [][2]string{{"to", want}}
	if !v.posted() {
		return v.confirm("clb", q)
	}
	f := v.typed()
	if f.V("to") != want {
		return v.problem(http.StatusConflict, "The return path was changed meanwhile", "Somebody set it to what you asked for already. Nothing was changed.")
	}
	err = v.do(ourVersion, "ModifyReturnPath", m{"LoadBalancerId": b.LoadBalancerId, "ReturnPath": want}, nil)
	if err == nil {
		return v.to(base, "Answers "+map[string]string{returnDirect: "leave the host directly.", returnGateway: "return through the gateway."}[want])
	}
	if q.F, err = f.refused(err); err != nil {
		return err
	}
	return v.confirm("clb", q)
}
