// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The gateway: gate 1, the choice of a target and the tunnel to its host.
 * `gateway` sees what arrives, `gateway_out` what the proxy and the prober
 * send. `gateway_xdp` stands before `gateway` on devices whose driver runs it
 * natively, and takes plain packets that it can finish by itself. */
#include "gateway.h"
#include "arp.h"
#include "return.h"

volatile const __u32 mark_mask;
volatile const __u32 mark_local;
volatile const __u32 mark_target;
volatile const __u8 proxied; /* the node's own proxy listens on VIPs */

/* send tunnels the packet to its host: straight out when the neighbour is
 * known, else by way of the kernel's own lookup. */
INLINE int send(struct __sk_buff *skb, const struct packet *p, const struct hop *hop, struct verdict *v)
{
	if (encapsulate(skb, hop->host, hop->peer, hop->flow, v->revision, v->target))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	return leave(skb, hop->peer);
}

/* from_host takes a reply that its host sends back through the gateway: to a
 * client, or to the gateway's own sockets. The latter comes from a port that we
 * dial there, and never begins a connection. */
INLINE int from_host(struct __sk_buff *skb, struct packet *p, struct verdict *v)
{
	struct tunnel_header h;
	__be32 from = p->src;
	enum reason failed = decapsulate(skb, p, &h);
	if (failed != REASON_NONE)
		return drop(skb, p, v, failed);
	v->target = ntohl(h.target);
	struct target *t = find_target(v->target, v->revision);
	if (t && answers_as_vip(t, p, from))
		return send_on(skb);
	if (!t || t->service[0] != p->src || p->proto != t->proto || opens(p) ||
	    (p->src_port != t->service_port && p->src_port != t->probe_port))
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	count_reason(REASON_ESTABLISHED);
	skb->mark = mark_local;
	return TCX_NEXT;
}

/* deliver hands a packet to the proxy. Sockets of others on the gateway that
 * listen on every address are not meant, also while the proxy is away. */
INLINE int deliver(struct __sk_buff *skb, const struct packet *p, struct verdict *v)
{
	struct bpf_sock_tuple tuple = { .saddr = p->src, .daddr = p->dst, .sport = htons(p->src_port), .dport = htons(p->dst_port) };
	if (proxied) {
		struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple), (__u64)-1, 0);
		int ours = 0;
		if (sk) {
			ours = sk->src_ip4 == p->dst;
			bpf_sk_release(sk);
		}
		if (!ours)
			return drop(skb, p, v, REASON_PROXY_AWAY);
	}
	skb->mark = mark_local;
	return TCX_NEXT;
}

SEC("tcx/ingress")
int gateway(struct __sk_buff *skb)
{
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .gate = GATE_CLB, .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	if (skb->protocol == htons(ETH_P_ARP) && r && answer_arp(skb, READ_ONCE(r->revision))) {
		count_reason(REASON_SYSTEM_RULE);
		return bpf_redirect(skb->ifindex, 0);
	}
	if (skb->protocol != htons(ETH_P_IP) || !r)
		return TCX_NEXT;
	v.now = now_ns();
	v.revision = READ_ONCE(r->revision);
	if (parse_ip(skb, ETH_HLEN, &p) != PARSED) {
		__builtin_memset(&p, 0, sizeof(p));
		return drop(skb, &p, &v, REASON_MALFORMED);
	}
	if (is_tunnel(&p))
		return from_host(skb, &p, &v);
	switch (receive(&p, skb->len, &v, &hop, 0)) {
	case OUTCOME_DROP:
		return drop(skb, &p, &v, v.reason);
	case OUTCOME_TUNNEL:
		return send(skb, &p, &hop, &v);
	case OUTCOME_LOCAL:
		return deliver(skb, &p, &v);
	case OUTCOME_STACK:
	case OUTCOME_LATER:
		break;
	}
	return TCX_NEXT;
}

SEC("tcx/egress")
int gateway_out(struct __sk_buff *skb)
{
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .gate = GATE_CLB, .direction = DIRECTION_OUT };
	struct revisions *r = current_revisions();
	if ((skb->mark & mark_mask) != mark_target || skb->protocol != htons(ETH_P_IP) || !r)
		return TCX_NEXT;
	v.now = now_ns();
	v.revision = READ_ONCE(r->revision);
	v.target = skb->mark & ~mark_mask;
	if (parse_ip(skb, ETH_HLEN, &p) != PARSED) {
		__builtin_memset(&p, 0, sizeof(p));
		return drop(skb, &p, &v, REASON_MALFORMED);
	}
	struct target *t = find_target(v.target, v.revision);
	if (!t || t->service[0] != p.dst)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	hop.host = t->host[0];
	hop.flow = flow_port(&p);
	hop.peer = find_peer(hop.host);
	if (!hop.peer)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	skb->mark = 0;
	lower_mss(skb, &p);
	return send(skb, &p, &hop, &v);
}

/* drop_early is drop for the early hook: the only place there. */
INLINE int drop_early(const struct packet *p, struct verdict *v, __u32 length)
{
	refused(p, v, v->reason, length);
	return XDP_DROP;
}

/* push_tunnel puts the tunnel's headers in front of the frame. */
INLINE int push_tunnel(struct xdp_md *ctx, __u32 length, const struct hop *hop, const struct verdict *v)
{
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct tunnel_header)))
		return -1;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	struct tunnel_header *h = (void *)(eth + 1);
	if ((void *)(h + 1) > end)
		return -1;
	fill_link(eth, hop->peer);
	fill_header(h, length - ETH_HLEN, hop->host, hop->peer, hop->flow, v->revision, v->target);
	return 0;
}

/* early is gateway_xdp, for whoever has a frame. */
INLINE int early(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .gate = GATE_CLB, .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	__u64 length = end - data;
	struct ethhdr *eth = data;
	if (!r || (void *)(eth + 1) > end || eth->proto != htons(ETH_P_IP) || parse_plain(data, end, length, ETH_HLEN, &p) != PARSED || p.proto != IPPROTO_TCP)
		return XDP_PASS;
	v.now = now_ns();
	v.revision = READ_ONCE(r->revision);
	switch (receive(&p, length, &v, &hop, 1)) {
	case OUTCOME_DROP:
		return drop_early(&p, &v, length);
	case OUTCOME_TUNNEL:
		if (push_tunnel(ctx, length, &hop, &v)) {
			v.reason = REASON_TUNNEL_FAILED;
			return drop_early(&p, &v, length);
		}
		return hop.peer->ifindex == ctx->ingress_ifindex ? XDP_TX : (int)bpf_redirect(hop.peer->ifindex, 0);
	case OUTCOME_STACK:
	case OUTCOME_LOCAL:
	case OUTCOME_LATER:
		break;
	}
	return XDP_PASS;
}

SEC("xdp")
int gateway_xdp(struct xdp_md *ctx) { return early(ctx); }

char _license[] SEC("license") = "Dual BSD/GPL";
