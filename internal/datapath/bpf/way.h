/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* For host.h: all slots that a new flow may stand in may hold live established
 * ones while most of the table is free: of a table a quarter full one time in 250, and
 * its client comes back with the same port. Then one of those flows goes to its other
 * bucket. */
#pragma once

/* other_place gives the number plus one of the slot that the flow in slot number at
 * may go to, and above it the seq at which it stood there; 0 when its other
 * bucket holds live established flows too. */
INLINE __u64 other_place(__u32 at, __u32 now, const int family)
{
	struct host_flow *s = slot_at(at, family), *one, *other;
	const struct host_flow6 *wide = (const void *)s;
	struct addr a;
	if (!s)
		return 0;
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	recall_addr(&a, s->remote, wide->remote, family);
	__u64 remote = end_word(&a, 32, family);
	recall_addr(&a, s->local, wide->local, family);
	__u64 hash = hash_ends(remote, end_word(&a, 8, family), (__u32)s->remote_port << 16 | s->local_port, s->proto);
	__u32 to = candidate(hash, at >> 1 == candidate(hash, 0) >> 1 ? 2 : 0);
	if (at >> 1 == to >> 1)
		return 0;
	one = slot_at(to, family);
	other = slot_at(to + 1, family);
	int first = one && !(READ_ONCE(one->seq) & 1) ? rank(one, now, 0) : 0, second = other && !(READ_ONCE(other->seq) & 1) ? rank(other, now, 0) : 0;
	return first | second ? (__u64)seq << 32 | (second > first ? to + 2 : to + 1) : 0;
}

__attribute__((noinline)) __u64 other_place4(__u32 at, __u32 now) { return other_place(at, now, 4); }
__attribute__((noinline)) __u64 other_place6(__u32 at, __u32 now) { return other_place(at, now, 6); }

/* go_over moves the flow in slot number at to where other_place says. Both slots
 * are under a writer meanwhile: no change of it is lost, and whoever looks for it at
 * that instant finds it no less than at any change. It gives 0 when it has to stay. */
INLINE int go_over(__u32 at, __u64 place, __u32 now, const int family)
{
	const __u32 size = family == 6 ? sizeof(struct host_flow6) : sizeof(struct host_flow);
	struct host_flow *s = slot_at(at, family), *d = slot_at((__u32)place - 1, family);
	if (!s || !d || !claim(&s->seq, place >> 32))
		return 0;
	int claims = claim(&d->seq, READ_ONCE(d->seq)), free = claims && rank(d, now, 0);
	if (claims & !free) /* somebody is there since, and stays */
		publish(&d->seq);
	if (free) {
		account(shared(d->state, d->share), 0, family == 6 ? SHARES : 0); /* the flow itself stays on its share */
		__builtin_memcpy((void *)d + sizeof(d->seq), (void *)s + sizeof(s->seq), size - sizeof(s->seq));
		publish(&d->seq);
		s->state = FLOW_FREE;
	}
	publish(&s->seq);
	return free;
}

__attribute__((noinline)) int go_over4(__u32 at, __u64 place, __u32 now) { return go_over(at, place, now, 4); }
__attribute__((noinline)) int go_over6(__u32 at, __u64 place, __u32 now) { return go_over(at, place, now, 6); }

/* search_way gives the place that a flow has left which stood in the way of a new
 * one, 0 when none could. Nobody leaves one to who has used up a
 * budget, nor to a probe, which has places of its own. */
INLINE __u32 search_way(__u64 hash, __u32 share, __u32 now, const int family)
{
	if (share == SHARE_PROBES || exceeded((family == 6 ? SHARES : 0) + (share & 255)))
		return 0;
	for (int i = 0; i < CANDIDATES; i++) {
		__u32 at = candidate(hash, i);
		__u64 place = family == 4 ? other_place4(at, now) : other_place6(at, now);
		if (place && (family == 4 ? go_over4(at, place, now) : go_over6(at, place, now)))
			return place_of(at, 3);
	}
	return 0;
}

__attribute__((noinline)) __u32 way4(__u64 hash, __u32 share, __u32 now) { return search_way(hash, share, now, 4); }

__attribute__((noinline)) __u32 way6(__u64 hash, __u32 share, __u32 now) { return search_way(hash, share, now, 6); }

__attribute__((noinline)) __u64 hash6(const struct tuple *t) { return t ? flow_hash(t, 6) : 0; }
