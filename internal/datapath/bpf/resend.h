/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The gateway's part in finding the host that knows a flow: see elsewhere.h. */
#pragma once
#include "gateway.h"

/* sent_back says that a packet out of a host's tunnel is a client's that the host
 * did not know what to do with. */
INLINE int sent_back(const struct target *t, const struct packet *p, const int family)
{
	return p->proto == IPPROTO_TCP && t->proto == IPPROTO_TCP && !begins(p) && within(p->dst_port, t->vport, t->span) &&
	       (is_key(&t->vip, &p->dst, family) || is_key(&t->eip, &p->dst, family));
}

/* error_back says the same of an ICMP error about an answer as from the VIP. */
INLINE int error_back(struct __sk_buff *skb, const struct target *t, const struct packet *p, const int family)
{
	struct packet q;
	return p->error && t->proto == IPPROTO_TCP && quoted(skb, p, &q, family) && q.proto == IPPROTO_TCP && is_same(&q.src, &p->dst, family) &&
	       within(q.src_port, t->vport, t->span) && (is_key(&t->vip, &q.src, family) || is_key(&t->eip, &q.src, family));
}

/* asked_first says that this gateway would have asked a target of the host's first,
 * and this one then. */
INLINE int asked_first(__u64 choice, __u32 target, const struct addr *host, __u32 revision)
{
	__u32 first = beside(choice, target);
	struct target *asked = first && beside(choice, first) == target ? find_target(first, revision) : 0;
	return asked && is_same(&asked->host, host, 6);
}

/* resend sends such a packet to the second target of its flow, for good: never
 * anywhere else than this gateway would have it, nor for a host that it would not
 * have asked first, nor past gate 1. */
INLINE int resend(struct __sk_buff *skb, __u32 target, __u32 host, const int family)
{
	struct packet p;
	struct hop hop = {};
	struct found f = {};
	struct verdict v = { .direction = DIRECTION_IN, .target = target };
	struct peer_row *from = bpf_map_lookup_elem(&peers, &host);
	if (see(skb, &p, &v, family) <= 0 || !from)
		return drop(skb, &p, &v, REASON_MALFORMED);
	struct listener *l = find_listener(&p, v.revision, family);
	if (!l || l->flags & LISTENER_LAYER7)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	v.listener = l->num;
	if (!asked_first(choose(&p, l, v.revision, family), target, &from->key, v.revision))
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	__u64 hash = flow_hash(&p, l->num, family);
	if (find_flow(&p, l->num, hash, &f, family) && f.revision == v.revision) {
		v.counter = f.counter;
	} else if (!judge_client(&p, l, &v, family)) {
		forget(&f);
		return drop(skb, &p, &v, v.reason);
	}
	__u32 now = units(v.now), closing = (f.slot ? f.seen & SEEN_CLOSING : 0) | (p.tcp_flags & (TCP_FIN | TCP_RST) ? SEEN_CLOSING : 0);
	f.target = target;
	f.seen = 0; /* sure now */
	if (find_hop(l, &f, &p, 1, hash, &v, &hop, family) != OUTCOME_TUNNEL)
		return drop(skb, &p, &v, v.reason);
	hop.second = 0;
	struct gateway_flow *place = f.slot ? f.slot : victim(hash, now, l->num, family);
	if (place)
		remember(place, &p, l->num, v.revision, hop.target, v.counter, now | closing, family);
	count_reason(REASON_PASSED_ON);
	return send(skb, &p, &hop, &v, family);
}

__attribute__((noinline)) int resend4(struct __sk_buff *skb, __u32 target, __u32 host) { return resend(skb, target, host, 4); }
__attribute__((noinline)) int resend6(struct __sk_buff *skb, __u32 target, __u32 host) { return resend(skb, target, host, 6); }

/* resend_error does so with an error, which is judged as what it is about. It
 * leaves no trace: whether the second target knows the flow, its host knows. */
INLINE int resend_error(struct __sk_buff *skb, __u32 target, __u32 host, const int family)
{
	struct packet p, q, asked;
	struct hop hop = {};
	struct found f = { .target = target };
	struct verdict v = { .direction = DIRECTION_IN, .target = target };
	struct peer_row *from = bpf_map_lookup_elem(&peers, &host);
	if (see(skb, &p, &v, family) <= 0 || !from)
		return drop(skb, &p, &v, REASON_MALFORMED);
	if (!quoted(skb, &p, &q, family))
		return drop(skb, &p, &v, REASON_UNRELATED);
	answering(&q, &asked, family);
	struct listener *l = find_listener(&asked, v.revision, family);
	if (!l || l->flags & LISTENER_LAYER7)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	v.listener = l->num;
	if (!asked_first(choose(&asked, l, v.revision, family), target, &from->key, v.revision))
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	if (!judge_client(&asked, l, &v, family) || find_hop(l, &f, &asked, 1, flow_hash(&asked, l->num, family), &v, &hop, family) != OUTCOME_TUNNEL)
		return drop(skb, &p, &v, v.reason);
	hop.second = 0;
	count_reason(REASON_PASSED_ON);
	return send(skb, &p, &hop, &v, family);
}

__attribute__((noinline)) int resend_error4(struct __sk_buff *skb, __u32 target, __u32 host) { return resend_error(skb, target, host, 4); }
__attribute__((noinline)) int resend_error6(struct __sk_buff *skb, __u32 target, __u32 host) { return resend_error(skb, target, host, 6); }
