// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The gateway: gate 1, the choice of a target and the tunnel to its host.
 * `gateway` sees what arrives, `gateway_out` what the proxy and the prober
 * send. `gateway_xdp` stands before `gateway` on devices whose driver runs it
 * natively, and takes plain packets that it can finish by itself. */
#include "gateway.h"
#include "arp.h"
#include "nd.h"
#include "probes.h"
#include "return.h"
#include "underlay.h"
#include "vlan.h"

volatile const __u32 mark_mask;
volatile const __u32 mark_local;
volatile const __u32 mark_target;
volatile const __u8 proxied; /* the node's own proxy listens on VIPs */

/* write_tunnel writes the frame's new beginning into the room that was made for
 * it in front of inner bytes of packet. */
INLINE int write_tunnel(void *data, void *end, __u32 inner, const struct hop *hop)
{
	struct ethhdr *eth = data;
	struct tunnel_header *h = (void *)(eth + 1);
	if ((void *)(h + 1) > end)
		return -1;
	fill_link(eth, hop->peer, htons(ETH_P_IP));
	fill_header(h, inner, hop, htons(ETH_P_IP));
	return 0;
}

/* wrap is envelop for IPv4 over IPv4 without a copy. Only `gateway` has it: for
 * it the kernel looks at each packet first, whether others share its bytes. */
INLINE int wrap(struct __sk_buff *skb, const struct hop *hop)
{
	__u32 inner = skb->len - ETH_HLEN;
	if (make_room(skb, 4))
		return -1;
	return write_tunnel((void *)(long)skb->data, (void *)(long)skb->data_end, inner, hop);
}

/* send tunnels the packet to its host: straight out when the neighbour is
 * known, else by way of the kernel's own lookup. The common way, IPv4 over IPv4,
 * takes no call. */
INLINE int send(struct __sk_buff *skb, const struct packet *p, const struct hop *hop, struct verdict *v, const int family)
{
	if (family == 4 && hop->peer->family == 4 ? envelop(skb, hop, ether_of(4), 4) : encapsulate(skb, hop))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	return leave(hop->peer);
}

/* deliver hands a packet to the proxy. Sockets of others on the gateway that
 * listen on every address are not meant, also while the proxy is away. */
INLINE int deliver(struct __sk_buff *skb, const struct packet *p, struct verdict *v, const int family)
{
	struct bpf_sock_tuple tuple;
	if (proxied) {
		__u32 size = name_socket(&tuple, p, family);
		struct bpf_sock *sk = bpf_skc_lookup_tcp(skb, &tuple, size, (__u64)-1, 0);
		int ours = 0;
		if (sk) {
			ours = family == 4 ? sk->src_ip4 == p->dst.w[0] :
					     !((sk->src_ip6[0] ^ p->dst.w[0]) | (sk->src_ip6[1] ^ p->dst.w[1]) | (sk->src_ip6[2] ^ p->dst.w[2]) | (sk->src_ip6[3] ^ p->dst.w[3]));
			bpf_sk_release(sk);
		}
		if (!ours)
			return drop(skb, p, v, REASON_PROXY_AWAY);
	}
	skb->mark = mark_local;
	return TCX_NEXT;
}

/* see reads the packet and starts its verdict, at the revision in force. It
 * gives 0 when there is nothing to judge by, and -1 for what does not parse. */
INLINE int see(struct __sk_buff *skb, struct packet *p, struct verdict *v, const int family)
{
	struct revisions *r = current_revisions();
	if (!r)
		return 0;
	v->gate = GATE_CLB;
	v->now = now_ns();
	v->revision = READ_ONCE(r->revision);
	if (parse_packet(skb, ETH_HLEN, p, family) == PARSED)
		return 1;
	unread(p, family);
	return -1;
}

/* What from_client answers for a packet whose tunnel has to be taken off first. */
enum { IN_TUNNEL = 256 };

#include "echo.h"
#include "resend.h"

enum { CUT_LATER = 0, CUT_TAKEN = 1, CUT_ENDED = 2 };

/* from_client judges what came from outside the tunnel. It and the other
 * functions with a 4 and a 6 are walked by the verifier on their own. cut says
 * what becomes of fragments. */
