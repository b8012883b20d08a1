// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The host: gate 2. `host_in` judges what arrives at an instance, through the
 * tunnel or directly; `host_out` what it sends, and brings replies back the
 * way the flow came. Everything that no line here lets through is dropped. */
#include "host.h"
#include "icmp.h"
#include "judge.h"
#include "rows.h"
#include "tell.h"

/* fresh says that the packet's flow begins with it. */
INLINE int fresh(const struct track *k) { return !k->slot || k->was.state == FLOW_FREE; }

/* move_on says in want how an accepted packet moves its flow on. */
INLINE void move_on(const struct track *k, const struct packet *p, __u8 direction, struct host_flow *want)
{
	int answers = direction != want->opener;
	__u8 was = fresh(k) ? FLOW_HALF : k->was.state, ended = k->slot ? k->was.flags & FLOW_ENDED : 0;
	if (p->proto != IPPROTO_TCP) {
		want->state = answers ? FLOW_OPEN : was == FLOW_REFUSED ? FLOW_HALF : was;
		return;
	}
	if (opens(p))
		ended = 0;
	/* Until both sides have sent their last, one may go on for as long as it likes. */
	if (p->tcp_flags & TCP_FIN)
		ended |= direction == DIRECTION_IN ? FLOW_ENDED_IN : FLOW_ENDED_OUT;
	want->flags = (want->flags & ~FLOW_ENDED) | ended;
	if (p->tcp_flags & TCP_RST || ended == FLOW_ENDED)
		want->state = FLOW_CLOSING;
	else if (opens(p))
		want->state = FLOW_HALF;
	else if (was == FLOW_HALF) /* anything but a first SYN from the opener shows a connection in progress */
		want->state = answers ? FLOW_HALF : FLOW_OPEN;
	else
		want->state = was == FLOW_REFUSED ? FLOW_OPEN : was;
}

/* begin_anew forgets what the slot said: the packet may start another flow
 * with the same tuple. Unless it is let in, the slot goes on as it was. */
INLINE void begin_anew(struct track *k, __u8 opener)
{
	__u32 seq = k->was.seq;
	__builtin_memset(&k->was, 0, sizeof(k->was));
	k->was.seq = seq;
	k->was.opener = opener;
	k->was.state = FLOW_FREE;
}

/* judge_peer is gate 2 for one direction. */
INLINE int judge_peer(const struct instance *i, __be32 peer, __u32 key, struct verdict *v)
{
	int in = v->direction == DIRECTION_IN;
	__u64 rule = judge(in ? i->ingress : i->egress, ntohl(peer), key);
	v->reason = told_as(rule);
	v->counter = rule ? (__u32)rule : in ? i->implicit_in : i->implicit_out;
	v->observed = !accepts(rule) && i->flags & INSTANCE_OBSERVED;
	return accepts(rule) || v->observed;
}

/* observing says that this machine's gate refuses nothing at revision. */
__attribute__((noinline)) int observing(__u32 revision)
{
	if (!revision)
		return observe_first;
	struct instance *i = find_instance(0, revision);
	return i && i->flags & INSTANCE_OBSERVED;
}

/* give_up ends a packet that no rule had to judge, where the gate is in force.
 * Where it is not, what cannot be named is only counted: all IPv6, say. */
INLINE int give_up(struct __sk_buff *skb, const struct packet *p, struct verdict *v, __u8 reason)
{
	if (!observing(v->revision))
		return drop(skb, p, v, reason);
	v->reason = reason;
	v->counter = 0;
	v->observed = 1;
	v->action = DROP;
	count_reason(REASON_OBSERVED);
	if (p->l4 && opens(p))
		tell(p, v, skb->len);
	return TCX_NEXT;
}

/* refuse drops the packet of a flow that its rules no longer admit. What was
 * tracked stays known as refused, so that a reply cannot open it from inside.
 * A flow that was not to begin leaves the one whose tuple it has as it was. */
INLINE int refuse(struct __sk_buff *skb, const struct packet *p, struct track *k, struct verdict *v, __u32 now)
{
	if (!fresh(k)) {
		struct host_flow want = k->was;
		want.state = FLOW_REFUSED;
		want.revision = v->revision;
		want.counter = v->counter; /* what replies are refused by from now on */
		write(k, &want, now);
	}
	return drop(skb, p, v, v->reason);
}

/* pass tracks an accepted packet: a new flow needs a slot, an old one is
 * written only when something about it moved. */
