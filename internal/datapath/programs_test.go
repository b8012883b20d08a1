// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// The kernel is not asked to take programs that nothing runs; a host has those
// of guests' ports before the first guest is in force.
func TestProgramsAreLoadedWhenNeeded(t *testing.T) {
	w := newQuiet(t)
	has := func(when string, b *bench, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(b.progs))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", when, diff)
		}
	}
	has("a gateway at TC", w.benchOf(lb.RoleGateway, nil), "gateway", "gateway_out", "gateway_rest", "gateway_uncut")
	host := w.benchAt(Options{Node: "ins-1", Role: lb.RoleHost, Address: netip.MustParseAddr(hostAddr)})
	has("a host", host, "host_in", "host_out")
	nobody := compiled(t, "sg-none")
	_, own := pair(t, 1, nil, nobody)
	stageCommit(t, host.Datapath, own)
	has("a host without guests", host, "host_in", "host_out")
	guests := map[string]*policy.Compiled{"in": compiled(t, "sg-in"), "out": compiled(t, "sg-out")}
	_, with := withGuest(t, 2, nobody, guests["in"], guests["out"], nil)
	if err := host.Stage(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	has("a host whose first guest is staged", host, "guest_in", "guest_out", "host_in", "host_out")
	if _, err := host.loadProgram("host_up"); err == nil {
		t.Error("a program that nobody wrote was loaded")
	}
	host.Close()
	if _, err := host.loadProgram("guest_in"); err == nil {
		t.Error("a program was loaded after Close")
	}
}
