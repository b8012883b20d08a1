// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"maps"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A gateway's agent that starts again finds in the kernel which targets take
// flows, and until probes say more they go on to: open flows stay, new ones are
// let in, and none goes to a dead target, also of a listener that takes no dead
// ones.
func TestHealthOutlivesAnAgent(t *testing.T) {
	c := newChooser(t, 10, 10, 10)
	c.change(func(s *snapshot.Snapshot) { s.Listeners[0].Choice.HealthyOnly = true })
	if err := c.gw.SetHealth(1, false); err != nil {
		t.Fatal(err)
	}
	if err := c.gw.SetShare(3, 200); err != nil {
		t.Fatal(err)
	}
	const flows = 60
	home := map[int]uint32{}
	for i := range flows {
		if home[i], _ = c.send(i, flagSYN); home[i] < 2 {
			t.Fatalf("flow %d went to %d", i, home[i])
		}
	}
	pins := c.gw.opts.PinDir
	c.gw.Close()
	if left := Left(pins); !maps.Equal(left, map[uint32]uint32{1: 0, 2: 256, 3: 200}) {
		t.Errorf("left in the kernel: %v", left)
	}
	w := &world{t: t, dirs: map[string]string{"dp-gw": filepath.Dir(pins)}}
	c.gw = w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	for _, when := range []string{"before its first revision", "after it"} {
		for i := range flows {
			if at, _ := c.send(i, flagACK); at != home[i] {
				t.Errorf("%s: open flow %d went to %d, was at %d", when, i, at, home[i])
			}
			if at, _ := c.send(1000+i, flagSYN); at < 2 {
				t.Errorf("%s: new flow %d went to %d", when, i, at)
			}
		}
		c.flush()
		for i := range flows {
			if at, _ := c.send(i, flagSYN); at != home[i] {
				t.Errorf("%s: flow %d, begun again, went to %d, not to %d", when, i, at, home[i])
			}
		}
		c.change(func(*snapshot.Snapshot) {})
	}
	if left := Left(pins); !maps.Equal(left, map[uint32]uint32{1: 0, 2: 256, 3: 200}) {
		t.Errorf("left in the kernel after two more revisions: %v", left)
	}
	if left := Left(filepath.Join(pins, "nothing")); len(left) != 0 {
		t.Errorf("where nothing is: %v", left)
	}
}
