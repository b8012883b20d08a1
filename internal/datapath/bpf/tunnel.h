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
	TUNNEL_SOURCE = 0xc000, /* and the ports behind it are where it comes from */
};

/* What stands behind the outer IP header. */
struct tunnel {
	struct udphdr udp;
	__u8 opt_len; /* version 0, options in 4-byte words */
	__u8 flags;
	__be16 protocol; /* of the inner packet */
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

struct tunnel_header {
	struct iphdr ip;
	struct tunnel tunnel;
};

struct tunnel_header6 {
	struct ipv6hdr ip;
	struct tunnel tunnel;
};

_Static_assert(sizeof(struct tunnel_header) == 60 && sizeof(struct tunnel_header6) == 80, "the tunnel's headers have no padding");

INLINE __be16 ether_of(const int family) { return htons(family == 4 ? ETH_P_IP : ETH_P_IPV6); }

/* folded gives an address as one word. Nobody outside can tell which of two
 * IPv6 addresses give the same. */
INLINE __u64 folded(const struct addr *a, const int family)
{
	return family == 4 ? a->w[0] : mix(mix(first_half(a, 6) ^ hash_key) ^ second_half(a, 6));
}

/* flow_port hashes a packet's flow for the outer source port. */
INLINE __u32 flow_port(const struct packet *p, const int family)
{
	__u64 ends = folded(&p->src, family) << 32 ^ folded(&p->dst, family);
	return (__u32)(mix((ends ^ hash_key) + (((__u32)p->src_port << 16 | p->dst_port) * 0x9e3779b97f4a7c15ull)) >> 32);
}

INLINE __u32 halves(__u32 x) { return (x & 0xffff) + (x >> 16); }

/* Where a tunnelled packet goes, and what its tunnel says. */
struct hop {
	struct peer_row *to;
	struct peer *peer;
	__u32 flow; /* hash of the flow, for the outer source port */
	__u32 revision;
	__u32 target;
	__u32 second; /* where the flow may be known if the target does not know it; 0: nowhere */
};

/* fill_tunnel writes what stands behind the outer IP header of inner bytes of
 * packet. The flow's hash becomes the outer source port, so that a flow stays on
 * one path and queue. No checksum: the inner packet has its own, and over IPv6
 * RFC 6935 lets tunnels go without. */
INLINE void fill_tunnel(struct tunnel *h, __u32 inner, const struct hop *hop, __be16 protocol)
{
	h->udp.source = htons(TUNNEL_SOURCE | (hop->flow & 0x3fff));
	h->udp.dest = htons(tunnel_port);
	h->udp.len = htons(inner + sizeof(*h));
	h->udp.check = 0;
	h->opt_len = GENEVE_OPTIONS;
	h->flags = 0;
	h->protocol = protocol;
	h->vni = 0;
	h->option_class = htons(OPTION_CLASS);
	h->option_type = OPTION_VERSION;
	h->option_len = OPTION_WORDS;
	h->revision = htonl(hop->revision);
	h->target = htonl(hop->target);
	h->second = htonl(hop->second);
	h->key_high = htonl((__u32)(hop->peer->key[0] >> 32));
	h->key_low = htonl((__u32)hop->peer->key[0]);
}

/* fill_header writes the tunnel's headers over IPv4 for inner bytes of packet. */
INLINE void fill_header(struct tunnel_header *h, __u32 inner, const struct hop *hop, __be16 protocol)
{
	__be16 length = htons(inner + sizeof(*h));
	__be32 from = own_address.w[0], to = hop->to->key.w[0];
	__u32 sum = htons(0x4500) + length + htons(0x4000) + htons(64 << 8 | IPPROTO_UDP) + halves(from) + halves(to);
	h->ip.ver_ihl = 0x45;
	h->ip.tos = 0;
	h->ip.tot_len = length;
	h->ip.id = 0;
	h->ip.frag_off = htons(0x4000);
	h->ip.ttl = 64;
	h->ip.protocol = IPPROTO_UDP;
	h->ip.check = (__u16)~halves(halves(sum));
	h->ip.saddr = from;
	h->ip.daddr = to;
	fill_tunnel(&h->tunnel, inner, hop, protocol);
}

/* fill_header6 does the same over IPv6. The flow's hash is the flow label too. */
INLINE void fill_header6(struct tunnel_header6 *h, __u32 inner, const struct hop *hop, __be16 protocol)
{
	h->ip.flow = htonl(0x60000000 | (hop->flow & 0xfffff));
	h->ip.payload_len = htons(inner + sizeof(h->tunnel));
	h->ip.nexthdr = IPPROTO_UDP;
	h->ip.hop_limit = 64;
	for (int i = 0; i < 4; i++) {
		h->ip.saddr[i] = own_address6.w[i];
		h->ip.daddr[i] = hop->to->key.w[i];
	}
	fill_tunnel(&h->tunnel, inner, hop, protocol);
}

/* The frame's new beginning over each family, its addresses aligned. */
struct frame_header {
	__u16 pad;
	struct ethhdr eth;
	struct tunnel_header tunnel;
};

struct frame_header6 {
	__u16 pad;
	struct ethhdr eth;
	struct tunnel_header6 tunnel;
};

INLINE void fill_link(struct ethhdr *eth, const struct peer *peer, __be16 protocol)
{
	__builtin_memcpy(eth->dst, peer->mac, 6);
	__builtin_memcpy(eth->src, peer->own_mac, 6);
	eth->proto = protocol;
}

/* make_room makes room for the headers over one family behind the frame's own. */
INLINE int make_room(struct __sk_buff *skb, const int outer)
{
	const __u32 size = outer == 4 ? sizeof(struct tunnel_header) : sizeof(struct tunnel_header6);
	const __u64 flags = outer == 4 ? BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 : BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	/* What came out of a tunnel and goes into one again, on virtual devices, has
	 * not lost the kernel's marks of the first, which are as good. */
	return bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | flags | BPF_F_ADJ_ROOM_ENCAP_L4_UDP) &&
	       bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO);
}