INLINE int pass(struct __sk_buff *skb, const struct packet *p, struct track *k, struct host_flow *want, struct verdict *v, __u32 now)
{
	int moved = !k->slot || want->revision != k->was.revision || want->state != k->was.state || now != k->was.seen ||
		    want->flags != k->was.flags || want->vip != k->was.vip || want->gateway != k->was.gateway || want->target != k->was.target;
	if (moved && !write(k, want, now))
		return want->flags & FLOW_TUNNELLED ? drop(skb, p, v, REASON_TABLE_FULL) : give_up(skb, p, v, REASON_TABLE_FULL);
	admitted(p, v, skb->len, fresh(k) || (k->was.state == FLOW_CLOSING && begins(p)));
	return TCX_NEXT;
}

/* The address and port that a rewrite changes: source or destination. */
INLINE int rewrite(struct __sk_buff *skb, const struct packet *p, int source, __be32 addr, __u16 port)
{
	__be32 was = source ? p->src : p->dst;
	__be16 was_port = htons(source ? p->src_port : p->dst_port), now_port = htons(port);
	__u32 sum = p->l4 + (p->proto == IPPROTO_TCP ? 16 : 6);
	if (was == addr && was_port == now_port)
		return 0;
	if (bpf_l4_csum_replace(skb, sum, was, addr, BPF_F_PSEUDO_HDR | 4) || bpf_l4_csum_replace(skb, sum, was_port, now_port, 2) ||
	    bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), was, addr, 4))
		return -1;
	if (bpf_skb_store_bytes(skb, p->l3 + (source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr)), &addr, 4, 0))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4 + (source ? 0 : 2), &now_port, 2, 0) ? -1 : 0;
}

/* stamped_revision is the revision a tunnelled packet is judged at: the
 * stamped one when its rows are complete here, else the newest, and then the
 * verdict says what was asked for. */
INLINE __u32 stamped_revision(const struct revisions *r, __u32 stamp, struct verdict *v)
{
	__u32 staged = READ_ONCE(r->staged);
	if (stamp >= READ_ONCE(r->oldest) && stamp <= staged)
		return stamp;
	v->stamped = stamp;
	return staged;
}

/* exempt says that a system rule lets probes of the target in, and that this
 * is one: from a probe address of ours, for the port that is probed. */
INLINE int exempt(const struct target *t, __be32 from, __u16 port)
{
	__be32 source = t->probe_source[0];
	if (source == htonl(0x64400000))
		from &= htonl(0xffff0000);
	return t->flags & TARGET_PROBE_EXEMPT && from == source && port == t->probe_port;
}

/* from_gateway takes what a gateway sent: a client's packet for a VIP, or one
 * from the gateway's own proxy or prober for the service address itself. */