INLINE int from_client(struct __sk_buff *skb, const int cut, const int family)
{
	struct packet p;
	struct hop hop = {};
	struct verdict v = { .direction = DIRECTION_IN };
	int seen = see(skb, &p, &v, family);
	if (seen <= 0)
		return seen ? drop(skb, &p, &v, REASON_MALFORMED) : TCX_NEXT;
	if (is_tunnel(&p, family))
		return IN_TUNNEL;
	if (family == 6 && p.proto == IPPROTO_ICMPV6 && p.icmp_type == ND_NEIGHBOUR_SOLICIT && answer_nd(skb, v.revision)) {
		count_reason(REASON_SYSTEM_RULE);
		return bpf_redirect(skb->ifindex, 0);
	}
	if (p.fragment && !cut)
		return THEN_FRAGMENT;
	switch (cut == CUT_ENDED ? strange(&p, 0, &v, family) : receive(skb, &p, skb->len, &v, &hop, family)) {
	case OUTCOME_DROP:
		return drop(skb, &p, &v, v.reason);
	case OUTCOME_TUNNEL:
		if (!cut && family == 4 && hop.peer->family == 4)
			return wrap(skb, &hop) ? drop(skb, &p, &v, REASON_TUNNEL_FAILED) : leave(hop.peer);
		return followed(&p, send(skb, &p, &hop, &v, family));
	case OUTCOME_LOCAL:
		return followed(&p, deliver(skb, &p, &v, family));
	case OUTCOME_ICMP:
		if (p.icmp_type == echo_of(family))
			return THEN_ECHO;
		return p.error ? THEN_ERROR : drop(skb, &p, &v, REASON_UNSUPPORTED);
	case OUTCOME_SIZE:
		if (p.fragment)
			return drop(skb, &p, &v, REASON_FRAGMENT);
		skb->cb[0] = v.listener;
		skb->cb[1] = v.target;
		skb->cb[3] = room_to(hop.to, units(v.now));
		return THEN_SIZE;
	case OUTCOME_STACK:
		return p.error ? THEN_UNDERLAY : TCX_NEXT;
	case OUTCOME_LATER:
		break;
	}
	return TCX_NEXT;
}

__attribute__((noinline)) int from_client6(struct __sk_buff *skb) { return from_client(skb, CUT_TAKEN, 6); }

/* from_host takes a reply that its host sent back through the gateway, out of
 * its tunnel: to a client, or to the gateway's own sockets, and then it answers
 * what they asked. */
INLINE int from_host(struct __sk_buff *skb, __u32 target, __u32 host, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	int seen = see(skb, &p, &v, family);
	if (seen <= 0)
		return drop(skb, &p, &v, REASON_MALFORMED);
	if (p.fragment == FRAGMENT_STRAY)
		return drop(skb, &p, &v, REASON_FRAGMENT);
	v.target = target;
	struct peer_row *from = bpf_map_lookup_elem(&peers, &host);
	struct target *t = find_target(v.target, v.revision);
	if (t && from && answers_as_vip(t, &p, &from->key, family))
		return followed(&p, send_on(skb));
	if (t && from && sent_back(t, &p, family))
		return THEN_ELSEWHERE;
	enum whose_error whose = t && from && p.proto == icmp_of(family) ? about_answer(skb, t, &p, &from->key, family) : ERROR_NOBODYS;
	if (whose == ERROR_CLIENTS)
		return send_on(skb);
	if (whose == ERROR_NOBODYS && t && from && error_back(skb, t, &p, family))
		return THEN_ERROR;
	if (whose == ERROR_NOBODYS && (!t || !is_key(&t->service, &p.src, family) || !asked_for(skb, t, &p, family)))
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	count_reason(REASON_ESTABLISHED);
	lower_mss(skb, &p, family); /* the host's own room may be greater than this end's */
	skb->mark = mark_local;
	return followed(&p, TCX_NEXT);
}

__attribute__((noinline)) int from_host4(struct __sk_buff *skb, __u32 target, __u32 host) { return from_host(skb, target, host, 4); }
__attribute__((noinline)) int from_host6(struct __sk_buff *skb, __u32 target, __u32 host) { return from_host(skb, target, host, 6); }

/* arrive takes the tunnel off what is for this node's end of it. It gives 1
 * when a is filled, 0 when this is no tunnel after all, and -1 when the packet
 * is dropped: a's answer. */
INLINE int arrive(struct __sk_buff *skb, struct arrival *a, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	if (!a || see(skb, &p, &v, family) <= 0 || !is_tunnel(&p, family))
		return 0;
	enum reason failed = decapsulate(skb, &p, a, family);
	if (failed == REASON_NONE)
		return 1;
	a->answer = drop(skb, &p, &v, failed);
	return -1;
}

__attribute__((noinline)) int arrive4(struct __sk_buff *skb, struct arrival *a) { return arrive(skb, a, 4); }
__attribute__((noinline)) int arrive6(struct __sk_buff *skb, struct arrival *a) { return arrive(skb, a, 6); }

