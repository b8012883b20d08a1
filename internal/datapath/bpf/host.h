/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a host knows: its instances, and the table of its flows. */
#pragma once
#include "layout.h"
#include "packet.h"
#include "slot.h"
#include "tunnel.h"

INDEX(instance_index, 1024);
MAPPED(instances, struct instance_row, 1024);
MAPPED(host_flows_2, struct host_bucket, 16384);

enum { DHCP_SERVER = 67, DHCP_CLIENT = 68 };

enum { HALF_LIFE = 30, CLOSING_LIFE = 30, UDP_LIFE = 180, OTHER_LIFE = 30, TCP_LIFE = 3 * 3600 }; /* units, about seconds */

/* A flow as the instance's own stack sees it. */
struct tuple {
	__be32 remote, local;
	__u16 remote_port, local_port;
	__u8 proto;
};

/* What the packet says its flow is, and what the table said. */
struct track {
	struct tuple t;
	struct host_flow *slot;
	struct host_flow was; /* a copy, valid when slot is set */
};

INLINE struct instance *find_instance(__be32 addr, __u32 revision)
{
	__u64 hash = place(addr, 0, 0);
	__u32 i = row_of(instance_index, hash) - 1;
	struct instance_row *row = bpf_map_lookup_elem(&instances, &i);
	if (!row || row->key.addr[0] != addr)
		return 0;
	int n = newest(row, revision);
	struct instance *inst = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return inst && inst->present ? inst : 0;
}

/* life says how long a flow of this state is kept without a packet. */
INLINE __u32 life(__u8 state, __u8 proto)
{
	if (state == FLOW_CLOSING)
		return CLOSING_LIFE;
	if (state == FLOW_REFUSED)
		return UDP_LIFE;
	if (proto == IPPROTO_UDP)
		return UDP_LIFE;
	return proto != IPPROTO_TCP ? OTHER_LIFE : state == FLOW_HALF ? HALF_LIFE : TCP_LIFE;
}

INLINE int expired(const struct host_flow *s, __u32 now) { return now - s->seen > life(s->state, s->proto); }

/* One comparison instead of five: each branch doubles what the verifier has to walk. */
INLINE int same_flow(const struct host_flow *s, __be32 remote, __be32 local, __u32 ports, __u32 proto)
{
	return !((s->remote ^ remote) | (s->local ^ local) | (((__u32)s->remote_port << 16 | s->local_port) ^ ports) | (s->proto ^ proto));
}

/* A flow may stand in the two slots of either of two buckets. */
enum { CANDIDATES = 4 };

INLINE __u64 flow_hash(__be32 remote, __be32 local, __u32 ports, __u32 proto)
{
	return mix(((((__u64)remote << 32) | ports) + (((__u64)local << 8) | proto) * 0x9e3779b97f4a7c15ull) ^ hash_key);
}

INLINE __u32 candidate(__u64 hash, int i)
{
	return ((__u32)(i & 2 ? hash >> 32 : hash) & flow_mask) << 1 | (i & 1);
}

/* slot_at gives a slot by its number. */
INLINE struct host_flow *slot_at(__u32 i)
{
	__u32 bucket = (i >> 1) & flow_mask;
	struct host_bucket *b = bpf_map_lookup_elem(&host_flows_2, &bucket);
	return b ? &b->slot[i & 1] : 0;
}

/* find_slot gives the number of the flow's slot plus one, 0 when it has none.
 * It and find_vacancy are functions of their own, so that the verifier walks
 * their loops once. */
__attribute__((noinline)) __u32 find_slot(__be32 remote, __be32 local, __u32 ports, __u32 proto, __u32 now)
{
	__u64 hash = flow_hash(remote, local, ports, proto);
	for (int i = 0; i < CANDIDATES; i++) {
		__u32 at = candidate(hash, i);
		struct host_flow *s = slot_at(at);
		if (s && same_flow(s, remote, local, ports, proto) && s->state != FLOW_FREE && !expired(s, now))
			return at + 1;
	}
	return 0;
}

/* rank says how ready a slot is to be taken: 0 never. A live established flow is never evicted. */
INLINE int rank(const struct host_flow *s, __u32 now)
{
	__u32 seq = READ_ONCE(s->seq);
	if (seq & 1)
		return 0;
	if (!seq || s->state == FLOW_FREE || expired(s, now))
		return 3;
	return s->state == FLOW_CLOSING || s->state == FLOW_REFUSED ? 2 : s->state == FLOW_HALF ? 1 : 0;
}

/* find_vacancy gives the number plus one of the slot that a new flow may take,
 * 0 when all hold live established ones. */
__attribute__((noinline)) __u32 find_vacancy(__be32 remote, __be32 local, __u32 ports, __u32 proto, __u32 now)
{
	__u64 hash = flow_hash(remote, local, ports, proto);
	__u32 best = 0;
	int top = 0;
	for (int i = 0; i < CANDIDATES; i++) {
		__u32 at = candidate(hash, i);
		struct host_flow *s = slot_at(at);
		int r = s ? rank(s, now) : 0;
		if (r > top) {
			top = r;
			best = at + 1;
		}
	}
	return best;
}

INLINE __u32 ports_of(const struct tuple *t) { return (__u32)t->remote_port << 16 | t->local_port; }

/* find looks the packet's flow up and copies what is known of it. */
INLINE int find(struct track *k, __u32 now)
{
	const struct tuple *t = &k->t;
	__u32 at = find_slot(t->remote, t->local, ports_of(t), t->proto, now);
	struct host_flow *s = at ? slot_at(at - 1) : 0;
	k->slot = 0;
	if (!s)
		return 0;
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	k->was = *s;
	k->was.seq = seq;
	/* Somebody may have taken the slot since: then the flow is not there. */
	if (!unchanged(&s->seq, seq) || seq & 1 || !same_flow(&k->was, t->remote, t->local, ports_of(t), t->proto) || k->was.state == FLOW_FREE)
		return 0;
	k->slot = s;
	return 1;
}

/* write stores the flow; want carries everything but its tuple. It gives 0
 * when there is no room or somebody else was quicker. */
INLINE int write(struct track *k, const struct host_flow *want, __u32 now)
{
	struct host_flow *s = k->slot;
	__u32 seq = k->was.seq;
	if (!s) {
		__u32 at = find_vacancy(k->t.remote, k->t.local, ports_of(&k->t), k->t.proto, now);
		s = at ? slot_at(at - 1) : 0;
		if (!s)
			return 0;
		seq = READ_ONCE(s->seq);
	}
	if (!claim(&s->seq, seq))
		return k->slot != 0; /* an update that lost a race is made good by the next packet */
	s->revision = want->revision;
	s->remote = k->t.remote;
	s->local = k->t.local;
	s->remote_port = k->t.remote_port;
	s->local_port = k->t.local_port;
	s->proto = k->t.proto;
	s->opener = want->opener;
	s->state = want->state;
	s->flags = want->flags;
	s->vip = want->vip;
	s->vport = want->vport;
	s->gateway = want->gateway;
	s->target = want->target;
	s->counter = want->counter;
	s->seen = now;
	publish(&s->seq);
	return 1;
}
