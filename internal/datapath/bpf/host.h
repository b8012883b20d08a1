/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a host knows: its instances, and the table of its flows. */
#pragma once
#include "layout.h"
#include "packet.h"
#include "slot.h"
#include "tunnel.h"

INDEX(instance_index, 1024);
MAPPED(instances, struct instance_row, 1024);
MAPPED(host_flows_3, struct host_bucket, 16384);
MAPPED(host_flows6_3, struct host_bucket6, 16384);

enum { DHCP_SERVER = 67, DHCP_CLIENT = 68 };

enum { HALF_LIFE = 30, CLOSING_LIFE = 30, UDP_LIFE = 180, ICMP_LIFE = 30, OTHER_LIFE = 600, TCP_LIFE = 3 * 3600 }; /* units, about seconds */

/* A flow as the instance's own stack sees it. */
struct tuple {
	struct addr remote, local;
	__u16 remote_port, local_port;
	__u32 proto;
};

/* What a flow's slot says of it besides its tuple, of either family. */
struct known {
	__u32 seq;
	__u32 revision;
	struct addr vip;
	__u16 vport;
	__u16 gateway_row;
	__u32 gateway;
	__u32 target;
	__u32 counter;
	__u32 seen;
	__u8 opener;
	__u8 state;
	__u8 flags;
	__u8 share;
	__u16 client_port;
};

/* What the packet says its flow is, and what the table said. */
struct track {
	struct tuple t;
	struct known was; /* valid when slot is set */
	__u32 slot; /* its number plus one; 0: the flow has none */
};

/* Names the flow of a packet that travels in the given direction. */
INLINE void name_flow(const struct packet *p, __u8 direction, struct tuple *t, const int family)
{
	int in = direction == DIRECTION_IN;
	set_addr(&t->remote, in ? &p->src : &p->dst, family);
	set_addr(&t->local, in ? &p->dst : &p->src, family);
	t->remote_port = in ? p->src_port : p->dst_port;
	t->local_port = in ? p->dst_port : p->src_port;
	t->proto = p->proto;
}

/* number_of_instance gives the number plus one of an address's row, 0 when it
 * has none; a function of its own, so that the verifier walks it once. */
__attribute__((noinline)) __u32 number_of_instance4(__be32 a)
{
	struct addr key = { .w = { a } };
	return row_of(instance_index, place_addr(&key, 0, 4));
}

__attribute__((noinline)) __u32 number_of_instance6(const struct addr *a) { return a ? row_of(instance_index, place_addr(a, 0, 6)) : 0; }

INLINE struct instance_row *find_instance_row(const struct addr *a, const int family)
{
	__u32 i = (family == 4 ? number_of_instance4(a->w[0]) : number_of_instance6(a)) - 1;
	struct instance_row *row = bpf_map_lookup_elem(&instances, &i);
	return row && is_key(&row->key, a, family) ? row : 0;
}

/* instance_at gives what a row says at a revision, 0 when it says nothing. */
INLINE struct instance *instance_at(struct instance_row *row, __u32 revision)
{
	int n = newest(row, revision);
	struct instance *i = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return i && i->present ? i : 0;
}

INLINE struct instance *find_instance(const struct addr *a, __u32 revision, const int family)
{
	struct instance_row *row = find_instance_row(a, family);
	return row ? instance_at(row, revision) : 0;
}

/* life says how long a flow of this state is kept without a packet. */
INLINE __u32 life(__u8 state, __u8 proto)
{
	if (state == FLOW_CLOSING)
		return CLOSING_LIFE;
	if (state == FLOW_REFUSED)
		return UDP_LIFE;
	if (proto == IPPROTO_UDP)
		return state == FLOW_HALF ? HALF_LIFE : UDP_LIFE;
	if (proto == IPPROTO_TCP)
		return state == FLOW_HALF ? HALF_LIFE : TCP_LIFE;
	/* All else may be a tunnel, and may be silent for as long as its ends do not ask each other. */
	return ((proto == IPPROTO_ICMP) | (proto == IPPROTO_ICMPV6)) ? ICMP_LIFE : OTHER_LIFE;
}

/* Another CPU's clock may be ahead of ours: what it has just seen has a negative age,
 * and we do not take it back. */
INLINE int newer(__u32 now, __u32 seen) { return (__s32)(now - seen) > 0; }
INLINE int expired(const struct host_flow *s, __u32 now) { return (__s32)(now - s->seen) > (__s32)life(s->state, s->proto); }

