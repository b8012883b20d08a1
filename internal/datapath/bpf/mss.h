/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The greatest segment that fits inside the tunnel. */
#pragma once
#include "packet.h"

/* lower_mss rewrites a SYN's maximum segment size when it exceeds what fits
 * into the tunnel: without it a full-sized upload stalls. */
INLINE void lower_mss(struct __sk_buff *skb, const struct packet *p)
{
	if (p->proto != IPPROTO_TCP || !(p->tcp_flags & TCP_SYN))
		return;
	__u32 at = p->l4 + 20, end = p->l4 + p->tcp_header;
	for (int i = 0; i < 10; i++) {
		__u8 o[4];
		if (at + 4 > end || bpf_skb_load_bytes(skb, at, o, sizeof(o)))
			return;
		if (o[0] == 0)
			return;
		if (o[0] == 1) {
			at++;
			continue;
		}
		if (o[0] == 2 && o[1] == 4) {
			__be16 was, now = htons(inner_mss);
			__builtin_memcpy(&was, o + 2, 2);
			if (ntohs(was) <= inner_mss)
				return;
			/* The checksum sums 16-bit words from the segment's start, so an odd offset swaps the bytes. */
			if ((at + 2 - p->l4) & 1)
				bpf_l4_csum_replace(skb, p->l4 + 16, htons(was), htons(now), 2);
			else
				bpf_l4_csum_replace(skb, p->l4 + 16, was, now, 2);
			bpf_skb_store_bytes(skb, at + 2, &now, 2, 0);
			return;
		}
		if (o[1] < 2)
			return;
		at += o[1];
	}
}