/* envelop puts the headers over one family in front of a packet, and the way to
 * the neighbour when the node resolved it. */
INLINE int envelop(struct __sk_buff *skb, const struct hop *hop, __be16 protocol, const int outer)
{
	struct frame_header f;
	struct frame_header6 f6;
	struct ethhdr *eth = outer == 4 ? &f.eth : &f6.eth;
	const __u32 size = outer == 4 ? sizeof(f.tunnel) : sizeof(f6.tunnel);
	if (outer == 4)
		fill_header(&f.tunnel, skb->len - ETH_HLEN, hop, protocol);
	else
		fill_header6(&f6.tunnel, skb->len - ETH_HLEN, hop, protocol);
	if (make_room(skb, outer))
		return -1;
	eth->proto = ether_of(outer);
	if (!hop->peer->ifindex)
		return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, proto), &eth->proto, 2 + size, 0) ? -1 : 0;
	fill_link(eth, hop->peer, eth->proto);
	return bpf_skb_store_bytes(skb, 0, eth, sizeof(*eth) + size, 0) ? -1 : 0;
}

/* targets holds the second target in its high half. */
INLINE int envelop_for(struct __sk_buff *skb, __u32 row, __u32 flow, __u32 revision, __u64 targets, const int outer)
{
	struct peer_row *to = bpf_map_lookup_elem(&peers, &row);
	if (!to)
		return -1;
	struct hop hop = { .to = to, .peer = peer_of(to), .flow = flow, .revision = revision, .target = targets, .second = targets >> 32 };
	return envelop(skb, &hop, skb->protocol, outer);
}

__attribute__((noinline)) int over4(struct __sk_buff *skb, __u32 row, __u32 flow, __u32 revision, __u64 targets)
{
	return envelop_for(skb, row, flow, revision, targets, 4);
}

__attribute__((noinline)) int over6(struct __sk_buff *skb, __u32 row, __u32 flow, __u32 revision, __u64 targets)
{
	return envelop_for(skb, row, flow, revision, targets, 6);
}

/* encapsulate puts the tunnel's headers in front of a packet, over the family
 * of the other end's address, in functions of their own that keep their frames
 * off the caller's stack. */
INLINE int encapsulate(struct __sk_buff *skb, const struct hop *hop)
{
	__u64 targets = (__u64)hop->second << 32 | hop->target;
	return hop->peer->family == 6 ? over6(skb, hop->to->row, hop->flow, hop->revision, targets) :
					over4(skb, hop->to->row, hop->flow, hop->revision, targets);
}

/* leave sends an encapsulated packet on: straight to the neighbour when the
 * node resolved it, else by the kernel's own lookup. */
INLINE int leave(const struct peer *peer)
{
	return peer->ifindex ? bpf_redirect(peer->ifindex, 0) : bpf_redirect_neigh(uplink, 0, 0, 0);
}

/* family_of gives the family of a frame, 0 for what is no IP packet. */
INLINE int family_of(const struct __sk_buff *skb)
{
	return skb->protocol == htons(ETH_P_IP) ? 4 : skb->protocol == htons(ETH_P_IPV6) ? 6 : 0;
}

