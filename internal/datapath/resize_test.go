// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
)

// answers says for how many of n flows of both families the instance's answer
// is let out, which no rule does.
func (s *siege) answers(n int) (let int) {
	s.t.Helper()
	addr := netip.MustParseAddr
	for i := range n {
		src, dst := addr(service), addr(clientA)
		if i%2 == 1 {
			src, dst = addr(service6), addr(clientA6)
		}
		if s.passes("host_out", frameOf(lb.Packet{Proto: lb.TCP, Src: src, SrcPort: 8080, Dst: dst, DstPort: uint16(5000 + i)}, later)) {
			let++
		}
	}
	return let
}

// A host that starts with another size of flow table keeps its open flows of
// both families, also those that came while programs of before still ran, and
// refuses a size that they would crowd.
func TestResizeKeepsHostsFlows(t *testing.T) {
	s := newSiege(t)
	_, host := over(t, 1, 6, 4)
	s.stage(t, host)
	addr := netip.MustParseAddr
	const n = 100 // few enough that chance leaves none without a place
	for i := range n {
		src, dst := addr(clientA), addr(service)
		if i%2 == 1 {
			src, dst = addr(clientA6), addr(service6)
		}
		s.want("a connection", true, "host_in", frameOf(lb.Packet{Proto: lb.TCP, Src: src, SrcPort: uint16(5000 + i), Dst: dst, DstPort: 8080}, first))
	}
	if let := s.answers(n); let != n {
		t.Fatalf("%d of %d answers are let out", let, n)
	}
	for _, buckets := range []uint32{4096, 2048} {
		s.opts.Buckets = buckets
		s.restart()
		if let := s.answers(n); let != n {
			t.Errorf("with %d slots %d of %d answers are let out", 2*buckets, let, n)
		}
		if let := s.answers(n + 10); let != n {
			t.Errorf("with %d slots answers of strangers are let out: %d", 2*buckets, let-n)
		}
		late := HostHostFlow{Seq: 2, Revision: uint32(s.rev), Remote: rawAddr(addr(clientA)).W[0], Local: rawAddr(addr(service)).W[0], RemotePort: 7000, LocalPort: 8080,
			Proto: 6, Opener: 1, State: 2, Seen: nowUnits()}
		former := s.aside["host_flows_3"]
		if former == nil {
			t.Fatal("the former table is gone before guests' ports were looked at")
		}
		var b HostHostBucket
		if err := former.Lookup(uint32(3), &b); err != nil {
			t.Fatal(err)
		}
		b.Slot[1] = late
		b.Slot[1].Seq = 1000 // nobody was here at the first look
		if err := former.Put(uint32(3), b); err != nil {
			t.Fatal(err)
		}
		again := *host
		s.rev++
		again.Revision = s.rev
		stageCommit(t, s.Datapath, &again)
		until := time.Now().Add(10 * time.Second)
		for pin := filepath.Join(s.opts.PinDir, "host_flows_3"+besideSuffix); ; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(pin); os.IsNotExist(err) {
				break
			}
			if time.Now().After(until) {
				t.Fatal("the former table stays")
			}
		}
		s.want("the answer of a flow that came late", true, "host_out", outbound(8080, 7000, later))
	}
	s.opts.Buckets = 32
	o := s.opts
	s.Close()
	_, err := inside(&world{t: t}, quietName(), func() (*Datapath, error) { return Open(o) })
	if err == nil || !strings.Contains(err.Error(), "open flows, more than half of the 64 that --flows wants: give it 128 at least") {
		t.Errorf("too small a table: %v", err)
	}
	s.opts.Buckets = 2048
	s.restart()
	if let := s.answers(n); let != n {
		t.Errorf("after a refused size %d of %d answers are let out", let, n)
	}
}

// A gateway's flows go along too, to a smaller table as far as there is room.
func TestResizeKeepsGatewaysFlows(t *testing.T) {
	c := newChooser(t, 10, 10, 10, 10)
	w := &world{t: t, dirs: map[string]string{"dp-gw": filepath.Dir(c.gw.opts.PinDir)}}
	const flows = 3000
	home := make([]uint32, flows)
	for i := range home {
		home[i], _ = c.send(i, flagSYN)
	}
	known := func() int {
		told, err := c.gw.Flows(flow.Query{})
		if err != nil {
			t.Fatal(err)
		}
		return told.Total
	}
	for _, tt := range []struct {
		buckets uint32
		least   int
	}{{65536, flows * 99 / 100}, {8192, flows * 99 / 100}, {1024, 1900}} {
		c.gw.Close()
		c.gw = w.open("dp-gw", Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr), Buckets: tt.buckets})
		before := known()
		if before < tt.least {
			t.Errorf("%d of %d flows are in a table of %d", before, flows, 2*tt.buckets)
		}
		for i, was := range home {
			if is, _ := c.send(i, flagACK); is != was {
				t.Fatalf("flow %d went to %d, was at %d", i, is, was)
			}
		}
		if after := known(); tt.buckets > 1024 && after-before > flows/100 {
			t.Errorf("%d flows of %d were not found where they were put", after-before, flows)
		}
		if _, err := os.Stat(filepath.Join(c.gw.opts.PinDir, "gateway_flows_2"+besideSuffix)); !os.IsNotExist(err) {
			t.Errorf("the former table stays: %v", err)
		}
	}
}
