/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The compiled policy, run in the kernel: two searches and one table lookup,
 * whatever the number of rules. policy.Compiled holds the same arrays.
 *
 * A policy in the arena, in 64-bit words from its offset:
 *   0  source intervals (low half), port intervals (high)
 *   1  port classes (low), rules (high)
 *   2  IPv6 source intervals (low)
 *   3… source intervals: start (low), class (high)
 *   …  port intervals: start (low), class (high)
 *   …  rules: counter slot (low), action (8 bits above), what a match is told as (8 more; 0: REASON_RULE)
 *   …  table: four 16-bit cells a word, ordinal+1 or 0
 *   …  IPv6 source intervals: two words of start, one of class */
#pragma once
#include "layout.h"

enum { POLICY_HEADER = 3, SEARCH_STEPS = 13, NO_RULE = 0 };

/* word gives arena word i; a word outside reads as 0, which never admits. */
INLINE __u64 word(__u32 i)
{
	__u64 *w = bpf_map_lookup_elem(&arena, &i);
	return w ? *w : 0;
}

/* search gives the class of the last interval that starts at or before value.
 * The first interval starts at 0, so there is one. Branch-free on purpose. */
INLINE __u32 search(__u32 base, __u32 count, __u32 value)
{
	__u32 len = count;
#pragma unroll
	for (int i = 0; i < SEARCH_STEPS; i++) {
		__u32 half = len >> 1;
		__u32 start = (__u32)word(base + half);
		__u32 go = (__u32)(((__s64)start - (__s64)value - 1) >> 63); /* all ones when start <= value */
		base += half & go;
		len -= half;
	}
	return (__u32)(word(base) >> 32);
}

/* judge gives the rule that decides: action and reason in the high half, counter
 * slot in the low one, or 0 when no rule matches. peer is in host byte order, key is
 * protocol << 16 | port. */
__attribute__((noinline)) __u64 judge(__u32 policy, __u32 peer, __u32 key)
{
	__u64 w0 = word(policy), w1 = word(policy + 1);
	__u32 sources = (__u32)w0, intervals = w0 >> 32, classes = (__u32)w1, rules = w1 >> 32;
	__u32 at = policy + POLICY_HEADER;
	__u32 source = search(at, sources, peer);
	at += sources;
	__u32 port = search(at, intervals, key);
	at += intervals;
	__u32 cell = source * classes + port;
	__u32 ordinal = (word(at + rules + (cell >> 2)) >> ((cell & 3) * 16)) & 0xffff;
	if (ordinal == NO_RULE || ordinal > rules)
		return 0;
	return word(at + ordinal - 1);
}
