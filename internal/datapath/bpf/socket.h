/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Naming sockets of this machine. */
#pragma once
#include "packet.h"

/* name_socket names the socket that a packet is for, and gives the name's size. */
INLINE __u32 name_socket(struct bpf_sock_tuple *t, const struct packet *p, const int family)
{
	if (family == 4) {
		t->ipv4.saddr = p->src.w[0];
		t->ipv4.daddr = p->dst.w[0];
		t->ipv4.sport = htons(p->src_port);
		t->ipv4.dport = htons(p->dst_port);
		return sizeof(t->ipv4);
	}
	__builtin_memcpy(t->ipv6.saddr, &p->src, sizeof(p->src));
	__builtin_memcpy(t->ipv6.daddr, &p->dst, sizeof(p->dst));
	t->ipv6.sport = htons(p->src_port);
	t->ipv6.dport = htons(p->dst_port);
	return sizeof(t->ipv6);
}