INLINE __u32 ports_of(const struct tuple *t) { return (__u32)t->remote_port << 16 | t->local_port; }

/* One comparison instead of five: each branch doubles what the verifier has to walk. */
INLINE int same_flow(const struct host_flow *s, const struct tuple *t, const int family)
{
	const struct host_flow6 *wide = (const void *)s;
	__u32 d = (((__u32)s->remote_port << 16 | s->local_port) ^ ports_of(t)) | (s->proto ^ t->proto);
	return !(d | differs(&t->remote, s->remote, wide->remote, family) | differs(&t->local, s->local, wide->local, family));
}

/* A flow may stand in the two slots of either of two buckets: a probe in buckets
 * that stand behind all others' and that nothing else takes, however many flows
 * there are. */
enum { CANDIDATES = 4, OF_PROBES = 4, PROBE_BUCKETS = 512 };

/* An end of a flow as one word, shifted in IPv4 beside the ports or the protocol. */
INLINE __u64 end_word(const struct addr *a, int shift, const int family) { return family == 4 ? (__u64)a->w[0] << shift : folded(a, 6); }

INLINE __u64 hash_ends(__u64 remote, __u64 local, __u32 ports, __u32 proto)
{
	return mix(((remote + ports) + (local + proto) * 0x9e3779b97f4a7c15ull) ^ hash_key);
}

INLINE __u64 flow_hash(const struct tuple *t, const int family)
{
	return hash_ends(end_word(&t->remote, 32, family), end_word(&t->local, 8, family), ports_of(t), t->proto);
}

/* candidate gives the i-th of a flow's slots, beyond OF_PROBES of a probe's. */
INLINE __u32 candidate(__u64 hash, int i)
{
	__u32 half = i & 2 ? hash >> 32 : hash;
	return (i & OF_PROBES ? flow_mask + 1 + (half & (PROBE_BUCKETS - 1)) : half & flow_mask) << 1 | (i & 1);
}

/* KNOWN keeps the compiler from reckoning with what may be no address. */
#define KNOWN(address) asm volatile("" : "+r"(address))

/* slot_at gives a slot by its number: what both families' begin with. */
INLINE struct host_flow *slot_at(__u32 i, const int family)
{
	__u32 bucket = i >> 1;
	if (family == 4) {
		struct host_bucket *b = bpf_map_lookup_elem(&host_flows_3, &bucket);
		if (!b)
			return 0;
		KNOWN(b);
		return &b->slot[i & 1];
	}
	struct host_bucket6 *b = bpf_map_lookup_elem(&host_flows6_3, &bucket);
	if (!b)
		return 0;
	KNOWN(b);
	return &b->slot[i & 1].head;
}

/* Budgets. Each family's established flows are counted apart, for nobody may take
 * their places: what comes by no load balancer is share 0, each load balancer's is
 * one that the loader chose, our probes' has no limit. Half-open flows of all are
 * counted together: many of them take each other's places. */
struct share {
	__u32 flows;
	__u32 limit; /* no new flow beyond; 0: none */
};
enum { SHARE_PROBES = 254, SHARE_HALF = 255, SHARES = 256 };
MAPPED(shares, struct share, 512);

enum { OVER_BUDGET = 1, OVER_HALF = 2 };

/* What a new flow is looked a place up for: its protocol, its share << 8, its state << 16. */
enum { NO_BUDGET = 1 << 24 };

INLINE int exceeded(__u32 i)
{
	/* The agent's corrections and our counting race: a count may be below zero for a while. */
	struct share *n = bpf_map_lookup_elem(&shares, &i);
	return n && n->limit && (__s32)READ_ONCE(n->flows) >= (__s32)n->limit;
}

/* crowded says which slots a new flow may not take. */
__attribute__((noinline)) __u32 crowded(__u32 share, __u32 state, __u32 base)
{
	return (exceeded(base + (share & 255)) ? OVER_BUDGET : 0) | (state == FLOW_HALF && exceeded(base + SHARE_HALF) ? OVER_HALF : 0);
}

INLINE void recount(__u32 i, __u32 by)
{
	struct share *n = bpf_map_lookup_elem(&shares, &i);
	if (n)
		__sync_fetch_and_add(&n->flows, by);
}

/* account moves a slot from one share to another. was and now are share + 1, 0
 * for none, with HALF_OPEN for half-open flows. */
