// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The gateway's work, packaged for repeated test runs: the source address is
 * drawn anew for each run, and what the tunnel put in front is taken off again.
 * The base programs do only that, and are subtracted. The live programs fill
 * frames that the kernel then carries like received ones. */
#include "gateway.bpf.c"

volatile __u64 bench_seed = 0x9E3779B97F4A7C15ull;
volatile __u32 bench_mask;   /* of the source address's low bits */
volatile __u32 bench_source; /* its high bits, host byte order */

INLINE __be32 draw(void)
{
	__u64 x = bench_seed;
	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	bench_seed = x;
	return htonl(bench_source | ((__u32)x & bench_mask));
}

INLINE int restore(struct __sk_buff *skb)
{
	return bpf_skb_adjust_room(skb, -(int)sizeof(struct tunnel_header), BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) ? TC_ACT_SHOT : TC_ACT_OK;
}

INLINE int aim(struct __sk_buff *skb)
{
	__be32 src = draw();
	return bpf_skb_store_bytes(skb, ETH_HLEN + offsetof(struct iphdr, saddr), &src, 4, 0);
}

SEC("tcx/ingress")
int bench_tc_base(struct __sk_buff *skb)
{
	/* A repeated run's packet counts as in a tunnel since its first round. */
	if (aim(skb) || make_room(skb, 4))
		return TC_ACT_SHOT;
	return restore(skb);
}

SEC("tcx/ingress")
int bench_tc_empty(struct __sk_buff *skb) { return aim(skb) ? TC_ACT_SHOT : TC_ACT_OK; }

/* gateway with the tunnel taken off again. */
SEC("tcx/ingress")
int bench_tc(struct __sk_buff *skb)
{
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .direction = DIRECTION_IN };
	if (aim(skb) || skb->protocol != htons(ETH_P_IP) || see(skb, &p, &v, 4) <= 0 || is_tunnel(&p, 4))
		return TC_ACT_OK;
	if (receive(skb, &p, skb->len, &v, &hop, 4) == OUTCOME_DROP)
		return drop(skb, &p, &v, v.reason);
	if (!hop.peer || wrap(skb, &hop))
		return TCX_NEXT;
	return restore(skb);
}

INLINE int aim_early(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	if ((void *)(ip + 1) > end)
		return -1;
	ip->saddr = draw();
	return 0;
}

INLINE int restore_early(struct xdp_md *ctx)
{
	if (bpf_xdp_adjust_head(ctx, sizeof(struct tunnel_header)))
		return XDP_PASS;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = data;
	if ((void *)(eth + 1) > end)
		return XDP_PASS;
	eth->proto = htons(ETH_P_IP); /* inner bytes stand where the frame's header was */
	return XDP_TX;
}

SEC("xdp")
int bench_xdp_base(struct xdp_md *ctx)
{
	if (aim_early(ctx) || bpf_xdp_adjust_head(ctx, -(int)sizeof(struct tunnel_header)))
		return XDP_PASS;
	return restore_early(ctx);
}

SEC("xdp")
int bench_xdp_empty(struct xdp_md *ctx) { return aim_early(ctx) ? XDP_PASS : XDP_TX; }

SEC("xdp")
int bench_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .gate = GATE_CLB, .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	__u64 length = end - data;
	if (!r || aim_early(ctx))
		return XDP_PASS;
	data = (void *)(long)ctx->data, end = (void *)(long)ctx->data_end;
	if (parse_plain(data, end, length, ETH_HLEN, &p, 4) != PARSED)
		return XDP_PASS;
	v.now = now_ns();
	v.revision = READ_ONCE(r->revision);
	if (receive(0, &p, length, &v, &hop, 4) == OUTCOME_DROP)
		return drop_early(&p, &v, length);
	if (!hop.peer || push_tunnel(ctx, length, &hop))
		return XDP_PASS;
	return restore_early(ctx);
}

/* What frames and judgements are drawn from, in network byte order. */
struct bench_tuple {
	__be32 src, dst;
	__be16 sport, dport;
};

ARRAY(bench_pool, struct bench_tuple, 4096);
volatile __u32 bench_policy; /* place in the arena */
volatile __u64 bench_dst_mac, bench_src_mac;
const struct bench_tuple *bench_tuple_type __attribute__((unused));

INLINE struct bench_tuple *pick(void)
{
	__u32 i = ntohl(draw()) & 4095;
	return bpf_map_lookup_elem(&bench_pool, &i);
}

SEC("xdp")
int bench_judge_base(struct xdp_md *ctx)
{
	struct bench_tuple *t = pick();
	return t && ntohl(t->src) == 1 && ntohs(t->dport) == 1 ? XDP_PASS : XDP_DROP;
}

SEC("xdp")
int bench_judge(struct xdp_md *ctx)
{
	struct bench_tuple *t = pick();
	return t && accepts(judge4(bench_policy, ntohl(t->src), (__u32)IPPROTO_TCP << 16 | ntohs(t->dport))) ? XDP_PASS : XDP_DROP;
}

/* fill writes a frame: its page comes back with what the last hop made of it. */
INLINE int fill(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__be16 *ports = (void *)(ip + 1);
	struct bench_tuple *t = pick();
	if (!t || (void *)(ports + 2) > end)
		return -1;
	__u64 to = bench_dst_mac, from = bench_src_mac;
	__builtin_memcpy(data, &to, 6);
	__builtin_memcpy(data + 6, &from, 6);
	ip->saddr = t->src;
	ip->daddr = t->dst;
	ports[0] = t->sport;
	ports[1] = t->dport;
	ip->ttl = 64;
	ip->check = 0;
	__u32 sum = 0;
	__u16 *w = (void *)ip;
#pragma unroll
	for (int i = 0; i < 10; i++)
		sum += w[i];
	ip->check = (__u16)~halves(halves(sum));
	return 0;
}

SEC("xdp")
int live_pass(struct xdp_md *ctx) { return fill(ctx) ? XDP_DROP : XDP_PASS; }

SEC("xdp")
int live_refuse(struct xdp_md *ctx)
{
	if (fill(ctx))
		return XDP_PASS;
	return early(ctx);
}
