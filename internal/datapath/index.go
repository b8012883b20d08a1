// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// An index leads from keys to row numbers. The kernel reads it through the
// arithmetic of bpf/index.h while this process changes it: an entry is one
// word and so is every store.
type index[K comparable] struct {
	buckets []GatewayIndexBucket
	secret  uint64 // keeps strangers from aiming at buckets
}

func mix(x uint64) uint64 {
	for range 2 {
		x ^= x >> 32
		x *= 0xd6e8feb86659fd93
	}
	return x ^ x>>32
}

// place is the hash of a key of at most three words.
func (x index[K]) place(key *K) uint64 {
	var words [24]byte
	copy(words[:], bytesOf(key))
	word := func(i int) uint64 { return binary.NativeEndian.Uint64(words[8*i:]) }
	return mix((word(0) + word(1)*0x9e3779b97f4a7c15 + word(2)*0xc2b2ae3d27d4eb4f) ^ x.secret)
}

// candidates are the two buckets where a hash may stand.
func (x index[K]) candidates(hash uint64) [2]*[8]uint64 {
	mask := uint32(len(x.buckets) - 1)
	return [2]*[8]uint64{&x.buckets[uint32(hash)&mask].Entry, &x.buckets[uint32(hash>>14)&mask].Entry}
}

// put leads key to a row. The row is complete: it is found from now on.
func (x index[K]) put(key *K, row uint32) error {
	hash := x.place(key)
	entry := hash>>32<<32 | uint64(row+1)
	var vacant *uint64
	least := 9
	for _, bucket := range x.candidates(hash) {
		taken, gap := 0, (*uint64)(nil)
		for i := range bucket {
			switch {
			case bucket[i] == 0 && gap == nil:
				gap = &bucket[i]
			case bucket[i] == entry:
				return nil
			case bucket[i]>>32 == hash>>32 && bucket[i] != 0:
				return fmt.Errorf("two keys hash to %x", hash>>32)
			}
			if bucket[i] != 0 {
				taken++
			}
		}
		if gap != nil && taken < least {
			least, vacant = taken, gap
		}
	}
	if vacant == nil {
		return errors.New("both buckets of a key are full")
	}
	atomic.StoreUint64(vacant, entry)
	return nil
}

// remove makes key unknown.
func (x index[K]) remove(key *K, row uint32) {
	hash := x.place(key)
	for _, bucket := range x.candidates(hash) {
		for i := range bucket {
			if bucket[i] == hash>>32<<32|uint64(row+1) {
				atomic.StoreUint64(&bucket[i], 0)
			}
		}
	}
}

// load gives each row that the index leads to. key is what stands in the row;
// entries that do not fit it are cleared.
func (x index[K]) load(key func(row uint32) *K) map[K]uint32 {
	at := map[K]uint32{}
	for b := range x.buckets {
		bucket := &x.buckets[b].Entry
		for i, entry := range bucket {
			if entry == 0 {
				continue
			}
			row := uint32(entry) - 1
			if k := key(row); k != nil {
				hash := x.place(k)
				c := x.candidates(hash)
				if _, known := at[*k]; !known && hash>>32 == entry>>32 && (c[0] == bucket || c[1] == bucket) {
					at[*k] = row
					continue
				}
			}
			atomic.StoreUint64(&bucket[i], 0)
		}
	}
	return at
}
