// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// The doctor says for a veth that TC is used and why, and names what to mend.
func TestDoctor(t *testing.T) {
	w := newWorld(t)
	w.in("dp-gw", "ip", "link", "set", "eth0", "mtu", "1400")
	pins := t.TempDir()
	findings, err := inside(w, "dp-gw", func() ([]Finding, error) { return Doctor(lb.RoleGateway, "eth0", pins+"/x/y"), nil })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		ok   bool
		text string
	}{
		"kernel":    {true, "Linux "},
		"privilege": {true, "root"},
		"programs":  {true, "ring buffers"},
		"attach":    {true, "TC only: on driver veth"},
		"mtu":       {true, "raise the MTU to 1560"},
		"pins":      {false, "mount -t bpf"},
	}
	for _, f := range findings {
		expect, ok := want[f.What]
		if !ok || f.OK != expect.ok || !strings.Contains(f.Text, expect.text) {
			t.Errorf("finding %+v, want ok %v and %q", f, expect.ok, expect.text)
		}
		delete(want, f.What)
	}
	for what := range want {
		t.Errorf("nothing was found about %s", what)
	}
	if f := Doctor(lb.RoleHost, "no-such-dev", pins); f[len(f)-1].OK || !strings.Contains(f[len(f)-1].Text, "--device") {
		t.Errorf("a device that is not there: %+v", f[len(f)-1])
	}
}
