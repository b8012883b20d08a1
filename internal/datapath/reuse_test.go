// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// Tests on mutants share what is dear: programs are loaded once for each way in
// which their constants are set, and the next test that opens such ones gets
// them with empty maps.

// A pool are collections that are loaded.
type pool struct {
	on      bool
	quiet   bool // the namespace of newQuiet stands and is as newQuiet made it
	specs   map[lb.NodeRole]*ebpf.CollectionSpec
	planted map[lb.NodeRole]*ebpf.CollectionSpec // programs with a fault and no other form beside it, for number 1
	number  uint32                               // the fault that is switched on, from 1; 0: none
	mu      sync.Mutex
	all     []*shared
	verbose bool  // have the kernel say why it refuses programs
	refused error // what the kernel said last when it refused programs
}

// A shared collection is lent to one datapath at a time.
type shared struct {
	key  string
	coll *ebpf.Collection
	held map[string]bool // the maps that are to be pinned
	ill  bool            // has a fault, or may have one
	busy bool
}

var loaded pool

// mutating reports whether tests are run on mutants.
func mutating() bool { return loaded.on }

// reuse has a datapath take programs that are loaded already, on mutants.
func reuse(t testing.TB, o *Options) {
	if !loaded.on {
		return
	}
	full, pins := loaded.spec(o.Role), o.PinDir
	t.Cleanup(func() { // no program twice on a device that tests share
		all, _ := filepath.Glob(filepath.Join(pins, "link_*"))
		for _, name := range all {
			if l, err := link.LoadPinnedLink(name, nil); err == nil {
				l.Unpin()
				l.Close()
			}
		}
	})
	o.hashKey = 0x5a11e9027f3d1c87
	o.objects = func() (*ebpf.CollectionSpec, error) {
		light := *full
		light.Programs = nil
		return light.Copy(), nil
	}
	o.opened = func(spec *ebpf.CollectionSpec, options ebpf.CollectionOptions) (*ebpf.Collection, error) {
		return loaded.open(t, full, spec, options)
	}
}

// spec is what a role's programs are loaded from.
func (p *pool) spec(role lb.NodeRole) *ebpf.CollectionSpec {
	if planted := p.planted[role]; planted != nil && p.number != 0 {
		return planted
	}
	return p.specs[role]
}

// open gives a collection with the constants and sizes that spec says: of what
// is pinned where the options say, or one that nobody uses, or a new one.
func (p *pool) open(t testing.TB, full, spec *ebpf.CollectionSpec, options ebpf.CollectionOptions) (*ebpf.Collection, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	ill := p.number != 0 && p.planted != nil || full.Variables["mutant_mask"] != nil
	key := fmt.Sprint(keyOf(spec), ill)
	pinned, err := ebpf.LoadPinnedMap(filepath.Join(options.Maps.PinPath, "revisions"), nil)
	if err == nil {
		defer pinned.Close()
		for _, s := range p.all {
			if s.key == key && sameMap(pinned, s.coll.Maps["revisions"]) && options.MapReplacements == nil {
				return s.lend("")
			}
		}
		return p.load(full, spec, options)
	}
	if options.MapReplacements != nil {
		return p.load(full, spec, options)
	}
	i := slices.IndexFunc(p.all, func(s *shared) bool { return s.key == key && !s.busy })
	if i < 0 {
		bare := options
		bare.Maps.PinPath = ""
		held := map[string]bool{}
		for name, m := range spec.Maps {
			held[name] = m.Pinning == ebpf.PinByName
			m.Pinning = ebpf.PinNone
		}
		coll, err := p.load(full, spec, bare)
		if err != nil {
			return nil, err
		}
		i = len(p.all)
		p.all = append(p.all, &shared{key: key, coll: coll, held: held, ill: ill})
	} else if err := p.all[i].wipe(); err != nil {
		return nil, err
	}
	s := p.all[i]
	s.busy = true
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		s.busy = false
	})
	s.set("mutant_number", p.number)
	return s.lend(options.Maps.PinPath)
}

// load loads the programs of full with what spec says otherwise.
func (p *pool) load(full, spec *ebpf.CollectionSpec, options ebpf.CollectionOptions) (*ebpf.Collection, error) {
	whole := full.Copy()
	whole.Maps, whole.Variables = spec.Maps, spec.Variables
	options.Programs.LogDisabled = !p.verbose
	coll, err := ebpf.NewCollectionWithOptions(whole, options)
	if err != nil {
		p.refused = err
		return nil, err
	}
	return coll, nil
}

// drop unloads what holds faults.
func (p *pool) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = slices.DeleteFunc(p.all, func(s *shared) bool {
		if !s.ill {
			return false
		}
		s.coll.Close()
		return true
	})
}

// choose switches a fault on.
func (p *pool) choose(number uint32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number = number
	for _, s := range p.all {
		s.set("mutant_number", number)
	}
}

