/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Guests: instances behind a tap, a veth or a bridge's port of this host. Their
 * gate stands at that port, out of their reach: what they send comes in there,
 * what they get goes out. What comes through the tunnel was judged where that
 * ends and carries a mark. A port whose guest nobody named lets nothing pass. What
 * goes between a guest and this machine itself passes the machine's own gate too. */
#pragma once
#include "track.h"

struct guest_port {
	__u8 mac[6];
	__u8 pad[2];
};

HASH(guest_ports, __u32, struct guest_port, 1024); /* by interface */

/* is_at says that the guest of an address is behind the port. */
INLINE int is_at(const struct addr *a, __u32 port, const int family)
{
	struct instance_row *row = find_instance_row(a, family);
	return row && READ_ONCE(row->port) == port;
}

/* sender_at gives the port's guest when a frame carries its MAC address, else 0. */
INLINE struct guest_port *sender_at(struct __sk_buff *skb)
{
	__u32 port = skb->ifindex;
	struct guest_port *g = bpf_map_lookup_elem(&guest_ports, &port);
	struct ethhdr eth;
	return g && !bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth)) && !__builtin_memcmp(eth.src, g->mac, 6) ? g : 0;
}

enum whose { WHOSE_RULES = 0, WHOSE_SYSTEM = 1, WHOSE_SPOOFED = 2 };

/* claims says what a guest's packet says of itself: that it is from the guest,
 * whose rules judge it then; one that asks for an address or a neighbour, which
 * a system rule lets pass; or what no guest may say. */
INLINE enum whose claims(struct __sk_buff *skb, const struct packet *p, const int family)
{
	__u32 port = skb->ifindex;
	struct addr about = {};
	struct guest_port *g = sender_at(skb);
	if (!p || !g)
		return WHOSE_SPOOFED;
	int own = is_at(&p->src, port, family);
	if (leads_astray(p, family))
		return WHOSE_SPOOFED;
	if (family == 4 && p->proto == IPPROTO_UDP && !p->fragment && p->src_port == DHCP_CLIENT && p->dst_port == DHCP_SERVER &&
	    (own || is_nothing(&p->src, 4)))
		return WHOSE_SYSTEM;
	if (family == 6 && (is_nd(skb, p, 0) || is_dhcp6(p, 0))) {
		if (!own && !is_of_mac(&p->src, g->mac) && !is_nothing(&p->src, 6))
			return WHOSE_SPOOFED;
		if (p->proto == IPPROTO_ICMPV6 && p->icmp_type == ND_NEIGHBOUR_ADVERT &&
		    (nd_target(skb, p, &about) || !(is_of_mac(&about, g->mac) || is_at(&about, port, 6))))
			return WHOSE_SPOOFED;
		return WHOSE_SYSTEM;
	}
	return own ? WHOSE_RULES : WHOSE_SPOOFED;
}

/* Off the caller's stack. */
__attribute__((noinline)) int claims4(struct __sk_buff *skb, const struct packet *p) { return claims(skb, p, 4); }
__attribute__((noinline)) int claims6(struct __sk_buff *skb, const struct packet *p) { return claims(skb, p, 6); }

/* by_uplink sends what a guest answers as from the VIP: this host's own routes
 * may not lead that way. */
__attribute__((noinline)) int by_uplink(struct __sk_buff *skb)
{
	skb->mark = mark_judged;
	return bpf_redirect_neigh(uplink, 0, 0, 0);
}

/* sent judges what a guest sends; as leaving does, ICMP errors in two steps. */
INLINE int sent(struct __sk_buff *skb, __u32 unrelated, const int family)
{
	struct packet p;
	struct track k = {};
	struct verdict v = { .direction = DIRECTION_OUT, .strict = 1 };
	if (see(skb, &p, &v, current_revisions(), family))
		return drop(skb, &p, &v, REASON_MALFORMED);
	int whose = family == 4 ? claims4(skb, &p) : claims6(skb, &p);
	if (whose == WHOSE_SPOOFED)
		return drop(skb, &p, &v, REASON_SPOOFED);
	if (whose == WHOSE_SYSTEM) {
		count_reason(REASON_SYSTEM_RULE);
		return TCX_NEXT;
	}
	if (p.error && !unrelated)
		return THEN_ERROR;
	if (!look_up(&p, &v, &k, 0, family) || !(k.was.flags & FLOW_TUNNELLED) || asks(&p, family)) {
		int answer = followed(&p, direct(skb, &p, &v, &k, 0, family));
		return answer == TCX_NEXT && IS_MACHINES(&p.dst, v.revision, family) ? THEN_MACHINE : answer;
	}
	int verdict = followed(&p, reply(skb, &p, &k, &v, units(v.now), family));
	return verdict == TCX_NEXT ? by_uplink(skb) : verdict;
}

__attribute__((noinline)) int sent4(struct __sk_buff *skb, __u32 unrelated) { return sent(skb, unrelated, 4); }
__attribute__((noinline)) int sent6(struct __sk_buff *skb, __u32 unrelated) { return sent(skb, unrelated, 6); }

