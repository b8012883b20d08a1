// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The host: gate 2. `host_in` judges what arrives at an instance, through the
 * tunnel or directly; `host_out` what it sends, and brings replies back the
 * way the flow came. Everything that no line here lets through is dropped. */
#include "layout.h"
#include "judge.h"
#include "packet.h"
#include "rows.h"
#include "slot.h"
#include "tell.h"
#include "tunnel.h"

HASH(instance_index, struct address_key, __u32, 1024);
MAPPED(instances, struct instance_row, 1024);
ARRAY(host_flows_1, struct host_bucket, 16384);

enum { HALF_LIFE = 30, CLOSING_LIFE = 30, UDP_LIFE = 180, OTHER_LIFE = 30, TCP_LIFE = 3 * 3600 }; /* units, about seconds */

/* A flow as the instance's own stack sees it. */
struct tuple {
	__be32 remote, local;
	__u16 remote_port, local_port;
	__u8 proto;
};

/* What the packet says its flow is, and what the table said. */
struct track {
	struct tuple t;
	__u64 hash;
	struct host_flow *slot;
	struct host_flow was; /* a copy, valid when slot is set */
};

INLINE struct instance *find_instance(__be32 addr, __u32 revision)
{
	struct address_key key = { .addr = { addr } };
	__u32 *index = bpf_map_lookup_elem(&instance_index, &key);
	if (!index)
		return 0;
	__u32 i = *index;
	struct instance_row *row = bpf_map_lookup_elem(&instances, &i);
	if (!row || row->key.addr[0] != addr)
		return 0;
	int n = newest(row, revision);
	struct instance *inst = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return inst && inst->present ? inst : 0;
}

INLINE struct host_bucket *bucket(__u32 i)
{
	i &= flow_mask;
	return bpf_map_lookup_elem(&host_flows_1, &i);
}

INLINE __u32 life(const struct host_flow *s)
{
	switch (s->state) {
	case FLOW_FREE:
		return 0;
	case FLOW_HALF:
		return s->proto == IPPROTO_TCP ? HALF_LIFE : s->proto == IPPROTO_UDP ? UDP_LIFE : OTHER_LIFE;
	case FLOW_CLOSING:
		return CLOSING_LIFE;
	case FLOW_REFUSED:
		return UDP_LIFE;
	}
	return s->proto == IPPROTO_TCP ? TCP_LIFE : s->proto == IPPROTO_UDP ? UDP_LIFE : OTHER_LIFE;
}

INLINE int expired(const struct host_flow *s, __u32 now) { return now - s->seen > life(s); }

INLINE int look(struct host_flow *s, struct track *k, __u32 now)
{
	__u32 seq = READ_ONCE(s->seq);
	barrier();
	if (!seq || seq & 1 || s->remote != k->t.remote || s->local != k->t.local || s->remote_port != k->t.remote_port ||
	    s->local_port != k->t.local_port || s->proto != k->t.proto || s->state == FLOW_FREE)
		return 0;
	k->was = *s;
	k->was.seq = seq;
	if (!unchanged(&s->seq, seq) || expired(&k->was, now))
		return 0;
	k->slot = s;
	return 1;
}

/* find looks the flow up in the two buckets it may stand in. */
INLINE int find(struct track *k, __u32 now)
{
	const struct tuple *t = &k->t;
	k->slot = 0;
	k->hash = mix((((__u64)t->remote << 32) | ((__u64)t->remote_port << 16) | t->local_port) ^
		      mix((((__u64)t->local << 8) | t->proto) ^ hash_key));
	struct host_bucket *a = bucket((__u32)k->hash), *b = bucket((__u32)(k->hash >> 32));
	if (!a || !b)
		return 0;
	return look(&a->slot[0], k, now) || look(&a->slot[1], k, now) || look(&b->slot[0], k, now) || look(&b->slot[1], k, now);
}