// came gives the places that were come by since it was asked last.
func (p *pool) came() (all []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.all {
		v := s.coll.Variables["mutant_came"]
		if v == nil {
			continue
		}
		places := make([]byte, v.Size())
		if v.Get(&places) != nil {
			continue
		}
		for i, came := range places {
			if came != 0 {
				all = append(all, i)
			}
		}
		s.set("mutant_came", make([]byte, v.Size()))
	}
	return all
}

func (s *shared) set(name string, value any) {
	if v := s.coll.Variables[name]; v != nil {
		if err := v.Set(value); err != nil {
			panic(err)
		}
	}
}

// keyOf says what of a collection decides whether another can stand for it.
func keyOf(spec *ebpf.CollectionSpec) string {
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(spec.Variables)) {
		text = fmt.Appendf(text, "%s=%x ", name, spec.Variables[name].Value)
	}
	for _, name := range slices.Sorted(maps.Keys(spec.Maps)) {
		text = fmt.Appendf(text, "%s:%d*%d ", name, spec.Maps[name].MaxEntries, spec.Maps[name].ValueSize)
	}
	return string(text)
}

func sameMap(a, b *ebpf.Map) bool {
	one, err1 := a.Info()
	two, err2 := b.Info()
	if err1 != nil || err2 != nil {
		return false
	}
	id1, ok1 := one.ID()
	id2, ok2 := two.ID()
	return ok1 && ok2 && id1 == id2
}

// lend gives a copy that its holder may close, with maps pinned in a folder.
func (s *shared) lend(pins string) (*ebpf.Collection, error) {
	out := &ebpf.Collection{Programs: map[string]*ebpf.Program{}, Maps: map[string]*ebpf.Map{}, Variables: s.coll.Variables}
	var errs []error
	for name, prog := range s.coll.Programs {
		one, err := prog.Clone()
		out.Programs[name], errs = one, append(errs, err)
	}
	for name, m := range s.coll.Maps {
		one, err := m.Clone()
		if err == nil && pins != "" && s.held[name] {
			err = one.Pin(filepath.Join(pins, name))
		}
		out.Maps[name], errs = one, append(errs, err)
	}
	return out, errors.Join(errs...)
}

// wipe empties all maps.
func (s *shared) wipe() error {
	var errs []error
	for name, m := range s.coll.Maps {
		if name != ".rodata" {
			errs = append(errs, wipe(m))
		}
	}
	return errors.Join(errs...)
}

func wipe(m *ebpf.Map) error {
	switch m.Type() {
	case ebpf.Array:
		if m.Flags()&unix.BPF_F_MMAPABLE != 0 {
			size := (int(m.ValueSize()+7)/8*8*int(m.MaxEntries()) + 4095) / 4096 * 4096
			memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			if err != nil {
				return err
			}
			clear(memory)
			return unix.Munmap(memory)
		}
		empty := make([]byte, m.ValueSize())
		for i := range m.MaxEntries() {
			if err := m.Put(i, empty); err != nil {
				return err
			}
		}
	case ebpf.PerCPUArray:
		cpus := ebpf.MustPossibleCPU()
		keys, values := make([]uint32, m.MaxEntries()), int(m.MaxEntries())*cpus
		for i := range keys {
			keys[i] = uint32(i)
		}
		one := reflect.ArrayOf(int(m.ValueSize()), reflect.TypeFor[byte]())
		_, err := m.BatchUpdate(keys, reflect.MakeSlice(reflect.SliceOf(one), values, values).Interface(), nil)
		return err
	case ebpf.Hash, ebpf.LRUHash:
		var keys [][]byte
		value := make([]byte, m.ValueSize())
		key := make([]byte, m.KeySize())
		for all := m.Iterate(); all.Next(&key, &value); {
			keys = append(keys, slices.Clone(key))
		}
		for _, k := range keys {
			if err := m.Delete(k); err != nil {
				return err
			}
		}
	case ebpf.RingBuf:
		r, err := ringbuf.NewReader(m)
		if err != nil {
			return err
		}
		defer r.Close()
		for r.AvailableBytes() > 0 {
			if _, err := r.Read(); err != nil {
				return err
			}
		}
	}
	return nil
}

// specOf reads a role's programs from a folder; those that are not there are
// the committed ones. mask says which faults they hold.
func specOf(dir string, role lb.NodeRole, mask uint64) (*ebpf.CollectionSpec, error) {
	name := filepath.Join(dir, string(role)+".o")
	if unix.Access(name, unix.R_OK) != nil {
		if role == lb.RoleGateway {
			return LoadGateway()
		}
		return LoadHost()
	}
	spec, err := ebpf.LoadCollectionSpec(name)
	if err != nil {
		return nil, err
	}
	return spec, setMask(spec, mask)
}

func setMask(spec *ebpf.CollectionSpec, mask uint64) error {
	v := spec.Variables["mutant_mask"]
	if v == nil {
		return nil
	}
	v.Value = binary.NativeEndian.AppendUint64(nil, mask)
	return nil
}
