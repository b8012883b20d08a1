/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What no instance may say, whatever its rules: neither a guest nor the machine
 * itself. */
#pragma once
#include "host.h"
#include "nd.h"

enum { DHCP6_CLIENT = 546, DHCP6_SERVER = 547, ND_REDIRECT = 137 };

/* leads_astray says that a packet tells neighbours which addresses and routers
 * they are to have: a DHCP server's answer, a router's advertisement, a redirect. */
INLINE int leads_astray(const struct packet *p, const int family)
{
	if (p->fragment == FRAGMENT_STRAY)
		return 0; /* dropped anyway */
	if (p->proto == IPPROTO_UDP)
		return family == 4 ? p->src_port == DHCP_SERVER && p->dst_port == DHCP_CLIENT : p->src_port == DHCP6_SERVER && p->dst_port == DHCP6_CLIENT;
	return family == 6 && p->proto == IPPROTO_ICMPV6 && (p->icmp_type == ND_ROUTER_ADVERT || p->icmp_type == ND_REDIRECT);
}

/* arp_sender reads which address and MAC an ARP frame says are its sender's. It
 * gives 0 when the frame itself comes from another MAC. */
INLINE int arp_sender(struct __sk_buff *skb, struct addr *sender, __u8 *mac)
{
	struct ethhdr eth;
	struct arp a;
	if (bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) || bpf_skb_load_bytes(skb, ETH_HLEN, &a, sizeof(a)))
		return 0;
	if (a.protocol != htons(ETH_P_IP) || a.hardware_len != 6 || a.protocol_len != 4 || __builtin_memcmp(eth.src, a.sender_mac, 6))
		return 0;
	__builtin_memcpy(&sender->w[0], a.sender, 4);
	__builtin_memcpy(mac, a.sender_mac, 6);
	return 1;
}

/* resolves_own says that an ARP frame which leaves the machine says nothing but
 * addresses of instances here. The machine's MAC may be a bridge's or a bond's,
 * and it may answer for a guest that it routes to. */
__attribute__((noinline)) int resolves_own(struct __sk_buff *skb, __u32 revision)
{
	struct addr sender = {};
	__u8 mac[6];
	if (!arp_sender(skb, &sender, mac))
		return 0;
	if (!sender.w[0] || is_own(&sender, 4))
		return 1;
	struct instance_row *row = find_instance_row(&sender, 4);
	struct instance *i = row ? instance_at(row, revision) : 0;
	return i != 0;
}
