/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: whose packet they quote. */
#pragma once
#include "host.h"

/* is_error says that the packet is an ICMP error: it quotes another packet. */
INLINE int is_error(const struct packet *p, const int family)
{
	if (family == 4)
		return p->icmp_type == ICMP_UNREACHABLE || p->icmp_type == ICMP_EXCEEDED || p->icmp_type == ICMP_PARAMETER;
	return p->icmp_type >= ICMPV6_UNREACHABLE && p->icmp_type <= ICMPV6_PARAMETER;
}

/* quoted reads the packet that an ICMP error quotes, as far as names its flow. */
INLINE int quoted(struct __sk_buff *skb, const struct packet *p, struct packet *q, const int family)
{
	__u32 at = p->l4 + 8;
	__u8 ports[4];
	if (family == 4) {
		struct iphdr ip;
		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)) || ip.ver_ihl != 0x45)
			return 0;
		q->src.w[0] = ip.saddr;
		q->dst.w[0] = ip.daddr;
		q->proto = ip.protocol;
		at += sizeof(ip);
	} else {
		struct ipv6hdr ip;
		if (bpf_skb_load_bytes(skb, at, &ip, sizeof(ip)))
			return 0;
		__builtin_memcpy(&q->src, ip.saddr, sizeof(q->src));
		__builtin_memcpy(&q->dst, ip.daddr, sizeof(q->dst));
		q->proto = ip.nexthdr;
		at += sizeof(ip);
	}
	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return 0;
	q->src_port = ports[0] << 8 | ports[1];
	q->dst_port = ports[2] << 8 | ports[3];
	return 1;
}

/* quoted_flow looks for the flow whose packet an ICMP error quotes. An error
 * that comes in quotes what was sent. */
INLINE int quoted_flow(struct __sk_buff *skb, const struct packet *p, __u8 direction, struct track *k, __u32 now, const int family)
{
	struct packet q = {};
	if (!is_error(p, family) || !quoted(skb, p, &q, family))
		return 0;
	name_flow(&q, direction == DIRECTION_IN ? DIRECTION_OUT : DIRECTION_IN, &k->t, family);
	return find(k, now, family) && k->was.state != FLOW_REFUSED;
}
