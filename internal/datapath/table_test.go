// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// A key stands in its own row when that is free, and anywhere else otherwise,
// whatever came and went before.
func TestKeysStandInTheirOwnRows(t *testing.T) {
	rows := make([]GatewayTargetRow, 8)
	table := &table[uint32, GatewayTargetRow, GatewayTarget]{name: "targets", index: newIndex(2), rows: rows,
		key:      func(r *GatewayTargetRow) *uint32 { return &r.Num },
		versions: func(r *GatewayTargetRow) *[2]GatewayTarget { return &r.V },
		own:      func(num uint32) uint32 { return num }}
	table.load()
	rev := uint32(0)
	for i, tt := range []struct{ want, own []uint32 }{
		{[]uint32{3, 5}, []uint32{3, 5}},
		{[]uint32{3, 5, 11}, []uint32{3, 5}},
		{[]uint32{11, 15, 2}, []uint32{15}},
		{[]uint32{3, 2}, []uint32{3}},
		{[]uint32{1, 3, 4, 5, 8}, []uint32{3}},
	} {
		rev++
		want := map[uint32]GatewayTarget{}
		for _, num := range tt.want {
			want[num] = GatewayTarget{}
		}
		if err := table.stage(rev, rev-1, want); err != nil {
			t.Fatal(i, err)
		}
		table.sweep(rev)
		for _, num := range tt.own {
			if at, ok := table.at[num]; !ok || at != num%8 {
				t.Errorf("step %d: %d stands in row %d, %v", i, num, at, ok)
			}
		}
		taken := map[uint32]bool{}
		for num, row := range table.at {
			if rows[row].Num != num || taken[row] {
				t.Errorf("step %d: row %d of %d says %d", i, row, num, rows[row].Num)
			}
			taken[row] = true
		}
		for _, row := range table.free {
			if taken[row] {
				t.Errorf("step %d: row %d is free and taken", i, row)
			}
			taken[row] = true
		}
		if len(taken) != len(rows) || len(table.at) != len(tt.want) {
			t.Errorf("step %d: %d of %d rows are known, %d keys", i, len(taken), len(rows), len(table.at))
		}
	}
}

// A target whose own row another one has is found by the index.
func TestTargetsInOthersRows(t *testing.T) {
	w := newQuiet(t)
	gw := w.open(quietName(), Options{Node: "gateway-1", Role: lb.RoleGateway, Address: netip.MustParseAddr(gwAddr)})
	s, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	other := s.Targets[0]
	other.Num += uint32(len(gw.targets.rows))
	s.Targets = append(s.Targets, other)
	s.Listeners[0].Targets = append(s.Listeners[0].Targets, snapshot.TargetRef{Num: other.Num, Weight: 10})
	stageCommit(t, gw, s)
	hits := map[uint32]int{}
	for port := range uint16(64) {
		for range 2 { // as a new flow and a known one
			opts := &ebpf.RunOptions{Data: tcpPacket(netip.MustParseAddr(clientA), netip.MustParseAddr(vip), 10000+port, 80, 16), DataOut: make([]byte, 256)}
			if got, err := gw.progs["gateway"].Run(opts); err != nil || got != actRedirect {
				t.Fatalf("answer %d (%v), want a redirect", got, err)
			}
			hits[binary.BigEndian.Uint32(opts.DataOut[14+28+8+4+4:])]++
		}
	}
	if hits[7] == 0 || hits[other.Num] == 0 || len(hits) != 2 {
		t.Errorf("%v, want packets for both", hits)
	}
}
