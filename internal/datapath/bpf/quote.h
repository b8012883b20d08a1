/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: which packet they quote, and giving that the addresses back
 * which it had where its sender saw it. */
#pragma once
#include "packet.h"

/* quoted_ip reads the quoted packet's header. It gives 0 for what names no
 * flow: a later fragment, or what does not parse. */
INLINE int quoted_ip(struct __sk_buff *skb, struct packet *q, const int family)
{
	if (family == 4) {
		struct iphdr ip;
		if (bpf_skb_load_bytes(skb, q->l3, &ip, sizeof(ip)) || ip.ver_ihl >> 4 != 4 || (ip.ver_ihl & 15) < 5 || ip.frag_off & htons(0x1fff))
			return 0;
		q->src.w[0] = ip.saddr;
		q->dst.w[0] = ip.daddr;
		q->proto = ip.protocol;
		q->l4 = q->l3 + (ip.ver_ihl & 15) * 4;
		return 1;
	}
	struct ipv6hdr ip;
	if (bpf_skb_load_bytes(skb, q->l3, &ip, sizeof(ip)) || (ip.flow & htonl(0xf0000000)) != htonl(0x60000000))
		return 0;
	__builtin_memcpy(&q->src, ip.saddr, sizeof(q->src));
	__builtin_memcpy(&q->dst, ip.daddr, sizeof(q->dst));
	__u32 at = q->l3 + sizeof(ip), next = ip.nexthdr;
	for (int i = 0; i < EXTENSIONS && is_extension(next); i++) {
		__u8 e[8];
		if (bpf_skb_load_bytes(skb, at, e, sizeof(e)) || (next == NEXTHDR_FRAGMENT && e[2] | (e[3] & 0xf8)) || (next == NEXTHDR_ROUTING && e[3]))
			return 0;
		at += next == NEXTHDR_FRAGMENT ? sizeof(e) : (e[1] + 1) * 8;
		next = e[0];
	}
	q->proto = next;
	q->l4 = at;
	return !is_extension(next);
}

INLINE int read_quoted(struct __sk_buff *skb, __u32 at, struct packet *q, const int family)
{
	__u8 t[8];
	if (!q)
		return 0;
	__builtin_memset(q, 0, sizeof(*q));
	q->family = family;
	q->l3 = at;
	if (!quoted_ip(skb, q, family))
		return 0;
	if (q->proto != IPPROTO_TCP && q->proto != IPPROTO_UDP && q->proto != icmp_of(family))
		return 1;
	if (bpf_skb_load_bytes(skb, q->l4, t, sizeof(t)))
		return 0;
	if (q->proto != icmp_of(family)) {
		q->src_port = t[0] << 8 | t[1];
		q->dst_port = t[2] << 8 | t[3];
		return 1;
	}
	q->icmp_type = t[0];
	if (t[0] == echo_of(family))
		q->src_port = t[4] << 8 | t[5];
	if (t[0] == echoreply_of(family))
		q->dst_port = t[4] << 8 | t[5];
	return 1;
}

/* Functions of their own, so that the verifier walks them once. */
__attribute__((noinline)) int read_quoted4(struct __sk_buff *skb, __u32 at, struct packet *q) { return read_quoted(skb, at, q, 4); }
__attribute__((noinline)) int read_quoted6(struct __sk_buff *skb, __u32 at, struct packet *q) { return read_quoted(skb, at, q, 6); }

/* quoted reads the packet that an ICMP error quotes, as far as names its flow:
 * its ports, and for an echo its id, as parse does. */
INLINE int quoted(struct __sk_buff *skb, const struct packet *p, struct packet *q, const int family)
{
	return family == 4 ? read_quoted4(skb, p->l4 + 8, q) : read_quoted6(skb, p->l4 + 8, q);
}

/* answering makes of the quoted packet one the other way: what its receiver
 * would have sent, which names the flow as the error's sender saw it. */