INLINE int from_gateway(struct __sk_buff *skb, struct packet *p, const struct revisions *r, struct verdict *v)
{
	struct tunnel_header h;
	__be32 gateway = p->src;
	enum reason failed = decapsulate(skb, p, &h);
	if (failed == REASON_TUNNEL_FAILED)
		return drop(skb, p, v, failed);
	if (failed != REASON_NONE) /* maybe somebody else's tunnel */
		return give_up(skb, p, v, failed);
	v->revision = stamped_revision(r, ntohl(h.revision), v);
	v->target = ntohl(h.target);
	struct target *t = find_target(v->target, v->revision);
	struct instance *i = t ? find_instance(t->service[0], v->revision) : 0;
	if (!i || p->proto != t->proto)
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	int dialled_vip = (p->dst == t->vip[0] || p->dst == t->eip[0]) && p->dst_port == t->vport && !(t->flags & TARGET_VIA_GATEWAY);
	int dialled_service = p->dst == t->service[0] && (p->dst_port == t->service_port || p->dst_port == t->probe_port);
	if (!dialled_vip && !dialled_service)
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	__u32 now = units(v->now);
	struct track k = { .t = { .remote = p->src, .local = t->service[0], .remote_port = p->src_port,
				  .local_port = dialled_vip ? t->service_port : p->dst_port, .proto = p->proto } };
	struct host_flow want = { .opener = DIRECTION_IN, .revision = v->revision, .target = v->target, .gateway = gateway,
				  .flags = FLOW_TUNNELLED | (dialled_vip ? 0 : FLOW_VIA_GATEWAY) };
	if (dialled_vip) {
		want.vip = p->dst;
		want.vport = t->vport;
		if (t->flags & TARGET_RETURN) {
			want.flags |= FLOW_RETURN;
			lower_mss(skb, p);
		}
	}
	if (find(&k, now) && (!(k.was.flags & FLOW_TUNNELLED) || k.was.vip != want.vip || k.was.vport != want.vport)) {
		if (k.was.state == FLOW_OPEN)
			return drop(skb, p, v, REASON_TUPLE_COLLISION);
		begin_anew(&k, DIRECTION_IN);
	}
	/* What gate 2 judges is the service, whatever was dialled. */
	struct packet judged = *p;
	judged.dst = k.t.local;
	judged.dst_port = k.t.local_port;
	v->reason = REASON_ESTABLISHED;
	if (t->flags & TARGET_PASS) {
		v->reason = REASON_PASS_TO_TARGET;
		want.flags |= FLOW_VOUCHED;
	} else if (dialled_service && exempt(t, p->src, p->dst_port)) {
		v->reason = REASON_SYSTEM_RULE;
		want.flags |= FLOW_VOUCHED;
	} else if (fresh(&k) || k.was.revision != v->revision || k.was.state == FLOW_REFUSED || k.was.flags & FLOW_VOUCHED ||
		   (k.was.state == FLOW_CLOSING && begins(p))) {
		if (!judge_peer(i, p->src, (__u32)p->proto << 16 | k.t.local_port, v))
			return refuse(skb, &judged, &k, v, now);
		want.counter = v->counter;
	} else {
		want.counter = v->counter = k.was.counter;
	}
	/* An older gateway's packet is judged at its revision without taking the flow back to it. */
	if (k.slot && k.was.revision > want.revision && k.was.state != FLOW_REFUSED)
		want.revision = k.was.revision;
	move_on(&k, p, DIRECTION_IN, &want);
	int verdict = pass(skb, &judged, &k, &want, v, now);
	if (verdict != TCX_NEXT)
		return verdict;
	if (dialled_vip && rewrite(skb, p, 0, k.t.local, k.t.local_port))
		return drop(skb, &judged, v, REASON_TUNNEL_FAILED);
	return TCX_NEXT;
}

/* track_direct judges and tracks a packet that did not come through the
 * tunnel, or is not going back into it, in its own direction. */
INLINE int track_direct(struct __sk_buff *skb, struct packet *p, struct instance *i, struct track *k, struct verdict *v, __u32 now)
{
	__be32 peer = k->t.remote;
	__u8 opener = k->slot ? k->was.opener : v->direction;
	__u8 travels = v->direction;
	/* A connection older than the gate: whoever has the lower port was dialled. */
	int older = !k->slot && p->proto == IPPROTO_TCP && !opens(p) && observing(v->revision);
	if (older)
		opener = k->t.local_port < k->t.remote_port ? DIRECTION_IN : DIRECTION_OUT;
	struct host_flow want = {};
	if (k->slot)
		want = k->was;
	want.opener = opener;
	v->reason = REASON_ESTABLISHED;
	v->counter = want.counter;
	if (k->slot && k->was.state == FLOW_REFUSED && travels != opener)
		return give_up(skb, p, v, REASON_FLOW_REFUSED);
	if (!k->slot && travels == DIRECTION_OUT && !opens(p) && !older)
		return drop(skb, p, v, REASON_FLOW_REFUSED);
	if (!k->slot || k->was.revision < v->revision || k->was.state == FLOW_REFUSED || (k->was.state == FLOW_CLOSING && begins(p))) {
		/* Judged as the opener's packet would be: its rules, its destination port. */
		__u16 port = p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP ? 0 : opener == DIRECTION_IN ? k->t.local_port : k->t.remote_port;
		v->direction = opener;
		int ok = judge_peer(i, peer, (__u32)p->proto << 16 | port, v);
		v->direction = travels;
		if (!ok)
			return refuse(skb, p, k, v, now);
		want.counter = v->counter;
		want.revision = v->revision;
	}
	move_on(k, p, travels, &want);
	return pass(skb, p, k, &want, v, now);
}

/* Names the flow of a packet that travels in the given direction. */
INLINE void name_flow(const struct packet *p, __u8 direction, struct tuple *t)
{
	int in = direction == DIRECTION_IN;
	t->remote = in ? p->src : p->dst;
	t->local = in ? p->dst : p->src;
	t->remote_port = in ? p->src_port : p->dst_port;
	t->local_port = in ? p->dst_port : p->src_port;
	t->proto = p->proto;
}

