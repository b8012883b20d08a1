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

enum whose_error { ERROR_NOBODYS = 0, ERROR_GATEWAYS = 1, ERROR_CLIENTS = 2 };

/* about_answer says whose the ICMP error is that came out of a host's tunnel: of
 * the gateway's own sockets when it is about what they sent to the target, a
 * closed port of a probe's, say; of one of the target's clients, which its host
 * may send on, when it is about what that sent to the VIP. */
INLINE enum whose_error about_answer(struct __sk_buff *skb, const struct target *t, const struct packet *p, const struct addr *host, const int family)
{
	struct packet q;
	if (!p->error || !is_same(&t->host, host, 6) || !quoted(skb, p, &q, family) || !is_same(&q.src, &p->dst, family) || q.proto != t->proto)
		return ERROR_NOBODYS;
	if (is_key(&t->service, &q.dst, family))
		return q.dst_port == t->service_port || q.dst_port == t->probe_port ? ERROR_GATEWAYS : ERROR_NOBODYS;
	return t->flags & TARGET_RETURN && within(q.dst_port, t->vport, t->span) && is_same(&p->src, &q.dst, family) &&
			       (is_key(&t->vip, &q.dst, family) || is_key(&t->eip, &q.dst, family)) ?
		       ERROR_CLIENTS :
		       ERROR_NOBODYS;
}

/* send_on sends an answer to its client. The kernel knows the way there. */
INLINE int send_on(struct __sk_buff *skb)
{
	count_reason(REASON_ESTABLISHED);
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}
