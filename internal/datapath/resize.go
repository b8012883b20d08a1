// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/flow"
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
	// live is how many flows the old table holds.
	live() int
	// rehearse is how many open flows would find no room in an empty table of that
	// many buckets.
	rehearse(buckets uint32) int
	close() error
}

// resize is a mover between tables of slots S.
type resize[S any] struct {
	from, to     []S
	memory       [2][]byte
	read         func(*S) (raw, bool)
	hash         func(*S) uint64
	same         func(a, b *S) bool // whether both say the same flow, as the programs compare
	apart        uint32             // buckets of probes, behind all others
	seen         []uint32           // each old slot's seq when it was carried
	moved, noway int
	open         int // of those that found no room, which were open
}

// kicks is how many flows may give way to each other for one more.
const kicks = 4

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

func (r *resize[S]) live() (flows int) {
	now := nowUnits()
	for i := range r.from {
		if _, ok := r.liveSlot(&r.from[i], now); ok {
			flows++
		}
	}
	return flows
}

func (r *resize[S]) rehearse(buckets uint32) int {
	try := resize[S]{from: r.from, to: make([]S, 2*(buckets+r.apart)), apart: r.apart, read: r.read, hash: r.hash, same: r.same, seen: make([]uint32, len(r.from))}
	try.move()
	return try.open
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
		f, ok := r.liveSlot(&copied, now)
		switch {
		case !ok || r.put(&copied, now):
		case f.state == flow.Open:
			r.open++
			fallthrough
		default:
			r.noway++
		}
	}
}

// place is the i-th of the four slots where a flow may stand.
func (r *resize[S]) place(s *S, i int) *S {
	first, buckets := uint32(0), uint32(len(r.to)/2)-r.apart
	if f, ok := r.read(s); ok && r.apart > 0 && f.share == shareProbes {
		first, buckets = buckets, r.apart
	}
	return &r.to[(first+uint32(r.hash(s)>>(i/2*32))&(buckets-1))*2+uint32(i&1)]
}

// put stores a flow where the programs look for it, and reports whether it is
// there now. One that is there already is newer. Where all places are taken,
// somebody gives way.
func (r *resize[S]) put(s *S, now uint32) bool {
	for i := range 4 {
		if at := r.place(s, i); r.same(at, s) {
			if _, ok := r.liveSlot(at, now); ok {
				return true
			}
		}
	}
	for _, depth := range []int{0, kicks} {
		for i := range 4 {
			at := r.place(s, i)
			if _, taken := r.liveSlot(at, now); taken && (depth == 0 || !r.vacate(at, now, depth)) {
				continue
			}
			if r.write(at, s) {
				r.moved++
				return true
			}
		}
	}
	return false
}

// write stores a flow in a slot, unless somebody else is writing there.
func (r *resize[S]) write(at, s *S) bool {
	seq := atomic.LoadUint32(seqOf(at))
	if seq&1 != 0 || !atomic.CompareAndSwapUint32(seqOf(at), seq, seq+1) {
		return false
	}
	copied := *s
	*seqOf(&copied) = seq + 1
	*at = copied
	atomic.StoreUint32(seqOf(at), seq+2)
	return true
}

// vacate moves the flow of a slot to another of its places, where flows may give
// way in turn, that often. A program finds it in one of both at any time.
func (r *resize[S]) vacate(at *S, now uint32, depth int) bool {
	seq := atomic.LoadUint32(seqOf(at))
	copied := *at
	if seq&1 != 0 || atomic.LoadUint32(seqOf(at)) != seq {
		return false
	}
	for i := range 4 {
		other := r.place(&copied, i)
		if other == at {
			continue
		}
		if _, taken := r.liveSlot(other, now); taken && (depth == 1 || !r.vacate(other, now, depth-1)) {
			continue
		}
		if atomic.LoadUint32(seqOf(at)) != seq {
			return false // it gave way itself, or has changed
		}
		if !r.write(other, &copied) {
			continue
		}
		if r.clear(at, seq) {
			return true
		}
		r.clear(other, atomic.LoadUint32(seqOf(other))) // what stayed is newer
		return false
	}
	return false
}

// clear frees a slot that is as it was at seq.
func (r *resize[S]) clear(at *S, seq uint32) bool {
	if seq&1 != 0 || !atomic.CompareAndSwapUint32(seqOf(at), seq, seq+1) {
		return false
	}
	var free S
	*seqOf(&free) = seq + 1
	*at = free
	atomic.StoreUint32(seqOf(at), seq+2)
	return true
}

func (r *resize[S]) close() error {
	return errors.Join(unix.Munmap(r.memory[0]), unix.Munmap(r.memory[1]))
}

