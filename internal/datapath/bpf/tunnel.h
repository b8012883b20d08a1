/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The tunnel: Geneve over UDP with the inner IP packet untouched and one
 * option of ours. The receiver takes nothing from it but which of its own
 * rows to use and which revision to judge at. */
#pragma once
#include "index.h"
#include "mss.h"
#include "packet.h"

enum {
	OPTION_CLASS = 0xff53,
	OPTION_VERSION = 1,
	OPTION_WORDS = 5,
	GENEVE_OPTIONS = (4 + OPTION_WORDS * 4) / 4,
};

struct tunnel_header {
	struct iphdr ip;
	struct udphdr udp;
	__u8 opt_len; /* version 0, options in 4-byte words */
	__u8 flags;
	__be16 protocol;
	__be32 vni;
	__be16 option_class;
	__u8 option_type; /* OPTION_VERSION */
	__u8 option_len;
	__be32 revision;
	__be32 target;
	__be32 second; /* the previous ring's choice; 0: none */
	__be32 key_high;
	__be32 key_low;
};

_Static_assert(sizeof(struct tunnel_header) == 60, "the tunnel header has no padding");

/* flow_port hashes a packet's flow for the outer source port. */
INLINE __u32 flow_port(const struct packet *p)
{
	return (__u32)(mix((((__u64)p->src << 32 | p->dst) ^ hash_key) + (((__u32)p->src_port << 16 | p->dst_port) * 0x9e3779b97f4a7c15ull)) >> 32);
}

INLINE __u32 halves(__u32 x) { return (x & 0xffff) + (x >> 16); }

/* fill_header writes the tunnel's headers for inner bytes of packet. flow
 * becomes the outer source port, so that a flow stays on one path and queue. */
INLINE void fill_header(struct tunnel_header *h, __u32 inner, __be32 to, const struct peer *peer, __u32 flow, __u32 revision, __u32 target)
{
	__be16 length = htons(inner + sizeof(*h));
	__u32 sum = htons(0x4500) + length + htons(0x4000) + htons(64 << 8 | IPPROTO_UDP) + halves(own_address) + halves(to);
	h->ip.ver_ihl = 0x45;
	h->ip.tos = 0;
	h->ip.tot_len = length;
	h->ip.id = 0;
	h->ip.frag_off = htons(0x4000);
	h->ip.ttl = 64;
	h->ip.protocol = IPPROTO_UDP;
	h->ip.check = (__u16)~halves(halves(sum));
	h->ip.saddr = own_address;
	h->ip.daddr = to;
	h->udp.source = htons(0xc000 | (flow & 0x3fff));
	h->udp.dest = htons(tunnel_port);
	h->udp.len = htons(inner + sizeof(*h) - sizeof(h->ip));
	h->udp.check = 0;
	h->opt_len = GENEVE_OPTIONS;
	h->flags = 0;
	h->protocol = htons(ETH_P_IP);
	h->vni = 0;
	h->option_class = htons(OPTION_CLASS);
	h->option_type = OPTION_VERSION;
	h->option_len = OPTION_WORDS;
	h->revision = htonl(revision);
	h->target = htonl(target);
	h->second = 0;
	h->key_high = htonl((__u32)(peer->key[0] >> 32));
	h->key_low = htonl((__u32)peer->key[0]);
}

/* The frame's new beginning, its addresses aligned. */
struct frame_header {
	__u16 pad;
	struct ethhdr eth;
	struct tunnel_header tunnel;
};

INLINE void fill_link(struct ethhdr *eth, const struct peer *peer)
{
	__builtin_memcpy(eth->dst, peer->mac, 6);
	__builtin_memcpy(eth->src, peer->own_mac, 6);
	eth->proto = htons(ETH_P_IP);
}

/* encapsulate puts the tunnel's headers in front of a packet, and the way to
 * the neighbour when the node resolved it. */
INLINE int encapsulate(struct __sk_buff *skb, __be32 to, const struct peer *peer, __u32 flow, __u32 revision, __u32 target)
{
	struct frame_header f = {};
	fill_header(&f.tunnel, skb->len - ETH_HLEN, to, peer, flow, revision, target);
	if (bpf_skb_adjust_room(skb, sizeof(f.tunnel), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP))
		return -1;
	if (!peer->ifindex)
		return bpf_skb_store_bytes(skb, ETH_HLEN, &f.tunnel, sizeof(f.tunnel), 0) ? -1 : 0;
	fill_link(&f.eth, peer);
	return bpf_skb_store_bytes(skb, 0, &f.eth, sizeof(f.eth) + sizeof(f.tunnel), 0) ? -1 : 0;
}

/* leave sends an encapsulated packet on: straight to the neighbour when the
 * node resolved it, else by the kernel's own lookup. */
INLINE int leave(struct __sk_buff *skb, const struct peer *peer)
{
	return peer->ifindex ? bpf_redirect(peer->ifindex, 0) : bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}

INLINE int is_tunnel(const struct packet *p)
{
	return p->proto == IPPROTO_UDP && !p->fragment && p->dst == own_address && p->dst_port == tunnel_port;
}

/* decapsulate checks and removes the tunnel's headers and parses what was
 * inside. It gives a reason to drop, or REASON_NONE. */
INLINE enum reason decapsulate(struct __sk_buff *skb, struct packet *p, struct tunnel_header *h)
{
	struct peer *peer = find_peer(p->src);
	if (!peer)
		return REASON_UNKNOWN_GATEWAY;
	if (p->l4 != p->l3 + sizeof(struct iphdr) || bpf_skb_load_bytes(skb, p->l3, h, sizeof(*h)))
		return REASON_MALFORMED;
	if (h->opt_len != GENEVE_OPTIONS || h->protocol != htons(ETH_P_IP) || h->option_class != htons(OPTION_CLASS) ||
	    h->option_type != OPTION_VERSION || h->option_len != OPTION_WORDS)
		return REASON_MALFORMED;
	__u64 key = (__u64)ntohl(h->key_high) << 32 | ntohl(h->key_low);
	if (!key || (key != peer->key[0] && key != peer->key[1]))
		return REASON_UNKNOWN_GATEWAY;
	__u32 l3 = p->l3;
	struct packet inner;
	if (parse_ip(skb, l3 + sizeof(*h), &inner) != PARSED)
		return REASON_MALFORMED;
	if (inner.fragment)
		return REASON_FRAGMENT;
	if (bpf_skb_adjust_room(skb, -(__s32)sizeof(*h), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return REASON_TUNNEL_FAILED;
	inner.l3 -= sizeof(*h);
	inner.l4 -= sizeof(*h);
	*p = inner;
	return REASON_NONE;
}
