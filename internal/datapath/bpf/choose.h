/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The choice of a target for a new flow. */
#pragma once
#include "judge.h"
#include "packet.h"
#include "rows.h"

/* How many entries of the ring are tried, and how many targets a listener has at most. */
enum { CANDIDATES = 16, ROSTER = 128 };

/* Beside a target in what pick gives: it is dead. Targets have 24 bits. */
#define PICKED_DEAD (1u << 31)

INLINE __u32 place_in(__u32 ring_len, __u64 hash) { return (__u32)(hash >> 16) % ring_len; }

INLINE __u32 ring_entry(__u32 ring, __u32 at) { return (__u32)(word(ring + (at >> 1)) >> ((at & 1) * 32)); }

enum { UNUSABLE = 0, LAST_RESORT = 1, LATE = 2, USABLE = 3 };

/* The addresses of targets' instances beyond those that their rows name: facts, and
 * not policy. A key is the target's number << 32 with the address, of IPv6 with a
 * hash of it: whoever meets another's by chance is served by another target. */
HASH(kin, __u64, __u8, 65536);

/* is_kin says that an address is one of those: functions of their own, so that
 * the verifier walks them once, and their stacks are as small as can be. */
__attribute__((noinline)) int is_kin4(__u32 target, __be32 a)
{
	__u64 key = (__u64)target << 32 | a;
	return bpf_map_lookup_elem(&kin, &key) != 0;
}

__attribute__((noinline)) int is_kin6(__u32 target, const struct addr *a)
{
	if (!a)
		return 0;
	__u64 key = (__u64)target << 32 ^ mix(mix(first_half(a, 6)) + second_half(a, 6));
	return bpf_map_lookup_elem(&kin, &key) != 0;
}

INLINE int is_kin(__u32 target, const struct addr *a, const int family) { return family == 4 ? is_kin4(target, a->w[0]) : is_kin6(target, a); }

/* usable says whether a target may take a client's new flow: never the client's
 * own instance, a dead one only when nothing else is there, and one that starts
 * slowly only when the flow's lot, 0 to 255, falls into its share. */
INLINE __u32 usable(struct target_row *row, const struct addr *client, __u32 revision, __u32 lot, const int family)
{
	struct target *t = row ? target_at(row, revision) : 0;
	if (!t || is_key(&t->service, client, family) || is_key(&t->public, client, family) || (t->flags & TARGET_KIN && is_kin(row->num, client, family)))
		return UNUSABLE;
	if (READ_ONCE(row->dead))
		return LAST_RESORT;
	return lot < READ_ONCE(row->held) ? LATE : USABLE;
}

/* The target at a place of the ring, and above it what usable says of it. This
 * and pick are functions of their own, so that the verifier walks them once. */
__attribute__((noinline)) __u64 usable4(__u32 ring, __u32 at, __be32 client, __u32 revision, __u32 lot)
{
	struct addr a = { .w = { client } };
	__u32 num = ring_entry(ring, at);
	return num | (__u64)usable(find_target_row(num), &a, revision, lot, 4) << 32;
}

__attribute__((noinline)) __u64 usable6(__u32 ring, __u32 at, const struct addr *client, __u32 revision, __u32 lot)
{
	__u32 num = ring_entry(ring, at);
	return client ? num | (__u64)usable(find_target_row(num), client, revision, lot, 6) << 32 : 0;
}

/* noted is what pick has found, with a target that will not do now. A function of
 * its own: in pick's loop, which the verifier walks round by round, each of its
 * branches would double what there is to walk. */
__attribute__((noinline)) __u64 noted(__u64 found, __u64 seen)
{
	__u32 how = seen >> 32;
	if (how == LATE && !(found >> 32))
		found |= seen << 32;
	if (how == LAST_RESORT && !(__u32)found)
		found |= (__u32)seen | PICKED_DEAD;
	return found;
}

/* pick takes the ring's entry for the hash, and walks on past dead targets
 * and those that are the client itself. Where these hold most of the ring, it
 * goes through the roster of all targets with weight, which stands behind the
 * ring: their number, then each. When every one is dead, the first looked at
 * stands, and is marked. It gives 0 when there is no target but the client
 * itself. The high half is the first that was passed over because it starts
 * slowly: where the flow went before that, if it is older. */
#define PICK(ring, ring_len, hash, usable_) ({ \
	__u64 found_ = 0; /* dead, and late in the high half */ \
	__u32 lot_ = (__u32)(hash) & 255; \
	if (ring_len) \
		for (__u32 i_ = 0; i_ < CANDIDATES + ROSTER; i_++) { \
			__u32 at_ = i_ < CANDIDATES ? place_in(ring_len, hash) : on_roster(ring, ring_len, (hash) >> 16, i_); \
			if (!at_ && i_ >= CANDIDATES) \
				break; \
			__u64 seen_ = usable_; \
			__u32 how_ = seen_ >> 32; \
			if (how_ == USABLE) { \
				found_ = (found_ >> 32 << 32) | (__u32)seen_; \
				break; \
			} \
			found_ = noted(found_, seen_); \
			if (i_ < CANDIDATES) \
				hash = mix(hash + i_ + 1); \
		} \
	(!(__u32)found_ || found_ & PICKED_DEAD) && found_ >> 32 ? found_ >> 32 : found_; })

/* on_roster gives where the i-th target of those with weight stands, 0 when
 * there is none such. */
__attribute__((noinline)) __u32 on_roster(__u32 ring, __u32 ring_len, __u32 from, __u32 i)
{
	__u32 roster = ring_entry(ring, ring_len);
	return i - CANDIDATES < roster ? ring_len + 1 + (from + i) % roster : 0;
}

