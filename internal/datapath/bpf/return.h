/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way back through the gateway, where no host may send from a VIP: hosts
 * rewrite answers as they would for the direct way, and tunnel them here. The
 * target's row says all that has to be known of them; there is no state. */
#pragma once
#include "ports.h"
#include "quote.h"
#include "rows.h"
#include "tell.h"
#include "tunnel.h"

/* answers_as_vip says that a packet out of a host's tunnel is an answer that
 * the target may give clients: from its own host, as the port of a VIP that
 * stands in its row. Such a port never dials, so it never begins anything. */
INLINE int answers_as_vip(const struct target *t, const struct packet *p, const struct addr *host, const int family)
{
	return t->flags & TARGET_RETURN && is_same(&t->host, host, 6) && p->proto == t->proto && within(p->src_port, t->vport, t->span) &&
	       (is_key(&t->vip, &p->src, family) || is_key(&t->eip, &p->src, family)) && !begins(p);
}

/* about_answer says that a packet out of a host's tunnel is an ICMP error that
 * the target's host may send on: about what one of its clients has sent, to that. */
INLINE int about_answer(struct __sk_buff *skb, const struct target *t, const struct packet *p, const struct addr *host, const int family)
{
	struct packet q;
	if (!p->error || !is_same(&t->host, host, 6) || !quoted(skb, p, &q, family) || !is_same(&q.src, &p->dst, family) || q.proto != t->proto)
		return 0;
	if (t->flags & TARGET_VIA_GATEWAY)
		return is_key(&t->service, &q.dst, family) && (q.dst_port == t->service_port || q.dst_port == t->probe_port);
	return t->flags & TARGET_RETURN && within(q.dst_port, t->vport, t->span) && is_same(&p->src, &q.dst, family) &&
	       (is_key(&t->vip, &q.dst, family) || is_key(&t->eip, &q.dst, family));
}

/* send_on sends an answer to its client. The kernel knows the way there. */
INLINE int send_on(struct __sk_buff *skb)
{
	count_reason(REASON_ESTABLISHED);
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}
