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
// by number, each with whether probes had found it alive; read as InForce is, and
// empty when there is nothing that this release can read.
func Left(pinDir string) map[uint32]bool {
	left := map[uint32]bool{}
	m, err := ebpf.LoadPinnedMap(filepath.Join(pinDir, "targets"), nil)
	if err != nil {
		return left
	}
	defer m.Close()
	rows, memory, err := mapRows[GatewayTargetRow](m)
	if err != nil {
		return left
	}
	defer unix.Munmap(memory)
	for i := range rows {
		if r := &rows[i]; r.Num != 0 {
			left[r.Num] = r.Dead == 0
		}
	}
	return left
}