/* for_us says that a packet is UDP for this node's end of the tunnel, as far as
 * the first look shows. Most packets cost no more than this look. A bare packet
 * may have no frame around it. */
INLINE int for_us(struct __sk_buff *skb, int bare, const int family)
{
	const __u32 size = family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	const __u32 proto_at = family == 4 ? offsetof(struct iphdr, protocol) : offsetof(struct ipv6hdr, nexthdr);
	const __u32 addr_at = family == 4 ? offsetof(struct iphdr, daddr) : offsetof(struct ipv6hdr, daddr);
	void *ip = (void *)(long)skb->data + ETH_HLEN;
	struct addr to;
	__u8 proto;
	if (bare) {
		if (bpf_skb_load_bytes_relative(skb, proto_at, &proto, 1, BPF_HDR_START_NET) ||
		    bpf_skb_load_bytes_relative(skb, addr_at, &to, family == 4 ? 4 : 16, BPF_HDR_START_NET))
			return 0;
	} else if (ip + size <= (void *)(long)skb->data_end) {
		proto = *(__u8 *)(ip + proto_at);
		__builtin_memcpy(&to, ip + addr_at, family == 4 ? 4 : 16);
	} else if (bpf_skb_load_bytes(skb, ETH_HLEN + proto_at, &proto, 1) || bpf_skb_load_bytes(skb, ETH_HLEN + addr_at, &to, family == 4 ? 4 : 16)) {
		return 0;
	}
	return proto == IPPROTO_UDP && is_own(&to, family);
}

INLINE int is_tunnel(const struct packet *p, const int family)
{
	return p->proto == IPPROTO_UDP && !p->fragment && p->dst_port == tunnel_port && is_own(&p->dst, family);
}

/* What the tunnel said of the packet that came through it. */
struct arrival {
	__u32 revision;
	__u32 target;
	__u32 second;  /* where the flow may be known if the target does not know it; 0: nowhere */
	__u32 sender;  /* its row among the peers */
	__u32 family;  /* of the packet */
	int answer;    /* when its way ends here */
};

/* read_tunnel copies what stands behind the outer IP header. Most often it is at
 * hand where it always is. */
INLINE int read_tunnel(struct __sk_buff *skb, __u32 at, struct tunnel *h, const int family)
{
	const __u32 usual = ETH_HLEN + (family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	void *from = (void *)(long)skb->data + usual;
	if (at != usual || from + sizeof(*h) > (void *)(long)skb->data_end)
		return bpf_skb_load_bytes(skb, at, h, sizeof(*h));
	__builtin_memcpy(h, from, sizeof(*h));
	return 0;
}

/* decapsulate checks and removes the tunnel's headers. It gives a reason to
 * drop, or REASON_NONE. */
INLINE enum reason decapsulate(struct __sk_buff *skb, const struct packet *p, struct arrival *a, const int family)
{
	struct tunnel h;
	const __u32 size = (family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) + sizeof(h);
	struct peer_row *row = find_peer(&p->src, family);
	if (!row)
		return REASON_UNKNOWN_GATEWAY;
	if (p->l4 != p->l3 + size - sizeof(h) || read_tunnel(skb, p->l4, &h, family))
		return REASON_MALFORMED;
	int inner = h.protocol == htons(ETH_P_IP) ? 4 : h.protocol == htons(ETH_P_IPV6) ? 6 : 0;
	if (!inner || h.opt_len != GENEVE_OPTIONS || h.option_class != htons(OPTION_CLASS) || h.option_type != OPTION_VERSION || h.option_len != OPTION_WORDS)
		return REASON_MALFORMED;
	struct peer *peer = peer_of(row);
	__u64 key = (__u64)ntohl(h.key_high) << 32 | ntohl(h.key_low);
	if (!key || (key != peer->key[0] && key != peer->key[1]))
		return REASON_UNKNOWN_GATEWAY;
	/* Too short for a header of its family, and the kernel would not take the outer one away. */
	if (p->l3 + size + (inner == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) > skb->len)
		return REASON_MALFORMED;
	__u64 flags = inner == 4 ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
	if (bpf_skb_adjust_room(skb, -(__s32)size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | flags))
		return REASON_TUNNEL_FAILED;
	if (inner != family && p->l3 && bpf_skb_store_bytes(skb, offsetof(struct ethhdr, proto), &h.protocol, 2, 0))
		return REASON_TUNNEL_FAILED;
	a->revision = ntohl(h.revision);
	a->target = ntohl(h.target);
	a->second = ntohl(h.second);
	a->sender = row->row;
	a->family = inner;
	return REASON_NONE;
}
