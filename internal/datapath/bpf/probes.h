/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the gateway's own sockets get from a target: answers to what they sent,
 * and nothing else. */
#pragma once
#include "rows.h"
#include "packet.h"
#include "socket.h"

/* listens_to says that a UDP socket of the gateway is connected to the packet's
 * sender. */
INLINE int listens_to(struct __sk_buff *skb, const struct packet *p, const int family)
{
	struct bpf_sock_tuple tuple;
	__u32 size = name_socket(&tuple, p, family);
	struct bpf_sock *sk = bpf_sk_lookup_udp(skb, &tuple, size, (__u64)-1, 0);
	if (!sk)
		return 0;
	int connected = sk->dst_port == htons(p->src_port);
	bpf_sk_release(sk);
	return connected;
}

/* asked_for says that a packet from the target's service address answers what
 * the gateway's proxy or prober sent. */
INLINE int asked_for(struct __sk_buff *skb, const struct target *t, const struct packet *p, const int family)
{
	if (p->proto == icmp_of(family))
		return t->flags & TARGET_PROBE_PING && p->icmp_type == echoreply_of(family);
	if (p->proto != t->proto || (p->src_port != t->service_port && p->src_port != t->probe_port))
		return 0;
	return p->proto == IPPROTO_UDP ? listens_to(skb, p, family) : !opens(p);
}
