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
INLINE __u32 usable(__u32 num, const struct addr *client, __u32 revision, const int family)
{
	struct target_row *row = find_target_row(num);
	struct target *t = row ? target_at(row, revision) : 0;
	if (!t || is_key(&t->service, client, family) || is_key(&t->public, client, family))
		return UNUSABLE;
	return READ_ONCE(row->dead) ? LAST_RESORT : USABLE;
}

__attribute__((noinline)) __u32 usable4(__u32 num, __be32 client, __u32 revision)
{
	struct addr a = { .w = { client } };
	return usable(num, &a, revision, 4);
}

__attribute__((noinline)) __u32 usable6(__u32 num, const struct addr *client, __u32 revision)
{
	return client ? usable(num, client, revision, 6) : UNUSABLE;
}

/* walk_ring takes the ring's entry for the hash, and walks on past dead targets
 * and those that are the client itself. Where these hold most of the ring, it
 * goes through the roster of all targets with weight, which stands behind the
 * ring: their number, then each. When every one is dead, the first looked at
 * stands: traffic to all is better than to none. It gives 0 when there is no
 * target but the client itself. */
INLINE __u32 walk_ring(__u32 ring, __u32 ring_len, __u64 hash, const struct addr *client, __u32 revision, const int family)
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
		__u32 how = family == 4 ? usable4(num, client->w[0], revision) : usable6(num, client, revision);
		if (how == USABLE)
			return num;
		if (how == LAST_RESORT && !first)
			first = num;
		if (i < CANDIDATES)
			hash = mix(hash + i + 1);
	}
	return first;
}

__attribute__((noinline)) __u32 choose4(__u32 ring, __u32 ring_len, __u64 hash, __be32 client, __u32 revision)
{
	struct addr a = { .w = { client } };
	return walk_ring(ring, ring_len, hash, &a, revision, 4);
}

__attribute__((noinline)) __u32 choose6(__u32 ring, __u32 ring_len, __u64 hash, const struct addr *client, __u32 revision)
{
	return client ? walk_ring(ring, ring_len, hash, client, revision, 6) : 0;
}

/* choose gives the target for a client's new flow, as walk_ring does. */
INLINE __u32 choose(__u32 ring, __u32 ring_len, __u64 hash, const struct addr *client, __u32 revision, const int family)
{
	return family == 4 ? choose4(ring, ring_len, hash, client->w[0], revision) : choose6(ring, ring_len, hash, client, revision);
}