/* offered says that a packet to a guest is about addresses and neighbours. */
INLINE int offered(struct __sk_buff *skb, const struct packet *p, const int family)
{
	if (family == 4)
		return p->proto == IPPROTO_UDP && !p->fragment && p->src_port == DHCP_SERVER && p->dst_port == DHCP_CLIENT;
	return is_nd(skb, p, 1) || is_dhcp6(p, 1);
}

/* received judges what is on its way to a guest. */
INLINE int received(struct __sk_buff *skb, __u32 looked, const int family)
{
	struct packet p;
	struct track k = {};
	struct verdict v = { .direction = DIRECTION_IN, .strict = 1 };
	if (see(skb, &p, &v, current_revisions(), family))
		return drop(skb, &p, &v, REASON_MALFORMED);
	if (offered(skb, &p, family)) {
		count_reason(REASON_SYSTEM_RULE);
		return TCX_NEXT;
	}
	if (!is_at(&p.dst, skb->ifindex, family))
		return drop(skb, &p, &v, REASON_NO_MATCH);
	look_up(&p, &v, &k, looked, family);
	int answer = followed(&p, direct(skb, &p, &v, &k, looked, family));
	return answer == TCX_NEXT && IS_MACHINES(&p.src, v.revision, family) ? THEN_MACHINE : answer;
}

__attribute__((noinline)) int received4(struct __sk_buff *skb, __u32 looked) { return received(skb, looked, 4); }
__attribute__((noinline)) int received6(struct __sk_buff *skb, __u32 looked) { return received(skb, looked, 6); }

/* resolves says that an ARP frame from a guest's port says nothing but the
 * guest's own addresses. */
INLINE int resolves(struct __sk_buff *skb)
{
	struct addr sender = {};
	__u8 mac[6];
	__u32 port = skb->ifindex;
	struct guest_port *g = bpf_map_lookup_elem(&guest_ports, &port);
	if (!g || !arp_sender(skb, &sender, mac) || __builtin_memcmp(mac, g->mac, 6))
		return 0;
	return !sender.w[0] || is_at(&sender, port, 4);
}

/* other ends what is not IP: address resolution passes, as far as it is the
 * guest's own. */
__attribute__((noinline)) int other(struct __sk_buff *skb, __u32 direction)
{
	struct packet p;
	struct verdict v = { .gate = GATE_CVM, .direction = direction, .strict = 1, .now = now_ns() };
	struct revisions *r = current_revisions();
	unread(&p, 0);
	if (r)
		v.revision = READ_ONCE(r->revision);
	if (skb->protocol != htons(ETH_P_ARP) || skb->vlan_present)
		return drop(skb, &p, &v, REASON_UNSUPPORTED);
	if (direction == DIRECTION_OUT && !resolves(skb))
		return drop(skb, &p, &v, REASON_SPOOFED);
	count_reason(REASON_SYSTEM_RULE);
	return TCX_NEXT;
}

SEC("tcx/ingress")
int guest_out(struct __sk_buff *skb)
{
	int family = skb->vlan_present ? 0 : family_of(skb);
	skb->mark = 0;
	int answer = family == 4 ? sent4(skb, 0) : family == 6 ? sent6(skb, 0) : other(skb, DIRECTION_OUT);
	if (answer == THEN_ERROR) {
		answer = family == 4 ? error_out4(skb, 1) : error_out6(skb, 1);
		if (answer == TCX_NEXT)
			return by_uplink(skb);
	}
	if (answer == NOT_OURS)
		answer = family == 4 ? sent4(skb, 1) : sent6(skb, 1);
	if (answer == THEN_SIZE)
		answer = family == 4 ? refuse_size4(skb, 0) : refuse_size6(skb, 0);
	if (answer == THEN_MACHINE)
		answer = family == 4 ? arriving4(skb, 0, 1) : arriving6(skb, 0, 1);
	if (answer == THEN_ASIDE)
		answer = family == 4 ? arriving4(skb, aside4(skb, 0, 0), 1) : arriving6(skb, aside6(skb, 0, 0), 1);
	return answer;
}

/* taken_in judges what goes out of a guest's port. */
__attribute__((noinline)) int taken_in(struct __sk_buff *skb)
{
	int family = skb->vlan_present ? 0 : family_of(skb);
	int answer = family == 4 ? received4(skb, 0) : family == 6 ? received6(skb, 0) : other(skb, DIRECTION_IN);
	if (answer == THEN_ASIDE)
		answer = family == 4 ? received4(skb, aside4(skb, 0, 0)) : received6(skb, aside6(skb, 0, 0));
	return answer;
}

SEC("tcx/egress")
int guest_in(struct __sk_buff *skb)
{
	if (skb->mark == mark_judged) {
		skb->mark = 0;
		return TCX_NEXT;
	}
	int answer = taken_in(skb);
	if (answer == THEN_MACHINE)
		answer = skb->protocol == htons(ETH_P_IP) ? leaving4(skb, 1) : leaving6(skb, 1);
	if (answer == THEN_SIZE)
		answer = skb->protocol == htons(ETH_P_IP) ? refuse_size4(skb, BPF_F_INGRESS) : refuse_size6(skb, BPF_F_INGRESS);
	return answer;
}
