// SPDX-License-Identifier: Apache-2.0

package control

import (
	"sync/atomic"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// A host is told that gateways have passed a revision when all of them have it
// in force, a gateway that hangs delays that only so long, and a host that comes
// back is told again.
func TestHostsAreToldWhatGatewaysPassed(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	var passed, before atomic.Uint32
	host := r.agent(lb.RoleHost, "ins-aaaaaaaa", "192.0.2.130", r.token(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa"))
	host.options.Passed = func(rev lb.Revision) {
		gw.mu.Lock()
		before.Store(uint32(gw.committed))
		gw.mu.Unlock()
		passed.Store(uint32(rev))
	}
	host.start()
	told := func(rev lb.Revision) func() bool { return func() bool { return passed.Load() >= uint32(rev) } }
	eventually(t, "running", func() bool { return r.store.State().Instances.Get("ins-aaaaaaaa").State == lb.Running })
	eventually(t, "told of what is in force", told(r.store.State().Revision))

	release := make(chan struct{})
	gw.edit(func() { gw.hold = release })
	rev := r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 2)) })
	host.inForce(t, rev)
	if told(rev)() {
		t.Error("told while a gateway is not past the former revision")
	}
	close(release)
	eventually(t, "told of what the gateway has passed", told(rev))
	if got := lb.Revision(before.Load()); got < rev {
		t.Errorf("told of %d when the gateway had %d in force", rev, got)
	}

	hung := make(chan struct{})
	defer close(hung)
	gw.edit(func() { gw.hold = hung })
	rev = r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 3)) })
	eventually(t, "told beside a gateway that hangs", told(rev))
	if err := host.stop(); err != nil {
		t.Error(err)
	}
	passed.Store(0)
	host.start()
	eventually(t, "told again after coming back", told(rev))
}
