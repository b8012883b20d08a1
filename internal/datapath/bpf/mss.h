/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The greatest segment that fits inside the tunnel. */
#pragma once
#include "packet.h"

/* lower_segment rewrites the maximum segment size among a SYN's options, when
 * it exceeds most. It is a function of its own, so that the
 * verifier walks its loop once. */
__attribute__((noinline)) int lower_segment(struct __sk_buff *skb, __u32 l4, __u32 tcp_header, __u32 most)
{
	__u32 at = l4 + 20, end = l4 + tcp_header;
	for (int i = 0; i < 10; i++) {
		__u8 o[4];
		if (at + 4 > end || bpf_skb_load_bytes(skb, at, o, sizeof(o)))
			return 0;
		if (o[0] == 0)
			return 0;
		if (o[0] == 1) {
			at++;
			continue;
		}
		if (o[0] == 2 && o[1] == 4) {
			__be16 was, now = htons(most);
			__builtin_memcpy(&was, o + 2, 2);
			if (ntohs(was) <= most)
				return 0;
			/* The checksum sums 16-bit words from the segment's start, so an odd offset swaps the bytes. */
			if ((at + 2 - l4) & 1)
				bpf_l4_csum_replace(skb, l4 + 16, htons(was), htons(now), 2);
			else
				bpf_l4_csum_replace(skb, l4 + 16, was, now, 2);
			bpf_skb_store_bytes(skb, at + 2, &now, 2, 0);
			return 0;
		}
		if (o[1] < 2)
			return 0;
		at += o[1];
	}
	return 0;
}

/* lower_mss asks a SYN's receiver for no greater segments than fit into the
 * tunnel: without it a full-sized upload stalls. */
INLINE void lower_mss(struct __sk_buff *skb, const struct packet *p, const int family)
{
	if (p->proto == IPPROTO_TCP && p->tcp_flags & TCP_SYN)
		lower_segment(skb, p->l4, p->tcp_header, family == 4 ? inner_mss : inner_mss - sizeof(struct ipv6hdr) + sizeof(struct iphdr));
}
