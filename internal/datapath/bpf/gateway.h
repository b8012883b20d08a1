/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Gate 1 and the choice of a target, the same for both hooks: nothing here
 * knows whether the packet lies in an skb or in a driver's ring. */
#pragma once
#include "layout.h"
#include "choose.h"
#include "judge.h"
#include "mtu.h"
#include "packet.h"
#include "ports.h"
#include "rows.h"
#include "slot.h"
#include "tell.h"
#include "tunnel.h"

INDEX(listener_index, 4096);
MAPPED(listeners, struct listener_row, 4096);
/* Mapped for its alignment: a bucket is one cache line. */
MAPPED(gateway_flows_2, struct gateway_bucket, 32768);
MAPPED(gateway_flows6_2, struct gateway_bucket6, 32768);

/* What a flow table knows of one flow, copied out of its slot. */
struct found {
	struct gateway_flow *slot;
	__u32 seq;
	__u32 revision;
	__u32 target;
	__u32 counter;
	__u32 seen;
};

/* listener_on gives the listener whose first port is the one given. */
INLINE struct listener *listener_on(const struct packet *p, __u16 port, __u32 revision, const int family)
{
	__u64 hash = place_addr(&p->dst, (__u32)p->proto << 16 | port, family);
	__u32 i = row_of(listener_index, hash) - 1;
	struct listener_row *row = bpf_map_lookup_elem(&listeners, &i);
	if (!row || !is_key(&row->key.addr, &p->dst, family) || row->key.port != port || row->key.proto != p->proto)
		return 0;
	int n = newest(row, revision);
	struct listener *l = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return l && l->present ? l : 0;
}

/* find_listener gives the listener of the very port, else the one that has it
 * among several. */
INLINE struct listener *find_listener(const struct packet *p, __u32 revision, const int family)
{
	struct listener *l = listener_on(p, p->dst_port, revision, family);
	if (l || port_of(p) == 0)
		return l;
	struct vip *v = vip_at(&p->dst, revision, family);
	__u32 first = v && v->ranges ? range_of(v->ranges, (__u32)p->proto << 16 | p->dst_port) : 0;
	return first ? listener_on(p, first, revision, family) : 0;
}

INLINE __u64 flow_hash(const struct packet *p, __u32 listener, const int family)
{
	__u64 client = family == 4 ? (__u64)p->src.w[0] << 32 : folded(&p->src, 6);
	return mix(((client | ((__u64)p->src_port << 16) | p->dst_port) + listener * 0x9e3779b97f4a7c15ull) ^ hash_key);
}

/* One comparison instead of four: each branch doubles what the verifier has to walk. */
INLINE int same_flow(const struct gateway_flow *s, const struct packet *p, __u32 listener, const int family)
{
	const struct gateway_flow6 *wide = (const void *)s;
	__u32 d = (__u32)(s->client_port ^ p->src_port) | (__u32)(s->port ^ p->dst_port) | (s->listener ^ listener);
	return !(d | differs(&p->src, s->client, wide->client, family));
}

INLINE int look(struct gateway_flow *s, const struct packet *p, __u32 listener, struct found *f, const int family)
{
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	if (!seq || seq & 1 || !same_flow(s, p, listener, family))
		return 0;
	f->seq = seq;
	f->revision = s->revision;
	f->target = s->target;
	f->counter = s->counter;
	f->seen = s->seen;
	if (!unchanged(&s->seq, seq))
		return 0;
	f->slot = s;
	return 1;
}

/* A bucket of two slots of either family's table. */
INLINE void *bucket(__u32 i, const int family)
{
	i &= flow_mask;
	if (family == 4)
		return bpf_map_lookup_elem(&gateway_flows_2, &i);
	return bpf_map_lookup_elem(&gateway_flows6_2, &i);
}

/* slot gives one of a bucket's slots: what both families' begin with. */
INLINE struct gateway_flow *slot(void *bucket, int n, const int family)
{
	return bucket + n * (family == 4 ? sizeof(struct gateway_flow) : sizeof(struct gateway_flow6));
}

/* vacant says that a bucket still has a slot that was never used. It stays so
 * until the slot is taken for good, so no flow whose first bucket this is has
 * ever had to stand in its second. */
INLINE int vacant(void *b, const int family) { return !READ_ONCE(slot(b, 0, family)->seq) || !READ_ONCE(slot(b, 1, family)->seq); }

INLINE int find_flow(const struct packet *p, __u32 listener, __u64 hash, struct found *f, const int family)
{
	void *a = bucket((__u32)hash, family), *b = bucket((__u32)(hash >> 32), family);
	f->slot = 0;
	if (!a || !b)
		return 0;
	if (look(slot(a, 0, family), p, listener, f, family) || look(slot(a, 1, family), p, listener, f, family))
		return 1;
	return !vacant(a, family) && (look(slot(b, 0, family), p, listener, f, family) || look(slot(b, 1, family), p, listener, f, family));
}

