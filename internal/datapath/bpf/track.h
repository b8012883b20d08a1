/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Looking flows up and writing them, whatever their family and wherever they
 * stand. */
#pragma once
#include "former.h"
#include "host.h"

/* first_slot gives the number plus one of the flow's slot when that is one of
 * its first bucket's, as most are; else 0, and find_slot4 knows. */
INLINE __u32 first_slot(const struct tuple *t, __u32 now)
{
	__u32 at = candidate(flow_hash(t, 4), 0);
	struct host_flow *s = slot_at(at, 4);
	if (!s)
		return 0;
	if (!same_flow(s, t, 4)) {
		s++;
		at++;
		if (!same_flow(s, t, 4))
			return 0;
	}
	return s->state == FLOW_FREE || newer(now, s->seen) ? 0 : at + 1;
}

/* find looks the packet's flow up and copies what is known of it. */
INLINE int find(struct track *k, __u32 now, const int family)
{
	const struct tuple *t = &k->t;
	__u32 at = family == 6 ? find_slot6(t, now) : first_slot(t, now);
	if (family == 6)
		return read6(k, at) || (at && again6(k, now));
	if (!at)
		at = find_slot4(t->remote.w[0], t->local.w[0], ports_of(t), t->proto, now);
	if (former_flows && !at)
		at = adopt(t, now);
	return read_flow(k, at, 4) || (at && again4(k, now));
}

enum { TRIES = 2 }; /* so often another may take the same place at the same time */

/* write stores the flow as want says. It gives 0 when there is no room; an update
 * that lost a race is made good by the next packet. */
INLINE int write(struct track *k, const struct known *want, __u32 now, const int family)
{
	const struct tuple *t = &k->t;
	__u32 how = t->proto | (__u32)want->share << 8 | (__u32)want->state << 16;
	for (int i = 0; i < TRIES; i++) {
		__u32 place = k->slot;
		if (!place)
			place = family == 6 ? vacancy6(t, how, now) : find_vacancy4(t->remote.w[0], t->local.w[0], ports_of(t), how, now);
		if (family == 6 ? write6(k, place, want, now) : write4(k, place, want, now))
			return 1;
	}
	return k->slot != 0;
}

/* begin_anew forgets what the slot said: the packet may start another flow
 * with the same tuple. Unless it is let in, the slot goes on as it was. */
INLINE void begin_anew(struct track *k, __u8 opener)
{
	__u32 seq = k->was.seq;
	__builtin_memset(&k->was, 0, sizeof(k->was));
	k->was.seq = seq;
	k->was.opener = opener;
	k->was.state = FLOW_FREE;
}
