// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/cilium/ebpf"
)

// A prototype is the bare path that stands in for the best peer: an exact
// 64-bit flow key, four flows in a cache line, a ring, two counters, IPIP; no
// rules. It comes from outside, by ANCHORS.
type prototype struct{ *ebpf.Collection }

// newPrototype builds bpf/lb.bpf.c in the folder that ANCHORS names; why says
// the reason when there is none.
func newPrototype(b testing.TB) (p *prototype, why string) {
	b.Helper()
	object, why := buildAnchor(b, "lb.bpf.c")
	if why != "" {
		return nil, why
	}
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		b.Fatal(err)
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(coll.Close)
	p = &prototype{coll}
	p.fill(b)
	return p, ""
}

// buildAnchor compiles one of the anchors' programs.
func buildAnchor(b testing.TB, name string) (object, why string) {
	b.Helper()
	dir := os.Getenv("ANCHORS")
	if dir == "" {
		return "", "no prototypes: ANCHORS names no folder"
	}
	if err := exec.Command("sh", "-c", "test -e /usr/include/bpf/bpf_helpers.h").Run(); err != nil {
		return "", "no libbpf headers to build the prototypes with"
	}
	object = filepath.Join(b.TempDir(), name+".o")
	compiler := "clang" // that of the system, which they were written for
	if _, err := exec.LookPath(compiler); err != nil {
		compiler = "clang-19"
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	out, err := exec.Command(compiler, "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I/usr/include/"+arch+"-linux-gnu",
		"-c", filepath.Join(dir, "bpf", name), "-o", object).CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	return object, ""
}

const reals = 100

// fill gives it one service on TCP port 80, a ring and a hundred servers.
func (p *prototype) fill(b testing.TB) {
	service := uint64(binary.LittleEndian.Uint32([]byte{192, 0, 2, 1}))<<32 | uint64(80<<8)<<16 | 6
	bucket := make([]byte, 64)
	binary.LittleEndian.PutUint64(bucket, service)
	binary.LittleEndian.PutUint32(bucket[8:], 1)
	binary.LittleEndian.PutUint32(bucket[12:], 5)
	errs := []error{p.Maps["vips"].Put(uint32(mix(service))&1023, bucket)}
	for i := range uint32(reals) {
		server := make([]byte, 24)
		copy(server, []byte{10, 0, 1, byte(i)})
		sum := uint32(0)
		for _, half := range [][]byte{{0x45, 0}, {64, 4}, server[:2], server[2:4]} {
			sum += uint32(binary.LittleEndian.Uint16(half))
		}
		binary.LittleEndian.PutUint32(server[4:], sum)
		copy(server[8:], []byte{2, 0, 0, 0, 0, 0xfe, 2, 0, 0, 0, 0, 2})
		errs = append(errs, p.Maps["reals"].Put(i+1, server))
	}
	entries := p.Maps["ring"].MaxEntries()
	keys, values := make([]uint32, entries), make([]uint32, entries)
	for i := range entries {
		keys[i], values[i] = i, i*7919%reals+1
	}
	_, err := p.Maps["ring"].BatchUpdate(keys, values, nil)
	for _, e := range append(errs, err) {
		if e != nil {
			b.Fatal(e)
		}
	}
}

// packet is a segment for its service. It has the size of ours.
func (p *prototype) packet() []byte {
	f := frameBetween(6, clientA, 4000, vip, 80, 0x10)
	copy(f, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1})
	return f
}

func (p *prototype) aim(b testing.TB, c benchCase) {
	mustSet(b, p.Variables, "mask", c.mask)
	if c.mask != 0xffffffff {
		mustSet(b, p.Variables, "seed", uint64(0x9E3779B97F4A7C15))
	}
}

func (p *prototype) warm(b testing.TB, c benchCase) {
	if p != nil {
		p.aim(b, c)
		timed(b, p.Programs["l_spread"], p.packet(), c.warm)
	}
}

// run is the net cost of one packet, the push of the frame's beginning counted.
func (p *prototype) run(b testing.TB, c benchCase) float64 {
	f := p.packet()
	p.aim(b, c)
	base := timed(b, p.Programs["l_spread_base"], f, baseRuns)
	push := (timed(b, p.Programs["l_restore"], f, baseRuns) - p.empty(b, f)) / 2
	p.aim(b, c)
	return timed(b, p.Programs["l_spread"], f, c.n) - base + push
}

// empty is what a test run costs by itself: a packet that it does not look at.
func (p *prototype) empty(b testing.TB, f []byte) float64 {
	other := append([]byte(nil), f...)
	other[12], other[13] = 0x86, 0xdd
	return timed(b, p.Programs["l_raw"], other, baseRuns)
}