/* age makes the slot that is best to overwrite the greatest: never used, then
 * longest unseen. The listener's own flows and those that have ended count as 64
 * units older than they are, so that one which is flooded takes its own places
 * and not those of others that are in use. All count as AHEAD older, since another
 * CPU's clock may be ahead of ours. */
enum { AHEAD = 64 };
INLINE __u32 age(const struct gateway_flow *s, __u32 now, __u32 listener)
{
	__u32 cheap = (s->listener == listener) | s->seen >> 31;
	return !s->seq ? ~0u : now + AHEAD - (s->seen & ~(SEEN_CLOSING | SEEN_UNSURE)) + (cheap << 6);
}

INLINE struct gateway_flow *victim(__u64 hash, __u32 now, __u32 listener, const int family)
{
	void *a = bucket((__u32)hash, family), *b = bucket((__u32)(hash >> 32), family);
	if (!a || !b)
		return 0;
	struct gateway_flow *best = slot(a, 0, family);
	if (age(slot(a, 1, family), now, listener) > age(best, now, listener))
		best = slot(a, 1, family);
	if (!best->seq)
		return best;
	if (age(slot(b, 0, family), now, listener) > age(best, now, listener))
		best = slot(b, 0, family);
	if (age(slot(b, 1, family), now, listener) > age(best, now, listener))
		best = slot(b, 1, family);
	return best;
}

/* remember writes the flow into its slot. Failing to is harmless: the next
 * packet is judged again and the ring gives the same target. */
INLINE void remember(struct gateway_flow *s, const struct packet *p, __u32 listener, __u32 revision, __u32 target, __u32 counter, __u32 seen, const int family)
{
	struct gateway_flow6 *wide = (void *)s;
	__u32 seq = READ_ONCE(s->seq);
	if (!claim(&s->seq, seq))
		return;
	keep_addr(&s->client, wide->client, &p->src, family);
	s->client_port = p->src_port;
	s->port = p->dst_port;
	s->listener = listener;
	s->revision = revision;
	s->target = target;
	s->counter = counter;
	s->seen = seen;
	publish(&s->seq);
}

/* forget empties the slot of a refused flow: a refused packet leaves no entry. */
INLINE void forget(struct found *f)
{
	if (!f->slot || !claim(&f->slot->seq, f->seq))
		return;
	f->slot->listener = 0;
	f->slot->client = 0;
	f->slot->seen = 0;
	publish(&f->slot->seq);
}

/* judge_gate1 judges by the policy of a listener or VIP. It fills the verdict
 * and says whether to go on. */
INLINE int judge_gate1(const struct packet *p, __u32 policy, __u32 implicit, struct verdict *v, const int family)
{
	if (!policy) {
		v->reason = REASON_NO_GROUPS;
		v->counter = 0;
		return 1;
	}
	__u64 rule = judge(policy, &p->src, (__u32)p->proto << 16 | port_of(p), family);
	v->reason = told_as(rule);
	v->counter = rule ? (__u32)rule : implicit;
	return accepts(rule);
}

INLINE int judge_client(const struct packet *p, const struct listener *l, struct verdict *v, const int family)
{
	return judge_gate1(p, l->policy, l->implicit, v, family);
}

/* What is to be done with a packet that arrived. */
enum outcome {
	OUTCOME_STACK,  /* not ours to judge: the gateway's own traffic */
	OUTCOME_DROP,   /* v->reason says why; not booked yet */
	OUTCOME_LOCAL,  /* layer 7: deliver to the proxy */
	OUTCOME_TUNNEL, /* send to the host of v->target */
	OUTCOME_ICMP,   /* to a VIP: what of it has a meaning is done by echo.h */
	OUTCOME_SIZE,   /* does not fit into the tunnel: not booked yet */
	OUTCOME_LATER,  /* accepted, but this hook cannot finish it: nothing was booked */
};

INLINE enum outcome because(struct verdict *v, __u8 reason)
{
	v->reason = reason;
	return OUTCOME_DROP;
}

/* beside gives the other one of the two that choose gave. */
INLINE __u32 beside(__u64 choice, __u32 target) { return (__u32)choice == target ? choice >> 32 : (__u32)choice; }

/* find_hop finds the way to the flow's target, which it keeps while that exists. */
INLINE enum outcome find_hop(const struct listener *l, const struct found *f, const struct packet *p, int tracked, __u64 hash, struct verdict *v, struct hop *hop, const int family)
{
	struct target_row *row = 0;
	struct target *t = 0;
	__u32 target = 0;
	if (tracked && f->target && (row = find_target_row(target = f->target)))
		t = target_at(row, v->revision);
	if (t && f->seen & SEEN_UNSURE && !begins(p)) {
		hop->second = beside(choose(p, l, v->revision, family), target);
	} else if (!t) {
		__u64 choice = choose(p, l, v->revision, family);
		target = (__u32)choice;
		hop->second = choice >> 32;
		if (target && (row = find_target_row(target)))
			t = target_at(row, v->revision);
	}
	if (!t || !row)
		return because(v, nobody(l, target));
	hop->flow = (__u32)(hash >> 32);
	hop->revision = v->revision;
	hop->target = target;
	hop->to = peer_at(row->peer, &t->host);
	if (!hop->to)
		return because(v, REASON_UNKNOWN_TARGET);
	hop->peer = peer_of(hop->to);
	v->target = target;
	return OUTCOME_TUNNEL;
}

