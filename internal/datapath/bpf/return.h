/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The way back through the gateway, where no host may send from a VIP: hosts
 * rewrite answers as they would for the direct way, and tunnel them here. The
 * target's row says all that has to be known of them; there is no state. */
#pragma once
#include "ports.h"
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

/* send_on sends an answer to its client. The kernel knows the way there. */
INLINE int send_on(struct __sk_buff *skb)
{
	count_reason(REASON_ESTABLISHED);
	return bpf_redirect_neigh(skb->ifindex, 0, 0, 0);
}
