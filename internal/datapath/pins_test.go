// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
)

// A node of another release takes over pins whose rows are laid out otherwise:
// it puts its own in their place and loses no tracked flow. A flow table it
// does not understand is not touched.
func TestPinsOfAnotherRelease(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, nil, compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	c, err := w.dial("dp-a", vip+":80", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	gw.Close()
	narrow := func(name string, by uint32) func() (*ebpf.CollectionSpec, error) {
		return func() (*ebpf.CollectionSpec, error) {
			spec, err := LoadGateway()
			if err == nil {
				spec.Maps[name].MaxEntries -= by
			}
			return spec, err
		}
	}
	o := Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), objects: narrow("targets", 8)}
	gw = w.open("dp-gw", o)
	if gw.Revision() != 1 {
		t.Errorf("revision %d, want 1: it stands in another map", gw.Revision())
	}
	put(t, gw, host, s1, s2)
	if seen, err := w.ask("dp-b", vip+":80", time.Second); err != nil || !strings.HasPrefix(seen, clientB) {
		t.Errorf("after the take-over: %s, %v", seen, err)
	}
	k := talk{c: c, owed: len(c.LocalAddr().String()) + 1}
	if !k.alive(2 * time.Second) {
		t.Error("the flow that was open broke")
	}
	gw.Close()
	o = Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Device: "eth0", PinDir: filepath.Join(w.dirs["dp-gw"], "pins"),
		objects: func() (*ebpf.CollectionSpec, error) {
			spec, err := LoadGateway()
			if err == nil {
				spec.Maps["gateway_flows_2"].ValueSize, spec.Maps["gateway_flows_2"].Value = 128, nil
			}
			return spec, err
		}}
	if _, err := inside(w, "dp-gw", func() (*Datapath, error) { return Open(o) }); err == nil || !strings.Contains(err.Error(), "gateway_flows") {
		t.Errorf("a flow table of another layout: %v, want it named and kept", err)
	}
}
