/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Devices whose packets have no Ethernet header: tun, WireGuard, IP in IP, PPP.
 * The loader loads the host's programs once more for them, as bare. Everything
 * about Ethernet is left out there, unless a packet goes on into a frame. */
#pragma once
#include "packet.h"

volatile const __u8 bare;

enum { NOWHERE = 0xffff };

/* begins_at says where a bare device's packet begins, which is where the kernel
 * says that it does: at once, or behind the frame in which the packet came that
 * it was taken out of (IPsec's). GRE without a fixed other end has its own header
 * there, which nobody here reads: NOWHERE. So is a packet that repeats itself. */
__attribute__((noinline)) __u32 begins_at(struct __sk_buff *skb, __u32 direction)
{
	__u64 said[2], first[2], framed[2];
	if (bpf_skb_load_bytes_relative(skb, 0, said, sizeof(said), BPF_HDR_START_NET) || bpf_skb_load_bytes(skb, 0, first, sizeof(first)))
		return NOWHERE;
	int is_first = first[0] == said[0] && first[1] == said[1];
	int is_framed = direction == DIRECTION_IN && !bpf_skb_load_bytes(skb, ETH_HLEN, framed, sizeof(framed)) && framed[0] == said[0] && framed[1] == said[1];
	return is_first == is_framed ? NOWHERE : is_first ? 0 : ETH_HLEN;
}

/* starts says the same of a packet that comes in, on any device. */
INLINE __u32 starts(struct __sk_buff *skb) { return bare ? begins_at(skb, DIRECTION_IN) : ETH_HLEN; }

/* read_packet reads the packet of a family, with its frame or bare. */
INLINE enum parsed read_packet(struct __sk_buff *skb, struct packet *p, __u8 direction, const int family)
{
	if (!bare)
		return parse_packet(skb, ETH_HLEN, p, family);
	__u32 at = begins_at(skb, direction);
	return at == NOWHERE ? BROKEN : parse_rare(skb, at, p, family);
}

/* into_frame puts room for a frame's header before a packet that has none, so
 * that it can leave by another device. */
INLINE int into_frame(struct __sk_buff *skb, const struct packet *p)
{
	return bare && !p->l3 && bpf_skb_change_head(skb, ETH_HLEN, 0) ? -1 : 0;
}

/* frame_for makes it a frame to a guest of this machine. Its sender, who has no
 * address, gets one that is nobody's. */
INLINE int frame_for(struct __sk_buff *skb, const __u8 *mac)
{
	struct ethhdr eth = { .src = { 2 }, .proto = skb->protocol };
	__builtin_memcpy(eth.dst, mac, 6);
	__u32 at = starts(skb);
	if (at == NOWHERE || (!at && bpf_skb_change_head(skb, ETH_HLEN, 0)))
		return -1;
	return bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) ? -1 : 0;
}
