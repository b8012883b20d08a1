/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets that do not fit into the tunnel: their sender is told what would. */
#pragma once
#include "packet.h"
#include "tell.h"

/* How much of a packet is quoted. One that is too big is longer. */
enum { QUOTE4 = 68, QUOTE6 = 128 };

/* wire_length is the length of the longest packet that skb becomes on a wire. */
INLINE __u32 wire_length(const struct __sk_buff *skb, const struct packet *p)
{
	return skb->gso_size ? p->l4 - p->l3 + (p->proto == IPPROTO_TCP ? p->tcp_header : 8) + skb->gso_size : skb->len - p->l3;
}

/* room_to is tunnel_room for the way to one node, where a link may be narrower. */
INLINE __u32 room_to(const struct peer_row *to, __u32 now)
{
	__u32 told = READ_ONCE(to->room), most = tunnel_room();
	return told && told < most && (__s32)(READ_ONCE(to->room_until) - now) > 0 ? told : most;
}

enum { LEAST_ROOM = 576 - 60 }; /* no way is believed to have less */

/* fits says that a packet of length bytes goes into the tunnel whole, also when
 * it was put together from several. */
INLINE int fits(const struct __sk_buff *skb, const struct packet *p, __u32 length, const struct peer_row *to, __u32 now)
{
	if (length <= LEAST_ROOM)
		return 1;
	__u32 room = room_to(to, now);
	return length <= room || (skb && wire_length(skb, p) <= room);
}

/* An error of each family, in front of what it quotes. */
struct error4 {
	struct iphdr ip;
	__u8 type, code;
	__u16 check;
	__be32 mtu; /* the low half */
	__u8 quote[QUOTE4];
};

struct error6 {
	struct ipv6hdr ip;
	__u8 type, code;
	__u16 check;
	__be32 mtu;
	__u8 quote[QUOTE6];
};

/* sum_of gives the Internet checksum of size bytes, a multiple of 4. */
INLINE __u16 sum_of(void *from, __u32 size)
{
	__s64 sum = bpf_csum_diff(0, 0, from, size, 0);
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	return ~((sum & 0xffff) + (sum >> 16));
}

/* settle_sum cuts the packet to its quote, for which no checksum may be owed.
 * Where the kernel still owes the transport's (CHECKSUM_PARTIAL) it refuses to
 * cut in front of that, and would write it later, into the middle of the quote.
 * Then the quote gets the one sum that such a write leaves as it is: with s the
 * sum of the rest, x = ~(s + x), so 2x = ~s modulo 65,535. */
INLINE int settle_sum(struct __sk_buff *skb, const struct packet *p, __u8 *quote, __u32 quoted, const int family)
{
	const __u32 header = family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	int tcp = p->proto == IPPROTO_TCP;
	if (!bpf_skb_change_tail(skb, p->l4 + (tcp ? 16 : 6), 0))
		return bpf_skb_change_tail(skb, p->l3 + quoted, 0) ? -1 : 0;
	if (bpf_skb_change_tail(skb, p->l3 + quoted, 0) || p->l4 - p->l3 != header)
		return -1;
	__u16 x = 0;
	__builtin_memcpy(quote + header + (tcp ? 16 : 6), &x, 2);
	x = (__u32)sum_of(quote + header, quoted - header) * 32768 % 65535;
	__builtin_memcpy(quote + header + (tcp ? 16 : 6), &x, 2);
	return 0;
}

/* turn_back sends the frame back where it came from. */
INLINE int turn_back(struct __sk_buff *skb)
{
	struct ethhdr eth, back;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)))
		return -1;
	__builtin_memcpy(back.dst, eth.src, 6);
	__builtin_memcpy(back.src, eth.dst, 6);
	back.proto = eth.proto;
	return bpf_skb_store_bytes(skb, 0, &back, sizeof(back), 0) ? -1 : 0;
}

/* too_big makes of a packet the error that says it is too big, from the address
 * that it was for, and what room there is. It gives 0 when that is done. */
INLINE int too_big4(struct __sk_buff *skb, const struct packet *p, __u32 room)
{
	struct error4 e = {};
	if (bpf_skb_load_bytes(skb, p->l3, e.quote, sizeof(e.quote)) || settle_sum(skb, p, e.quote, sizeof(e.quote), 4))
		return -1;
	if (bpf_skb_adjust_room(skb, offsetof(struct error4, quote), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	e.ip.ver_ihl = 0x45;
	e.ip.tot_len = htons(sizeof(e));
	e.ip.ttl = 64;
	e.ip.protocol = IPPROTO_ICMP;
	e.ip.saddr = p->dst.w[0];
	e.ip.daddr = p->src.w[0];
	e.ip.check = sum_of(&e.ip, sizeof(e.ip));
	e.type = ICMP_UNREACHABLE;
	e.code = ICMP_FRAGMENTATION_NEEDED;
	e.mtu = htonl(room);
	e.check = sum_of(&e.type, sizeof(e) - sizeof(e.ip));
	return bpf_skb_store_bytes(skb, p->l3, &e, sizeof(e), 0) ? -1 : 0;
}

INLINE int too_big6(struct __sk_buff *skb, const struct packet *p, __u32 room)
{
	struct error6 e = {};
	if (bpf_skb_load_bytes(skb, p->l3, e.quote, sizeof(e.quote)) || settle_sum(skb, p, e.quote, sizeof(e.quote), 6))
		return -1;
	if (bpf_skb_adjust_room(skb, offsetof(struct error6, quote), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	/* First as the pseudo header, which is summed with the message. */
	__builtin_memcpy(e.ip.saddr, &p->dst, sizeof(p->dst));
	__builtin_memcpy(e.ip.daddr, &p->src, sizeof(p->src));
	e.ip.flow = htonl(sizeof(e) - sizeof(e.ip));
	e.ip.payload_len = 0;
	e.ip.nexthdr = 0;
	e.ip.hop_limit = IPPROTO_ICMPV6;
	e.type = ICMPV6_TOO_BIG;
	e.mtu = htonl(room);
	e.check = sum_of(&e, sizeof(e));
	e.ip.flow = htonl(0x60000000);
	e.ip.payload_len = htons(sizeof(e) - sizeof(e.ip));
	e.ip.nexthdr = IPPROTO_ICMPV6;
	e.ip.hop_limit = 64;
	return bpf_skb_store_bytes(skb, p->l3, &e, sizeof(e), 0) ? -1 : 0;
}