INLINE int is_control(const struct packet *p, int in)
{
	return control_address && p->proto == IPPROTO_TCP && !p->fragment &&
	       (in ? !opens(p) && p->src == control_address && p->src_port == control_port && p->dst == own_address :
		     p->dst == control_address && p->dst_port == control_port && p->src == own_address);
}

/* is_dhcp is the other system rule of the machine's own: an address it leased
 * has to be renewed, whatever the rules say. */
INLINE int is_dhcp(const struct packet *p, int in)
{
	if (p->proto != IPPROTO_UDP || p->fragment)
		return 0;
	return in ? p->src_port == DHCP_SERVER && p->dst_port == DHCP_CLIENT && (p->dst == own_address || p->dst == ~0u) :
		    p->src_port == DHCP_CLIENT && p->dst_port == DHCP_SERVER && (p->src == own_address || !p->src);
}

/* look_up names the packet's flow and asks the table; a fragment has none. */
INLINE int look_up(const struct packet *p, const struct verdict *v, struct track *k)
{
	name_flow(p, v->direction, &k->t);
	return !p->fragment && find(k, units(v->now));
}

/* settled says that the packet changes nothing about its flow, which was judged
 * at this revision: all that is left is to count it. */
INLINE int settled(const struct track *k, const struct packet *p, const struct verdict *v, __u32 now)
{
	if (!k->slot || k->was.revision != v->revision || k->was.seen != now || k->was.flags & FLOW_TUNNELLED)
		return 0;
	if (p->proto == IPPROTO_TCP)
		return k->was.state == FLOW_OPEN && !(p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST));
	return p->proto == IPPROTO_UDP && (k->was.state == FLOW_OPEN || (k->was.state == FLOW_HALF && k->was.opener == v->direction));
}

/* direct handles everything but the tunnel, either way. k is what the table
 * knows of the packet's flow. */
INLINE int direct(struct __sk_buff *skb, struct packet *p, struct verdict *v, struct track *k)
{
	int in = v->direction == DIRECTION_IN;
	__u32 now = units(v->now);
	if (settled(k, p, v, now)) {
		v->reason = REASON_ESTABLISHED;
		v->counter = k->was.counter;
		admitted(p, v, skb->len, 0);
		return TCX_NEXT;
	}
	struct instance *i = find_instance(in ? p->dst : p->src, v->revision);
	if (!i)
		return give_up(skb, p, v, in ? REASON_NO_MATCH : REASON_SPOOFED);
	if (p->fragment)
		return give_up(skb, p, v, REASON_FRAGMENT);
	if (p->proto == IPPROTO_ICMP && p->icmp_type != ICMP_ECHO && p->icmp_type != ICMP_ECHOREPLY) {
		if (quoted_flow(skb, p, v->direction, k, now)) {
			v->reason = REASON_ESTABLISHED;
			admitted(p, v, skb->len, 0);
			return TCX_NEXT;
		}
		if (in && reserved(p->src, v->revision))
			return give_up(skb, p, v, REASON_SPOOFED);
		if (!judge_peer(i, in ? p->src : p->dst, (__u32)IPPROTO_ICMP << 16, v))
			return drop(skb, p, v, v->reason);
		admitted(p, v, skb->len, 0);
		return TCX_NEXT;
	}
	/* Who was dialled may answer; what they begin themselves is another flow. */
	int turned = k->slot && k->was.opener != v->direction && asks(p);
	/* What came in at this revision was looked at then. */
	int current = k->slot && !turned && k->was.revision == v->revision && k->was.state != FLOW_REFUSED && !(k->was.flags & FLOW_TUNNELLED);
	if (in && !current && (!k->slot || k->was.opener != DIRECTION_OUT || turned) && reserved(p->src, v->revision))
		return give_up(skb, p, v, REASON_SPOOFED);
	if (k->slot && k->was.flags & FLOW_TUNNELLED && k->was.state != FLOW_CLOSING && k->was.state != FLOW_HALF)
		return give_up(skb, p, v, REASON_TUPLE_COLLISION);
	if (turned || (k->slot && k->was.flags & FLOW_TUNNELLED))
		begin_anew(k, v->direction);
	return track_direct(skb, p, i, k, v, now);
}

/* vouched says that the flow's target still needs no rule at revision. */
INLINE int vouched(const struct track *k, __u32 revision)
{
	struct target *t = k->was.flags & FLOW_VOUCHED ? find_target(k->was.target, revision) : 0;
	return t && (t->flags & TARGET_PASS || (k->was.flags & FLOW_VIA_GATEWAY && exempt(t, k->t.remote, k->t.local_port)));
}

