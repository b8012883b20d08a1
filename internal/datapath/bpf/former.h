/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The flow table of the former layout, 2, which an upgrade finds full of live
 * flows. Who misses a flow in host_flows_3 looks here and moves it there.
 * Layout 2 knew IPv4 only, and the tunnel's other end by its address. */
#pragma once
#include "host.h"

volatile const __u8 former_flows;  /* an earlier release's table is there */
volatile const __u32 former_mask;  /* its buckets - 1 */

/* Set in a slot's flags once the flow is in the new table. The slot stays
 * readable: a program of the former release may still run for an instant. */
enum { FORMER_MOVED = 128 };

struct former_flow {
	__u32 seq;
	__u32 revision;
	__be32 remote;
	__be32 local;
	__u16 remote_port;
	__u16 local_port;
	__u8 proto;
	__u8 opener;
	__u8 state;
	__u8 flags;
	__be32 vip;
	__u16 vport;
	__u16 pad;
	__be32 gateway; /* its address */
	__u32 target;
	__u32 counter;
	__u32 seen;
	__u32 pad2[4];
};

struct former_bucket {
	struct former_flow slot[2];
};

/* Not pinned by name: the loader puts the pinned one in its place where there is one. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct former_bucket);
} host_flows_2 SEC(".maps");

INLINE struct former_flow *former_at(__u32 i)
{
	__u32 bucket = i >> 1;
	struct former_bucket *b = bpf_map_lookup_elem(&host_flows_2, &bucket);
	return b ? &b->slot[i & 1] : 0;
}

/* find_former4 gives the number plus one of the flow's slot in the former
 * table, 0 when it has none or was moved. The hash and its key are the same. */
__attribute__((noinline)) __u32 find_former4(__be32 remote, __be32 local, __u32 ports, __u32 proto, __u32 now)
{
	struct tuple t = { .remote.w = { remote }, .local.w = { local }, .remote_port = ports >> 16, .local_port = ports, .proto = proto };
	__u64 hash = flow_hash(&t, 4);
	for (int i = 0; i < CANDIDATES; i++) {
		__u32 at = ((__u32)(i & 2 ? hash >> 32 : hash) & former_mask) << 1 | (i & 1);
		struct former_flow *s = former_at(at);
		if (!s || (s->remote ^ remote) | (s->local ^ local) | (((__u32)s->remote_port << 16 | s->local_port) ^ ports) | (s->proto ^ proto))
			continue;
		if (s->state != FLOW_FREE && !(s->flags & FORMER_MOVED) && (__s32)(now - s->seen) <= (__s32)life(s->state, s->proto))
			return at + 1;
	}
	return 0;
}

/* copy_former writes what the former slot says into a slot that is ours. It
 * gives 0 when the flow's way back is not known yet. */
INLINE int copy_former(const struct former_flow *was, struct host_flow *s)
{
	struct addr gateway = { .w = { was->gateway } };
	struct peer_row *peer = was->gateway ? find_peer(&gateway, 4) : 0;
	if (!peer && was->flags & (FLOW_VIA_GATEWAY | FLOW_RETURN))
		return 0;
	account(shared(s->state, s->share), shared(was->state, 0), 0); /* the next packet says whose share it is */
	s->revision = was->revision;
	s->remote = was->remote;
	s->local = was->local;
	s->remote_port = was->remote_port;
	s->local_port = was->local_port;
	s->proto = was->proto;
	s->opener = was->opener;
	s->state = was->state;
	s->flags = was->flags;
	s->share = 0;
	s->client_port = 0;
	s->vip = was->vip;
	s->vport = was->vport;
	s->gateway = peer ? peer->num : 0;
	s->gateway_row = peer ? peer->row : 0;
	s->target = was->target;
	s->counter = was->counter;
	s->seen = was->seen;
	s->ack = 0;
	return 1;
}

/* move_former takes a flow from the former table to a place in the new one. When another CPU does so right now, it waits for that. */
__attribute__((noinline)) int move_former(__u32 at, __u32 to, __u32 now)
{
	struct former_flow *was = former_at(at - 1);
	struct host_flow *s = slot_at(slot_of(to) - 1, 4);
	if (!was || !s)
		return 0;
	if (was->flags & FORMER_MOVED || !claim(&was->seq, READ_ONCE(was->seq))) {
		for (int i = 0; i < 1024 && READ_ONCE(was->seq) & 1; i++)
			barrier();
		return 0;
	}
	int moved = 0;
	if (!(was->flags & FORMER_MOVED) && taken(s, to, now)) {
		moved = copy_former(was, s);
		publish(&s->seq);
		was->flags |= moved ? FORMER_MOVED : 0;
	}
	publish(&was->seq);
	return moved;
}

/* adopt gives the flow's slot plus one in the new table after it was found in
 * the former one, 0 when it was not. It stands in its callers, whose frames are
 * not on top of those of what it calls. */
INLINE __u32 adopt(const struct tuple *t, __u32 now)
{
	__u32 remote = t->remote.w[0], local = t->local.w[0], ports = ports_of(t);
	__u32 at = find_former4(remote, local, ports, t->proto, now);
	if (!at)
		return 0;
	/* What was tracked is on nobody's budget until it moved. */
	__u32 to = find_vacancy4(remote, local, ports, t->proto | FLOW_OPEN << 16 | NO_BUDGET, now);
	if (to)
		move_former(at, to, now);
	return find_slot4(remote, local, ports, t->proto, now);
}
