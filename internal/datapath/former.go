// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
)

// formerFlows is the pinned table of a host's flows in layout 2. What an upgrade
// finds in it is moved to the new one flow by flow, by who misses it there.
const formerFlows = "host_flows_2"

// outgrownFlows are tables of layouts that nobody was to find flows in.
var outgrownFlows = [...]string{"host_flows6_2"}

// collect makes maps and programs, with pinned maps in the place of new ones.
func (d *Datapath) collect(spec *ebpf.CollectionSpec) (*ebpf.Collection, error) {
	options := ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.opts.PinDir}}
	former, err := d.openFormer(spec)
	if err != nil {
		return nil, err
	}
	if former != nil {
		defer former.Close()
		options.MapReplacements = map[string]*ebpf.Map{formerFlows: former}
	}
	if d.opts.opened != nil {
		return d.opts.opened(spec, options)
	}
	return ebpf.NewCollectionWithOptions(spec, options)
}

// openFormer opens what an earlier release left of its flows; nil when that is
// nothing.
func (d *Datapath) openFormer(spec *ebpf.CollectionSpec) (*ebpf.Map, error) {
	if d.opts.Role != lb.RoleHost {
		return nil, nil
	}
	for _, name := range outgrownFlows {
		if err := os.Remove(filepath.Join(d.opts.PinDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove a flow table of an earlier release: %w", err)
		}
	}
	m, err := ebpf.LoadPinnedMap(filepath.Join(d.opts.PinDir, formerFlows), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the flow table of an earlier release: %w", err)
	}
	n := m.MaxEntries()
	spec.Maps[formerFlows].MaxEntries = n
	if err := spec.Maps[formerFlows].Compatible(m); err != nil || n&(n-1) != 0 {
		m.Close()
		return nil, fmt.Errorf("the pinned flow table %s has a layout that no release had; to give up tracked flows, detach first: %w", formerFlows, err)
	}
	for name, v := range map[string]any{"former_flows": uint8(1), "former_mask": n - 1} {
		if err := spec.Variables[name].Set(v); err != nil {
			m.Close()
			return nil, fmt.Errorf("setting %s: %w", name, err)
		}
	}
	d.upgraded = true
	return m, nil
}

// leaveFormer unpins the table of the earlier release once nothing in it lives
// that was not moved: after the longest life at the latest. The programs that
// run keep it; those of the next process do not look for it. d.mu is held.
func (d *Datapath) leaveFormer() error {
	if d.formerFlows == nil {
		return nil
	}
	now := nowUnits()
	for i := range d.formerFlows {
		for n := range d.formerFlows[i].Slot {
			if formerLives(&d.formerFlows[i], n, now) {
				return nil
			}
		}
	}
	d.formerFlows = nil
	if err := os.Remove(filepath.Join(d.opts.PinDir, formerFlows)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the flow table of an earlier release: %w", err)
	}
	d.log.Info("the flow table of an earlier release is empty and was removed", "map", formerFlows)
	return nil
}

// formerMoved marks a former slot whose flow stands in the new table; bpf/former.h
// says the same.
const formerMoved = 128

// formerLives reports whether a slot holds a flow that was not moved yet.
func formerLives(b *HostFormerBucket, n int, now uint32) bool {
	s := &b.Slot[n]
	seq := atomic.LoadUint32(&s.Seq)
	if seq&1 != 0 {
		return true // being moved
	}
	r := raw{proto: lb.Proto(s.Proto), seen: s.Seen}
	if seq == 0 || s.State == 0 || int(s.State) >= len(hostStates()) || s.Flags&formerMoved != 0 {
		return false
	}
	r.state = hostStates()[s.State]
	_, alive := r.idle(now)
	return alive
}
