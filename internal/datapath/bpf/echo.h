/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP to a VIP: the gateway answers echoes itself, and passes errors about
 * answers on to the host that sent these. Nothing else has a meaning there. */
#pragma once
#include "gateway.h"
#include "mtu.h"
#include "quote.h"

/* What echoes are kept by in the flow table, beside the balancer's number. It is
 * only to tell of each once; who may is judged each time. */
#define ECHO_FLOW (1u << 30)

enum { ICMP_TTL = 64 };

/* remember_echo says whether the echo is the first of its kind that was seen. */
INLINE int remember_echo(const struct packet *p, __u32 kind, const struct verdict *v, const int family)
{
	struct found f = {};
	__u64 hash = flow_hash(p, kind, family);
	__u32 now = units(v->now);
	int known = find_flow(p, kind, hash, &f, family);
	struct gateway_flow *place = f.slot ? f.slot : victim(hash, now, kind, family);
	if (place && (!known || f.seen != now))
		remember(place, p, kind, v->revision, 0, v->counter, now, family);
	return !known;
}

/* make_reply turns an echo request into its reply. */
INLINE int make_reply(struct __sk_buff *skb, const struct packet *p, const int family)
{
	__be16 was = htons(echo_of(family) << 8), now = htons(echoreply_of(family) << 8);
	__u8 type = echoreply_of(family), ttl = ICMP_TTL;
	/* Source and destination change places, which no sum shows. */
	if (bpf_skb_store_bytes(skb, p->l3 + addr_at(family, 1), &p->dst, family == 4 ? 4 : 16, 0) ||
	    bpf_skb_store_bytes(skb, p->l3 + addr_at(family, 0), &p->src, family == 4 ? 4 : 16, 0))
		return -1;
	if (bpf_l4_csum_replace(skb, p->l4 + 2, was, now, 2) || bpf_skb_store_bytes(skb, p->l4, &type, 1, 0))
		return -1;
	if (family == 4) {
		__u8 old[2];
		if (bpf_skb_load_bytes(skb, p->l3 + offsetof(struct iphdr, ttl), old, 2) ||
		    bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), htons(old[0] << 8), htons(ICMP_TTL << 8), 2))
			return -1;
	}
	return bpf_skb_store_bytes(skb, p->l3 + (family == 4 ? offsetof(struct iphdr, ttl) : offsetof(struct ipv6hdr, hop_limit)), &ttl, 1, 0) ||
	       turn_back(skb) ? -1 : 0;
}

/* echo answers whom gate 1 lets ping the VIP. */
INLINE int echo(struct __sk_buff *skb, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	__u8 to = 0;
	if (see(skb, &p, &v, family) <= 0)
		return drop(skb, &p, &v, REASON_MALFORMED);
	struct vip *vip = vip_at(&p.dst, v.revision, family);
	/* Who asks everybody at once would be answered by every gateway. */
	if (!vip || bpf_skb_load_bytes(skb, 0, &to, 1) || to & 1)
		return drop(skb, &p, &v, REASON_UNSUPPORTED);
	if (!judge_gate1(&p, vip->policy, vip->implicit, &v, family))
		return drop(skb, &p, &v, v.reason);
	if (make_reply(skb, &p, family))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	admitted(&p, &v, skb->len, remember_echo(&p, vip->balancer | ECHO_FLOW, &v, family));
	return bpf_redirect(skb->ifindex, 0);
}

__attribute__((noinline)) int echo4(struct __sk_buff *skb) { return echo(skb, 4); }
__attribute__((noinline)) int echo6(struct __sk_buff *skb) { return echo(skb, 6); }

/* relate finds where an error about an answer of a VIP's goes: to the target of
 * the flow that the answer was of, as admit finds it. */
INLINE enum outcome relate(struct __sk_buff *skb, const struct packet *p, struct verdict *v, struct hop *hop, const int family)
{
	struct packet q, asked;
	struct found f = {};
	if (!quoted(skb, p, &q, family) || !is_same(&q.src, &p->dst, family))
		return because(v, REASON_UNRELATED);
	answering(&q, &asked, family);
	struct listener *l = find_listener(&asked, v->revision, family);
	if (!l)
		return because(v, REASON_UNRELATED);
	v->listener = l->num;
	__u64 hash = flow_hash(&asked, l->num, family);
	int tracked = find_flow(&asked, l->num, hash, &f, family);
	if (tracked && f.revision == v->revision)
		v->counter = f.counter;
	else if (!judge_client(&asked, l, v, family))
		return OUTCOME_DROP;
	v->reason = REASON_ESTABLISHED;
	if (l->flags & LISTENER_LAYER7)
		return tracked ? OUTCOME_LOCAL : because(v, REASON_UNRELATED);
	return find_hop(l, &f, &asked, tracked, hash, v, hop, family);
}

/* error passes an error on to the host of the flow that it is about, or to the
 * gateway's own proxy. Whether there is such a flow, the host knows for certain. */
INLINE int error(struct __sk_buff *skb, const int family)
{
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .direction = DIRECTION_IN };
	if (see(skb, &p, &v, family) <= 0)
		return drop(skb, &p, &v, REASON_MALFORMED);
	enum outcome o = relate(skb, &p, &v, &hop, family);
	if (o == OUTCOME_DROP)
		return drop(skb, &p, &v, v.reason);
	admitted(&p, &v, skb->len, 0);
	if (o == OUTCOME_TUNNEL)
		return send(skb, &p, &hop, &v, family);
	skb->mark = mark_local;
	return TCX_NEXT;
}

__attribute__((noinline)) int error4(struct __sk_buff *skb) { return error(skb, 4); }
__attribute__((noinline)) int error6(struct __sk_buff *skb) { return error(skb, 6); }

/* refuse_size tells a client what fits into the tunnel: the packet's cb[3]; or, of
 * what goes out, the proxy's own stack. */
INLINE int refuse_size(struct __sk_buff *skb, __u32 listener, __u32 target, __u32 direction, const int family)
{
	struct packet p;
	struct verdict v = { .direction = direction };
	if (see(skb, &p, &v, family) <= 0)
		return drop(skb, &p, &v, REASON_MALFORMED);
	__u32 length = skb->len;
	v.listener = listener;
	v.target = target;
	if ((family == 4 ? too_big4(skb, &p, skb->cb[3]) : too_big6(skb, &p, skb->cb[3])) || turn_back(skb))
		return drop(skb, &p, &v, REASON_TOO_BIG);
	refused(&p, &v, REASON_TOO_BIG, length);
	if (direction == DIRECTION_OUT)
		skb->mark = mark_local; /* its socket has a client's address */
	return bpf_redirect(skb->ifindex, direction == DIRECTION_OUT ? BPF_F_INGRESS : 0);
}

__attribute__((noinline)) int refuse_size4(struct __sk_buff *skb, __u32 listener, __u32 target, __u32 direction)
{
	return refuse_size(skb, listener, target, direction, 4);
}

__attribute__((noinline)) int refuse_size6(struct __sk_buff *skb, __u32 listener, __u32 target, __u32 direction)
{
	return refuse_size(skb, listener, target, direction, 6);
}
