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

/* SEARCH gives the place of the last of count ranges that reaches_value says
 * reach what is searched for; there are at most 8,192. The first starts at 0, so
 * there is one. Few ranges take few steps. */
#define SEARCH(reaches_value, count) ({ \
	__u32 base_ = 0, len_ = (count), half_; \
	if (len_ > 2048) { STEP(reaches_value) STEP(reaches_value) } \
	if (len_ > 256) { STEP(reaches_value) STEP(reaches_value) STEP(reaches_value) } \
	if (len_ > 32) { STEP(reaches_value) STEP(reaches_value) STEP(reaches_value) } \
	if (len_ > 4) { STEP(reaches_value) STEP(reaches_value) STEP(reaches_value) } \
	STEP(reaches_value) STEP(reaches_value) \
	base_; })
#define STEP(reaches_value) \
	half_ = len_ >> 1; \
	base_ += half_ & reaches_value(base_ + half_); \
	len_ -= half_;

/* reaches6 is reaches for the IPv6 range that starts at arena word at. */
INLINE __u32 reaches6(struct words w, __u32 at, __u64 high, __u64 low)
{
	__u64 h = word_at(w, at), l = word_at(w, at + 1);
	return -(__u32)(h < high || (h == high && l <= low));
}

/* What is judged: the peer in host byte order, of IPv4 in low, and key,
 * protocol << 16 | port. */
INLINE __u64 rule_for(__u32 policy, __u64 high, __u64 low, __u32 key, const int family)
{
	struct words w = arena_words();
	if (!w.base)
		return 0;
	__u64 w0 = word_at(w, policy), w1 = word_at(w, policy + 1);
	__u32 count4 = (__u32)w0, count6 = w0 >> 32, segments = policy + POLICY_HEADER, range;
	__u32 at6 = segments + (__u32)w1, at4 = at6 + 2 * count6, places = at4 + ((count4 + 1) >> 1);
	if (family == 4) {
#define reaches_peer4(i) reaches(half_at(w, at4, i), (__u32)low)
		range = SEARCH(reaches_peer4, count4);
	} else {
#define reaches_peer6(i) reaches6(w, at6 + 2 * (i), high, low)
		range = count4 + SEARCH(reaches_peer6, count6);
	}
	__u32 slice = half_at(w, places, range);
	segments += slice >> SLICE_BITS;
#define reaches_key(i) reaches((__u32)(word_at(w, segments + (i)) >> 40), key)
	__u32 segment = SEARCH(reaches_key, slice & ((1 << SLICE_BITS) - 1));
	__u64 rule = word_at(w, segments + segment);
	return (rule & 0xffffff) | (rule >> 24 & 0xffff) << 32;
}

__attribute__((noinline)) __u64 judge4(__u32 policy, __u32 peer, __u32 key) { return rule_for(policy, 0, peer, key, 4); }
__attribute__((noinline)) __u64 judge6(__u32 policy, __u64 high, __u64 low, __u32 key) { return rule_for(policy, high, low, key, 6); }

/* judge gives the rule that decides: action and reason in the high half, counter
 * slot in the low one, or 0 when no rule matches. key is protocol << 16 | port. */
INLINE __u64 judge(__u32 policy, const struct addr *peer, __u32 key, const int family)
{
	if (family == 4)
		return judge4(policy, ntohl(peer->w[0]), key);
	return judge6(policy, __builtin_bswap64(first_half(peer, 6)), __builtin_bswap64(second_half(peer, 6)), key);
}

/* word gives arena word i. */
INLINE __u64 word(__u32 i)
{
	struct words w = arena_words();
	return w.base ? word_at(w, i) : 0;
}
