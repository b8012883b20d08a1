/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Address resolution on the gateway's own segment: VIPs are no addresses of
 * its interfaces, so the kernel does not answer for them. */
#pragma once
#include "packet.h"
#include "rows.h"

/* answer_arp answers who asks for a VIP, out of the device he asked on. It
 * gives 0 when the frame is not such a question. */
__attribute__((noinline)) int answer_arp(struct __sk_buff *skb, __u32 revision)
{
	struct ethhdr eth;
	struct arp a;
	struct addr vip = {};
	struct revisions *r = current_revisions();
	if (!answer_vips || !r || READ_ONCE(r->here) || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) || bpf_skb_load_bytes(skb, ETH_HLEN, &a, sizeof(a)))
		return 0;
	if (a.hardware != htons(ARP_ETHERNET) || a.protocol != htons(ETH_P_IP) || a.hardware_len != 6 || a.protocol_len != 4 ||
	    a.operation != htons(ARP_REQUEST))
		return 0;
	__builtin_memcpy(&vip.w[0], a.target, 4);
	if (!__builtin_memcmp(a.sender, a.target, 4) || !is_vip(&vip, revision, 4))
		return 0; /* an announcement is no question */
	__builtin_memcpy(eth.dst, eth.src, 6);
	a.operation = htons(ARP_REPLY);
	__builtin_memcpy(a.target_mac, a.sender_mac, 6);
	__builtin_memcpy(a.target, a.sender, 4);
	for (int i = 0; i < 6; i++)
		eth.src[i] = a.sender_mac[i] = own_mac[i];
	__builtin_memcpy(a.sender, &vip.w[0], 4);
	if (bpf_skb_store_bytes(skb, 0, &eth, sizeof(eth), 0) || bpf_skb_store_bytes(skb, ETH_HLEN, &a, sizeof(a), 0))
		return 0;
	return 1;
}