__attribute__((noinline)) __u64 pick4(__u32 ring, __u32 ring_len, __u64 hash, __be32 client, __u32 revision)
{
	return PICK(ring, ring_len, hash, usable4(ring, at_, client, revision, lot_));
}

__attribute__((noinline)) __u64 pick6(__u32 ring, __u32 ring_len, __u64 hash, const struct addr *client, __u32 revision)
{
	if (!client)
		return 0;
	return PICK(ring, ring_len, hash, usable6(ring, at_, client, revision, lot_));
}

/* nobody says why no target was chosen, or why it cannot be had. */
INLINE __u8 nobody(const struct listener *l, __u32 target)
{
	if (target)
		return REASON_UNKNOWN_TARGET;
	if (!l->ring_len)
		return REASON_NO_TARGET;
	return l->flags & LISTENER_HEALTHY_ONLY ? REASON_NO_HEALTHY_TARGET : REASON_HAIRPIN_SELF;
}

/* weigh adds a new flow, once it is on its way, to what its target's host told last. */
__attribute__((noinline)) int weigh(__u32 num, __u32 revision)
{
	struct target_row *row = find_target_row(num);
	struct target *t = row ? target_at(row, revision) : 0;
	if (t && row->load < 1u << 31)
		__sync_fetch_and_add(&row->load, t->step);
	return 0;
}

/* load_of is how busy a target is for its weight. */
INLINE __u32 load_of(__u32 num)
{
	struct target_row *row = find_target_row(num);
	return row ? READ_ONCE(row->load) : ~0u;
}

/* busier says which of two targets has more to do; neither is no. */
__attribute__((noinline)) int busier(__u32 a, __u32 b) { return load_of(a) > load_of(b); }

/* weighed goes to the less busy of two targets, and names the other one beside
 * it. When equally busy, it is the ring's own. */
INLINE __u64 weighed(__u64 first, __u64 again)
{
	__u32 target = (__u32)first, other = (__u32)again;
	if (!other || other & PICKED_DEAD || other == target)
		return first;
	return busier(target, other) ? other | (__u64)target << 32 : target | (__u64)other << 32;
}

/* first_pick is pick for the flow's first place in the ring. Its target will do
 * in most cases, and is found without a call. */
INLINE __u64 first_pick4(const struct listener *l, __u64 at, __be32 client, __u32 revision)
{
	struct addr a = { .w = { client } };
	if (l->ring_len) {
		__u32 num = ring_entry(l->ring, place_in(l->ring_len, at));
		if (usable(find_target_row(num), &a, revision, at & 255, 4) == USABLE)
			return num;
	}
	return pick4(l->ring, l->ring_len, at, client, revision);
}

INLINE __u64 first_pick6(const struct listener *l, __u64 at, const struct addr *client, __u32 revision)
{
	return pick6(l->ring, l->ring_len, at, client, revision);
}

/* chosen is choose for one family: at is the first place in the ring, and
 * begins says that no host can know the flow. */
#define CHOSEN(l, at, pick_, client, revision, begins) ({ \
	__u64 c_ = first_##pick_(l, at, client, revision); \
	if ((__u32)c_ & PICKED_DEAD) { \
		c_ = (l)->flags & LISTENER_HEALTHY_ONLY ? 0 : (__u32)c_ & ~PICKED_DEAD; \
	} else if (c_) { \
		if ((l)->flags & LISTENER_LEAST) \
			c_ = weighed(c_, pick_((l)->ring, (l)->ring_len, mix(at + 1), client, revision)); \
		if (begins) \
			c_ = (__u32)c_; \
		if (!begins && !(c_ >> 32) && (l)->former_len) \
			c_ |= (pick_((l)->former, (l)->former_len, at, client, revision) & ~PICKED_DEAD) << 32; \
	} \
	(__u32)c_ == c_ >> 32 ? (__u32)c_ : c_; })

/* ring_place is where a flow belongs in its listener's ring. No secret goes into
 * it: every gateway must come to the same place. */
INLINE __u64 ring_place(__u64 client, __u32 ports, const struct listener *l)
{
	__u64 rest = l->flags & LISTENER_BY_ADDRESS ? 0 : (__u64)l->num << 32 | ports;
	return mix(mix(client + 0x9e3779b97f4a7c15ull) + rest * 0xc2b2ae3d27d4eb4full);
}

__attribute__((noinline)) __u64 choose4(const struct listener *l, __be32 client, __u32 ports, __u32 revision, int begins)
{
	if (!l)
		return 0;
	__u64 at = ring_place(client, ports, l);
	return CHOSEN(l, at, pick4, client, revision, begins);
}

__attribute__((noinline)) __u64 choose6(const struct listener *l, const struct addr *client, __u32 ports, __u32 revision, int begins)
{
	if (!l || !client)
		return 0;
	__u64 at = ring_place(mix(first_half(client, 6)) + second_half(client, 6), ports, l);
	return CHOSEN(l, at, pick6, client, revision, begins);
}

/* choose gives the target of a client's new flow in the low half, 0 for none,
 * and in the high half where the flow may be known if the target does not know
 * it: only where the packet does not begin it. */
INLINE __u64 choose(const struct packet *p, const struct listener *l, __u32 revision, const int family)
{
	__u32 ports = (__u32)p->src_port << 16 | p->dst_port;
	int starts = opens(p);
	return family == 4 ? choose4(l, p->src.w[0], ports, revision, starts) : choose6(l, &p->src, ports, revision, starts);
}
