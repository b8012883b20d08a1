/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Packets of flows that another host may know. A gateway that met a flow in its
 * middle, its table lost, names the target that its ring had before beside the
 * one that it has now. A host that does not know the flow sends the packet back
 * for that one. It goes by the gateway, which knows all hosts and now knows the
 * flow's: no host trusts another. */
#pragma once
#include "socket.h"
#include "track.h"

/* connected says that the instance itself has the packet's connection, though
 * gate 2 does not know it: a packet for the service that t stands for. */
INLINE int connected(struct __sk_buff *skb, struct packet *p, const struct target *t, const int family)
{
	struct bpf_sock_tuple tuple;
	set_addr(&p->dst, &t->service, family);
	p->dst_port = t->service_port + (p->dst_port - t->vport);
	struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, &tuple, name_socket(&tuple, p, family), (__u64)-1, 0);
	if (!sk)
		return 0;
	int known = sk->dst_port == htons(p->src_port); /* one that listens has none */
	bpf_sk_release(sk);
	return known;
}

/* elsewhere sends the packet back to the gateway, for the second target. It gives
 * NOT_OURS when the flow is known here after all. */
INLINE int elsewhere(struct __sk_buff *skb, __u32 gateway, __u32 stamp, __u32 target, __u32 second, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN, .target = target };
	struct revisions *r = current_revisions();
	if (!r || see(skb, &p, &v, r, family))
		return NOT_OURS;
	struct target *t = find_target(target, stamped_revision(r, stamp, &v));
	struct hop hop = { .to = bpf_map_lookup_elem(&peers, &gateway), .flow = flow_port(&p, family), .revision = stamp, .target = second };
	if (!t || !hop.to || (!p.error && connected(skb, &p, t, family)))
		return NOT_OURS;
	hop.peer = peer_of(hop.to);
	if (into_frame(skb, &p) || encapsulate(skb, &hop))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	count_reason(REASON_PASSED_ON);
	return leave(hop.peer);
}

__attribute__((noinline)) int elsewhere4(struct __sk_buff *skb, __u32 gateway, __u32 stamp, __u32 target, __u32 second)
{
	return elsewhere(skb, gateway, stamp, target, second, 4);
}

__attribute__((noinline)) int elsewhere6(struct __sk_buff *skb, __u32 gateway, __u32 stamp, __u32 target, __u32 second)
{
	return elsewhere(skb, gateway, stamp, target, second, 6);
}
