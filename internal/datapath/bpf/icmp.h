/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors: whose packet they quote. */
#pragma once
#include "host.h"

/* quoted_flow looks for the flow whose packet an ICMP error quotes. */
INLINE int quoted_flow(struct __sk_buff *skb, const struct packet *p, __u8 direction, struct track *k, __u32 now)
{
	struct iphdr ip;
	__u8 ports[4];
	if (p->icmp_type != ICMP_UNREACHABLE && p->icmp_type != ICMP_EXCEEDED && p->icmp_type != ICMP_PARAMETER)
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + 8, &ip, sizeof(ip)) || ip.ver_ihl != 0x45 || bpf_skb_load_bytes(skb, p->l4 + 28, ports, 4))
		return 0;
	__u16 from = ports[0] << 8 | ports[1], to = ports[2] << 8 | ports[3];
	int ours = direction == DIRECTION_IN; /* an error that comes in quotes what we sent */
	k->t.proto = ip.protocol;
	k->t.remote = ours ? ip.daddr : ip.saddr;
	k->t.local = ours ? ip.saddr : ip.daddr;
	k->t.remote_port = ours ? to : from;
	k->t.local_port = ours ? from : to;
	return find(k, now) && k->was.state != FLOW_REFUSED;
}