/* rank says how ready a slot is to be taken: 0 never. A live established flow is never evicted. */
INLINE int rank(const struct host_flow *s, __u32 now)
{
	__u32 seq = READ_ONCE(s->seq);
	if (seq & 1)
		return 0;
	if (!seq || s->state == FLOW_FREE || expired(s, now))
		return 3;
	return s->state == FLOW_CLOSING || s->state == FLOW_REFUSED ? 2 : s->state == FLOW_HALF ? 1 : 0;
}

INLINE struct host_flow *vacancy(__u64 hash, __u32 now)
{
	struct host_bucket *a = bucket((__u32)hash), *b = bucket((__u32)(hash >> 32));
	struct host_flow *best = 0;
	int top = 0, r;
	if (!a || !b)
		return 0;
#define CONSIDER(s) do { r = rank(s, now); if (r > top) { top = r; best = s; } } while (0)
	CONSIDER(&a->slot[0]);
	CONSIDER(&a->slot[1]);
	CONSIDER(&b->slot[0]);
	CONSIDER(&b->slot[1]);
#undef CONSIDER
	return best;
}

/* write stores the flow; want carries everything but its tuple. It gives 0
 * when there is no room or somebody else was quicker. */
INLINE int write(struct track *k, const struct host_flow *want, __u32 now)
{
	struct host_flow *s = k->slot;
	__u32 seq = k->was.seq;
	if (!s) {
		s = vacancy(k->hash, now);
		if (!s)
			return 0;
		seq = READ_ONCE(s->seq);
	}
	if (!claim(&s->seq, seq))
		return k->slot != 0; /* an update that lost a race is made good by the next packet */
	s->revision = want->revision;
	s->remote = k->t.remote;
	s->local = k->t.local;
	s->remote_port = k->t.remote_port;
	s->local_port = k->t.local_port;
	s->proto = k->t.proto;
	s->opener = want->opener;
	s->state = want->state;
	s->flags = want->flags;
	s->vip = want->vip;
	s->vport = want->vport;
	s->gateway = want->gateway;
	s->target = want->target;
	s->counter = want->counter;
	s->seen = now;
	publish(&s->seq);
	return 1;
}

/* next_state is how a packet moves its flow on. */
INLINE __u8 next_state(const struct track *k, const struct packet *p, __u8 opener, __u8 direction)
{
	if (p->proto != IPPROTO_TCP)
		return !k->slot ? FLOW_HALF : direction != opener ? FLOW_OPEN : k->was.state;
	if (p->tcp_flags & (TCP_FIN | TCP_RST))
		return FLOW_CLOSING;
	if (opens(p))
		return FLOW_HALF;
	/* Anything but a first SYN from the opener shows a connection in progress. */
	if (!k->slot || k->was.state == FLOW_HALF)
		return direction == opener ? FLOW_OPEN : FLOW_HALF;
	return k->was.state == FLOW_REFUSED ? FLOW_OPEN : k->was.state;
}

/* judge_peer is gate 2 for one direction. */
INLINE int judge_peer(const struct instance *i, __be32 peer, __u32 key, struct verdict *v)
{
	int in = v->direction == DIRECTION_IN;
	__u64 rule = judge(in ? i->ingress : i->egress, ntohl(peer), key);
	v->reason = rule ? REASON_RULE : REASON_NO_MATCH;
	v->counter = rule ? (__u32)rule : in ? i->implicit_in : i->implicit_out;
	return rule >> 32 == ACCEPT;
}

/* refuse drops the packet of a flow that its rules no longer admit. What was
 * tracked stays known as refused, so that a reply cannot open it from inside. */