/* The programs that go on with what `gateway` does not finish. The loader fills
 * them in before it attaches. */
#define THEN_RUN(name_) \
	struct { __uint(type, BPF_MAP_TYPE_PROG_ARRAY); __uint(max_entries, 1); __uint(pinning, LIBBPF_PIN_BY_NAME); \
		 __uint(key_size, sizeof(__u32)); __uint(value_size, sizeof(__u32)); } name_ SEC(".maps")
THEN_RUN(rest);
THEN_RUN(cut);

/* gateway_cut takes over from `gateway`: fragments of IPv4. Where the tunnel has
 * no room for them there is less to know: then gateway_uncut does. */
SEC("tcx/ingress")
int gateway_cut(struct __sk_buff *skb) { return from_client(skb, CUT_TAKEN, 4); }

SEC("tcx/ingress")
int gateway_uncut(struct __sk_buff *skb) { return from_client(skb, CUT_ENDED, 4); }

/* resolve answers what is no IP packet: ARP for VIPs. */
INLINE int resolve(struct __sk_buff *skb)
{
	struct revisions *r = current_revisions();
	if (skb->protocol != htons(ETH_P_ARP) || !r || !answer_arp(skb, READ_ONCE(r->revision)))
		return TCX_NEXT;
	count_reason(REASON_SYSTEM_RULE);
	return bpf_redirect(skb->ifindex, 0);
}

/* of_other_vlan ends a frame of another VLAN that is for an address which only
 * gate 1 leads to; all others are their VLAN's business. */
__attribute__((noinline)) int of_other_vlan(struct __sk_buff *skb)
{
	struct packet p = {};
	struct revisions *r = current_revisions();
	struct verdict v = { .gate = GATE_CLB, .direction = DIRECTION_IN, .now = now_ns() };
	__u32 l3 = 0;
	__be16 type = behind_tags(skb, &l3);
	if (!r || (type && type != htons(ETH_P_IP) && type != htons(ETH_P_IPV6)))
		return TCX_NEXT;
	v.revision = READ_ONCE(r->revision);
	int family = type == htons(ETH_P_IP) ? 4 : 6;
	int read = type && (family == 4 ? parse_slowly4(skb, l3, &p) : parse_slowly6(skb, l3, &p)) == PARSED;
	if (read && !(family == 4 ? reserved(&p.dst, v.revision, 4) : reserved(&p.dst, v.revision, 6)))
		return TCX_NEXT;
	if (!read)
		unread(&p, 0);
	return drop(skb, &p, &v, REASON_UNSUPPORTED);
}

/* gateway_rest takes over from `gateway`: IPv6, the tunnel and what is answered
 * or sent on as an error. cb[2] holds what from_client said of an IPv4 packet. */
SEC("tcx/ingress")
int gateway_rest(struct __sk_buff *skb)
{
	struct arrival a = { .answer = TCX_NEXT };
	if (skb->vlan_present || tagged(skb))
		return of_other_vlan(skb);
	int family = family_of(skb);
	if (!family)
		return resolve(skb);
	int answer = family == 4 ? (int)skb->cb[2] : from_client6(skb);
	if (answer == THEN_ECHO)
		return family == 4 ? echo4(skb) : echo6(skb);
	if (answer == THEN_ERROR)
		return family == 4 ? error4(skb) : error6(skb);
	if (answer == THEN_SIZE)
		return family == 4 ? refuse_size4(skb, skb->cb[0], skb->cb[1], DIRECTION_IN) : refuse_size6(skb, skb->cb[0], skb->cb[1], DIRECTION_IN);
	if (answer == THEN_UNDERLAY) { /* the stack has its own use for errors */
		family == 4 ? learn4(skb, ETH_HLEN) : learn6(skb, ETH_HLEN);
		return TCX_NEXT;
	}
	if (answer != IN_TUNNEL)
		return answer;
	if ((family == 4 ? arrive4(skb, &a) : arrive6(skb, &a)) <= 0)
		return a.answer;
	answer = a.family == 4 ? from_host4(skb, a.target, a.sender) : from_host6(skb, a.target, a.sender);
	if (answer == THEN_ELSEWHERE)
		answer = a.family == 4 ? resend4(skb, a.target, a.sender) : resend6(skb, a.target, a.sender);
	if (answer == THEN_ERROR)
		answer = a.family == 4 ? resend_error4(skb, a.target, a.sender) : resend_error6(skb, a.target, a.sender);
	return answer;
}

