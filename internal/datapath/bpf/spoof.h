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

INLINE int is_nothing(const struct addr *a, const int family) { return !(first_half(a, family) | second_half(a, family)); }

/* is_of_mac says that an address is the link-local one that a MAC gives (EUI-64). */
INLINE int is_of_mac(const struct addr *a, const __u8 *mac)
{
	return a->w[0] == htonl(0xfe800000) && !a->w[1] &&
	       a->w[2] == htonl((__u32)(mac[0] ^ 2) << 24 | mac[1] << 16 | mac[2] << 8 | 0xff) &&
	       a->w[3] == htonl(0xfeu << 24 | mac[3] << 16 | mac[4] << 8 | mac[5]);
}

/* nd_target is the address that a solicitation or advertisement is about. */
INLINE int nd_target(struct __sk_buff *skb, const struct packet *p, struct addr *a) { return bpf_skb_load_bytes(skb, p->l4 + 8, a, sizeof(*a)); }

/* resolves_own says that an ARP frame which leaves the machine says nothing but
 * addresses of instances here. The machine's MAC may be a bridge's or a bond's,
 * and it may answer for a guest that it routes to. */
__attribute__((noinline)) int resolves_own(struct __sk_buff *skb, __u32 revision)
{
	struct addr sender = {};
	__u8 mac[6];
	if (!arp_sender(skb, &sender, mac))
		return 0;
	if (!sender.w[0] || is_own(&sender, 4) || !revision)
		return 1;
	struct instance_row *row = find_instance_row(&sender, 4);
	struct instance *i = row ? instance_at(row, revision) : 0;
	return i != 0;
}

/* is_here says that an IPv6 address is an instance's here, or none yet. Those of
 * one link are the machine's own kernel's to choose, and its guests' go by too. */
INLINE int is_here(const struct addr *a, __u32 revision)
{
	if (is_nothing(a, 6) || link_local(a) || is_own(a, 6) || !revision)
		return 1;
	struct instance_row *row = find_instance_row(a, 6);
	return row && instance_at(row, revision);
}

/* astray6 is resolves_own's contrary for neighbour discovery. */
__attribute__((noinline)) int astray6(struct __sk_buff *skb, const struct packet *p, __u32 revision)
{
	struct addr about = {};
	if (!p || p->proto != IPPROTO_ICMPV6 || p->fragment || (p->icmp_type != ND_NEIGHBOUR_SOLICIT && p->icmp_type != ND_NEIGHBOUR_ADVERT))
		return 0;
	if (p->icmp_type == ND_NEIGHBOUR_ADVERT && (nd_target(skb, p, &about) || is_nothing(&about, 6)))
		return 1;
	return !is_here(&p->src, revision) || !is_here(&about, revision);
}
