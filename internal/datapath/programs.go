// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"maps"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// The kernel takes most of the time that Open takes to verify programs, hence
// only those that every node of a role runs are loaded by it, the others when
// something is to run them.

// always are the programs of a role that Open attaches.
func always(role lb.NodeRole) []string {
	if role == lb.RoleGateway {
		return []string{"gateway", "gateway_out", "gateway_rest", "gateway_uncut"}
	}
	return []string{"host_in", "host_out"}
}

// spec is what the role's programs are loaded from.
func (d *Datapath) spec() (*ebpf.CollectionSpec, error) {
	if d.opts.objects != nil {
		return d.opts.objects()
	}
	if d.opts.Role == lb.RoleGateway {
		return LoadGateway()
	}
	return LoadHost()
}

// loadProgram gives a program of this node's. It is loaded when it is asked for
// first, beside the maps and constants that the others have.
func (d *Datapath) loadProgram(name string) (*ebpf.Program, error) {
	d.loading.Lock()
	defer d.loading.Unlock()
	if p := d.progs[name]; p != nil {
		return p, nil
	}
	if d.unloaded == nil {
		return nil, errClosed
	}
	p, err := d.loadOne(name, d.unloaded, nil, d.maps)
	if err == nil {
		d.progs[name] = p
	}
	return p, err
}

// bareSuffix tells programs for interfaces without Ethernet headers from the others.
const bareSuffix = " bare"

// constants is the map of what the loader sets.
const constants = ".rodata"

// loadBare gives a program of this node's as it is for interfaces whose packets
// have no Ethernet header: it shares all maps with the others but the constants.
func (d *Datapath) loadBare(name string) (*ebpf.Program, error) {
	d.loading.Lock()
	defer d.loading.Unlock()
	if p := d.progs[name+bareSuffix]; p != nil {
		return p, nil
	}
	if d.unloaded == nil {
		return nil, errClosed
	}
	spec, maps := d.unloaded.Copy(), maps.Clone(d.maps)
	if err := spec.Variables["bare"].Set(uint8(1)); err != nil {
		return nil, fmt.Errorf("setting bare: %w", err)
	}
	delete(maps, constants)
	p, err := d.loadOne(name, spec, spec.Variables, maps)
	if err == nil {
		d.progs[name+bareSuffix] = p
	}
	return p, err
}

// loadOne loads one program beside maps that are there. Variables are those of
// maps that are not.
func (d *Datapath) loadOne(name string, spec *ebpf.CollectionSpec, variables map[string]*ebpf.VariableSpec, maps map[string]*ebpf.Map) (*ebpf.Program, error) {
	only := &ebpf.CollectionSpec{Maps: spec.Maps, Variables: variables, Programs: map[string]*ebpf.ProgramSpec{}, Types: spec.Types, ByteOrder: spec.ByteOrder}
	if only.Programs[name] = spec.Programs[name]; only.Programs[name] == nil {
		return nil, fmt.Errorf("a %s has no program %s", d.opts.Role, name)
	}
	coll, err := ebpf.NewCollectionWithOptions(only, ebpf.CollectionOptions{MapReplacements: maps})
	if err != nil {
		return nil, fmt.Errorf("load the %s's programs: %w", d.opts.Role, err)
	}
	defer coll.Close()
	return coll.DetachProgram(name), nil
}

// loadGuests loads what a snapshot's guests need before anything waits for them:
// a port is to be guarded as soon as it comes.
func (d *Datapath) loadGuests(s *snapshot.Snapshot) error {
	if d.opts.Role != lb.RoleHost || len(guestsOf(s)) == 0 {
		return nil
	}
	for _, h := range guestHooks {
		if _, err := d.loadProgram(h.program); err != nil {
			return err
		}
	}
	return nil
}

// closePrograms lets go of all that were loaded.
func (d *Datapath) closePrograms() (errs []error) {
	d.loading.Lock()
	defer d.loading.Unlock()
	for _, p := range d.progs {
		errs = append(errs, p.Close())
	}
	d.progs, d.unloaded = nil, nil
	return errs
}