enum { HALF_OPEN = 1 << 16 };
__attribute__((noinline)) int account(__u32 was, __u32 now, __u32 base)
{
	__u32 from = was & 0x1ff, to = now & 0x1ff;
	if (from != to) {
		if (from)
			recount(base + from - 1, -1);
		if (to)
			recount(base + to - 1, 1);
	}
	if ((was ^ now) & HALF_OPEN)
		recount(base + SHARE_HALF, now & HALF_OPEN ? 1 : -1);
	return 0;
}

INLINE __u32 shared(__u8 state, __u8 share)
{
	return (state == FLOW_OPEN ? share + 1 : 0) | (state == FLOW_HALF ? HALF_OPEN : 0);
}

/* rank says how ready a slot is to be taken: 0 never. A live established flow is never evicted. */
INLINE int rank(const struct host_flow *s, __u32 now, __u32 how)
{
	/* Beyond its budget a flow may stand only where one of its share does; a
	 * half-open one beyond theirs goes first where another half-open does, and
	 * is not refused where there is none: its client would come back to the same
	 * four slots. */
	__u32 foreign = (s->state == FLOW_FREE) | (s->share != (__u8)(how >> 8));
	if ((how >> 16 & OVER_BUDGET) & foreign)
		return 0;
	if ((how >> 17 & 1) & (s->state == FLOW_HALF))
		return 4;
	if (s->state == FLOW_FREE || expired(s, now))
		return 3;
	return s->state == FLOW_CLOSING || s->state == FLOW_REFUSED ? 2 : s->state == FLOW_HALF ? 1 : 0;
}

/* search_slot gives the number of the flow's slot plus one, 0 when it has none. */
INLINE __u32 search_slot(const struct tuple *t, __u32 now, const int family)
{
	__u64 hash = flow_hash(t, family);
	for (int i = 0; i < OF_PROBES + CANDIDATES; i++) {
		__u32 at = candidate(hash, i);
		struct host_flow *s = slot_at(at, family);
		if (s && same_flow(s, t, family) && s->state != FLOW_FREE && !expired(s, now))
			return at + 1;
	}
	return 0;
}

/* A place is the number plus one of a slot, and above it how ready that was to be
 * taken: whoever claims it looks whether it still is, or somebody was quicker. */
enum { PLACE_RANK = 29 };
INLINE __u32 place_of(__u32 at, int rank) { return (__u32)rank << PLACE_RANK | (at + 1); }
INLINE __u32 slot_of(__u32 place) { return place & ((1u << PLACE_RANK) - 1); }

/* search_vacancy gives the place that a new flow may take, 0 when all hold live
 * established ones. */
INLINE __u32 search_vacancy(const struct tuple *t, __u32 now, __u32 how, const int family)
{
	int first = (how >> 8 & 255) == SHARE_PROBES ? OF_PROBES : 0;
	how = (how & 0xffff) | (how & NO_BUDGET ? 0 : crowded(how >> 8, how >> 16, family == 6 ? SHARES : 0)) << 16;
	__u64 hash = flow_hash(t, family);
	__u32 best = 0;
	for (int i = 0; i < CANDIDATES; i++) {
		__u32 at = candidate(hash, first + i);
		struct host_flow *s = slot_at(at, family);
		int r = s && !(READ_ONCE(s->seq) & 1) ? rank(s, now, how) : 0;
		if (r > (int)(best >> PLACE_RANK))
			best = place_of(at, r);
	}
	return best;
}

#include "way.h"

/* What searches is a function of its own, so that the verifier walks its loop
 * once. */
__attribute__((noinline)) __u32 find_slot4(__be32 remote, __be32 local, __u32 ports, __u32 proto, __u32 now)
{
	struct tuple t = { .remote.w = { remote }, .local.w = { local }, .remote_port = ports >> 16, .local_port = ports, .proto = proto };
	return search_slot(&t, now, 4);
}

__attribute__((noinline)) __u32 find_vacancy4(__be32 remote, __be32 local, __u32 ports, __u32 how, __u32 now)
{
	struct tuple t = { .remote.w = { remote }, .local.w = { local }, .remote_port = ports >> 16, .local_port = ports, .proto = how & 0xff };
	return search_vacancy(&t, now, how, 4);
}

/* IPv6's are functions of their own for the sake of the callers' stacks. */
__attribute__((noinline)) __u32 find_slot6(const struct tuple *t, __u32 now) { return t ? search_slot(t, now, 6) : 0; }
__attribute__((noinline)) __u32 vacancy6(const struct tuple *t, __u32 how, __u32 now) { return t ? search_vacancy(t, now, how, 6) : 0; }

/* read_flow copies what slot number at says of the flow, and gives 0 when it is
 * not the flow's, or somebody writes it right now. */
