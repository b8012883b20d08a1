/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The compiled policy, run in the kernel: two searches, whatever the number of
 * rules. policy.Compiled says what is searched.
 *
 * A policy in the arena, from its offset in 64-bit words:
 *   0  IPv4 source ranges (low half), IPv6 source ranges (high)
 *   1  segments (low), rules (high)
 *   …  segments: port key << 40 | reason << 32 | action << 24 | counter slot
 *   …  IPv6 source ranges: two words of start
 *   …  IPv4 source ranges: start, two a word
 *   …  IPv4 source ranges, then IPv6: slice, two a word: first segment << 14 | number of segments
 *   …  rules: counter slot, for the loader */
#pragma once
#include "layout.h"

enum { POLICY_HEADER = 2, SLICE_BITS = 14 };

/* Reading the arena: a place outside is some other place inside, and whatever
 * is read there is a number. The mask is read once, since it is volatile. */
struct words {
	__u64 *base;
	__u32 mask;
};

INLINE struct words arena_words(void)
{
	__u32 zero = 0;
	struct words w = { bpf_map_lookup_elem(&arena, &zero), arena_mask };
	return w;
}

INLINE __u64 word_at(struct words w, __u32 i) { return w.base[i & w.mask]; }

/* half_at gives the i-th 32-bit half from word at. */
INLINE __u32 half_at(struct words w, __u32 at, __u32 i)
{
	return ((__u32 *)w.base)[(at * 2 + i) & (w.mask * 2 + 1)];
}

/* all ones when start <= value. Branch-free: what is searched for is not
 * foreseeable. */
INLINE __u32 reaches(__u32 start, __u32 value)
{
	return (__u32)(((__s64)start - (__s64)value - 1) >> 63);
}

/* search gives the place of the last range that starts at or before value, of
 * at most 8,192. The first starts at 0, so there is one. Few ranges take few steps. */
#define SEARCH(start_of, count, value) ({ \
	__u32 base_ = 0, len_ = (count), half_; \
	if (len_ > 2048) { STEP(start_of, value) STEP(start_of, value) } \
	if (len_ > 256) { STEP(start_of, value) STEP(start_of, value) STEP(start_of, value) } \
	if (len_ > 32) { STEP(start_of, value) STEP(start_of, value) STEP(start_of, value) } \
	if (len_ > 4) { STEP(start_of, value) STEP(start_of, value) STEP(start_of, value) } \
	STEP(start_of, value) STEP(start_of, value) \
	base_; })
#define STEP(start_of, value) \
	half_ = len_ >> 1; \
	base_ += half_ & reaches(start_of(base_ + half_), value); \
	len_ -= half_;

/* judge gives the rule that decides: action and reason in the high half, counter
 * slot in the low one, or 0 when no rule matches. peer is in host byte order, key is
 * protocol << 16 | port. */
__attribute__((noinline)) __u64 judge(__u32 policy, __u32 peer, __u32 key)
{
	struct words w = arena_words();
	if (!w.base)
		return 0;
	__u64 w0 = word_at(w, policy), w1 = word_at(w, policy + 1);
	__u32 count4 = (__u32)w0, count6 = w0 >> 32, at = policy + POLICY_HEADER, segments = at;
	at += (__u32)w1 + 2 * count6;
#define start4(i) half_at(w, at, i)
	__u32 range = SEARCH(start4, count4, peer);
	at += (count4 + 1) >> 1;
	__u32 slice = half_at(w, at, range);
	segments += slice >> SLICE_BITS;
#define start_port(i) ((__u32)(word_at(w, segments + (i)) >> 40))
	__u32 segment = SEARCH(start_port, slice & ((1 << SLICE_BITS) - 1), key);
	__u64 rule = word_at(w, segments + segment);
	return (rule & 0xffffff) | (rule >> 24 & 0xffff) << 32;
}

/* word gives arena word i. */
INLINE __u64 word(__u32 i)
{
	struct words w = arena_words();
	return w.base ? word_at(w, i) : 0;
}