/* gateway finishes clients' packets of IPv4 in its own frame. All else is
 * gateway_rest's, a program and no function: both together need more stack than
 * a program has. */
SEC("tcx/ingress")
int gateway(struct __sk_buff *skb)
{
	without_priority(skb);
	if (skb->protocol == htons(ETH_P_IP) && !skb->vlan_present) {
		int answer = from_client(skb, CUT_LATER, 4);
		if (answer < IN_TUNNEL)
			return answer;
		if (answer == THEN_FRAGMENT)
			bpf_tail_call(skb, &cut, 0);
		skb->cb[2] = answer;
	}
	bpf_tail_call(skb, &rest, 0);
	return TCX_NEXT;
}

/* to_host tunnels what the proxy or the prober sends to the target its mark names. */
INLINE int to_host(struct __sk_buff *skb, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_OUT, .target = skb->mark & ~mark_mask };
	int seen = see(skb, &p, &v, family);
	if (seen <= 0)
		return seen ? drop(skb, &p, &v, REASON_MALFORMED) : TCX_NEXT;
	struct target_row *row = find_target_row(v.target);
	struct target *t = row ? target_at(row, v.revision) : 0;
	if (!t || !is_key(&t->service, &p.dst, family))
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	struct hop hop = { .to = peer_at(row->peer, &t->host), .flow = flow_port(&p, family), .revision = v.revision, .target = v.target };
	if (!hop.to)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	hop.peer = peer_of(hop.to);
	if (!fits(skb, &p, skb->len - p.l3, hop.to, units(v.now))) {
		if (p.fragment)
			return drop(skb, &p, &v, REASON_FRAGMENT);
		skb->cb[0] = 0;
		skb->cb[1] = v.target;
		skb->cb[3] = room_to(hop.to, units(v.now));
		return THEN_SIZE;
	}
	skb->mark = 0;
	lower_mss(skb, &p, family);
	return send(skb, &p, &hop, &v, family);
}

__attribute__((noinline)) int to_host4(struct __sk_buff *skb) { return to_host(skb, 4); }
__attribute__((noinline)) int to_host6(struct __sk_buff *skb) { return to_host(skb, 6); }

SEC("tcx/egress")
int gateway_out(struct __sk_buff *skb)
{
	int family = family_of(skb);
	if ((skb->mark & mark_mask) != mark_target || !family)
		return TCX_NEXT;
	int answer = family == 4 ? to_host4(skb) : to_host6(skb);
	if (answer == THEN_SIZE)
		answer = family == 4 ? refuse_size4(skb, skb->cb[0], skb->cb[1], DIRECTION_OUT) : refuse_size6(skb, skb->cb[0], skb->cb[1], DIRECTION_OUT);
	return answer;
}

/* drop_early is drop for the early hook: the only place there. */
INLINE int drop_early(const struct packet *p, struct verdict *v, __u32 length)
{
	refused(p, v, v->reason, length);
	return XDP_DROP;
}

/* push_tunnel puts the tunnel's headers in front of the frame. */
INLINE int push_tunnel(struct xdp_md *ctx, __u32 length, const struct hop *hop)
{
	if (bpf_xdp_adjust_head(ctx, -(int)sizeof(struct tunnel_header)))
		return -1;
	return write_tunnel((void *)(long)ctx->data, (void *)(long)ctx->data_end, length - ETH_HLEN, hop);
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
	if (!r || (void *)(eth + 1) > end || eth->proto != htons(ETH_P_IP) || parse_plain(data, end, length, ETH_HLEN, &p, 4) != PARSED)
		return XDP_PASS;
	v.now = now_ns();
	v.revision = READ_ONCE(r->revision);
	switch (receive(0, &p, length, &v, &hop, 4)) {
	case OUTCOME_DROP:
		return drop_early(&p, &v, length);
	case OUTCOME_TUNNEL:
		if (push_tunnel(ctx, length, &hop)) {
			v.reason = REASON_TUNNEL_FAILED;
			return drop_early(&p, &v, length);
		}
		return hop.peer->ifindex == ctx->ingress_ifindex ? XDP_TX : (int)bpf_redirect(hop.peer->ifindex, 0);
	case OUTCOME_STACK:
	case OUTCOME_LOCAL:
	case OUTCOME_ICMP:
	case OUTCOME_SIZE:
	case OUTCOME_LATER:
		break;
	}
	return XDP_PASS;
}

SEC("xdp")
int gateway_xdp(struct xdp_md *ctx) { return early(ctx); }

char _license[] SEC("license") = "Dual BSD/GPL";
