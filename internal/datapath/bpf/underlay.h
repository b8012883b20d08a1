/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What routers between the tunnel's ends say of it: that a packet of ours was too
 * big for the next link. Until the row forgets it, what is sent to that node has
 * to be smaller, and whoever sends more is told so. */
#pragma once
#include "index.h"
#include "mtu.h"
#include "quote.h"
#include "tunnel.h"

enum {
	ROOM_LIFE = 600,    /* units, about seconds: the way may change */
	LEAST_MTU4 = 576,   /* nothing smaller is believed */
	LEAST_MTU6 = 1280,
};

/* told_size gives the size that an error says would have gone on, 0 when it is
 * about something else. */
INLINE __u32 told_size(struct __sk_buff *skb, const struct packet *p, const int family)
{
	__u8 h[8];
	if (bpf_skb_load_bytes(skb, p->l4, h, sizeof(h)))
		return 0;
	if (family == 4)
		return h[0] == ICMP_UNREACHABLE && h[1] == ICMP_FRAGMENTATION_NEEDED ? h[6] << 8 | h[7] : 0;
	return h[0] == ICMPV6_TOO_BIG ? (__u32)h[4] << 24 | h[5] << 16 | h[6] << 8 | h[7] : 0;
}

/* believed gives the least size that is believed of an error about a packet to a
 * peer. One that quotes the key comes from somebody on the way. One that quotes
 * too little may be anybody's, and is not to keep packets out that every IPv6
 * sender may send. It gives 0 for one with a wrong key. */
INLINE __u32 believed(struct __sk_buff *skb, const struct packet *q, const struct peer *peer, const int family)
{
	__be32 key[2];
	if (bpf_skb_load_bytes(skb, q->l4 + offsetof(struct tunnel, key_high), key, sizeof(key)))
		return LEAST_MTU6 + (family == 4 ? sizeof(struct tunnel_header) : sizeof(struct tunnel_header6));
	__u64 said = (__u64)ntohl(key[0]) << 32 | ntohl(key[1]);
	return said && (said == peer->key[0] || said == peer->key[1]) ? family == 4 ? LEAST_MTU4 : LEAST_MTU6 : 0;
}

/* learn takes note of an error about a packet that this node has put into the
 * tunnel. It gives 0 when it is about none. */
INLINE int learn(struct __sk_buff *skb, __u32 l3, const int family)
{
	struct packet p, q;
	if (parse_rare(skb, l3, &p, family) != PARSED || !p.error || !is_own(&p.dst, family))
		return 0;
	__u32 size = told_size(skb, &p, family);
	if (!size || !quoted(skb, &p, &q, family) || q.proto != IPPROTO_UDP || q.dst_port != tunnel_port || q.src_port < TUNNEL_SOURCE || !is_own(&q.src, family))
		return 0;
	struct peer_row *to = find_peer(&q.dst, family);
	__u32 least = to ? believed(skb, &q, peer_of(to), family) : 0;
	if (!to || !least)
		return 0;
	__u32 now = units(now_ns()), room = size - (family == 4 ? sizeof(struct tunnel_header) : sizeof(struct tunnel_header6));
	if (size >= least && room < room_to(to, now)) {
		to->room = room;
		to->room_until = now + ROOM_LIFE;
	}
	return 1;
}

__attribute__((noinline)) int learn4(struct __sk_buff *skb, __u32 l3) { return learn(skb, l3, 4); }
__attribute__((noinline)) int learn6(struct __sk_buff *skb, __u32 l3) { return learn(skb, l3, 6); }