/* admit judges the packet unless that was done, and chooses its flow's target.
 * Without skb it is the hook before the stack that asks: it takes only what it
 * can send straight out, and leaves the rest to the other hook unbooked. */
INLINE enum outcome admit(struct __sk_buff *skb, const struct packet *p, __u32 length, const struct listener *l, struct verdict *v, struct hop *hop, __u64 hash, struct found *f, int judged, const int family)
{
	__u32 now = units(v->now);
	int tracked = f->slot && !(f->seen & SEEN_CLOSING && begins(p));
	int current = tracked && f->revision == v->revision;
	/* Judged by the very rules of now, or by others that were to let it be. */
	int held = tracked && !judged && f->revision < v->revision && f->revision >= l->judged;
	int layer7 = l->flags & LISTENER_LAYER7;
	if (current | held) {
		v->counter = f->counter;
		v->reason = REASON_ESTABLISHED;
	} else if (!judged && !judge_client(p, l, v, family)) {
		forget(f);
		return OUTCOME_DROP;
	}
	if (!skb && layer7)
		return OUTCOME_LATER;
	if (!layer7) {
		enum outcome o = find_hop(l, f, p, tracked, hash, v, hop, family);
		if (o != OUTCOME_TUNNEL)
			return o;
		/* Not every device takes frames that another one's early hook redirects to it. */
		if (!skb && (hop->peer->ifindex != uplink || hop->peer->family != 4 || !fits(0, p, length - ETH_HLEN, hop->to, now)))
			return OUTCOME_LATER;
		if (skb && !fits(skb, p, skb->len - p->l3, hop->to, now))
			return OUTCOME_SIZE;
	}
	__u32 target = v->target;
	__u32 seen = now | (f->seen & SEEN_CLOSING);
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		seen |= SEEN_CLOSING;
	else if (!tracked)
		seen = now;
	if (hop->second)
		seen |= SEEN_UNSURE;
	if (!current | (target != f->target) | (seen != f->seen)) {
		struct gateway_flow *place = f->slot ? f->slot : victim(hash, now, l->num, family);
		if (place)
			remember(place, p, l->num, v->revision, target, v->counter, seen, family);
	}
	if (l->flags & LISTENER_LEAST && opens(p) && !(tracked && target == f->target))
		weigh(target, v->revision);
	admitted(p, v, length, !tracked);
	return layer7 ? OUTCOME_LOCAL : OUTCOME_TUNNEL;
}

/* strange says why a packet that has no flow at this revision is not looked at
 * further, or that it is none of ours. */
INLINE enum outcome strange(const struct packet *p, const struct listener *l, struct verdict *v, const int family)
{
	if (is_vip(&p->src, v->revision, family))
		return because(v, REASON_SPOOFED);
	if (!l && !is_vip(&p->dst, v->revision, family))
		return OUTCOME_STACK;
	/* From an address of ours a client would be taken for our prober, or the gateway itself. */
	if (ours(&p->src, family) || is_own(&p->src, family))
		return because(v, REASON_SPOOFED);
	if (p->fragment == FRAGMENT_STRAY)
		return because(v, REASON_FRAGMENT);
	if (p->proto == icmp_of(family)) /* whoever answers an echo needs it whole */
		return p->fragment ? because(v, REASON_FRAGMENT) : OUTCOME_ICMP;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		return because(v, REASON_UNSUPPORTED);
	return l ? OUTCOME_TUNNEL : because(v, REASON_NO_LISTENER);
}

/* receive says what becomes of a packet from outside the tunnel; skb is as for
 * admit. */
INLINE enum outcome receive(struct __sk_buff *skb, const struct packet *p, __u32 length, struct verdict *v, struct hop *hop, const int family)
{
	struct listener *l = p->fragment == FRAGMENT_STRAY ? 0 : find_listener(p, v->revision, family);
	struct found f = {};
	__u64 hash = 0;
	/* A connection that is not to be costs no look into the table. */
	int judged = l && begins(p);
	if (judged) {
		enum outcome o = strange(p, l, v, family);
		if (o != OUTCOME_TUNNEL)
			return o;
		v->listener = l->num;
		if (!judge_client(p, l, v, family))
			return OUTCOME_DROP;
	}
	if (l) {
		hash = flow_hash(p, l->num, family);
		find_flow(p, l->num, hash, &f, family);
	}
	/* Who came in at this revision was looked at then. */
	if (!judged && (!f.slot || f.revision != v->revision)) {
		enum outcome o = strange(p, l, v, family);
		if (o != OUTCOME_TUNNEL)
			return o;
	}
	if (!l)
		return OUTCOME_STACK;
	v->listener = l->num;
	return admit(skb, p, length, l, v, hop, hash, &f, judged, family);
}
