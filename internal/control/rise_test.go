// SPDX-License-Identifier: Apache-2.0

package control

import (
	"math"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
	"github.com/sallyport/sallyport/internal/wire"
)

// A store that was restored to an older revision goes on above what nodes
// have in force, and offers them nothing below that. A second node that was
// as far costs nothing more.
func TestRestoredStore(t *testing.T) {
	r := newRegion(t)
	r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-bbbbbbbb"}) })
	gw := r.certificate(t, identity{Name: "gateway-1", Role: lb.RoleGateway})
	stream := attach(t, r.raw(t, gw), &wire.Hello{Protocol: 1, Name: "gateway-1", Address: "192.0.2.129", Revision: 5000})
	stage := receive(t, stream).GetStage()
	if stage == nil || stage.Revision != 5001 {
		t.Fatalf("the first message to a node at 5000 is %v", stage)
	}
	say(t, stream, 5001, wire.Phase_PHASE_STAGED, "")
	if commit := receive(t, stream).GetCommit(); commit == nil || commit.Revision != 5001 {
		t.Fatalf("then comes %v", commit)
	}
	say(t, stream, 5001, wire.Phase_PHASE_COMMITTED, "")
	eventually(t, "in force", func() bool { s := r.status("gateway-1"); return s.Committed == 5001 && s.Err == "" })
	rev := r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-cccccccc"}) })
	if rev != 5002 {
		t.Errorf("the next write is %d", rev)
	}
	// One whose process has lost what it kept, but not its kernel.
	third := r.certificate(t, identity{Name: "gateway-3", Role: lb.RoleGateway})
	stream = attach(t, r.raw(t, third), &wire.Hello{Protocol: 1, Name: "gateway-3", Address: "192.0.2.131", Kernel: 6000})
	if stage := receive(t, stream).GetStage(); stage == nil || stage.Revision != 6001 {
		t.Errorf("the first message to a node whose kernel is at 6000 is %v", stage)
	}
	other := r.certificate(t, identity{Name: "gateway-2", Role: lb.RoleGateway})
	stream = attach(t, r.raw(t, other), &wire.Hello{Protocol: 1, Name: "gateway-2", Address: "192.0.2.130", Revision: 5000})
	if receive(t, stream).GetStage() == nil {
		t.Error("the other node gets nothing")
	}
	if got := r.store.State().Revision; got != 6002 { // its record
		t.Errorf("revision %d after a node that is behind", got)
	}
}

// No node's word uses the counter up: neither one absurd number nor many
// smaller steps. The node's status says so until it comes with a better one.
func TestAbsurdRevision(t *testing.T) {
	r := newRegion(t)
	client := r.raw(t, r.certificate(t, identity{Name: "gateway-1", Role: lb.RoleGateway}))
	come := func(said lb.Revision) {
		t.Helper()
		attach(t, client, &wire.Hello{Protocol: 1, Name: "gateway-1", Address: "192.0.2.129", Revision: uint32(said)})
		eventually(t, "attached", func() bool { s := r.status("gateway-1"); return s.Connected && s.Committed == said })
	}
	for _, c := range []struct {
		name    string
		said    lb.Revision
		want    lb.Revision
		refused bool
	}{
		{"absurd", math.MaxUint32 - 3, 1, true},
		{"one too far", 1 + store.MaxRaise + 1, 1, true},
		{"the newest", 1, 1, false},
		{"most of what is allowed", store.MaxRaise - 9, store.MaxRaise - 8, false},
		{"a step too many", store.MaxRaise + 3, store.MaxRaise - 8, true},
		{"a small one", store.MaxRaise, store.MaxRaise + 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			come(c.said)
			if got := r.store.State().Revision; got != c.want {
				t.Errorf("the counter is at %d, want %d", got, c.want)
			}
			if fault := r.status("gateway-1").Err; strings.Contains(fault, "too far ahead") != c.refused {
				t.Errorf("status says %q", fault)
			}
		})
	}
}

// A real node whose server was restored gets changes again.
func TestNodeOutlivesRestore(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	for range 5 {
		gw.inForce(t, r.update(func(tx *store.Tx) { tx.NextNum() }))
	}
	before := gw.Revision()
	r.stop()
	r.store.Close()
	r.store = store.NewMemory() // the CA is kept, everything written since is not
	r.start(r.addr)
	gw.inForce(t, before+1)
	rev := r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-bbbbbbbb"}) })
	gw.inForce(t, rev)
}
