/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Reading packets. Every read is checked; what does not parse is malformed. */
#pragma once
#include "layout.h"

enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };
enum { ICMP_ECHOREPLY = 0, ICMP_UNREACHABLE = 3, ICMP_ECHO = 8, ICMP_EXCEEDED = 11, ICMP_PARAMETER = 12 };

struct packet {
	__be32 src, dst;
	__u16 src_port, dst_port; /* ICMP echo: the id stands on the asker's side, 0 on the other */
	__u16 l3, l4;             /* offsets */
	__u16 tcp_header;         /* bytes; 0 unless TCP */
	__u8 proto;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 fragment; /* any fragment, the first included */
};

enum parsed { PARSED = 0, NOT_PLAIN = 1, BROKEN = 2 };

INLINE int is_fragment(const struct iphdr *ip) { return (ip->frag_off & htons(0x3fff)) != 0; }

/* parse_plain reads a TCP or UDP packet without IP options that is no fragment,
 * straight from memory: frame's first length bytes, of which those before end
 * are at hand. Everything else is somebody else's to read: NOT_PLAIN. */
INLINE enum parsed parse_plain(void *frame, void *end, __u32 length, __u32 l3, struct packet *p)
{
	struct iphdr *ip = frame + l3;
	__u8 *t = (void *)(ip + 1);
	if ((void *)(t + 20) > end || ip->ver_ihl != 0x45 || is_fragment(ip))
		return NOT_PLAIN;
	__u32 total = ntohs(ip->tot_len);
	if (l3 + total > length || total < sizeof(*ip) + 8)
		return NOT_PLAIN;
	p->tcp_header = 0;
	p->tcp_flags = 0;
	if (ip->protocol == IPPROTO_TCP) {
		__u32 header = (t[12] >> 4) * 4;
		if (header < 20 || total < sizeof(*ip) + header)
			return NOT_PLAIN;
		p->tcp_header = header;
		p->tcp_flags = t[13];
	} else if (ip->protocol != IPPROTO_UDP) {
		return NOT_PLAIN;
	}
	p->src = ip->saddr;
	p->dst = ip->daddr;
	p->src_port = ntohs(*(__be16 *)t);
	p->dst_port = ntohs(*(__be16 *)(t + 2));
	p->l3 = l3;
	p->l4 = l3 + sizeof(*ip);
	p->proto = ip->protocol;
	p->icmp_type = 0;
	p->fragment = 0;
	return PARSED;
}

/* parse_ip reads the IPv4 packet at offset l3. A fragment is parsed up to its
 * addresses only. */
INLINE enum parsed parse_ip(struct __sk_buff *skb, __u32 l3, struct packet *p)
{
	struct iphdr ip;
	if (parse_plain((void *)(long)skb->data, (void *)(long)skb->data_end, skb->len, l3, p) == PARSED)
		return PARSED;
	if (bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)))
		return BROKEN;
	__u32 ihl = (ip.ver_ihl & 15) * 4;
	if (ip.ver_ihl >> 4 != 4 || ihl < sizeof(ip) || ntohs(ip.tot_len) < ihl || l3 + ntohs(ip.tot_len) > skb->len)
		return BROKEN;
	__builtin_memset(p, 0, sizeof(*p));
	p->src = ip.saddr;
	p->dst = ip.daddr;
	p->proto = ip.protocol;
	p->l3 = l3;
	p->l4 = l3 + ihl;
	p->fragment = is_fragment(&ip);
	if (p->fragment)
		return PARSED;
	__u32 payload = ntohs(ip.tot_len) - ihl;
	if (ip.protocol == IPPROTO_TCP) {
		__u8 t[20];
		if (payload < sizeof(t) || bpf_skb_load_bytes(skb, p->l4, t, sizeof(t)))
			return BROKEN;
		p->src_port = t[0] << 8 | t[1];
		p->dst_port = t[2] << 8 | t[3];
		p->tcp_header = (t[12] >> 4) * 4;
		p->tcp_flags = t[13];
		if (p->tcp_header < sizeof(t) || p->tcp_header > payload)
			return BROKEN;
	} else if (ip.protocol == IPPROTO_UDP) {
		__u8 u[8];
		if (payload < sizeof(u) || bpf_skb_load_bytes(skb, p->l4, u, sizeof(u)))
			return BROKEN;
		p->src_port = u[0] << 8 | u[1];
		p->dst_port = u[2] << 8 | u[3];
	} else if (ip.protocol == IPPROTO_ICMP) {
		__u8 c[8];
		if (payload < sizeof(c) || bpf_skb_load_bytes(skb, p->l4, c, sizeof(c)))
			return BROKEN;
		p->icmp_type = c[0];
		if (c[0] == ICMP_ECHO)
			p->src_port = c[4] << 8 | c[5];
		if (c[0] == ICMP_ECHOREPLY)
			p->dst_port = c[4] << 8 | c[5];
	}
	return PARSED;
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
INLINE int asks(const struct packet *p)
{
	return p->proto == IPPROTO_TCP ? opens(p) : p->proto == IPPROTO_ICMP && p->icmp_type == ICMP_ECHO;
}

/* begins says that a TCP connection starts with this packet. */
INLINE int begins(const struct packet *p) { return p->proto == IPPROTO_TCP && opens(p); }
