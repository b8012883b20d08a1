// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"path/filepath"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// InForce is the revision that an earlier process left in force and pinned in
// pinDir, read without Open, which takes its time; 0 when there is none that
// this release can read.
func InForce(pinDir string) lb.Revision {
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, "revisions"), nil)
	if err != nil {
		return 0
	}
	defer m.Close()
	var r GatewayRevisions
	if err := m.Lookup(uint32(0), &r); err != nil {
		return 0
	}
	return lb.Revision(r.Revision)
}

// Left are the targets that an earlier process of a gateway left in the kernel,
// by number, each with the share of its weight that it took, of 256; 0 where probes
// had found it dead. It is read as InForce is, and nil when there is nothing that
// this release can read.
func Left(pinDir string) map[uint32]uint32 {
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, "targets"), nil)
	if err != nil {
		return nil
	}
	defer m.Close()
	rows, memory, err := mapRows[GatewayTargetRow](m)
	if err != nil {
		return nil
	}
	defer unix.Munmap(memory)
	left := map[uint32]uint32{}
	for i := range rows {
		switch r := &rows[i]; {
		case r.Num == 0:
		case r.Dead != 0:
			left[r.Num] = 0
		default:
			left[r.Num] = wholeShare - uint32(r.Held)
		}
	}
	return left
}
