/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* ICMP errors about flows through the tunnel, both ways: instances and their
 * clients each get them about packets that they have sent themselves, and that
 * the gates let through. */
#pragma once
#include "icmp.h"
#include "ports.h"

/* error_in gives an instance the error that somebody sent to the VIP about an
 * answer of its: as about what it sent from its own address and port. One about a
 * flow that nobody here knows may be for the second target. */
INLINE int error_in(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 looked, __u32 second, const int family)
{
	struct packet p, q;
	struct verdict v = { .direction = DIRECTION_IN, .target = target };
	struct revisions *r = current_revisions();
	if (!r || see(skb, &p, &v, r, family))
		return drop(skb, &p, &v, REASON_MALFORMED);
	v.revision = stamped_revision(r, stamp, &v);
	struct target *t = find_target(target, v.revision);
	if (!t || t->flags & TARGET_VIA_GATEWAY || !(is_key(&t->vip, &p.dst, family) || is_key(&t->eip, &p.dst, family)))
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	if (!p.error || !quoted(skb, &p, &q, family) || q.proto != t->proto || !is_same(&q.src, &p.dst, family) || !within(q.src_port, t->vport, t->span))
		return drop(skb, &p, &v, REASON_UNRELATED);
	struct track k = { .t = { .local_port = t->service_port + (q.src_port - t->vport), .proto = t->proto } };
	set_addr(&k.t.remote, &q.dst, family);
	set_addr(&k.t.local, &t->service, family);
	k.t.remote_port = looked ? port_looked(looked) : q.dst_port;
	int found = find(&k, units(v.now), family) && its_own(&k, q.dst_port, &q.src, q.src_port, family);
	if (!found && !looked)
		return THEN_ASIDE;
	if (!found && second)
		return THEN_ELSEWHERE;
	if (!found || !STANDS(&k, v.revision, family))
		return drop(skb, &p, &v, REASON_UNRELATED);
	v.counter = k.was.counter;
	v.reason = REASON_ESTABLISHED;
	__u32 how = RETELL_SENT | k.t.local_port;
	if (family == 4 ? retell4(skb, &p, &q, &k.t.local, how) : retell6(skb, &p, &q, &k.t.local, how))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	if (k.was.flags & FLOW_MOVED && requote_in(skb, &p, &q, &k))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	admitted(&p, &v, skb->len, 0);
	return TCX_NEXT;
}

__attribute__((noinline)) int error_in4(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 looked, __u32 second)
{
	return error_in(skb, stamp, target, looked, second, 4);
}

__attribute__((noinline)) int error_in6(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 looked, __u32 second)
{
	return error_in(skb, stamp, target, looked, second, 6);
}


/* error_out gives a client the error about a packet that it has sent to the VIP:
 * from the VIP, as about what the client sent. It may come from the instance or
 * from a router in front of it, whose own address nobody outside gets to see; of
 * a guest (own) it has to be about what the guest itself was sent. It gives
 * NOT_OURS for an error that is about no flow of the tunnel. */
INLINE int error_out(struct __sk_buff *skb, __u32 own, const int family)
{
	struct packet p, q;
	struct track k = {};
	struct verdict v = { .direction = DIRECTION_OUT };
	if (see(skb, &p, &v, current_revisions(), family) || !quoted_flow(skb, &p, &q, DIRECTION_OUT, &k, 0, units(v.now), family) ||
	    !(k.was.flags & FLOW_TUNNELLED) || (own && !is_same(&q.dst, &p.src, family)))
		return NOT_OURS;
	if (!STANDS(&k, v.revision, family))
		return drop(skb, &p, &v, REASON_UNRELATED);
	v.counter = k.was.counter;
	v.reason = REASON_ESTABLISHED;
	v.target = k.was.target;
	if (!(k.was.flags & FLOW_VIA_GATEWAY) && (family == 4 ? retell4(skb, &p, &q, &k.was.vip, k.was.vport) : retell6(skb, &p, &q, &k.was.vip, k.was.vport)))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	if (k.was.flags & FLOW_MOVED && requote_out(skb, &p, &q, &k))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	admitted(&p, &v, skb->len, 0);
	if (!(k.was.flags & (FLOW_VIA_GATEWAY | FLOW_RETURN)))
		return TCX_NEXT;
	return to_gateway(skb, &p, &k, &v, family);
}

__attribute__((noinline)) int error_out4(struct __sk_buff *skb, __u32 own) { return error_out(skb, own, 4); }
__attribute__((noinline)) int error_out6(struct __sk_buff *skb, __u32 own) { return error_out(skb, own, 6); }
