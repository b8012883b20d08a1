// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"path/filepath"

	"github.com/cilium/ebpf"

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
