/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading packets. Every read is checked; what does not parse is malformed. */
#pragma once
#include "layout.h"
#include "slot.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
enum { ICMP_ECHOREPLY = 0, ICMP_UNREACHABLE = 3, ICMP_ECHO = 8, ICMP_EXCEEDED = 11, ICMP_PARAMETER = 12 };
enum { ICMP_FRAGMENTATION_NEEDED = 4 }; /* a code of ICMP_UNREACHABLE */
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_TOO_BIG = 2, ICMPV6_EXCEEDED = 3, ICMPV6_PARAMETER = 4, ICMPV6_ECHO = 128, ICMPV6_ECHOREPLY = 129 };

enum { ARP_ETHERNET = 1, ARP_REQUEST = 1, ARP_REPLY = 2 };

struct arp {
	__be16 hardware, protocol;
	__u8 hardware_len, protocol_len;
	__be16 operation;
	__u8 sender_mac[6];
	__u8 sender[4];
	__u8 target_mac[6];
	__u8 target[4];
};

struct packet {
	struct addr src, dst;
	__u16 src_port, dst_port; /* ICMP echo: the id stands on the asker's side, 0 on the other */
	__u16 l3, l4;             /* offsets */
	__u16 tcp_header;         /* bytes; 0 unless TCP */
	__u8 family;              /* 4 or 6; 0: not parsed */
	__u8 proto;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 fragment; /* 0: whole; see fragment.h */
	__u8 error;    /* an ICMP error: it quotes another packet */
};

enum parsed { PARSED = 0, NOT_PLAIN = 1, BROKEN = 2 };

/* ICMP, as its family names it. */
INLINE __u8 icmp_of(const int family) { return family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6; }
INLINE __u8 echo_of(const int family) { return family == 4 ? ICMP_ECHO : ICMPV6_ECHO; }
INLINE __u8 echoreply_of(const int family) { return family == 4 ? ICMP_ECHOREPLY : ICMPV6_ECHOREPLY; }

/* quotes says that ICMP of this type is an error, without a branch for each. */
INLINE __u8 quotes(__u8 type, const int family)
{
	const __u64 errors = family == 4 ? 1ull << ICMP_UNREACHABLE | 1ull << ICMP_EXCEEDED | 1ull << ICMP_PARAMETER :
					   1ull << ICMPV6_UNREACHABLE | 1ull << ICMPV6_TOO_BIG | 1ull << ICMPV6_EXCEEDED | 1ull << ICMPV6_PARAMETER;
	return type < 64 ? errors >> type & 1 : 0;
}

/* tunnel_room is the length of the longest packet that fits into the tunnel. */
INLINE __u32 tunnel_room(void) { return inner_mss + sizeof(struct iphdr) + 20; }

INLINE int is_fragment(const struct iphdr *ip) { return (ip->frag_off & htons(0x3fff)) != 0; }

/* plain_ip reads an IPv4 header without options, or an IPv6 header: where the
 * transport begins, its length and its protocol. It gives 0 when it cannot. */
INLINE __u8 *plain_ip(void *ip, void *end, __u32 room, struct packet *p, __u32 *payload, const int family)
{
	if (family == 4) {
		struct iphdr *h = ip;
		if (ip + sizeof(*h) + 20 > end || h->ver_ihl != 0x45 || is_fragment(h))
			return 0;
		__u32 total = ntohs(h->tot_len);
		if (total > room || total < sizeof(*h))
			return 0;
		p->src.w[0] = h->saddr;
		p->dst.w[0] = h->daddr;
		p->proto = h->protocol;
		*payload = total - sizeof(*h);
		return ip + sizeof(*h);
	}
	struct ipv6hdr *h = ip;
	if (ip + sizeof(*h) + 20 > end || (*(__u8 *)ip & 0xf0) != 0x60)
		return 0;
	*payload = ntohs(h->payload_len);
	if (sizeof(*h) + *payload > room)
		return 0;
	__builtin_memcpy(&p->src, h->saddr, sizeof(p->src));
	__builtin_memcpy(&p->dst, h->daddr, sizeof(p->dst));
	p->proto = h->nexthdr;
	return ip + sizeof(*h);
}

/* parse_plain reads a TCP or UDP packet without IP options or extension
 * headers that is no fragment, straight from memory: frame's first length
 * bytes, of which those before end are at hand. Everything else is somebody
 * else's to read: NOT_PLAIN. */
