// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/policy"
)

// A predecessor is the table of flows of layout 2 as the release before pinned
// it, and what places flows in it.
type predecessor struct {
	t   *testing.T
	m   *ebpf.Map
	pin string
	key uint64
}

// pinFormer pins an empty table of layout 2.
func pinFormer(t *testing.T, dir string) *ebpf.Map {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 128, MaxEntries: 256, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(filepath.Join(dir, formerFlows)); err != nil {
		t.Fatal(err)
	}
	return m
}

// predecessor pins such a table in the place of the siege's own ones.
func (s *siege) predecessor() predecessor {
	s.t.Helper()
	p := predecessor{t: s.t, pin: filepath.Join(s.opts.PinDir, formerFlows), key: s.key}
	p.m = pinFormer(s.t, s.opts.PinDir)
	s.t.Cleanup(func() { p.m.Close() })
	for _, name := range []string{"host_flows_3", "host_flows6_3"} {
		if err := os.Remove(filepath.Join(s.opts.PinDir, name)); err != nil {
			s.t.Fatal(err)
		}
	}
	return p
}

// place gives a flow's first bucket.
func (p predecessor) place(f HostFormerFlow) uint32 {
	ports := uint64(f.RemotePort)<<16 | uint64(f.LocalPort)
	hash := mix((uint64(f.Remote)<<32 + ports + (uint64(f.Local)<<8+uint64(f.Proto))*0x9e3779b97f4a7c15) ^ p.key)
	return uint32(hash) & (p.m.MaxEntries() - 1)
}

// put writes a flow as the release before would have.
func (p predecessor) put(f HostFormerFlow) {
	p.t.Helper()
	at := p.place(f)
	var b HostFormerBucket
	if err := p.m.Lookup(at, &b); err != nil {
		p.t.Fatal(err)
	}
	f.Seq = 2
	n := 0
	if b.Slot[0].Seq != 0 {
		n = 1
	}
	b.Slot[n] = f
	if err := p.m.Put(at, b); err != nil {
		p.t.Fatal(err)
	}
}

// layout2 is a flow of client A's and the instance's that is open at revision.
func layout2(revision uint32, peerPort, ownPort uint16, opener policy.Direction) HostFormerFlow {
	return HostFormerFlow{Revision: revision, Remote: rawAddr(netip.MustParseAddr(clientA)).W[0], Local: rawAddr(netip.MustParseAddr(service)).W[0],
		RemotePort: peerPort, LocalPort: ownPort, Proto: 6, Opener: uint8(opener), State: 2, Seen: nowUnits()}
}

// left gives the ends of the packet that the last run let through. The siege's
// frames have no checksums to be repaired.
func (s *siege) left() (src, dst netip.AddrPort) {
	src, dst, _ = endsOf(s.out[:14+binary.BigEndian.Uint16(s.out[16:])])
	return src, dst
}

// An upgrade across a change of the flow table's layout is hitless: who misses
// a flow in the new table finds it in the former one, whichever direction asks
// first, and moves it. The former table goes when nothing in it is left.
func TestFlowsOfTheFormerLayout(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2"), compiled(t, "sg-e"), nil) // nobody new gets in or out
	rev := uint32(s.rev)
	old := s.predecessor()
	served := layout2(rev, 5000, 8080, policy.In)
	served.Flags, served.Target, served.Vip, served.Vport = 1, 7, rawAddr(netip.MustParseAddr(vip)).W[0], 80
	served.Gateway = rawAddr(netip.MustParseAddr(gwAddr)).W[0]
	proxied := layout2(rev, 5002, 8080, policy.In)
	proxied.Flags, proxied.Target, proxied.Gateway = 1|2, 7, served.Gateway
	dialled, refused, over := layout2(rev, 443, 40001, policy.Out), layout2(rev, 5004, 22, policy.In), layout2(rev, 5005, 22, policy.In)
	refused.State = 4
	over.Seen -= tcpLife + 10
	for _, f := range []HostFormerFlow{served, proxied, dialled, refused, over} {
		old.put(f)
	}
	s.restart()

	s.want("a stranger for the VIP", false, "host_in", s.through(5001, later))
	s.want("the served flow's next packet", true, "host_in", s.through(5000, later))
	if src, dst := s.left(); dst.String() != service+":8080" || src.String() != clientA+":5000" {
		t.Errorf("it arrives as %v → %v", src, dst)
	}
	s.want("its answer", true, "host_out", outbound(8080, 5000, later))
	if src, dst := s.left(); src.String() != vip+":80" || dst.String() != clientA+":5000" {
		t.Errorf("it leaves as %v → %v", src, dst)
	}
	s.want("a stranger's answer", false, "host_out", outbound(8080, 5001, later))
	s.want("the proxy's flow's answer", true, "host_out", outbound(8080, 5002, later))
	if src, dst := s.left(); dst.String() != gwAddr+":6081" || src.Addr().String() != hostAddr {
		t.Errorf("it leaves as %v → %v; want the tunnel to the gateway", src, dst)
	}
	if _, err := s.Tables(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old.pin); err != nil {
		t.Errorf("the former table is gone while flows are in it: %v", err)
	}
	s.want("what the instance dialled answers", true, "host_in", inbound(443, 40001, later))
	s.want("a stranger", false, "host_in", inbound(443, 40002, later))
	s.want("what was refused", false, "host_out", outbound(22, 5004, later))
	s.want("what expired", false, "host_out", outbound(22, 5005, later))

	moved, err := s.Flows(flow.Query{})
	if err != nil || moved.Total != 4 {
		t.Errorf("%d flows are in the new table: %+v, %v; want 4", moved.Total, moved.Flows, err)
	}
	if _, err := s.Tables(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old.pin); !os.IsNotExist(err) {
		t.Errorf("the former table is still pinned after all was moved: %v", err)
	}
	s.restart()
	s.want("after one more process: the served flow", true, "host_in", s.through(5000, later))
	s.want("and the dialled one", true, "host_in", inbound(443, 40001, later))
}

// A table under the former name that no release wrote is not touched.
func TestFormerTableOfNoRelease(t *testing.T) {
	s := newSiege(t)
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 256, Flags: unix.BPF_F_MMAPABLE})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	pin := filepath.Join(s.opts.PinDir, formerFlows)
	if err := m.Pin(pin); err != nil {
		t.Fatal(err)
	}
	o := s.opts
	s.Close()
	if _, err := inside(&world{t: t}, quietName(), func() (*Datapath, error) { return Open(o) }); err == nil {
		t.Error("a table of another layout was taken for one of layout 2")
	}
	if _, err := os.Stat(pin); err != nil {
		t.Error(err)
	}
}
