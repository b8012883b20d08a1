/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The choice of a target for a new flow. */
#pragma once
#include "judge.h"
#include "rows.h"

/* How many entries of the ring are tried, and how many targets a listener has at most. */
enum { CANDIDATES = 16, ROSTER = 128 };

INLINE __u32 ring_entry(__u32 ring, __u32 at) { return (__u32)(word(ring + (at >> 1)) >> ((at & 1) * 32)); }

enum { UNUSABLE = 0, LAST_RESORT = 1, USABLE = 2 };

/* usable says whether a target may take a client's new flow: never the client's
 * own instance, a dead one only when nothing else is there. It and choose are
 * functions of their own, so that the verifier walks them once. */
__attribute__((noinline)) __u32 usable(__u32 num, __be32 client, __u32 revision)
{
	struct target_row *row = find_target_row(num);
	struct target *t = row ? target_at(row, revision) : 0;
	if (!t || t->service[0] == client || t->public[0] == client)
		return UNUSABLE;
	return READ_ONCE(row->dead) ? LAST_RESORT : USABLE;
}

/* choose takes the ring's entry for the hash, and walks on past dead targets
 * and those that are the client itself. Where these hold most of the ring, it
 * goes through the roster of all targets with weight, which stands behind the
 * ring: their number, then each. When every one is dead, the first looked at
 * stands: traffic to all is better than to none. It gives 0 when there is no
 * target but the client itself. */
__attribute__((noinline)) __u32 choose(__u32 ring, __u32 ring_len, __u64 hash, __be32 client, __u32 revision)
{
	__u32 first = 0;
	if (!ring_len)
		return 0;
	__u32 roster = 0;
	for (__u32 i = 0; i < CANDIDATES + ROSTER; i++) {
		__u32 at = (__u32)(hash >> 16) % ring_len;
		if (i == CANDIDATES)
			roster = ring_entry(ring, ring_len);
		if (i >= CANDIDATES) {
			if (i - CANDIDATES >= roster)
				break;
			at = ring_len + 1 + ((__u32)(hash >> 16) + i) % roster;
		}
		__u32 num = ring_entry(ring, at);
		__u32 how = usable(num, client, revision);
		if (how == USABLE)
			return num;
		if (how == LAST_RESORT && !first)
			first = num;
		if (i < CANDIDATES)
			hash = mix(hash + i + 1);
	}
	return first;
}
