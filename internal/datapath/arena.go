// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// blobHeader is what stands before every blob: its length in words, this
// header included, and a hash of its content.
const blobHeader = uint32(lb.BlobHeader)

// An arena holds policies and Maglev tables in one big array of words. A blob
// never changes while a row names it; equal blobs are kept once.
type arena struct {
	words  []uint64
	byHash map[uint64]uint32 // content → offset
	spans  []span            // taken, sorted by start
}

type span struct{ start, end uint32 }

// load finds the blobs that rows still name after a restart.
func (a *arena) load(live map[uint32]bool) error {
	a.byHash, a.spans = map[uint64]uint32{}, []span{{0, blobHeader}}
	for off := range live {
		if off < blobHeader || int(off) > len(a.words) {
			return fmt.Errorf("a row names word %d of the arena, which has %d", off, len(a.words))
		}
		start := off - blobHeader
		length := a.words[start]
		if length < uint64(blobHeader) || length > uint64(len(a.words))-uint64(start) {
			return fmt.Errorf("the blob at word %d has length %d", off, length)
		}
		a.spans = append(a.spans, span{start, start + uint32(length)})
		a.byHash[a.words[start+1]] = off
	}
	slices.SortFunc(a.spans, func(x, y span) int { return int(x.start) - int(y.start) })
	return nil
}

// retain frees every blob that is not live. It is called after a grace period.
func (a *arena) retain(live map[uint32]bool) {
	a.spans = slices.DeleteFunc(a.spans, func(s span) bool { return s.start != 0 && !live[s.start+blobHeader] })
	for h, off := range a.byHash {
		if !live[off] {
			delete(a.byHash, h)
		}
	}
}

// put places content and gives its offset, that of an equal blob if there is
// one. It errs when no gap is large enough.
func (a *arena) put(content []uint64) (uint32, error) {
	hash := hashWords(content)
	if off, ok := a.byHash[hash]; ok && slices.Equal(a.words[off:int(off)+len(content)], content) {
		return off, nil
	}
	need := uint32(len(content)) + blobHeader
	for i, s := range a.spans {
		end := uint32(len(a.words))
		if i+1 < len(a.spans) {
			end = a.spans[i+1].start
		}
		if end-s.end < need {
			continue
		}
		start := s.end
		copy(a.words[start+blobHeader:], content)
		a.words[start], a.words[start+1] = uint64(need), hash
		a.spans = slices.Insert(a.spans, i+1, span{start, start + need})
		a.byHash[hash] = start + blobHeader
		return start + blobHeader, nil
	}
	return 0, fmt.Errorf("%w for %d words among the compiled policies of this node (%d in all)", errNoRoom, need, len(a.words))
}

// errNoRoom says that something has no place while what no packet needs any
// more still has one.
var errNoRoom = errors.New("no room")

// pack moves blobs down into gaps below them until none fits any, and so
// gathers what is free at the end: afterwards blobs and the gaps between them
// take at most twice the blobs' size, because each gap is smaller than the blob
// above it. relocate makes everybody go to the new places, by the old ones, and
// returns when nobody reads at the old ones any more.
func (a *arena) pack(relocate func(map[uint32]uint32)) {
	for {
		moved, left := map[uint32]uint32{}, map[uint32]bool{}
		for i := len(a.spans) - 1; i > 0; i-- {
			s := a.spans[i]
			gap := 0
			for gap < i && a.spans[gap+1].start-a.spans[gap].end < s.end-s.start {
				gap++
			}
			if gap == i || left[s.start] {
				continue
			}
			to := a.spans[gap].end
			copy(a.words[to:], a.words[s.start:s.end])
			moved[s.start+blobHeader], left[s.start] = to+blobHeader, true
			a.byHash[a.words[to+1]] = to + blobHeader
			a.spans = slices.Insert(a.spans, gap+1, span{to, to + s.end - s.start})
			i++ // the same blob stands one place higher
		}
		if len(moved) == 0 {
			return
		}
		relocate(moved)
		a.spans = slices.DeleteFunc(a.spans, func(s span) bool { return left[s.start] })
	}
}

func hashWords(content []uint64) uint64 {
	h := sha256.New()
	var b [8]byte
	for _, w := range content {
		binary.LittleEndian.PutUint64(b[:], w)
		h.Write(b[:])
	}
	return binary.LittleEndian.Uint64(h.Sum(nil))
}

func pack(low, high uint32) uint64 { return uint64(low) | uint64(high)<<32 }

// policyWords lays a compiled policy out as bpf/judge.h reads it. slot gives
// the counter of each rule.
func policyWords(c *policy.Compiled, slot func(policy.RuleRef) (uint32, error)) ([]uint64, error) {
	slots := make([]uint32, len(c.Rules))
	for i, r := range c.Rules {
		s, err := slot(r)
		if err != nil {
			return nil, err
		}
		if s >= 1<<24 {
			return nil, fmt.Errorf("counter %d: a policy can name the first %d", s, 1<<24)
		}
		slots[i] = s
	}
	w := append(make([]uint64, 0, 3*len(c.Segments)), pack(uint32(len(c.Src4)), uint32(len(c.Src6))), pack(uint32(len(c.Segments)), uint32(len(c.Rules))))
	for _, s := range c.Segments {
		word := uint64(s.Start) << 40
		if s.Class != 0 {
			r := c.Rules[s.Class-1]
			word |= uint64(r.Reason)<<32 | uint64(r.Action)<<24 | uint64(slots[s.Class-1])
		}
		w = append(w, word)
	}
	var starts, places []uint32
	place := func(class uint16) {
		places = append(places, c.Slices[class]<<sliceBits|uint32(len(c.Slice(class))))
	}
	for _, i := range c.Src6 {
		w = append(w, binary.BigEndian.Uint64(i.Start[:8]), binary.BigEndian.Uint64(i.Start[8:]))
	}
	for _, i := range c.Src4 {
		starts = append(starts, i.Start)
		place(i.Class)
	}
	for _, i := range c.Src6 {
		place(i.Class)
	}
	return append(append(append(w, halves(starts)...), halves(places)...), halves(slots)...), nil
}

// sliceBits repeats SLICE_BITS of bpf/judge.h.
const sliceBits = 14

// rulesAt gives the counters' slots of a policy's rules.
func rulesAt(w []uint64) []uint32 {
	low := func(x uint64) uint64 { return x & 0xffffffff }
	count4, count6 := low(w[0]), w[0]>>32
	at := 2 + low(w[1]) + 2*count6 + (count4+1)/2 + (count4+count6+1)/2
	slots := make([]uint32, w[1]>>32)
	for i := range slots {
		slots[i] = uint32(w[at+uint64(i)/2] >> (i % 2 * 32))
	}
	return slots
}

// halves packs two numbers into a word.
func halves(all []uint32) []uint64 {
	w := make([]uint64, (len(all)+1)/2)
	for i, n := range all {
		w[i/2] |= uint64(n) << (i % 2 * 32)
	}
	return w
}

// ringWords packs a Maglev table and, behind it, the length of the roster and
// its numbers: two 32-bit entries into a word.
func ringWords(ring, roster []uint32) []uint64 {
	return halves(append(append(slices.Clone(ring), uint32(len(roster))), roster...))
}
