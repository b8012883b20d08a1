/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading rows that both ends of the tunnel have. */
#pragma once
#include "layout.h"

INLINE struct revisions *current_revisions(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&revisions, &zero);
}

/* find_target gives the row of a target at a revision, 0 when it has none. */
INLINE struct target *find_target(__u32 num, __u32 revision)
{
	__u32 *index = bpf_map_lookup_elem(&target_index, &num);
	if (!index)
		return 0;
	__u32 i = *index;
	struct target_row *row = bpf_map_lookup_elem(&targets, &i);
	if (!row || row->num != num)
		return 0;
	int n = newest(row, revision);
	struct target *t = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return t && t->present ? t : 0;
}
