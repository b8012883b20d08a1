/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a host knows: its instances, and the table of its flows. */
#pragma once
#include "layout.h"
#include "packet.h"
#include "slot.h"
#include "tunnel.h"

HASH(instance_index, struct address_key, __u32, 1024);
MAPPED(instances, struct instance_row, 1024);
ARRAY(host_flows_1, struct host_bucket, 16384);

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
	__u64 hash;
	struct host_flow *slot;
	struct host_flow was; /* a copy, valid when slot is set */
};

INLINE struct instance *find_instance(__be32 addr, __u32 revision)
{
	struct address_key key = { .addr = { addr } };
	__u32 *index = bpf_map_lookup_elem(&instance_index, &key);
	if (!index)
		return 0;
	__u32 i = *index;
	struct instance_row *row = bpf_map_lookup_elem(&instances, &i);
	if (!row || row->key.addr[0] != addr)
		return 0;
	int n = newest(row, revision);
	struct instance *inst = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return inst && inst->present ? inst : 0;
}

INLINE struct host_bucket *bucket(__u32 i)
{
	i &= flow_mask;
	return bpf_map_lookup_elem(&host_flows_1, &i);
}

INLINE __u32 life(const struct host_flow *s)
{
	switch (s->state) {
	case FLOW_FREE:
		return 0;
	case FLOW_HALF:
		return s->proto == IPPROTO_TCP ? HALF_LIFE : s->proto == IPPROTO_UDP ? UDP_LIFE : OTHER_LIFE;
	case FLOW_CLOSING:
		return CLOSING_LIFE;
	case FLOW_REFUSED:
		return UDP_LIFE;
	}
	return s->proto == IPPROTO_TCP ? TCP_LIFE : s->proto == IPPROTO_UDP ? UDP_LIFE : OTHER_LIFE;
}

INLINE int expired(const struct host_flow *s, __u32 now) { return now - s->seen > life(s); }

INLINE int look(struct host_flow *s, struct track *k, __u32 now)
{
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	if (!seq || seq & 1 || s->remote != k->t.remote || s->local != k->t.local || s->remote_port != k->t.remote_port ||
	    s->local_port != k->t.local_port || s->proto != k->t.proto || s->state == FLOW_FREE)
		return 0;
	k->was = *s;
	k->was.seq = seq;
	if (!unchanged(&s->seq, seq) || expired(&k->was, now))
		return 0;
	k->slot = s;
	return 1;
}

/* find looks the flow up in the two buckets it may stand in. */
INLINE int find(struct track *k, __u32 now)
{
	const struct tuple *t = &k->t;
	k->slot = 0;
	k->hash = mix((((__u64)t->remote << 32) | ((__u64)t->remote_port << 16) | t->local_port) ^
		      mix((((__u64)t->local << 8) | t->proto) ^ hash_key));
	struct host_bucket *a = bucket((__u32)k->hash), *b = bucket((__u32)(k->hash >> 32));
	if (!a || !b)
		return 0;
	return look(&a->slot[0], k, now) || look(&a->slot[1], k, now) || look(&b->slot[0], k, now) || look(&b->slot[1], k, now);
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

INLINE struct host_flow *vacancy(__u64 hash, __u32 now)
{
	struct host_bucket *a = bucket((__u32)hash), *b = bucket((__u32)(hash >> 32));
	struct host_flow *best = 0;
	int top = 0, r;
	if (!a || !b)
		return 0;
#define CONSIDER(s) do { r = rank(s, now); if (r > top) { top = r; best = s; } } while (0)
	CONSIDER(&a->slot[0]);
	CONSIDER(&a->slot[1]);
	CONSIDER(&b->slot[0]);
	CONSIDER(&b->slot[1]);
#undef CONSIDER
	return best;
}

/* write stores the flow; want carries everything but its tuple. It gives 0
 * when there is no room or somebody else was quicker. */
INLINE int write(struct track *k, const struct host_flow *want, __u32 now)
{
	struct host_flow *s = k->slot;
	__u32 seq = k->was.seq;
	if (!s) {
		s = vacancy(k->hash, now);
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
