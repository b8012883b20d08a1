// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/lb"
)

// What testdata/parse.bpf.c works on, field for field.
type (
	parseFrame struct {
		length uint32
		data   [188]byte
	}
	parseResult struct {
		src, dst                     [16]byte
		srcPort, dstPort, l4, header uint16
		outcome, proto, flags, kind  uint8
		fragment, plain, family, _   uint8
	}
)

// Millions of frames through the programs' parser and through the reference:
// good ones, spoiled ones and noise. FRAMES says how many; a million is enough
// for a change, `make fuzz` takes ten.
func TestParserMillions(t *testing.T) {
	total := 1_000_000
	if text := os.Getenv("FRAMES"); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	p := newParseProgram(t, "", "")
	dice := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	n, count, difference := p.campaign(t, dice, total)
	if difference != "" {
		t.Error(difference)
	}
	t.Logf("%d frames: %v", n, count)
	for _, kind := range []string{"broken", "plain", "not plain"} {
		if count[kind] < total/20 {
			t.Errorf("only %d are %s: the mutations miss their mark", count[kind], kind)
		}
	}
}

// A check taken out of the parser is missed.
func TestParserMillionsCatchPlantedFaults(t *testing.T) {
	for _, f := range []fault{
		{"plain: total length past the end", "packet.h", "if (total > room || total", "if (total"},
		{"plain: TCP header longer than the packet", "packet.h", "header < 20 || payload < header", "header < 20"},
		{"plain: IP options", "packet.h", "h->ver_ihl != 0x45", "h->ver_ihl >> 4 != 4"},
		{"plain: ports swapped", "packet.h", "p->src_port = ntohs(*(__be16 *)t);", "p->src_port = ntohs(*(__be16 *)(t + 2));"},
		{"total length past the end", "packet.h", " || p->l3 + ntohs(ip.tot_len) > skb->len", ""},
		{"last fragments taken for whole", "packet.h", "htons(0x3fff)", "htons(0x2000)"},
		{"IPv6: payload past the end", "packet.h", " || at + left > skb->len", ""},
		{"IPv6: last fragments taken for whole", "packet.h", "(e[2] | (e[3] & 0xf9))", "(e[3] & 1)"},
		{"IPv6: a packet on a listed way", "packet.h", "next == NEXTHDR_ROUTING && e[3]", "next == NEXTHDR_ROUTING && e[1] > 200"},
		{"IPv6: one header more", "packet.h", "EXTENSIONS = 8 }", "EXTENSIONS = 9 }"},
		{"plain: IPv6 payload past the end", "packet.h", "if (sizeof(*h) + *payload > room)", "if (*payload > 60000)"},
	} {
		t.Run(f.name, func(t *testing.T) {
			_, _, difference := newParseProgram(t, f.old, f.new).campaign(t, rand.New(rand.NewPCG(1, 2)), 1_000_000)
			if difference == "" {
				t.Error("not caught")
			}
			t.Log(difference)
		})
	}
}

// A parseProgram is the parser with room for a batch of frames.
type parseProgram struct {
	*ebpf.Collection
	frames  []parseFrame
	results []parseResult
}

// newParseProgram compiles it, with an edit of packet.h.
func newParseProgram(t *testing.T, before, after string) *parseProgram {
	t.Helper()
	if _, err := exec.LookPath("clang-19"); err != nil || os.Getuid() != 0 {
		t.Skip("needs root and clang-19: compiles the parser into a program of its own")
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("bpf")); err != nil {
		t.Fatal(err)
	}
	if before != "" {
		plant(t, filepath.Join(dir, "packet.h"), before, after)
	}
	object := filepath.Join(dir, "parse.o")
	out, err := exec.Command("clang-19", "-O2", "-g", "-mcpu=v3", "-nostdinc", "-Wall", "-Werror", "-Wno-unused-function", "-target", "bpfel",
		"-I"+dir, "-c", "testdata/parse.bpf.c", "-o", object).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	spec, err := ebpf.LoadCollectionSpec(object)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range spec.Maps {
		m.Pinning = ebpf.PinNone
		if name == "arena" {
			m.Value = nil
		}
	}
	coll, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(coll.Close)
	p := &parseProgram{Collection: coll}
	var one, other []byte
	if p.frames, one, err = mapRows[parseFrame](coll.Maps["parse_frames"]); err != nil {
		t.Fatal(err)
	}
	if p.results, other, err = mapRows[parseResult](coll.Maps["parse_results"]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(one); unix.Munmap(other) })
	return p
}