/* reply sends a tunnelled flow's answer back: as the VIP straight to the
 * client, or through the gateway it came from. */
INLINE int reply(struct __sk_buff *skb, struct packet *p, struct track *k, struct verdict *v, __u32 now)
{
	struct host_flow want = k->was;
	v->target = k->was.target;
	v->counter = k->was.counter;
	v->reason = REASON_ESTABLISHED;
	if (k->was.state == FLOW_REFUSED)
		return drop(skb, p, v, REASON_FLOW_REFUSED);
	if (k->was.revision < v->revision && vouched(k, v->revision)) {
		want.revision = v->revision;
	} else if (k->was.revision < v->revision) {
		want.flags &= ~FLOW_VOUCHED;
		struct instance *i = find_instance(p->src, v->revision);
		v->direction = DIRECTION_IN;
		int ok = i && judge_peer(i, p->dst, (__u32)p->proto << 16 | p->src_port, v);
		v->direction = DIRECTION_OUT;
		if (!ok)
			return refuse(skb, p, k, v, now);
		want.revision = v->revision;
		want.counter = v->counter;
	}
	move_on(k, p, DIRECTION_OUT, &want);
	int verdict = pass(skb, p, k, &want, v, now);
	if (verdict != TCX_NEXT)
		return verdict;
	lower_mss(skb, p);
	if (!(k->was.flags & FLOW_VIA_GATEWAY) && rewrite(skb, p, 1, k->was.vip, k->was.vport))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	if (k->was.flags & (FLOW_VIA_GATEWAY | FLOW_RETURN)) {
		struct peer *peer = find_peer(k->was.gateway);
		if (!peer)
			return drop(skb, p, v, REASON_UNKNOWN_GATEWAY);
		if (encapsulate(skb, k->was.gateway, peer, flow_port(p), v->revision, k->was.target))
			return drop(skb, p, v, REASON_TUNNEL_FAILED);
		return leave(skb, peer);
	}
	return TCX_NEXT;
}

/* open_packet reads the packet and answers what needs no flow. It gives
 * PARSED when the packet has to be judged. */
INLINE int open_packet(struct __sk_buff *skb, struct packet *p, struct verdict *v, const struct revisions *r, int *answer)
{
	__builtin_memset(p, 0, sizeof(*p));
	v->gate = GATE_CVM;
	v->now = now_ns();
	*answer = TCX_NEXT;
	if (skb->protocol == htons(ETH_P_ARP))
		return 0; /* system rule: address resolution */
	if (r)
		v->revision = READ_ONCE(r->revision);
	if (r && !v->revision && observe_first)
		return 0; /* nothing is known yet that could be told */
	if (!r || skb->protocol != htons(ETH_P_IP)) {
		*answer = give_up(skb, p, v, REASON_UNSUPPORTED);
		return 0;
	}
	if (parse_ip(skb, ETH_HLEN, p) != PARSED) {
		__builtin_memset(p, 0, sizeof(*p));
		*answer = give_up(skb, p, v, REASON_MALFORMED);
		return 0;
	}
	if (is_control(p, v->direction == DIRECTION_IN) || is_dhcp(p, v->direction == DIRECTION_IN)) {
		count_reason(REASON_SYSTEM_RULE);
		return 0;
	}
	return 1;
}

SEC("tcx/ingress")
int host_in(struct __sk_buff *skb)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	int answer;
	if (!open_packet(skb, &p, &v, r, &answer))
		return answer;
	if (is_tunnel(&p))
		return from_gateway(skb, &p, r, &v);
	struct track k = {};
	look_up(&p, &v, &k);
	return direct(skb, &p, &v, &k);
}

SEC("tcx/egress")
int host_out(struct __sk_buff *skb)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_OUT };
	struct revisions *r = current_revisions();
	int answer;
	if (!open_packet(skb, &p, &v, r, &answer))
		return answer;
	/* What reply put into the tunnel comes by here once more. */
	if (p.src == own_address && p.proto == IPPROTO_UDP && p.dst_port == tunnel_port && find_peer(p.dst))
		return TCX_NEXT;
	struct track k = {};
	if (look_up(&p, &v, &k) && k.was.flags & FLOW_TUNNELLED && !(opens(&p) && k.was.state == FLOW_CLOSING))
		return reply(skb, &p, &k, &v, units(v.now));
	return direct(skb, &p, &v, &k);
}

char _license[] SEC("license") = "Dual BSD/GPL";