INLINE enum parsed parse_plain(void *frame, void *end, __u32 length, __u32 l3, struct packet *p, const int family)
{
	__u32 payload;
	__u8 *t = plain_ip(frame + l3, end, length - l3, p, &payload, family);
	if (!t || payload < 8)
		return NOT_PLAIN;
	p->tcp_header = 0;
	p->tcp_flags = 0;
	if (p->proto == IPPROTO_TCP) {
		__u32 header = (t[12] >> 4) * 4;
		if (header < 20 || payload < header)
			return NOT_PLAIN;
		p->tcp_header = header;
		p->tcp_flags = t[13];
	} else if (p->proto != IPPROTO_UDP) {
		return NOT_PLAIN;
	}
	p->src_port = ntohs(*(__be16 *)t);
	p->dst_port = ntohs(*(__be16 *)(t + 2));
	p->l3 = l3;
	p->l4 = l3 + (family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	p->family = family;
	p->icmp_type = 0;
	p->fragment = 0;
	p->error = 0;
	return PARSED;
}

#include "fragment.h"

/* parse_ip4 reads an IPv4 header: addresses, protocol, and where the transport
 * begins. It gives the transport's length, or a negative number. */
INLINE int parse_ip4(struct __sk_buff *skb, struct packet *p)
{
	struct iphdr ip;
	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	__u32 ihl = (ip.ver_ihl & 15) * 4;
	if (ip.ver_ihl >> 4 != 4 || ihl < sizeof(ip) || ntohs(ip.tot_len) < ihl || p->l3 + ntohs(ip.tot_len) > skb->len)
		return -1;
	p->src.w[0] = ip.saddr;
	p->dst.w[0] = ip.daddr;
	p->proto = ip.protocol;
	p->l4 = p->l3 + ihl;
	p->fragment = is_fragment(&ip) ? FRAGMENT_STRAY : 0;
	return ntohs(ip.tot_len) - ihl;
}

INLINE int is_extension(__u32 header)
{
	return header == NEXTHDR_HOP || header == NEXTHDR_ROUTING || header == NEXTHDR_FRAGMENT || header == NEXTHDR_DEST;
}

enum { EXTENSIONS = 8 }; /* headers between IPv6's and the transport's that are walked */

/* parse_ip6 does the same for IPv6. Hop-by-hop and destination options are
 * passed over, so is a routing header whose way is at its end, and the fragment
 * header of a packet that was never cut. A packet still on a listed way, and one
 * with more headers than anybody needs, are broken. */
INLINE int parse_ip6(struct __sk_buff *skb, struct packet *p)
{
	struct ipv6hdr ip;
	if (bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip)))
		return -1;
	__u32 at = p->l3 + sizeof(ip), left = ntohs(ip.payload_len), next = ip.nexthdr;
	if ((ip.flow & htonl(0xf0000000)) != htonl(0x60000000) || at + left > skb->len)
		return -1;
	__builtin_memcpy(&p->src, ip.saddr, sizeof(p->src));
	__builtin_memcpy(&p->dst, ip.daddr, sizeof(p->dst));
	for (int i = 0; i <= EXTENSIONS; i++) {
		__u8 e[8];
		if (!is_extension(next)) {
			p->proto = next;
			p->l4 = at;
			return left;
		}
		if (i == EXTENSIONS || left < sizeof(e) || bpf_skb_load_bytes(skb, at, e, sizeof(e)))
			break;
		__u32 size = next == NEXTHDR_FRAGMENT ? 8 : (e[1] + 1) * 8;
		if (size > left || (next == NEXTHDR_HOP && i) || (next == NEXTHDR_ROUTING && e[3]))
			break;
		p->fragment = next == NEXTHDR_FRAGMENT && (e[2] | (e[3] & 0xf9)) ? FRAGMENT_STRAY : 0;
		next = e[0];
		at += size;
		left -= size;
		if (p->fragment) {
			p->proto = next;
			p->l4 = at;
			return left;
		}
	}
	return -1;
}