// plant edits one place of a file.
func plant(t *testing.T, name, before, after string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), before); n != 1 {
		t.Fatalf("%q stands %d times in %s: it must be one place", before, n, name)
	}
	if err := os.WriteFile(name, []byte(strings.Replace(string(text), before, after, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// campaign compares batch after batch and gives the first difference.
func (p *parseProgram) campaign(t *testing.T, dice *rand.Rand, total int) (n int, count map[string]int, difference string) {
	t.Helper()
	good := goodFrames()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(good)), func(name string) bool { return name == "ARP" })
	count = map[string]int{}
	carrier := make([]byte, 256)
	carrier[12], carrier[14] = 8, 0x45
	for n < total {
		batch := min(len(p.frames), total-n)
		for i := range batch {
			f := mutate(dice, good[names[dice.IntN(len(names))]])
			for len(f) < 34 || len(f) > len(p.frames[0].data) {
				f = mutate(dice, good[names[dice.IntN(len(names))]])
			}
			p.frames[i].length = uint32(len(f))
			copy(p.frames[i].data[:], f)
		}
		if err := p.Variables["parse_next"].Set(uint32(0)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Programs["parse"].Run(&ebpf.RunOptions{Data: carrier, Repeat: uint32(batch)}); err != nil {
			t.Fatal(err)
		}
		for i := range batch {
			f := p.frames[i].data[:p.frames[i].length]
			if err := p.results[i].compare(f, count); err != nil {
				return n + i + 1, count, fmt.Sprintf("frame %d, %x: %v", n+i, f, err)
			}
		}
		n += batch
	}
	return n, count, ""
}

// compare holds what the program read against the reference.
func (r *parseResult) compare(f []byte, count map[string]int) error {
	ether := binary.BigEndian.Uint16(f[12:])
	want, ok := readIP(ether, f[14:])
	const parsed, notPlain, broken = 0, 1, 2
	switch {
	case r.outcome != parsed && r.outcome != broken:
		return fmt.Errorf("outcome %d: not run", r.outcome)
	case ok != (r.outcome == parsed):
		return fmt.Errorf("outcome %d, the reference parses it: %v", r.outcome, ok)
	case !ok && r.plain == parsed:
		return fmt.Errorf("plain, and the reference does not parse it")
	case !ok:
		count["broken"]++
		return nil
	}
	if r.plain == notPlain {
		count["not plain"]++
	} else {
		count["plain"]++
	}
	l4 := f[14+want.payload:]
	src, dst, icmp := netip.AddrFrom4([4]byte(r.src[:4])), netip.AddrFrom4([4]byte(r.dst[:4])), lb.ICMP
	if ether == etherIPv6 {
		src, dst, icmp = netip.AddrFrom16(r.src), netip.AddrFrom16(r.dst), lb.ICMPv6
	}
	got := reading{src: src, dst: dst, proto: lb.Proto(r.proto), fragment: r.fragment != 0, payload: int(r.l4) - 14}
	if want.proto.HasPorts() && !want.fragment {
		got.dstPort = r.dstPort
		if source := binary.BigEndian.Uint16(l4); r.srcPort != source {
			return fmt.Errorf("source port %d, want %d", r.srcPort, source)
		}
	}
	if got != want {
		return fmt.Errorf("read %+v, the reference %+v", got, want)
	}
	if want.proto == lb.TCP && !want.fragment && (r.flags != l4[13] || r.header != uint16(l4[12]>>4)*4) {
		return fmt.Errorf("flags %#x and header of %d, want %#x and %d", r.flags, r.header, l4[13], l4[12]>>4*4)
	}
	if want.proto == icmp && !want.fragment && r.kind != l4[0] {
		return fmt.Errorf("ICMP type %d, want %d", r.kind, l4[0])
	}
	return nil
}
