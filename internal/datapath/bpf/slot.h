/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Claiming and publishing slots of tables that all CPUs share. A slot's seq is
 * odd while somebody writes it; a reader copies what it needs and looks at seq
 * again; whoever finds it changed treats the slot as not there. */
#pragma once
#include "kernel.h"

#define UNIT_SHIFT 30 /* time in flow slots runs in units of 2^30 ns, about a second */

INLINE __u32 units(__u64 ns) { return (__u32)(ns >> UNIT_SHIFT); }

/* claim makes the slot ours when its seq is still the one we read. */
INLINE int claim(__u32 *seq, __u32 read)
{
	return !(read & 1) && __sync_val_compare_and_swap(seq, read, read + 1) == read;
}

/* publish gives a claimed slot back, complete: nothing is seen before it. */
INLINE void publish(__u32 *seq)
{
	__sync_fetch_and_add(seq, 1);
}

INLINE int unchanged(__u32 *seq, __u32 read)
{
	barrier();
	return READ_ONCE(*seq) == read;
}