INLINE int read_flow(struct track *k, __u32 at, const int family)
{
	struct host_flow *s = at ? slot_at(at - 1, family) : 0;
	const struct host_flow6 *wide = (const void *)s;
	struct known *was = &k->was;
	k->slot = 0;
	if (!s)
		return 0;
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	if (!same_flow(s, &k->t, family))
		return 0;
	recall_addr(&was->vip, s->vip, wide->vip, family);
	was->seq = seq;
	was->revision = s->revision;
	was->vport = s->vport;
	was->gateway_row = s->gateway_row;
	was->gateway = s->gateway;
	was->target = s->target;
	was->counter = s->counter;
	was->seen = s->seen;
	was->opener = s->opener;
	was->state = s->state;
	was->flags = s->flags;
	was->share = s->share;
	was->client_port = s->client_port;
	/* Somebody may have taken the slot since: then the flow is not there. */
	if (!unchanged(&s->seq, seq) || seq & 1 || was->state == FLOW_FREE)
		return 0;
	k->slot = at;
	return 1;
}

/* taken makes the slot at a place ours to write, if it may still be taken. */
INLINE int taken(struct host_flow *s, __u32 place, __u32 now)
{
	if (!claim(&s->seq, READ_ONCE(s->seq)))
		return 0;
	int was = place >> PLACE_RANK, is = rank(s, now, 0);
	if (is && (is >= was || was > 3)) /* one half-open flow is as good as another */
		return 1;
	publish(&s->seq);
	return 0;
}

/* write_flow stores the flow as want says: in its slot, or a new one's at a place,
 * which another flow leaves when that is 0. It gives 0 when somebody else was
 * quicker, or nobody gives way. */
INLINE int write_flow(const struct track *k, __u32 place, const struct known *want, __u32 now, const int family)
{
	if (!place)
		place = family == 6 ? way6(hash6(&k->t), want->share, now) : way4(flow_hash(&k->t, 4), want->share, now);
	struct host_flow *s = place ? slot_at(slot_of(place) - 1, family) : 0;
	struct host_flow6 *wide = (void *)s;
	if (!s || !(k->slot ? claim(&s->seq, k->was.seq) : taken(s, place, now)))
		return 0;
	__u32 from = shared(s->state, s->share), to = shared(want->state, want->share);
	if (from != to)
		account(from, to, family == 6 ? SHARES : 0);
	keep_addr(&s->remote, wide->remote, &k->t.remote, family);
	keep_addr(&s->local, wide->local, &k->t.local, family);
	keep_addr(&s->vip, wide->vip, &want->vip, family);
	s->revision = want->revision;
	s->remote_port = k->t.remote_port;
	s->local_port = k->t.local_port;
	s->proto = k->t.proto;
	s->opener = want->opener;
	s->state = want->state;
	s->flags = want->flags;
	s->share = want->share;
	s->client_port = want->client_port;
	s->vport = want->vport;
	s->gateway_row = want->gateway_row;
	s->gateway = want->gateway;
	s->target = want->target;
	s->counter = want->counter;
	s->seen = now;
	if (!k->slot)
		s->ack = 0;
	publish(&s->seq);
	return 1;
}

__attribute__((noinline)) int read6(struct track *k, __u32 at) { return k ? read_flow(k, at, 6) : 0; }

__attribute__((noinline)) int write6(const struct track *k, __u32 place, const struct known *want, __u32 now)
{
	return k && want ? write_flow(k, place, want, now, 6) : 0;
}

__attribute__((noinline)) int write4(const struct track *k, __u32 place, const struct known *want, __u32 now)
{
	return k && want ? write_flow(k, place, want, now, 4) : 0;
}

/* A writer takes some tens of nanoseconds. */
enum { PATIENCE = 32 };

/* again looks once more for a flow that was there and could not be read: somebody
 * writes it, or moves it. */
INLINE int again(struct track *k, __u32 now, const int family)
{
	for (int i = 0; i < PATIENCE; i++) {
		__u32 at = family == 6 ? find_slot6(&k->t, now) : find_slot4(k->t.remote.w[0], k->t.local.w[0], ports_of(&k->t), k->t.proto, now);
		if (!at)
			return 0;
		if (read_flow(k, at, family))
			return 1;
	}
	return 0;
}

__attribute__((noinline)) int again4(struct track *k, __u32 now) { return k ? again(k, now, 4) : 0; }
__attribute__((noinline)) int again6(struct track *k, __u32 now) { return k ? again(k, now, 6) : 0; }
