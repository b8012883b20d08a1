/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Flows of one client's port that come to the same service: over two VIPs, say,
 * or over one and directly. The instance's stack tells flows apart by addresses
 * and ports alone, so of all but the first the host changes the client's port,
 * never its address. Rules, verdicts and listings know the client's own. */
#pragma once
#include "quote.h"
#include "track.h"

/* Where moved flows' ports are: neither a service's nor, with most clients, one
 * that they take themselves. */
enum { PORTS_TRIED = 4, MOVED_FIRST = 1024, MOVED_PORTS = 32768 - MOVED_FIRST };

ARRAY(moved_at, __u32, 1); /* when a moved flow last had a packet, in units; 0: none ever had */

INLINE int has_ports(__u32 proto) { return proto == IPPROTO_TCP || proto == IPPROTO_UDP; }

/* is_direct says that a flow is what its tuple says, without any translation. */
INLINE int is_direct(const struct known *was) { return !(was->flags & (FLOW_TUNNELLED | FLOW_MOVED)); }

/* dialled_so says that a flow came through the tunnel to this address and port;
 * vip 0: that it came directly. */
INLINE int dialled_so(const struct known *was, const struct addr *vip, __u16 vport, const int family)
{
	if (!vip)
		return !(was->flags & FLOW_TUNNELLED);
	return was->flags & FLOW_TUNNELLED && was->vport == vport && is_same(&was->vip, vip, family);
}

/* crosses says that an error about a direct flow may be about another one than was. */
INLINE int crosses(const struct known *was)
{
	return (was->flags & (FLOW_TUNNELLED | FLOW_VIA_GATEWAY)) == FLOW_TUNNELLED || was->flags & FLOW_MOVED;
}

/* may_be_moved says that a packet whose tuple is nobody's may still be of a moved
 * flow: the one that had its tuple may be gone. What begins has none. */
INLINE int may_be_moved(const struct packet *p, __u32 now)
{
	__u32 zero = 0, *at;
	if (p->fragment == FRAGMENT_STRAY || !has_ports(p->proto) || begins(p) || !(at = bpf_map_lookup_elem(&moved_at, &zero)))
		return 0;
	__u32 last = READ_ONCE(*at);
	return last && (__s32)(now - last) <= (__s32)life(FLOW_OPEN, p->proto);
}

/* What aside answers: that it looked, and for which port, above the number of a
 * peer's row. The other way to give it is 0: nobody looked yet. */
#define LOOKED (1u << 31)
enum { LOOKED_PORT = 12 };

INLINE __u16 port_looked(__u32 looked) { return looked >> LOOKED_PORT; }

/* its_own says that what was found under k's tuple is the flow of a packet from
 * port that dialled vip and vport, moved or not. */
INLINE int its_own(const struct track *k, __u16 port, const struct addr *vip, __u16 vport, const int family)
{
	return (k->was.flags & FLOW_MOVED ? k->was.client_port : k->t.remote_port) == port && dialled_so(&k->was, vip, vport, family);
}

/* yields says that a flow makes room for another of its tuple: what the instance
 * sent and nobody answered, and what has no ports. It does unless it is open. */
INLINE int yields(const struct track *k)
{
	return !has_ports(k->t.proto) || (is_direct(&k->was) & (k->was.state == FLOW_HALF) & (k->was.opener == DIRECTION_OUT));
}

/* search_aside looks for the flow that k names and that dialled vip and vport,
 * where its tuple is another's or nobody's. Its port is one of a few that its tuple
 * and a secret choose. It gives the port that it has; where it has none, one that
 * is free, or its own if that was nobody's; and its own if none is free. */
