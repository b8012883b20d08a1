// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// besideSuffix names the pin of a flow table that another size takes the place
// of, until its flows are in that.
const besideSuffix = "_resized"

// A mover carries flows from a table of one size to that of another. Programs
// may be writing in both.
type mover interface {
	// move carries what changed since the last call.
	move()
	// told is how many flows were carried and how many found no room, so far.
	told() (moved, lost int)
	// live is how many flows the old table holds, of at most how many the new one can.
	live() (flows, slots int)
	close() error
}

// resize is a mover between tables of slots S.
type resize[S any] struct {
	from, to     []S
	memory       [2][]byte
	read         func(*S) (raw, bool)
	hash         func(*S) uint64
	same         func(a, b *S) bool // whether both say the same flow, as the programs compare
	seen         []uint32           // each old slot's seq when it was carried
	moved, noway int
}

func seqOf[S any](s *S) *uint32 { return (*uint32)(unsafe.Pointer(s)) }

// liveSlot reads a slot whose flow counts.
func (r *resize[S]) liveSlot(s *S, now uint32) (raw, bool) {
	f, ok := r.read(s)
	if ok {
		_, ok = f.idle(now)
	}
	return f, ok
}

func (r *resize[S]) told() (moved, lost int) { return r.moved, r.noway }

func (r *resize[S]) live() (flows, slots int) {
	now := nowUnits()
	for i := range r.from {
		if _, ok := r.liveSlot(&r.from[i], now); ok {
			flows++
		}
	}
	return flows, len(r.to)
}

func (r *resize[S]) move() {
	now := nowUnits()
	for i := range r.from {
		s := &r.from[i]
		seq := atomic.LoadUint32(seqOf(s))
		if seq == r.seen[i] || seq&1 != 0 {
			continue
		}
		copied := *s
		if atomic.LoadUint32(seqOf(s)) != seq {
			continue // the next call's
		}
		r.seen[i] = seq
		if _, ok := r.liveSlot(&copied, now); ok {
			r.put(&copied, now)
		}
	}
}

// put stores a flow where the programs would. One that is there already is
// newer.
func (r *resize[S]) put(s *S, now uint32) {
	hash, mask := r.hash(s), uint32(len(r.to)/2-1)
	var room *S
	for i := range 4 {
		at := &r.to[(uint32(hash>>(i/2*32))&mask)*2+uint32(i&1)]
		_, ok := r.liveSlot(at, now)
		if ok && r.same(at, s) {
			return
		}
		if !ok && room == nil {
			room = at
		}
	}
	if room == nil {
		r.noway++
		return
	}
	seq := atomic.LoadUint32(seqOf(room))
	if seq&1 != 0 || !atomic.CompareAndSwapUint32(seqOf(room), seq, seq+1) {
		r.noway++
		return
	}
	*seqOf(s) = seq + 1
	*room = *s
	atomic.StoreUint32(seqOf(room), seq+2)
	r.moved++
}

func (r *resize[S]) close() error {
	return errors.Join(unix.Munmap(r.memory[0]), unix.Munmap(r.memory[1]))
}

func newMover[S any](from, to *ebpf.Map, read func(*S) (raw, bool), hash func(*S) uint64, same func(a, b *S) bool) (mover, error) {
	r := &resize[S]{read: read, hash: hash, same: same}
	var err error
	if r.from, r.memory[0], err = mapRows[S](from); err != nil {
		return nil, err
	}
	if r.to, r.memory[1], err = mapRows[S](to); err != nil {
		return nil, errors.Join(err, unix.Munmap(r.memory[0]))
	}
	r.seen = make([]uint32, len(r.from))
	return r, nil
}

// moverOf makes the mover for a flow table by its name.
func moverOf(name string, from, to *ebpf.Map, key uint64) (mover, error) {
	const golden = 0x9e3779b97f4a7c15
	folded := func(first uint32, rest [3]uint32) uint64 { // as bpf/tunnel.h does
		return mix(mix((uint64(rest[0])<<32|uint64(first))^key) ^ (uint64(rest[2])<<32 | uint64(rest[1])))
	}
	client := func(s *GatewayGatewayFlow, addr uint64) uint64 {
		return mix(((addr | uint64(s.ClientPort)<<16 | uint64(s.Port)) + uint64(s.Listener)*golden) ^ key)
	}
	ends := func(s *HostHostFlow, remote, local uint64) uint64 {
		return mix((remote + (uint64(s.RemotePort)<<16 | uint64(s.LocalPort)) + (local+uint64(s.Proto))*golden) ^ key)
	}
	sameClient := func(a, b *GatewayGatewayFlow) bool {
		return a.Client == b.Client && a.ClientPort == b.ClientPort && a.Port == b.Port && a.Listener == b.Listener
	}
	sameEnds := func(a, b *HostHostFlow) bool {
		return a.Remote == b.Remote && a.Local == b.Local && a.RemotePort == b.RemotePort && a.LocalPort == b.LocalPort && a.Proto == b.Proto
	}
	switch strings.TrimRight(name, "0123456789") {
	case "gateway_flows_":
		return newMover(from, to, func(s *GatewayGatewayFlow) (raw, bool) { return readGatewaySlot(s, nil) },
			func(s *GatewayGatewayFlow) uint64 { return client(s, uint64(s.Client)<<32) }, sameClient)
	case "gateway_flows6_":
		return newMover(from, to, func(s *GatewayGatewayFlow6) (raw, bool) { return readGatewaySlot(&s.Head, s) },
			func(s *GatewayGatewayFlow6) uint64 { return client(&s.Head, folded(s.Head.Client, s.Client)) },
			func(a, b *GatewayGatewayFlow6) bool { return sameClient(&a.Head, &b.Head) && a.Client == b.Client })
	case "host_flows_":
		return newMover(from, to, func(s *HostHostFlow) (raw, bool) { return readHostSlot(s, nil) },
			func(s *HostHostFlow) uint64 { return ends(s, uint64(s.Remote)<<32, uint64(s.Local)<<8) }, sameEnds)
	case "host_flows6_":
		return newMover(from, to, func(s *HostHostFlow6) (raw, bool) { return readHostSlot(&s.Head, s) },
			func(s *HostHostFlow6) uint64 {
				return ends(&s.Head, folded(s.Head.Remote, s.Remote), folded(s.Head.Local, s.Local))
			},
			func(a, b *HostHostFlow6) bool {
				return sameEnds(&a.Head, &b.Head) && a.Remote == b.Remote && a.Local == b.Local
			})
	}
	return nil, fmt.Errorf("no release had a flow table %s", name)
}