/* read_transport reads the header behind IP's, of payload bytes. */
INLINE enum parsed read_transport(struct __sk_buff *skb, struct packet *p, __s32 payload, const int family)
{
	if (p->proto == IPPROTO_TCP) {
		__u8 t[20];
		if (payload < (int)sizeof(t) || bpf_skb_load_bytes(skb, p->l4, t, sizeof(t)))
			return BROKEN;
		p->tcp_header = (t[12] >> 4) * 4;
		if (p->tcp_header < sizeof(t) || p->tcp_header > payload)
			return BROKEN;
		p->src_port = t[0] << 8 | t[1];
		p->dst_port = t[2] << 8 | t[3];
		p->tcp_flags = t[13];
	} else if (p->proto == IPPROTO_UDP) {
		__u8 u[8];
		if (payload < (int)sizeof(u) || bpf_skb_load_bytes(skb, p->l4, u, sizeof(u)))
			return BROKEN;
		p->src_port = u[0] << 8 | u[1];
		p->dst_port = u[2] << 8 | u[3];
	} else if (p->proto == icmp_of(family)) {
		__u8 c[8];
		if (payload < (int)sizeof(c) || bpf_skb_load_bytes(skb, p->l4, c, sizeof(c)))
			return BROKEN;
		/* Nothing but an echo may come in pieces: of what all else quotes or
		 * tells there would be no end. */
		int echo = c[0] == echo_of(family) || c[0] == echoreply_of(family);
		if (p->fragment && !echo)
			return BROKEN;
		p->icmp_type = c[0];
		p->error = quotes(c[0], family);
		if (c[0] == echo_of(family))
			p->src_port = c[4] << 8 | c[5];
		if (c[0] == echoreply_of(family))
			p->dst_port = c[4] << 8 | c[5];
	}
	return PARSED;
}

/* parse_slowly reads the packet of a family at offset l3, whatever stands
 * between its headers. Of a stray fragment it reads the addresses only. */
INLINE enum parsed parse_slowly(struct __sk_buff *skb, __u32 l3, struct packet *p, const int family)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->l3 = l3;
	p->family = family;
	__s32 payload = family == 4 ? parse_ip4(skb, p) : parse_ip6(skb, p);
	if (payload < 0)
		return BROKEN;
	if (!p->fragment)
		return read_transport(skb, p, payload, family);
	struct read_fragment *f = passes_fragments() ? fragment_read() : 0;
	__s32 offset = f ? name_fragment(skb, p, &f->key, family) : -1;
	if (!f || offset < 0)
		return PARSED;
	if (offset) {
		recall_fragment(p, &f->key, offset);
		return PARSED;
	}
	bpf_map_delete_elem(&fragments, &f->key); /* of another packet that had the name */
	/* What further headers hide has no first fragment. */
	if (!(family == 6 && is_extension(p->proto)) && read_transport(skb, p, payload, family) == PARSED)
		note_first(p, f, payload);
	return PARSED;
}

/* Functions of their own, so that the verifier walks the rare packets' headers
 * once; a copy, so that the common packet's fields stay in registers. */
__attribute__((noinline)) int parse_slowly4(struct __sk_buff *skb, __u32 l3, struct packet *p) { return p ? parse_slowly(skb, l3, p, 4) : BROKEN; }
__attribute__((noinline)) int parse_slowly6(struct __sk_buff *skb, __u32 l3, struct packet *p) { return p ? parse_slowly(skb, l3, p, 6) : BROKEN; }

INLINE enum parsed parse_rare(struct __sk_buff *skb, __u32 l3, struct packet *p, const int family)
{
	struct packet rare = {};
	int how = family == 4 ? parse_slowly4(skb, l3, &rare) : parse_slowly6(skb, l3, &rare);
	*p = rare;
	p->family = family;
	return how;
}

/* parse_packet reads the packet of a family at offset l3. */
INLINE enum parsed parse_packet(struct __sk_buff *skb, __u32 l3, struct packet *p, const int family)
{
	if (parse_plain((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, l3, p, family) == PARSED)
		return PARSED;
	return parse_rare(skb, l3, p, family);
}

/* unread makes a packet of which nothing is known but its family. */
INLINE void unread(struct packet *p, const int family)
{
	__builtin_memset(p, 0, sizeof(*p));
	p->family = family;
}

/* port_of is the port that rules match: the destination's, 0 for protocols without. */
INLINE __u16 port_of(const struct packet *p)
{
	return p->proto == IPPROTO_TCP || p->proto == IPPROTO_UDP ? p->dst_port : 0;
}

INLINE int opens(const struct packet *p)
{
	return p->proto != IPPROTO_TCP || (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* asks says that the packet answers nobody: it begins something, whatever
 * flow it is on. */
INLINE int asks(const struct packet *p, const int family)
{
	return p->proto == IPPROTO_TCP ? opens(p) : p->proto == icmp_of(family) && p->icmp_type == echo_of(family);
}

/* begins says that a TCP connection starts with this packet. */
INLINE int begins(const struct packet *p) { return p->proto == IPPROTO_TCP && opens(p); }