func newMover[S any](name string, from, to *ebpf.Map, read func(*S) (raw, bool), hash func(*S) uint64, same func(a, b *S) bool) (mover, error) {
	r := &resize[S]{apart: apartOf(name), read: read, hash: hash, same: same}
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
		return newMover(name, from, to, func(s *GatewayGatewayFlow) (raw, bool) { return readGatewaySlot(s, nil) },
			func(s *GatewayGatewayFlow) uint64 { return client(s, uint64(s.Client)<<32) }, sameClient)
	case "gateway_flows6_":
		return newMover(name, from, to, func(s *GatewayGatewayFlow6) (raw, bool) { return readGatewaySlot(&s.Head, s) },
			func(s *GatewayGatewayFlow6) uint64 { return client(&s.Head, folded(s.Head.Client, s.Client)) },
			func(a, b *GatewayGatewayFlow6) bool { return sameClient(&a.Head, &b.Head) && a.Client == b.Client })
	case "host_flows_":
		return newMover(name, from, to, func(s *HostHostFlow) (raw, bool) { return readHostSlot(s, nil) },
			func(s *HostHostFlow) uint64 { return ends(s, uint64(s.Remote)<<32, uint64(s.Local)<<8) }, sameEnds)
	case "host_flows6_":
		return newMover(name, from, to, func(s *HostHostFlow6) (raw, bool) { return readHostSlot(&s.Head, s) },
			func(s *HostHostFlow6) uint64 {
				return ends(&s.Head, folded(s.Head.Remote, s.Remote), folded(s.Head.Local, s.Local))
			},
			func(a, b *HostHostFlow6) bool {
				return sameEnds(&a.Head, &b.Head) && a.Remote == b.Remote && a.Local == b.Local
			})
	}
	return nil, fmt.Errorf("no release had a flow table %s", name)
}

// apartOf is how many buckets of a table's hold probes only.
func apartOf(name string) uint32 {
	if strings.HasPrefix(name, "host_") {
		return probeBuckets
	}
	return 0
}

// slotsOf is how many flows a table takes besides probes, 0 when no release made
// tables of that many entries.
func slotsOf(name string, entries uint32) uint32 {
	for _, buckets := range []uint32{entries - apartOf(name), entries} { // until now hosts' tables had none for probes
		if buckets > 0 && buckets <= entries && buckets&(buckets-1) == 0 {
			return 2 * buckets
		}
	}
	return 0
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
		if sized.MaxEntries == want.MaxEntries || slotsOf(name, sized.MaxEntries) == 0 || sized.Compatible(now) != nil {
			now.Close() // the very one, or none that any release made
			d.keepAside(name, beside)
			continue
		}
		if beside != nil {
			slots := slotsOf(name, now.MaxEntries())
			err := fmt.Errorf("flows are still being carried to a table for %d: start with --flows %d once before another size", slots, slots)
			return errors.Join(err, beside.Close(), now.Close())
		}
		if err := d.fitsInto(name, now, want.MaxEntries-apartOf(name)); err != nil {
			return errors.Join(err, now.Close())
		}
		if err := now.Pin(pin + besideSuffix); err != nil { // which moves it
			return errors.Join(fmt.Errorf("set the flow table %s aside: %w", name, err), now.Close())
		}
		d.log.Info("flow table gets another size", "map", name, "from", slotsOf(name, now.MaxEntries()), "to", slotsOf(name, want.MaxEntries))
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

// fitsInto says what is wrong with another size, before anything is changed: a
// host's open flows must all find a place in it. A gateway's table is a cache.
func (d *Datapath) fitsInto(name string, m *ebpf.Map, buckets uint32) error {
	if d.opts.Role == lb.RoleGateway {
		return nil
	}
	trial, err := moverOf(name, m, m, d.key)
	if err != nil {
		return err
	}
	defer trial.close()
	flows := trial.live()
	if uint32(flows) > buckets {
		return fmt.Errorf("the flow table %s holds %d open flows, more than half of the %d that --flows wants: give it %d at least, or detach first to give them up",
			name, flows, 2*buckets, nextPower(2*flows))
	}
	lost := trial.rehearse(buckets)
	if lost == 0 {
		return nil
	}
	enough := 2 * buckets
	for enough < m.MaxEntries() && trial.rehearse(enough) > 0 {
		enough *= 2
	}
	return fmt.Errorf("of the %d flows in the flow table %s, %d open ones find no place among the %d that --flows wants: give it %d at least, or detach first to give them up",
		flows, name, lost, 2*buckets, 2*enough)
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
			level := slog.LevelInfo
			if lost > 0 { // half-open ones, and what came while programs were replaced
				level = slog.LevelWarn
			}
			d.log.Log(context.Background(), level, "flow table has another size", "map", name, "carried", moved, "lost", lost)
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
