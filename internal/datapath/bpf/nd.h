/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Neighbour discovery (RFC 4861): what of it passes gate 2 whatever the rules,
 * and answers for VIPs, which are no addresses of the gateway's interfaces. */
#pragma once
#include "rows.h"
#include "index.h"
#include "packet.h"

enum {
	ND_ROUTER_SOLICIT = 133,
	ND_ROUTER_ADVERT = 134,
	ND_NEIGHBOUR_SOLICIT = 135,
	ND_NEIGHBOUR_ADVERT = 136,
	MLD_QUERY = 130,
	MLD_REPORT = 131,
	MLD_DONE = 132,
	MLD2_REPORT = 143,
	ND_HOPS = 255, /* nobody but a neighbour can send it */
	ND_SOURCE_MAC = 1,
	ND_TARGET_MAC = 2,
};

#define ND_SOLICITED 0x40000000
#define ND_OVERRIDE 0x20000000

INLINE __u8 hops_of(struct __sk_buff *skb, const struct packet *p)
{
	__u8 hops = 0;
	bpf_skb_load_bytes(skb, p->l3 + offsetof(struct ipv6hdr, hop_limit), &hops, 1);
	return hops;
}

INLINE int link_local(const struct addr *a) { return (a->w[0] & htonl(0xffc00000)) == htonl(0xfe800000); }

/* is_nd says that an IPv6 packet is neighbour discovery as a machine that is no
 * router takes part in it, or the multicast listener discovery that switches
 * need in order to pass it on. */
INLINE int is_nd(struct __sk_buff *skb, const struct packet *p, int in)
{
	if (p->proto != IPPROTO_ICMPV6 || p->fragment)
		return 0;
	__u8 type = p->icmp_type;
	if (type == ND_NEIGHBOUR_SOLICIT || type == ND_NEIGHBOUR_ADVERT || type == (in ? ND_ROUTER_ADVERT : ND_ROUTER_SOLICIT))
		return hops_of(skb, p) == ND_HOPS;
	if (in ? type == MLD_QUERY : type == MLD_REPORT || type == MLD_DONE || type == MLD2_REPORT)
		return hops_of(skb, p) == 1;
	return 0;
}

/* is_dhcp6 is is_dhcp for IPv6: it runs between link-local addresses. */
INLINE int is_dhcp6(const struct packet *p, int in)
{
	enum { SERVER = 547, CLIENT = 546 };
	if (p->proto != IPPROTO_UDP || p->fragment || !link_local(&p->src))
		return 0;
	return in ? p->src_port == SERVER && p->dst_port == CLIENT && link_local(&p->dst) : p->src_port == CLIENT && p->dst_port == SERVER;
}

/* A solicitation or advertisement with the one option it may have, its
 * addresses aligned. */
struct nd {
	__u16 pad;
	struct ethhdr eth;
	struct ipv6hdr ip;
	__u8 type;
	__u8 code;
	__u16 check;
	__be32 flags;
	struct addr target;
	__u8 option;
	__u8 option_len; /* in units of 8 bytes */
	__u8 mac[6];
};

enum { ND_LENGTH = sizeof(struct nd) - 2, ND_PAYLOAD = ND_LENGTH - ETH_HLEN - 40, ND_NEEDED = ND_LENGTH - 8 };
_Static_assert(ND_LENGTH == 86 && ND_PAYLOAD == 32, "an advertisement has no padding");

/* answer_nd answers who asks for a VIP, out of the device he asked on. It gives
 * 0 when the packet is not such a question. Who is about to take the address for
 * himself is told that it is taken, with everybody else. */
__attribute__((noinline)) int answer_nd(struct __sk_buff *skb, __u32 revision)
{
	struct nd n = {};
	struct revisions *r = current_revisions();
	if (!answer_vips || !r || READ_ONCE(r->here) || bpf_skb_load_bytes(skb, 0, &n.eth, ND_NEEDED) || n.ip.nexthdr != IPPROTO_ICMPV6 || n.type != ND_NEIGHBOUR_SOLICIT ||
	    n.code || n.ip.hop_limit != ND_HOPS || !is_vip(&n.target, revision, 6))
		return 0;
	if (bpf_skb_change_tail(skb, ND_LENGTH, 0))
		return 0;
	int claims = !(n.ip.saddr[0] | n.ip.saddr[1] | n.ip.saddr[2] | n.ip.saddr[3]);
	__builtin_memcpy(n.eth.dst, n.eth.src, 6);
	__builtin_memcpy(n.ip.daddr, n.ip.saddr, 16);
	if (claims) {
		n.ip.daddr[0] = htonl(0xff020000);
		n.ip.daddr[3] = htonl(1);
		n.eth.dst[0] = n.eth.dst[1] = 0x33;
		n.eth.dst[2] = n.eth.dst[3] = n.eth.dst[4] = 0;
		n.eth.dst[5] = 1;
	}
	for (int i = 0; i < 6; i++)
		n.eth.src[i] = n.mac[i] = own_mac[i];
	n.ip.flow = htonl(0x60000000);
	n.ip.payload_len = htons(ND_PAYLOAD);
	__builtin_memcpy(n.ip.saddr, &n.target, 16);
	n.type = ND_NEIGHBOUR_ADVERT;
	n.flags = htonl(claims ? ND_OVERRIDE : ND_OVERRIDE | ND_SOLICITED);
	n.option = ND_TARGET_MAC;
	n.option_len = 1;
	n.check = 0;
	__s64 sum = bpf_csum_diff(0, 0, n.ip.saddr, 32, htonl(ND_PAYLOAD));
	sum = bpf_csum_diff(0, 0, (__be32 *)&n.type, ND_PAYLOAD, (__u32)sum);
	sum = (__u32)sum + (__u64)htonl(IPPROTO_ICMPV6);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	n.check = (__u16)~sum;
	return !bpf_skb_store_bytes(skb, 0, &n.eth, ND_LENGTH, 0);
}
