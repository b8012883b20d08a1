// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// A kinKey stands for an address of a target's instance beside those in the
// target's row, as bpf/choose.h makes it.
type kinKey uint64

func keyOfKin(target uint32, a netip.Addr) kinKey {
	w := rawAddr(a).W
	if a.Is4() {
		return kinKey(uint64(target)<<32 | uint64(w[0]))
	}
	return kinKey(uint64(target)<<32 ^ mix(mix(uint64(w[1])<<32|uint64(w[0]))+(uint64(w[3])<<32|uint64(w[2]))))
}

// kinOf lists them for all targets of a snapshot for a gateway.
func kinOf(s *snapshot.Snapshot) map[kinKey]bool {
	kin := map[kinKey]bool{}
	for _, t := range s.Targets {
		for _, a := range t.Others {
			kin[keyOfKin(t.Num, a)] = true
		}
	}
	return kin
}

// loadKin reads back what an earlier process left.
func (d *Datapath) loadKin() error {
	d.kin = map[kinKey]bool{}
	var k kinKey
	var v uint8
	each := d.maps["kin"].Iterate()
	for each.Next(&k, &v) {
		d.kin[k] = true
	}
	return each.Err()
}

// addKin makes addresses known, before a row says that there are any. d.mu is held.
func (d *Datapath) addKin(kin map[kinKey]bool) error {
	for k := range kin {
		if d.kin[k] {
			continue
		}
		if err := d.maps["kin"].Put(k, uint8(1)); err != nil {
			return fmt.Errorf("%d further addresses of targets' instances, room for %d: have fewer targets on machines of many addresses: %w", len(kin), d.maps["kin"].MaxEntries(), err)
		}
		d.kin[k] = true
	}
	return nil
}

// keepKin forgets all others. d.mu is held.
func (d *Datapath) keepKin(kin map[kinKey]bool) error {
	var errs []error
	for k := range d.kin {
		if kin[k] {
			continue
		}
		if err := d.maps["kin"].Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
			continue
		}
		delete(d.kin, k)
	}
	return errors.Join(errs...)
}
