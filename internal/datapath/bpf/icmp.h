/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors at a host: the flow that they are about, and its addresses as each
 * side knows them. */
#pragma once
#include "collide.h"
#include "quote.h"

/* quoted_flow looks for the flow whose packet an ICMP error quotes, under the
 * port that it was moved to if somebody looked. An error that comes in quotes
 * what was sent. */
INLINE int quoted_flow(struct __sk_buff *skb, const struct packet *p, struct packet *q, __u8 direction, struct track *k, __u32 looked, __u32 now, const int family)
{
	if (!p->error || !quoted(skb, p, q, family))
		return 0;
	name_flow(q, direction == DIRECTION_IN ? DIRECTION_OUT : DIRECTION_IN, &k->t, family);
	if (looked)
		k->t.remote_port = port_looked(looked);
	return find(k, now, family) && k->was.state != FLOW_REFUSED;
}
