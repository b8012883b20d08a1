/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading rows that both ends of the tunnel have. */
#pragma once
#include "index.h"

INLINE struct revisions *current_revisions(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&revisions, &zero);
}

/* number_of_target gives the number plus one of the row that the index knows for
 * a target, 0 for none. It is a function of its own, so that the verifier walks
 * its branches once. */
__attribute__((noinline)) __u32 number_of_target(__u32 num) { return row_of(target_index, place(num, 0, 0)); }

INLINE struct target_row *target_row(__u32 i, __u32 num)
{
	struct target_row *row = bpf_map_lookup_elem(&targets, &i);
	return row && row->num == num ? row : 0;
}

/* find_target_row looks where the loader puts a target if it can, and asks the
 * index only when another one is there. */
INLINE struct target_row *find_target_row(__u32 num)
{
	struct target_row *row = target_row(num & (sizeof(*targets.max_entries) / sizeof(int) - 1), num);
	return row ? row : target_row(number_of_target(num) - 1, num);
}

/* target_at gives what a row says at a revision, 0 when it says nothing. */
INLINE struct target *target_at(struct target_row *row, __u32 revision)
{
	int n = newest(row, revision);
	struct target *t = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return t && t->present ? t : 0;
}

/* find_target gives the target of a number at a revision, 0 when there is none. */
INLINE struct target *find_target(__u32 num, __u32 revision)
{
	struct target_row *row = find_target_row(num);
	return row ? target_at(row, revision) : 0;
}