INLINE __u16 search_aside(struct track *k, const struct addr *vip, __u16 vport, __u32 now, const int family)
{
	__u16 port = k->t.remote_port;
	__u32 vacant = find(k, now, family) ? 0 : port;
	__u64 hash = mix(flow_hash(&k->t, family) ^ ((vip ? folded(vip, family) << 16 : 0) | vport));
	for (int i = 0; i < PORTS_TRIED; i++) {
		k->t.remote_port = MOVED_FIRST + (__u32)(hash >> i * 16 & 0xffff) % MOVED_PORTS;
		if (!find(k, now, family))
			vacant = vacant ? vacant : k->t.remote_port;
		else if (k->was.flags & FLOW_MOVED && its_own(k, port, vip, vport, family))
			return k->t.remote_port;
	}
	return vacant ? vacant : port;
}

/* note_move says in want that its flow has another port than its client. */
INLINE void note_move(const struct track *k, const struct packet *p, struct known *want)
{
	if (k->t.remote_port != p->src_port) {
		want->flags |= FLOW_MOVED;
		want->client_port = p->src_port;
	}
}

INLINE __u32 both_ports(__u16 was, __u16 now) { return (__u32)was << 16 | now; }

/* What change_port is to change: a source or a destination. */
enum { CHANGE_SOURCE = 1 << 8 };

/* change_port gives a moved flow's packet the client's port as its receiver
 * knows it. how is the protocol, and CHANGE_SOURCE. */
__attribute__((noinline)) int change_port(struct __sk_buff *skb, __u32 l4, __u32 how, __u32 ports, __u32 now)
{
	__u32 zero = 0, *at = bpf_map_lookup_elem(&moved_at, &zero);
	if (at && READ_ONCE(*at) != now)
		*at = now;
	__be16 was_port = htons(ports >> 16), now_port = htons(ports);
	int tcp = (how & 0xff) == IPPROTO_TCP;
	if (bpf_l4_csum_replace(skb, l4 + (tcp ? 16 : 6), was_port, now_port, (tcp ? 0 : BPF_F_MARK_MANGLED_0) | 2))
		return -1;
	return bpf_skb_store_bytes(skb, l4 + (how & CHANGE_SOURCE ? 0 : 2), &now_port, 2, 0) ? -1 : 0;
}

/* move_in gives the packet of a moved flow the port by which the instance knows
 * the client, and move_out the client's own again. Later fragments have none. */
INLINE int move_in(struct __sk_buff *skb, const struct packet *p, const struct track *k, __u32 now)
{
	return p->fragment == FRAGMENT_LATER ? 0 : change_port(skb, p->l4, p->proto | CHANGE_SOURCE, both_ports(p->src_port, k->t.remote_port), now);
}

INLINE int move_out(struct __sk_buff *skb, const struct packet *p, const struct track *k, __u32 now)
{
	return p->fragment == FRAGMENT_LATER ? 0 : change_port(skb, p->l4, p->proto, both_ports(k->t.remote_port, k->was.client_port), now);
}

/* change_quoted does the same in what an ICMP error quotes, at offset at, whose
 * own checksum is at offset sum. */
__attribute__((noinline)) int change_quoted(struct __sk_buff *skb, __u32 sum, __u32 at, __u32 ports)
{
	__be16 was_port = htons(ports >> 16), now_port = htons(ports);
	return bpf_l4_csum_replace(skb, sum, was_port, now_port, 2) || bpf_skb_store_bytes(skb, at, &now_port, 2, 0) ? -1 : 0;
}

/* requote_in has an error that reaches the instance quote what it sent to the
 * port that it knows; requote_out one that reaches the client what that sent. */
INLINE int requote_in(struct __sk_buff *skb, const struct packet *p, const struct packet *q, const struct track *k)
{
	return change_quoted(skb, p->l4 + 2, q->l4 + 2, both_ports(q->dst_port, k->t.remote_port));
}

INLINE int requote_out(struct __sk_buff *skb, const struct packet *p, const struct packet *q, const struct track *k)
{
	return change_quoted(skb, p->l4 + 2, q->l4, both_ports(k->t.remote_port, k->was.client_port));
}