INLINE int refuse(struct __sk_buff *skb, const struct packet *p, struct track *k, struct verdict *v, __u32 now)
{
	if (k->slot) {
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
		return drop(skb, p, v, REASON_TABLE_FULL);
	admitted(p, v, skb->len, !k->slot || (k->was.state == FLOW_CLOSING && begins(p)));
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

/* from_gateway takes what a gateway sent: a client's packet for a VIP, or one
 * from the gateway's own proxy or prober for the service address itself. */
INLINE int from_gateway(struct __sk_buff *skb, struct packet *p, const struct revisions *r, struct verdict *v)
{
	struct tunnel_header h;
	__be32 gateway = p->src;
	enum reason failed = decapsulate(skb, p, &h);
	if (failed != REASON_NONE)
		return drop(skb, p, v, failed);
	v->revision = stamped_revision(r, ntohl(h.revision), v);
	v->target = ntohl(h.target);
	struct target *t = find_target(v->target, v->revision);
	struct instance *i = t ? find_instance(t->service[0], v->revision) : 0;
	if (!i || p->proto != t->proto)
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	int dialled_vip = p->dst == t->vip[0] && p->dst_port == t->vport && !(t->flags & TARGET_VIA_GATEWAY);
	int dialled_service = p->dst == t->service[0] && (p->dst_port == t->service_port || p->dst_port == t->probe_port);
	if (!dialled_vip && !dialled_service)
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	__u32 now = now_units();
	struct track k = { .t = { .remote = p->src, .local = t->service[0], .remote_port = p->src_port,
				  .local_port = dialled_vip ? t->service_port : p->dst_port, .proto = p->proto } };
	struct host_flow want = { .opener = DIRECTION_IN, .revision = v->revision, .target = v->target, .gateway = gateway,
				  .flags = FLOW_TUNNELLED | (dialled_vip ? 0 : FLOW_VIA_GATEWAY) };
	if (dialled_vip) {
		want.vip = t->vip[0];
		want.vport = t->vport;
	}
	find(&k, now);
	if (k.slot && k.was.state != FLOW_CLOSING && k.was.state != FLOW_REFUSED && k.was.state != FLOW_HALF &&
	    (k.was.opener != DIRECTION_IN || k.was.vip != want.vip || k.was.vport != want.vport))
		return drop(skb, p, v, REASON_TUPLE_COLLISION);
	/* What gate 2 judges is the service, whatever was dialled. */
	struct packet judged = *p;
	judged.dst = k.t.local;
	judged.dst_port = k.t.local_port;
	int probe = dialled_service && t->flags & TARGET_PROBE_EXEMPT && p->src == t->probe_source[0] && p->dst_port == t->probe_port;
	v->reason = REASON_ESTABLISHED;
	want.counter = v->counter = k.slot ? k.was.counter : 0;
	if (t->flags & TARGET_PASS) {
		v->reason = REASON_PASS_TO_TARGET;
		want.flags |= FLOW_VOUCHED;
	} else if (probe) {
		v->reason = REASON_SYSTEM_RULE;
		want.flags |= FLOW_VOUCHED;
	} else if (!k.slot || k.was.revision != v->revision || k.was.state == FLOW_REFUSED || k.was.flags & FLOW_VOUCHED ||
		   (k.was.state == FLOW_CLOSING && begins(p))) {
		if (!judge_peer(i, p->src, (__u32)p->proto << 16 | k.t.local_port, v))
			return refuse(skb, &judged, &k, v, now);
		want.counter = v->counter;
	}
	/* An older gateway's packet is judged at its revision without taking the flow back to it. */
	if (k.slot && k.was.revision > want.revision && k.was.state != FLOW_REFUSED)
		want.revision = k.was.revision;
	want.state = next_state(&k, p, DIRECTION_IN, DIRECTION_IN);
	int verdict = pass(skb, &judged, &k, &want, v, now);
	if (verdict != TCX_NEXT)
		return verdict;
	if (dialled_vip && rewrite(skb, p, 0, k.t.local, k.t.local_port))
		return drop(skb, &judged, v, REASON_TUNNEL_FAILED);
	return TCX_NEXT;
}

/* quoted_flow looks for the flow whose packet an ICMP error quotes. */
INLINE int quoted_flow(struct __sk_buff *skb, const struct packet *p, __u8 direction, struct track *k, __u32 now)
{
	struct iphdr ip;
	__u8 ports[4];
	if (p->icmp_type != ICMP_UNREACHABLE && p->icmp_type != ICMP_EXCEEDED && p->icmp_type != ICMP_PARAMETER)
		return 0;
	if (bpf_skb_load_bytes(skb, p->l4 + 8, &ip, sizeof(ip)) || ip.ver_ihl != 0x45 || bpf_skb_load_bytes(skb, p->l4 + 28, ports, 4))
		return 0;
	__u16 from = ports[0] << 8 | ports[1], to = ports[2] << 8 | ports[3];
	int ours = direction == DIRECTION_IN; /* an error that comes in quotes what we sent */
	k->t.proto = ip.protocol;
	k->t.remote = ours ? ip.daddr : ip.saddr;
	k->t.local = ours ? ip.saddr : ip.daddr;
	k->t.remote_port = ours ? to : from;
	k->t.local_port = ours ? from : to;
	return find(k, now) && k->was.state != FLOW_REFUSED;
}

/* track_direct judges and tracks a packet that did not come through the
 * tunnel, or is not going back into it, in its own direction. */
INLINE int track_direct(struct __sk_buff *skb, struct packet *p, struct instance *i, struct track *k, struct verdict *v, __u32 now)
{
	__be32 peer = k->t.remote;
	__u8 opener = k->slot ? k->was.opener : v->direction;
	__u8 travels = v->direction;
	struct host_flow want = {};
	if (k->slot)
		want = k->was;
	want.opener = opener;
	v->reason = REASON_ESTABLISHED;
	v->counter = want.counter;
	if (k->slot && k->was.state == FLOW_REFUSED && travels != opener)
		return drop(skb, p, v, REASON_FLOW_REFUSED);
	/* A dialler may take the tuple of a closing or refused flow the other way round only with a first packet. */
	if (!k->slot && travels == DIRECTION_OUT && !opens(p))
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
	want.state = next_state(k, p, opener, travels);
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
	       (in ? p->src == control_address && p->src_port == control_port && p->dst == own_address :
		     p->dst == control_address && p->dst_port == control_port && p->src == own_address);
}

/* begin_anew forgets what the slot said: the packet starts another flow with the same tuple. */
INLINE void begin_anew(struct track *k, __u8 opener)
{
	__u32 seq = k->was.seq;
	__builtin_memset(&k->was, 0, sizeof(k->was));
	k->was.seq = seq;
	k->was.opener = opener;
	k->was.state = FLOW_CLOSING;
}

/* reserved says that only the tunnel may bring new flows from this address: a
 * VIP, or one of ours in 100.64.0.0/16 (probes) and 100.127.0.0/16 (pools). */
INLINE int reserved(__be32 addr)
{
	struct address_key key = { .addr = { addr } };
	__be32 net = addr & htonl(0xffff0000);
	return net == htonl(0x64400000) || net == htonl(0x647f0000) || bpf_map_lookup_elem(&vips, &key) != 0;
}

/* direct handles everything but the tunnel, either way. */
INLINE int direct(struct __sk_buff *skb, struct packet *p, struct verdict *v)
{
	int in = v->direction == DIRECTION_IN;
	__u32 now = now_units();
	struct track k = {};
	struct instance *i = find_instance(in ? p->dst : p->src, v->revision);
	if (!i)
		return drop(skb, p, v, in ? REASON_NO_MATCH : REASON_SPOOFED);
	if (p->fragment)
		return drop(skb, p, v, REASON_FRAGMENT);
	if (p->proto == IPPROTO_ICMP && p->icmp_type != ICMP_ECHO && p->icmp_type != ICMP_ECHOREPLY) {
		if (quoted_flow(skb, p, v->direction, &k, now)) {
			v->reason = REASON_ESTABLISHED;
			admitted(p, v, skb->len, 0);
			return TCX_NEXT;
		}
		if (in && reserved(p->src))
			return drop(skb, p, v, REASON_SPOOFED);
		if (!judge_peer(i, in ? p->src : p->dst, (__u32)IPPROTO_ICMP << 16, v))
			return drop(skb, p, v, v->reason);
		admitted(p, v, skb->len, 0);
		return TCX_NEXT;
	}
	name_flow(p, v->direction, &k.t);
	find(&k, now);
	if (in && reserved(p->src) && !(k.slot && k.was.opener == DIRECTION_OUT))
		return drop(skb, p, v, REASON_SPOOFED);
	if (k.slot && k.was.flags & FLOW_TUNNELLED) {
		if (k.was.state != FLOW_CLOSING && k.was.state != FLOW_HALF)
			return drop(skb, p, v, REASON_TUPLE_COLLISION);
		begin_anew(&k, v->direction);
	}
	return track_direct(skb, p, i, &k, v, now);
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
	if (!(k->was.flags & FLOW_VOUCHED) && k->was.revision < v->revision) {
		struct instance *i = find_instance(p->src, v->revision);
		v->direction = DIRECTION_IN;
		int ok = i && judge_peer(i, p->dst, (__u32)p->proto << 16 | p->src_port, v);
		v->direction = DIRECTION_OUT;
		if (!ok)
			return refuse(skb, p, k, v, now);
		want.revision = v->revision;
		want.counter = v->counter;
	}
	want.state = next_state(k, p, DIRECTION_IN, DIRECTION_OUT);
	int verdict = pass(skb, p, k, &want, v, now);
	if (verdict != TCX_NEXT)
		return verdict;
	lower_mss(skb, p);
	if (k->was.flags & FLOW_VIA_GATEWAY) {
		struct address_key gateway = { .addr = { k->was.gateway } };
		struct peer *peer = bpf_map_lookup_elem(&peers, &gateway);
		if (!peer)
			return drop(skb, p, v, REASON_UNKNOWN_GATEWAY);
		if (encapsulate(skb, p, gateway.addr[0], peer, v->revision, k->was.target))
			return drop(skb, p, v, REASON_TUNNEL_FAILED);
		return leave(skb, peer);
	}
	if (rewrite(skb, p, 1, k->was.vip, k->was.vport))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	return TCX_NEXT;
}

/* open_packet reads the packet and answers what needs no flow. It gives
 * PARSED when the packet has to be judged. */
INLINE int open_packet(struct __sk_buff *skb, struct packet *p, struct verdict *v, const struct revisions *r, int *answer)
{
	__builtin_memset(p, 0, sizeof(*p));
	v->gate = GATE_CVM;
	*answer = TCX_NEXT;
	if (skb->protocol == htons(ETH_P_ARP))
		return 0; /* system rule: address resolution */
	if (r)
		v->revision = READ_ONCE(r->revision);
	if (!r || skb->protocol != htons(ETH_P_IP)) {
		*answer = drop(skb, p, v, REASON_UNSUPPORTED);
		return 0;
	}
	if (parse_ip(skb, ETH_HLEN, p) != PARSED) {
		__builtin_memset(p, 0, sizeof(*p));
		*answer = drop(skb, p, v, REASON_MALFORMED);
		return 0;
	}
	if (is_control(p, v->direction == DIRECTION_IN)) {
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
	return direct(skb, &p, &v);
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
	struct address_key dst = { .addr = { p.dst } };
	/* What reply put into the tunnel comes by here once more. */
	if (p.src == own_address && p.proto == IPPROTO_UDP && p.dst_port == tunnel_port && bpf_map_lookup_elem(&peers, &dst))
		return TCX_NEXT;
	__u32 now = now_units();
	struct track k = {};
	name_flow(&p, DIRECTION_OUT, &k.t);
	if (!p.fragment && find(&k, now) && k.was.flags & FLOW_TUNNELLED && !(opens(&p) && k.was.state == FLOW_CLOSING))
		return reply(skb, &p, &k, &v, now);
	return direct(skb, &p, &v);
}

char _license[] SEC("license") = "Dual BSD/GPL";
