// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Maps that name places in each other are replaced together.
var pinGroups = [][]string{
	{"arena", "targets", "target_index", "listeners", "listener_index", "instances", "instance_index", "peers", "peer_index", "vips", "vip_index"},
	{"counters", "counter_names"},
}

// replaceOutgrown removes pinned maps whose layout an earlier release made
// differently: the snapshot fills new ones. Flow tables are never removed:
// they are state, and a new layout has a new name.
func (d *Datapath) replaceOutgrown(spec *ebpf.CollectionSpec) error {
	outgrown := map[string]bool{}
	for name, m := range spec.Maps {
		if m.Pinning != ebpf.PinByName {
			continue
		}
		fits, err := pinFits(filepath.Join(d.opts.PinDir, name), m)
		if err != nil {
			return err
		}
		if fits {
			continue
		}
		if strings.Contains(name, "_flows") {
			return fmt.Errorf("the pinned flow table %s has another layout; to give up tracked flows, detach first", name)
		}
		outgrown[name] = true
		for _, group := range pinGroups {
			if slices.Contains(group, name) {
				for _, other := range group {
					outgrown[other] = true
				}
			}
		}
	}
	for name := range outgrown {
		if err := os.Remove(filepath.Join(d.opts.PinDir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("replace a map of an earlier release: %w", err)
		}
		d.log.Info("map of an earlier release replaced", "map", name)
	}
	return nil
}

// pinFits reports whether a pinned map is as spec wants it; one that is not
// there fits.
func pinFits(pin string, spec *ebpf.MapSpec) (bool, error) {
	m, err := ebpf.LoadPinnedMap(pin, nil)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("pinned map %s: %w", filepath.Base(pin), err)
	}
	defer m.Close()
	err = spec.Compatible(m)
	if err != nil && !errors.Is(err, ebpf.ErrMapIncompatible) {
		return false, fmt.Errorf("pinned map %s: %w", filepath.Base(pin), err)
	}
	return err == nil, nil
}

// preparePins makes the folder for pinned objects and checks where it lies.
func preparePins(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for pinned programs: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if fs.Type != unix.BPF_FS_MAGIC {
		return fmt.Errorf("%s is not in a bpf file system: mount -t bpf bpf /sys/fs/bpf, or name another folder with --pin", dir)
	}
	return nil
}