// setAside looks for pinned flow tables of another size and makes room for new
// ones in their place. What an earlier start did not finish goes on.
func (d *Datapath) setAside(spec *ebpf.CollectionSpec) error {
	for name, want := range spec.Maps {
		if !strings.Contains(name, "_flows") || name == formerFlows || want.Pinning != ebpf.PinByName {
			continue
		}
		pin := filepath.Join(d.opts.PinDir, name)
		beside, err := ebpf.LoadPinnedMap(pin+besideSuffix, nil)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("pinned flow table %s: %w", name, err)
		}
		now, err := ebpf.LoadPinnedMap(pin, nil)
		if errors.Is(err, os.ErrNotExist) {
			d.keepAside(name, beside)
			continue
		}
		if err != nil {
			return fmt.Errorf("pinned flow table %s: %w", name, err)
		}
		sized := *want
		sized.MaxEntries = now.MaxEntries()
		if sized.MaxEntries == want.MaxEntries || sized.MaxEntries&(sized.MaxEntries-1) != 0 || sized.Compatible(now) != nil {
			now.Close() // the very one, or none that any release made
			d.keepAside(name, beside)
			continue
		}
		if beside != nil {
			err := fmt.Errorf("flows are still being carried to a table for %d: start with --flows %d once before another size", 2*now.MaxEntries(), 2*now.MaxEntries())
			return errors.Join(err, beside.Close(), now.Close())
		}
		if err := d.fitsInto(name, now, want.MaxEntries); err != nil {
			return errors.Join(err, now.Close())
		}
		if err := now.Pin(pin + besideSuffix); err != nil { // which moves it
			return errors.Join(fmt.Errorf("set the flow table %s aside: %w", name, err), now.Close())
		}
		d.log.Info("flow table gets another size", "map", name, "from", 2*now.MaxEntries(), "to", 2*want.MaxEntries)
		d.keepAside(name, now)
	}
	return nil
}

func (d *Datapath) keepAside(name string, m *ebpf.Map) {
	if m == nil {
		return
	}
	if d.aside == nil {
		d.aside = map[string]*ebpf.Map{}
	}
	d.aside[name] = m
}

// fitsInto says what is wrong with a smaller table. A gateway's is a cache.
func (d *Datapath) fitsInto(name string, m *ebpf.Map, buckets uint32) error {
	if d.opts.Role == lb.RoleGateway {
		return nil
	}
	count, err := moverOf(name, m, m, d.key)
	if err != nil {
		return err
	}
	flows, _ := count.live()
	if err := count.close(); err != nil {
		return err
	}
	if uint32(flows) > buckets {
		return fmt.Errorf("the flow table %s holds %d open flows, more than half of the %d that --flows wants: give it %d at least, or detach first to give them up",
			name, flows, 2*buckets, nextPower(2*flows))
	}
	return nil
}

// nextPower is the least power of two that is not below n.
func nextPower(n int) int {
	p := 1
	for p < n {
		p *= 2
	}
	return p
}

// carryFlows moves flows into tables of another size: before the programs that
// use those are attached, and again for what others did meanwhile. last lets
// the old tables go. d.mu is held, or nobody else knows d yet.
func (d *Datapath) carryFlows(last bool) error {
	var errs []error
	for name, m := range d.aside {
		if d.movers[name] == nil {
			to, err := moverOf(name, m, d.maps[name], d.key)
			if err != nil {
				return err
			}
			if d.movers == nil {
				d.movers = map[string]mover{}
			}
			d.movers[name] = to
		}
		d.movers[name].move()
		if last {
			moved, lost := d.movers[name].told()
			d.log.Info("flow table has another size", "map", name, "carried", moved, "lost", lost)
			errs = append(errs, m.Unpin(), d.letGo(name))
		}
	}
	return errors.Join(errs...)
}

// letGo forgets a table that was set aside; its pin stays.
func (d *Datapath) letGo(name string) error {
	m, to := d.aside[name], d.movers[name]
	delete(d.aside, name)
	delete(d.movers, name)
	if to != nil {
		return errors.Join(to.close(), m.Close())
	}
	return m.Close()
}
