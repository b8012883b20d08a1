// SPDX-License-Identifier: Apache-2.0

package console

import (
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// The way of answers is shown, and switched by a dialog that says what it is for.
func TestReturnPath(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	page := "clb/" + w.balancer
	d.open(page, 200)
	d.says("leave the host directly")
	d.open(page+"/return", 200)
	d.says("networks that let no host send from a VIP")
	d.fill(page+"/return", 200, "to", "gateway")
	d.open(page, 200)
	d.says("return through the gateway")
	if got := d.api.Store.State().Balancers.Get(lb.BalancerID(w.balancer)).ReturnPath; got != lb.ReturnGateway {
		t.Errorf("the state says %q", got)
	}
	d.open(page+"/return", 200)
	d.fill(page+"/return", 409, "to", "gateway")
	d.open(page+"/return", 200)
	d.fill(page+"/return", 200, "to", "direct")
	d.open(page, 200)
	d.says("leave the host directly")
}
