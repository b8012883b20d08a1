/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Listeners of several ports. A VIP's row names its ranges in the arena: their
 * number, then a word for each, by protocol and first port:
 *   protocol << 48 | first port << 32 | last port
 * The listener itself stands in the table under its first port. */
#pragma once
#include "judge.h"
#include "index.h"

/* range_of gives the first port of the range that holds a port, 0 for none. key
 * is protocol << 16 | port. It is a function of its own, so that the verifier
 * walks it once. */
__attribute__((noinline)) __u32 range_of(__u32 ranges, __u32 key)
{
	struct words w = arena_words();
	if (!w.base)
		return 0;
	__u32 count = (__u32)word_at(w, ranges);
	if (!count)
		return 0;
#define reaches_range(i) reaches((__u32)(word_at(w, ranges + 1 + (i)) >> 32), key)
	__u32 at = SEARCH(reaches_range, count);
	__u64 range = word_at(w, ranges + 1 + at);
	__u32 start = (__u32)(range >> 32);
	return start >> 16 == key >> 16 && start <= key && (key & 0xffff) <= (__u32)range ? start & 0xffff : 0;
}

/* within says that a port is one of those that begin with first. */
INLINE int within(__u16 port, __u16 first, __u16 span) { return (__u16)(port - first) <= span; }