INLINE void answering(const struct packet *q, struct packet *a, const int family)
{
	__builtin_memset(a, 0, sizeof(*a));
	set_addr(&a->src, &q->dst, family);
	set_addr(&a->dst, &q->src, family);
	a->src_port = q->dst_port;
	a->dst_port = q->src_port;
	a->proto = q->proto;
	a->family = family;
}

INLINE __u32 addr_at(const int family, int source)
{
	if (family == 4)
		return source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr);
	return source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr);
}

/* swap_sum takes a changed address out of the sum of the ICMPv6 message at
 * offset icmp: as a part of it, or of its pseudo header. */
INLINE int swap_sum(struct __sk_buff *skb, __u32 icmp, const struct addr *was, const struct addr *now, __u64 pseudo)
{
	__s64 difference = bpf_csum_diff(was->w, sizeof(was->w), now->w, sizeof(now->w), 0);
	if (pseudo && !bpf_l4_csum_replace(skb, icmp + 2, 0, difference, pseudo | BPF_F_IPV6))
		return 0;
	return bpf_l4_csum_replace(skb, icmp + 2, 0, difference, pseudo) ? -1 : 0;
}

/* readdress gives an ICMP packet another source or destination. */
INLINE int readdress(struct __sk_buff *skb, const struct packet *p, int source, const struct addr *now, const int family)
{
	const struct addr *was = source ? &p->src : &p->dst;
	if (family == 4 ? bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), was->w[0], now->w[0], 4) != 0 :
			  swap_sum(skb, p->l4, was, now, BPF_F_PSEUDO_HDR) != 0)
		return -1;
	return bpf_skb_store_bytes(skb, p->l3 + addr_at(family, source), now, family == 4 ? 4 : 16, 0) ? -1 : 0;
}

/* requote gives the packet q that the error p quotes another address and port.
 * IPv4's header sums to nothing before and after, so that only the port shows
 * in the error's own checksum. The quoted transport's is nobody's to check. */
INLINE int requote(struct __sk_buff *skb, const struct packet *p, const struct packet *q, int source, const struct addr *now, __u16 port, const int family)
{
	const struct addr *was = source ? &q->src : &q->dst;
	__be16 was_port = htons(source ? q->src_port : q->dst_port), now_port = htons(port);
	if (family == 4 ? bpf_l3_csum_replace(skb, q->l3 + offsetof(struct iphdr, check), was->w[0], now->w[0], 4) != 0 :
			  swap_sum(skb, p->l4, was, now, 0) != 0)
		return -1;
	if (bpf_skb_store_bytes(skb, q->l3 + addr_at(family, source), now, family == 4 ? 4 : 16, 0))
		return -1;
	if (bpf_l4_csum_replace(skb, p->l4 + 2, was_port, now_port, 2))
		return -1;
	return bpf_skb_store_bytes(skb, q->l4 + (source ? 0 : 2), &now_port, 2, 0) ? -1 : 0;
}

/* retell gives the error p, and the packet q that it quotes, the address and port
 * by which the receiver knows the flow: as what the error was sent to and q from,
 * or the other way round. */
INLINE int retell(struct __sk_buff *skb, const struct packet *p, const struct packet *q, const struct addr *now, __u32 how, const int family)
{
	if (!p || !q || !now)
		return -1;
	int sent = how >> 16; /* the receiver sent the quoted packet */
	return requote(skb, p, q, sent, now, how, family) || readdress(skb, p, !sent, now, family) ? -1 : 0;
}

enum { RETELL_SENT = 1 << 16 };

__attribute__((noinline)) int retell4(struct __sk_buff *skb, const struct packet *p, const struct packet *q, const struct addr *now, __u32 how)
{
	return retell(skb, p, q, now, how, 4);
}

__attribute__((noinline)) int retell6(struct __sk_buff *skb, const struct packet *p, const struct packet *q, const struct addr *now, __u32 how)
{
	return retell(skb, p, q, now, how, 6);
}
