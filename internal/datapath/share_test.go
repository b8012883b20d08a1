// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// The kernel takes most of the time of a test to verify programs, so those that run
// frames in the quiet namespace take what another has loaded, with empty maps. The
// tests that are about loading, and those on real traffic, load their own.

// lasting are the programs that tests leave to each other.
var lasting struct {
	pool
	key uint64 // of the flow tables' hash, another in each run of the tests
}

// lastingMost is how many collections stay loaded that no test uses.
const lastingMost = 12

// share has a datapath take programs that are loaded already. One that finds maps of
// a former process loads its own: what it makes of them is what its test is about.
func share(t testing.TB, o *Options) {
	full, err := specOf("", o.Role, 0)
	if err != nil {
		t.Fatal(err)
	}
	if lasting.key == 0 {
		lasting.key = rand.Uint64() | 1
	}
	pins := o.PinDir
	t.Cleanup(func() {
		all, _ := filepath.Glob(filepath.Join(pins, "link_*"))
		for _, name := range all {
			if l, err := link.LoadPinnedLink(name, nil); err == nil {
				l.Unpin()
				l.Close()
			}
		}
		lasting.forget()
	})
	o.hashKey = lasting.key
	o.objects = func() (*ebpf.CollectionSpec, error) { return full.Copy(), nil }
	o.opened = func(spec *ebpf.CollectionSpec, options ebpf.CollectionOptions) (*ebpf.Collection, error) {
		if _, err := os.Stat(filepath.Join(options.Maps.PinPath, "revisions")); err == nil {
			return ebpf.NewCollectionWithOptions(spec, options)
		}
		some := full.Copy()
		some.Programs = map[string]*ebpf.ProgramSpec{}
		for _, name := range always(o.Role) {
			some.Programs[name] = full.Programs[name]
		}
		return lasting.open(t, some, spec, options)
	}
}

// forget unloads what has been idle for longest, when there is much of it.
func (p *pool) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var kept []*shared
	idle := 0
	for i := len(p.all) - 1; i >= 0; i-- {
		s := p.all[i]
		if !s.busy {
			idle++
		}
		if !s.busy && idle > lastingMost {
			s.coll.Close()
			continue
		}
		kept = append([]*shared{s}, kept...)
	}
	p.all = kept
}
