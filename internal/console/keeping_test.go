// SPDX-License-Identifier: Apache-2.0

package console

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// What becomes of open flows is shown and switched for a load balancer and for
// an instance.
func TestKeepingOfFlows(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	for page, kept := range map[string]func() bool{
		"clb/" + w.balancer: func() bool { return d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).Keep },
		"cvm/" + w.ins1:     func() bool { return d.api.Store.State().Instances.Get(lb.InstanceID(w.ins1)).Keep },
	} {
		d.open(page, 200)
		d.says("are judged by changed rules at once")
		d.open(page+"/keep", 200)
		d.says("New flows meet the new rules at once")
		d.fill(page+"/keep", 200, "to", "true")
		d.open(page, 200)
		d.says("keep their verdict at gate")
		if !kept() {
			t.Errorf("%s: the state says that open flows are not kept", page)
		}
		d.open(page+"/keep", 200)
		d.fill(page+"/keep", 409, "to", "true")
		d.fill(page+"/keep", 200, "to", "false")
		if kept() {
			t.Errorf("%s: the state says that open flows are kept", page)
		}
	}
	d.open("clb/lb-notthere/keep", 404)
}
