// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The host: gate 2. `host_in` judges what arrives at an instance, through the
 * tunnel or directly; `host_out` what it sends, and brings replies back the
 * way the flow came. Everything that no line here lets through is dropped.
 * `guest_in` and `guest_out` do the same at the port of a guest. */
#include "collide.h"
#include "icmp.h"
#include "judge.h"
#include "nd.h"
#include "ports.h"
#include "rows.h"
#include "spoof.h"
#include "tell.h"
#include "underlay.h"
#include "vlan.h"
#include "bare.h"

volatile const __u32 mark_judged; /* between this node's programs: judged already */
volatile __u32 asked; /* what gateways stamped last of what was staged here and not in force */
volatile const __u8 every_interface; /* other VLANs' interfaces are judged themselves */

/* see reads the packet and starts its verdict, at the revision in force. It
 * gives 0 when the packet is read. */
INLINE int see(struct __sk_buff *skb, struct packet *p, struct verdict *v, const struct revisions *r, const int family)
{
	v->gate = GATE_CVM;
	v->now = now_ns();
	if (r) {
		v->revision = READ_ONCE(r->revision);
		if (read_packet(skb, p, v->direction, family) == PARSED)
			return 0;
	}
	unread(p, family);
	return -1;
}

/* fresh says that the packet's flow begins with it. */
INLINE int fresh(const struct track *k) { return !k->slot || k->was.state == FLOW_FREE; }

/* reset_on says how the packet of one side moves a flow on that it, or one before
 * it, resets: its state, with FLOW_PAST above. A reset ends a flow only if who gets
 * it takes it, and says no more: with FLOW_CLOSING, FLOW_ENDED of one side alone
 * means that it sent a reset, and FLOW_ANSWERED that the other one went on. If it
 * goes on too, the flow is open as before. */
__attribute__((noinline)) __u32 reset_on(__u32 was, __u32 past, __u32 side, __u32 tcp_flags)
{
	const __u32 final = FLOW_CLOSING | FLOW_PAST << 8;
	__u32 ended = past & FLOW_ENDED;
	if (tcp_flags & TCP_RST)
		return ended & ~side || (ended && was != FLOW_CLOSING) ? final : FLOW_CLOSING | side << 8;
	if (!ended || ended == FLOW_ENDED || tcp_flags & TCP_FIN)
		return final;
	if (ended != side)
		past |= FLOW_ANSWERED;
	else if (past & FLOW_ANSWERED && !(tcp_flags & TCP_SYN))
		return FLOW_OPEN | FLOW_ANSWERED << 8;
	return FLOW_CLOSING | past << 8;
}

enum { SHAKE_ANSWERS = 1, SHAKE_SAYS = 2, SHAKE_FLAGS = 4 };

/* shake follows the handshake of the connection in slot number at. Who names
 * another's address as its own hears nothing of what that is answered: what the
 * answer's SYN is numbered is what the opener has to acknowledge first. Who answers
 * shows by what it says that it was. It gives 1 when both have heard each other, or
 * nobody saw how they began. */
INLINE int shake(struct __sk_buff *skb, __u32 at, __u32 l4, __u32 how, const int family)
{
	__u32 flags = how / SHAKE_FLAGS;
	__be32 n[2]; /* sequence and acknowledgement */
	if (!at)
		return 1;
	struct host_flow *s = slot_at(at - 1, family);
	if (!s || bpf_skb_load_bytes(skb, l4 + 4, n, sizeof(n)))
		return 0;
	if (flags & TCP_SYN) {
		if (how & SHAKE_ANSWERS)
			s->ack = ntohl(n[0]) + 1;
		return 0;
	}
	if (s->ack && !(how & SHAKE_ANSWERS ? how & SHAKE_SAYS : flags & TCP_ACK && ntohl(n[1]) == s->ack))
		return 0;
	s->ack = 0;
	return 1;
}

__attribute__((noinline)) int shake4(struct __sk_buff *skb, __u32 at, __u32 l4, __u32 how) { return shake(skb, at, l4, how, 4); }
__attribute__((noinline)) int shake6(struct __sk_buff *skb, __u32 at, __u32 l4, __u32 how) { return shake(skb, at, l4, how, 6); }

INLINE int shaken(struct __sk_buff *skb, const struct track *k, const struct packet *p, int answers)
{
	__u32 says = skb->len > (__u32)p->l4 + p->tcp_header ? SHAKE_SAYS : 0;
	__u32 how = (answers ? SHAKE_ANSWERS : 0) | says | p->tcp_flags * SHAKE_FLAGS;
	return p->family == 6 ? shake6(skb, k->slot, p->l4, how) : shake4(skb, k->slot, p->l4, how);
}

/* move_on says in want how an accepted packet moves its flow on. */
INLINE void move_on(struct __sk_buff *skb, const struct track *k, const struct packet *p, __u8 direction, struct known *want)
{
	int answers = direction != want->opener;
	__u8 was = fresh(k) ? FLOW_HALF : k->was.state, past = k->slot ? k->was.flags & FLOW_PAST : 0;
	if (p->proto != IPPROTO_TCP) {
		if (was == FLOW_REFUSED)
			past = 0;
		/* Who named another's address sends on without having heard: UDP's answer has to be followed by more. */
		int open = p->proto == IPPROTO_UDP ? (!answers) & (past >> 7) : answers;
		want->state = open ? FLOW_OPEN : was == FLOW_REFUSED ? FLOW_HALF : was;
		want->flags = (want->flags & ~FLOW_PAST) | past | (answers ? FLOW_ANSWERED : 0);
		return;
	}
	__u8 side = direction == DIRECTION_IN ? FLOW_ENDED_IN : FLOW_ENDED_OUT;
	/* Anybody may name a client's address in a first packet: that a connection begins anew its answer says. */
	int anew = was == FLOW_OPEN ? answers && p->tcp_flags & TCP_SYN && !opens(p) : opens(p);
	if (anew)
		past = 0;
	if (p->tcp_flags & TCP_RST || (was == FLOW_CLOSING && !opens(p))) {
		__u32 to = reset_on(was, past, side, p->tcp_flags);
		want->state = (__u8)to == FLOW_OPEN && !shaken(skb, k, p, answers) ? FLOW_HALF : to;
		want->flags = (want->flags & ~FLOW_PAST) | to >> 8;
		return;
	}
	/* Until both sides have sent their last, one may go on for as long as it likes. */
	if (p->tcp_flags & TCP_FIN)
		past |= side;
	if (answers)
		past |= FLOW_ANSWERED;
	want->flags = (want->flags & ~FLOW_PAST) | past;
	if ((past & FLOW_ENDED) == FLOW_ENDED)
		want->state = FLOW_CLOSING;
	else if (was != FLOW_OPEN && opens(p))
		want->state = FLOW_HALF;
	else if ((was == FLOW_HALF) | anew) /* both have heard each other: whoever opens alone, whatever they send, holds no slot for long */
		want->state = past & FLOW_ANSWERED && shaken(skb, k, p, answers) && !(p->tcp_flags & TCP_SYN) ? FLOW_OPEN : FLOW_HALF;
	else
		want->state = was == FLOW_REFUSED ? FLOW_OPEN : was;
}

/* held says that a flow was judged by the very rules of revision, or by others
 * that were to let it be. */
INLINE int held(const struct instance *i, const struct known *was, __u32 revision)
{
	return (was->revision >= i->judged) & (was->revision < revision) & !(was->flags & FLOW_VOUCHED);
}

/* dialled_key is what rules judge of a flow beside its peer: the protocol and the
 * port that its opener dialled. */
INLINE __u32 dialled_key(const struct tuple *t, __u8 opener)
{
	__u16 port = !has_ports(t->proto) ? 0 : opener == DIRECTION_IN ? t->local_port : t->remote_port;
	return t->proto << 16 | port;
}

/* judge_peer is gate 2 for one direction. */
INLINE int judge_peer(const struct instance *i, const struct addr *peer, __u32 key, struct verdict *v, const int family)
{
	int in = v->direction == DIRECTION_IN;
	__u64 rule = judge(in ? i->ingress : i->egress, peer, key, family);
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
	struct addr none = {};
	struct instance *i = find_instance(&none, revision, 4);
	return i && i->flags & INSTANCE_OBSERVED;
}

/* lets_be says the same of the machine that a packet is judged for. */
INLINE int lets_be(const struct verdict *v) { return !v->strict && observing(v->revision); }

/* give_up ends a packet that no rule had to judge, where the gate is in force.
 * Where it is not, what cannot be named is only counted: all IPv6, say. */
INLINE int give_up(struct __sk_buff *skb, const struct packet *p, struct verdict *v, __u8 reason)
{
	if (!lets_be(v))
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
INLINE int refuse(struct __sk_buff *skb, const struct packet *p, struct track *k, struct verdict *v, __u32 now, const int family)
{
	if (!fresh(k)) {
		struct known want = k->was;
		want.state = FLOW_REFUSED;
		want.revision = v->revision;
		want.counter = v->counter; /* what replies are refused by from now on */
		write(k, &want, now, family);
	}
	return drop(skb, p, v, v->reason);
}

/* pass tracks an accepted packet: a new flow needs a slot, an old one is
 * written only when something about it moved. */
INLINE int pass(struct __sk_buff *skb, const struct packet *p, struct track *k, struct known *want, struct verdict *v, __u32 now, const int family)
{
	int moved = !k->slot || want->revision != k->was.revision || want->state != k->was.state || newer(now, k->was.seen) ||
		    want->flags != k->was.flags || !is_same(&want->vip, &k->was.vip, family) || want->gateway != k->was.gateway ||
		    want->gateway_row != k->was.gateway_row || want->target != k->was.target;
	if (moved && !write(k, want, now, family))
		return want->flags & (FLOW_TUNNELLED | FLOW_MOVED) ? drop(skb, p, v, REASON_TABLE_FULL) : give_up(skb, p, v, REASON_TABLE_FULL);
	admitted(p, v, skb->len, fresh(k) || (k->was.state == FLOW_CLOSING && begins(p)));
	return TCX_NEXT;
}

/* repair takes a changed address out of the checksums: the transport's at
 * offset sum, and IPv4's own. */
INLINE int repair(struct __sk_buff *skb, const struct packet *p, __u32 sum, const struct addr *was, const struct addr *now, __u32 flags, const int family)
{
	if (family == 4)
		return bpf_l4_csum_replace(skb, sum, was->w[0], now->w[0], flags | BPF_F_PSEUDO_HDR | 4) ||
		       bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), was->w[0], now->w[0], 4);
	__s64 difference = bpf_csum_diff(was->w, sizeof(was->w), now->w, sizeof(now->w), 0);
	return bpf_l4_csum_replace(skb, sum, 0, difference, flags | BPF_F_PSEUDO_HDR | BPF_F_IPV6) &&
	       bpf_l4_csum_replace(skb, sum, 0, difference, flags | BPF_F_PSEUDO_HDR);
}

/* What of a packet over IPv4 without options a translation changes, and what
 * stands between: of TCP up to its checksum, of UDP the first word, which is all
 * that it has. Aligned as they are in the packet. */
struct ends {
	__u16 pad;
	__be16 check;
	__be32 addr[2]; /* source, destination */
	__be16 port[2];
	__be32 rest[4];
};

enum {
	ENDS_AT = ETH_HLEN + offsetof(struct iphdr, check) - offsetof(struct ends, check), /* where the whole would begin */
	ENDS_TCP = offsetof(struct ends, rest[3]) + sizeof(__be16),
	ENDS_UDP = offsetof(struct ends, rest[1]),
};

/* read_ends copies them, and gives 0 when they are not at hand. */
INLINE int read_ends(struct __sk_buff *skb, const struct packet *p, struct ends *e)
{
	const struct ends *from = (void *)(long)skb->data + ENDS_AT;
	void *end = (void *)(long)skb->data_end;
	if (p->fragment || p->l3 != ETH_HLEN || p->l4 != ETH_HLEN + sizeof(struct iphdr) || (void *)from + ENDS_UDP > end)
		return 0;
	e->check = from->check;
	e->addr[0] = from->addr[0];
	e->addr[1] = from->addr[1];
	e->port[0] = from->port[0];
	e->port[1] = from->port[1];
	e->rest[0] = from->rest[0];
	if (p->proto != IPPROTO_TCP)
		return 1;
	if ((void *)from + ENDS_TCP > end)
		return 0;
	e->rest[1] = from->rest[1];
	e->rest[2] = from->rest[2];
	e->rest[3] = *(const __be16 *)&from->rest[3];
	return 1;
}

/* nothing says that a sum of 16-bit words, complements among them, is zero. */
INLINE int nothing(__u32 sum) { return halves(halves(sum)) == 0xffff; }

/* resum finishes the transport's checksum, which was before, for the change of
 * an address that the kernel has made good and of a port that it has not. A sum
 * that the kernel still owes (CHECKSUM_PARTIAL) holds the addresses and no port,
 * as itself and not as its complement: which of the two this one is, the
 * kernel's change of it shows. It gives 0 when that does not, as of two
 * addresses with one sum, or of no checksum. */
INLINE int resum(struct __sk_buff *skb, struct ends *e, int tcp, __be16 before, __be32 was, __be32 now, __u32 ports)
{
	__be16 *at = (void *)(long)skb->data + ENDS_AT + (tcp ? ENDS_TCP : ENDS_UDP) - sizeof(__be16);
	if ((void *)(at + 1) > (void *)(long)skb->data_end)
		return 0;
	__u32 check = *at, moved = check + (__u16)~before;
	int owed = nothing(moved + halves(was) + halves(~now)), whole = nothing(moved + halves(~was) + halves(now));
	if (owed == whole)
		return 0;
	if (whole)
		check = (__u16)~halves(halves((__u16)~check + ports));
	if (tcp)
		e->rest[3] = check;
	else
		e->rest[0] = (e->rest[0] & 0xffff) | (check ? check : 0xffff) << 16;
	return 1;
}

/* translate writes what changes at once, in the first size bytes: each call
 * looks again whether the packet's bytes are others' too. */
INLINE int translate(struct __sk_buff *skb, struct ends *e, __u32 size, int source, __be32 was, __be32 now, __be16 port)
{
	const __u32 skip = offsetof(struct ends, check);
	__u32 sum = (__u16)~e->check + halves(~was) + halves(now);
	e->check = (__u16)~halves(halves(sum));
	e->addr[source ? 0 : 1] = now;
	e->port[source ? 0 : 1] = port;
	return bpf_skb_store_bytes(skb, ENDS_AT + skip, &e->check, size - skip, 0) ? -1 : 0;
}

/* rewrite changes the packet's source or destination, address and port, from
 * what the flow's one side calls it to the other's. */
INLINE int rewrite(struct __sk_buff *skb, const struct packet *p, int source, const struct addr *was, __u16 from, const struct addr *addr, __u16 to, const int family)
{
	__be16 was_port = htons(from), now_port = htons(to);
	__u32 sum = p->l4 + (p->proto == IPPROTO_TCP ? 16 : 6), flags = p->proto == IPPROTO_TCP ? 0 : BPF_F_MARK_MANGLED_0;
	__u32 at = p->l3 + (family == 4 ? (source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr)) :
					  (source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr)));
	if (is_same(was, addr, family) && was_port == now_port)
		return 0;
	if (p->fragment == FRAGMENT_LATER) /* without ports, and the sum of both stands in the first */
		return (family == 4 && bpf_l3_csum_replace(skb, p->l3 + offsetof(struct iphdr, check), was->w[0], addr->w[0], 4)) ||
				       bpf_skb_store_bytes(skb, at, addr, family == 4 ? 4 : 16, family == 4 ? 0 : BPF_F_RECOMPUTE_CSUM) ?
			       -1 :
			       0;
	struct ends e = {};
	if (family == 4 && read_ends(skb, p, &e)) {
		int tcp = p->proto == IPPROTO_TCP;
		__u32 size = offsetof(struct ends, rest);
		__be16 before = tcp ? e.rest[3] : e.rest[0] >> 16;
		if (bpf_l4_csum_replace(skb, sum, was->w[0], addr->w[0], flags | BPF_F_PSEUDO_HDR | 4))
			return -1;
		if (was_port != now_port) {
			if (resum(skb, &e, tcp, before, was->w[0], addr->w[0], (__u16)~was_port + now_port))
				size = tcp ? ENDS_TCP : ENDS_UDP;
			else if (bpf_l4_csum_replace(skb, sum, was_port, now_port, flags | 2))
				return -1;
		}
		return translate(skb, &e, size, source, was->w[0], addr->w[0], now_port);
	}
	if (repair(skb, p, sum, was, addr, flags, family) || bpf_l4_csum_replace(skb, sum, was_port, now_port, flags | 2))
		return -1;
	if (bpf_skb_store_bytes(skb, at, addr, family == 4 ? 4 : 16, 0))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4 + (source ? 0 : 2), &now_port, 2, 0) ? -1 : 0;
}

/* stamped_revision is the revision a tunnelled packet is judged at: the
 * stamped one when its rows are complete here, else the newest, and then the
 * verdict says what was asked for. */
INLINE __u32 stamped_revision(const struct revisions *r, __u32 stamp, struct verdict *v)
{
	__u32 staged = READ_ONCE(r->staged), ahead = READ_ONCE(r->revision) ^ stamp;
	if (stamp == staged && ahead)
		asked = stamp;
	if (!ahead || stamp == staged || stamp == READ_ONCE(r->oldest))
		return stamp;
	v->stamped = stamp;
	return staged;
}

/* probes_from says that the target's probes come from an address. */
INLINE int probes_from(const struct target *t, const struct addr *from, const int family)
{
	if (family == 4 && t->probe_source.w[0] == htonl(0x64400000))
		return (from->w[0] & htonl(0xffff0000)) == htonl(0x64400000);
	return is_key(&t->probe_source, from, family);
}

/* exempt says that a system rule lets probes of the target in, and that this
 * is one: from a probe address of ours, for the port that is probed. */
INLINE int exempt(const struct target *t, const struct addr *from, __u16 port, const int family)
{
	/* Products for conditions: each branch doubles what the verifier has to walk. A ping has no port. */
	if (!(t->flags & TARGET_PROBE_EXEMPT) || (__u64)(port ^ t->probe_port) * (port | (~t->flags & TARGET_PROBE_PING)))
		return 0;
	return probes_from(t, from, family);
}

enum { DIALLED_NOTHING = 0, DIALLED_VIP = 1, DIALLED_SERVICE = 2 };

/* dialled says what of the target a tunnelled packet is for: a VIP of its own
 * with one of the listener's ports, or the service address itself, with a port
 * that the gateway dials there or a ping where it probes by those. */
INLINE __u32 dialled(const struct target *t, const struct packet *p, const int family)
{
	if (!t || !p)
		return DIALLED_NOTHING;
	if (t->flags & TARGET_PROBE_PING && p->proto == icmp_of(family) && p->icmp_type == echo_of(family))
		return is_key(&t->service, &p->dst, family) ? DIALLED_SERVICE : DIALLED_NOTHING;
	if (p->proto != t->proto)
		return DIALLED_NOTHING;
	if (is_key(&t->service, &p->dst, family))
		return p->dst_port == t->service_port || p->dst_port == t->probe_port ? DIALLED_SERVICE : DIALLED_NOTHING;
	if (t->flags & TARGET_VIA_GATEWAY || !(is_key(&t->vip, &p->dst, family) || is_key(&t->eip, &p->dst, family)))
		return DIALLED_NOTHING;
	return within(p->dst_port, t->vport, t->span) ? DIALLED_VIP : DIALLED_NOTHING;
}

__attribute__((noinline)) __u32 dialled4(const struct target *t, const struct packet *p) { return dialled(t, p, 4); }
__attribute__((noinline)) __u32 dialled6(const struct target *t, const struct packet *p) { return dialled(t, p, 6); }

/* vouched says that the flow's target still needs no rule at revision. */
INLINE int vouched(const struct track *k, __u32 revision, const int family)
{
	struct target *t = k->was.flags & FLOW_VOUCHED ? find_target(k->was.target, revision) : 0;
	return t && (t->flags & TARGET_PASS || (k->was.flags & FLOW_VIA_GATEWAY && exempt(t, &k->t.remote, k->t.local_port, family)));
}

/* to_gateway sends a packet of the flow's back through the tunnel that it came by. */
INLINE int to_gateway(struct __sk_buff *skb, const struct packet *p, const struct track *k, struct verdict *v, const int family)
{
	struct hop hop = { .to = peer_numbered(k->was.gateway_row, k->was.gateway), .flow = flow_port(p, family),
			   .revision = v->revision, .target = k->was.target };
	if (!hop.to)
		return drop(skb, p, v, REASON_UNKNOWN_GATEWAY);
	hop.peer = peer_of(hop.to);
	if (into_frame(skb, p) || encapsulate(skb, &hop))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	return leave(hop.peer);
}

/* stands says that the flow which an error is about is let in, or out, by the rules
 * of revision, whether or not a packet of its own has come by since they are in force. */
INLINE int stands(const struct track *k, __u32 revision, const int family)
{
	struct verdict v = { .revision = revision };
	if (!k || k->was.state == FLOW_REFUSED)
		return 0;
	if (k->was.revision >= revision || vouched(k, revision, family))
		return 1;
	struct instance *i = find_instance(&k->t.local, revision, family);
	v.direction = k->was.opener;
	return i && (held(i, &k->was, revision) || judge_peer(i, &k->t.remote, dialled_key(&k->t, v.direction), &v, family));
}

__attribute__((noinline)) int stands4(const struct track *k, __u32 revision) { return stands(k, revision, 4); }
__attribute__((noinline)) int stands6(const struct track *k, __u32 revision) { return stands(k, revision, 6); }

#define STANDS(k, revision, family) ((family) == 4 ? stands4(k, revision) : stands6(k, revision))

#include "elsewhere.h"
#include "relate.h"

/* aside looks where the flow of a packet is that another one keeps from its tuple:
 * of one that came through the tunnel for a target, or directly; of an error, the
 * flow that it is about. */
INLINE __u32 aside(struct __sk_buff *skb, __u32 target, __u32 stamp, const int family)
{
	struct packet p;
	struct track k = {};
	struct verdict v = {};
	struct revisions *r = current_revisions();
	if (!r || see(skb, &p, &v, r, family))
		return LOOKED;
	int about = p.error && quoted(skb, &p, &p, family);
	name_flow(&p, about ? DIRECTION_OUT : DIRECTION_IN, &k.t, family);
	struct target *t = target ? find_target(target, stamped_revision(r, stamp, &v)) : 0;
	struct addr vip = {};
	__u16 vport = 0;
	if (t && !is_key(&t->service, &k.t.local, family)) {
		set_addr(&vip, &k.t.local, family);
		set_addr(&k.t.local, &t->service, family);
		vport = k.t.local_port;
		k.t.local_port += t->service_port - t->vport;
	}
	return LOOKED | (__u32)search_aside(&k, target ? &vip : 0, vport, units(v.now), family) << LOOKED_PORT;
}

__attribute__((noinline)) __u32 aside4(struct __sk_buff *skb, __u32 target, __u32 stamp) { return aside(skb, target, stamp, 4); }
__attribute__((noinline)) __u32 aside6(struct __sk_buff *skb, __u32 target, __u32 stamp) { return aside(skb, target, stamp, 6); }

/* carries_on says that a packet changes nothing about the state of its flow, which
 * its own side opened or not. */
INLINE int carries_on(const struct packet *p, __u8 state, __u8 flags, int opened)
{
	if (p->proto == IPPROTO_TCP)
		return state == FLOW_OPEN && !(p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST));
	return (state == FLOW_OPEN) | ((state == FLOW_HALF) & (opened != flags >> 7));
}

/* unmoved says that a packet for a VIP, whose flow k is, changes nothing about it
 * but what is counted: want is what it would write. The flow was judged at this
 * revision, when its instance had a row. */
INLINE int unmoved(const struct track *k, const struct packet *p, const struct target *t, const struct known *want, __u32 now, const int family)
{
	const struct known *was = &k->was;
	__u32 other = (was->revision ^ want->revision) | newer(now, was->seen) | ((was->flags ^ want->flags) & ~FLOW_PAST) | (was->vport ^ want->vport) |
		      (was->target ^ want->target) | (was->gateway ^ want->gateway) | (was->gateway_row ^ want->gateway_row) | (t->flags & TARGET_PASS);
	if (!k->slot || other || want->flags & FLOW_VIA_GATEWAY || !is_same(&was->vip, &want->vip, family))
		return 0;
	return carries_on(p, was->state, was->flags, 1);
}

/* let_in judges what came through the tunnel for a service, whatever was dialled,
 * and moves its flow on. */
INLINE int let_in(struct __sk_buff *skb, struct packet *p, const struct target *t, struct track *k, struct known *want, struct verdict *v, __u32 now, const int family)
{
	struct instance *i = find_instance(&t->service, v->revision, family);
	if (!i)
		return drop(skb, p, v, REASON_UNKNOWN_TARGET);
	if (t->flags & TARGET_PASS) {
		v->reason = REASON_PASS_TO_TARGET;
		want->flags |= FLOW_VOUCHED;
	} else if (want->flags & FLOW_VIA_GATEWAY && exempt(t, &p->src, k->t.local_port, family)) {
		v->reason = REASON_SYSTEM_RULE;
		want->flags |= FLOW_VOUCHED;
	} else if (fresh(k) || ((k->was.revision != v->revision) & !held(i, &k->was, v->revision)) || k->was.state == FLOW_REFUSED || k->was.flags & FLOW_VOUCHED ||
		   (k->was.state == FLOW_CLOSING && begins(p))) {
		if (!judge_peer(i, &p->src, (__u32)p->proto << 16 | k->t.local_port, v, family))
			return refuse(skb, p, k, v, now, family);
		want->counter = v->counter;
	} else {
		want->counter = v->counter = k->was.counter;
	}
	/* An older gateway's packet is judged at its revision without taking the flow back to it. */
	if (k->slot && k->was.revision > want->revision && k->was.state != FLOW_REFUSED)
		want->revision = k->was.revision;
	move_on(skb, k, p, DIRECTION_IN, want);
	return pass(skb, p, k, want, v, now, family);
}

/* from_gateway takes what a gateway sent, out of its tunnel: a client's packet
 * for a VIP, or one from the gateway's own proxy or prober for the service
 * address itself. */
INLINE int from_gateway(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 from, __u32 second, const int family)
{
	__u32 gateway = from & ((1 << LOOKED_PORT) - 1), looked = from & LOOKED ? from : 0;
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	struct peer_row *sender = bpf_map_lookup_elem(&peers, &gateway);
	if (!r || !sender || see(skb, &p, &v, r, family))
		return drop(skb, &p, &v, REASON_MALFORMED);
	if (p.fragment == FRAGMENT_STRAY)
		return drop(skb, &p, &v, REASON_FRAGMENT);
	v.revision = stamped_revision(r, stamp, &v);
	v.target = target;
	struct target *t = find_target(v.target, v.revision);
	if (!t)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	__u32 dialled = family == 4 ? dialled4(t, &p) : dialled6(t, &p);
	if (!dialled && p.error)
		return THEN_ERROR;
	if (!dialled)
		return drop(skb, &p, &v, REASON_UNKNOWN_TARGET);
	int dialled_vip = dialled == DIALLED_VIP, dialled_service = !dialled_vip;
	__u32 now = units(v.now);
	struct track k = { .t = { .remote_port = p.src_port, .local_port = dialled_vip ? t->service_port + (p.dst_port - t->vport) : p.dst_port, .proto = p.proto } };
	set_addr(&k.t.remote, &p.src, family);
	set_addr(&k.t.local, &t->service, family);
	struct known want = { .opener = DIRECTION_IN, .revision = v.revision, .target = v.target, .gateway = sender->num, .gateway_row = gateway, .share = t->share,
			      .flags = FLOW_TUNNELLED | (dialled_vip ? 0 : FLOW_VIA_GATEWAY) };
	if (dialled_vip) {
		set_addr(&want.vip, &p.dst, family);
		want.vport = p.dst_port;
		if (t->flags & TARGET_RETURN) {
			want.flags |= FLOW_RETURN;
			lower_mss(skb, &p, family);
		}
	}
	if (dialled_service & (!(t->flags & TARGET_VIA_GATEWAY) | probes_from(t, &p.src, family)))
		want.share = SHARE_PROBES;
	if (looked)
		k.t.remote_port = port_looked(looked);
	if (find(&k, now, family) ? !its_own(&k, p.src_port, &want.vip, want.vport, family) : !looked && may_be_moved(&p, now)) {
		if (!k.slot || (!yields(&k) && !looked))
			return THEN_ASIDE;
		if (k.was.state == FLOW_OPEN || !yields(&k))
			return drop(skb, &p, &v, REASON_TUPLE_COLLISION);
		begin_anew(&k, DIRECTION_IN);
	}
	if (second && !k.slot && dialled_vip && p.proto == IPPROTO_TCP && !opens(&p))
		return THEN_ELSEWHERE;
	note_move(&k, &p, &want);
	/* What gate 2 judges is the service, whatever was dialled. */
	set_addr(&p.dst, &k.t.local, family);
	p.dst_port = k.t.local_port;
	v.reason = REASON_ESTABLISHED;
	if (unmoved(&k, &p, t, &want, now, family)) {
		v.counter = k.was.counter;
		admitted(&p, &v, skb->len, 0);
	} else {
		int verdict = let_in(skb, &p, t, &k, &want, &v, now, family);
		if (verdict != TCX_NEXT)
			return verdict;
	}
	if (dialled_vip && rewrite(skb, &p, 0, &want.vip, want.vport, &k.t.local, k.t.local_port, family))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	if (want.flags & FLOW_MOVED && move_in(skb, &p, &k, now))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	return followed(&p, TCX_NEXT);
}

/* These and the other functions with a 4 and a 6 are walked by the verifier on
 * their own. */
__attribute__((noinline)) int from_gateway4(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 from, __u32 second)
{
	return from_gateway(skb, stamp, target, from, second, 4);
}

__attribute__((noinline)) int from_gateway6(struct __sk_buff *skb, __u32 stamp, __u32 target, __u32 from, __u32 second)
{
	return from_gateway(skb, stamp, target, from, second, 6);
}

/* track_direct judges and tracks a packet that did not come through the
 * tunnel, or is not going back into it, in its own direction. */
INLINE int track_direct(struct __sk_buff *skb, struct packet *p, struct instance *i, struct track *k, struct verdict *v, __u32 now, const int family)
{
	__u8 opener = k->slot ? k->was.opener : v->direction;
	__u8 travels = v->direction;
	/* A connection older than the gate: whoever has the lower port was dialled. */
	int older = !k->slot && p->proto == IPPROTO_TCP && !opens(p) && lets_be(v);
	if (older)
		opener = k->t.local_port < k->t.remote_port ? DIRECTION_IN : DIRECTION_OUT;
	struct known want = {};
	if (k->slot)
		want = k->was;
	want.opener = opener;
	if (travels == DIRECTION_IN)
		note_move(k, p, &want);
	else if (want.flags & FLOW_MOVED)
		p->dst_port = want.client_port; /* as rules and verdicts know it */
	v->reason = REASON_ESTABLISHED;
	v->counter = want.counter;
	if (k->slot && k->was.state == FLOW_REFUSED && travels != opener)
		return give_up(skb, p, v, REASON_FLOW_REFUSED);
	if (!k->slot && travels == DIRECTION_OUT && !opens(p) && !older)
		return drop(skb, p, v, REASON_FLOW_REFUSED);
	if (!k->slot || ((k->was.revision < v->revision) & !held(i, &k->was, v->revision)) || k->was.state == FLOW_REFUSED || (k->was.state == FLOW_CLOSING && begins(p))) {
		/* Judged as the opener's packet would be: its rules, its destination port. */
		v->direction = opener;
		int ok = judge_peer(i, &k->t.remote, dialled_key(&k->t, opener), v, family);
		v->direction = travels;
		if (!ok)
			return refuse(skb, p, k, v, now, family);
		want.counter = v->counter;
		want.revision = v->revision;
	} else if (want.revision < v->revision) {
		want.revision = v->revision;
	}
	move_on(skb, k, p, travels, &want);
	int verdict = pass(skb, p, k, &want, v, now, family);
	if (verdict != TCX_NEXT || !(want.flags & FLOW_MOVED))
		return verdict;
	if (travels == DIRECTION_IN ? move_in(skb, p, k, now) : move_out(skb, p, k, now))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	return TCX_NEXT;
}

/* is_machines says that an address is the machine's own, its end of the tunnel or
 * one of an instance that is no guest; before anything is known, any may be. A
 * function of its own, since few packets get as far as being asked. */
INLINE int is_machines(const struct addr *a, __u32 revision, const int family)
{
	if (!a || is_own(a, family) || !revision)
		return 1;
	struct instance *i = find_instance(a, revision, family);
	return i && !(i->flags & INSTANCE_GUEST);
}

__attribute__((noinline)) int is_machines4(__be32 a, __u32 revision)
{
	struct addr own = { .w = { a } };
	return is_machines(&own, revision, 4);
}

__attribute__((noinline)) int is_machines6(const struct addr *a, __u32 revision) { return is_machines(a, revision, 6); }

#define IS_MACHINES(a, revision, family) ((family) == 4 ? is_machines4((a)->w[0], revision) : is_machines6(a, revision))

INLINE int is_control(const struct packet *p, int in, __u32 revision, const int family)
{
	struct addr control = { .w = { control_address.w[0], control_address.w[1], control_address.w[2], control_address.w[3] } };
	return control_family == family && p->proto == IPPROTO_TCP && !p->fragment &&
	       (in ? !opens(p) && is_same(&p->src, &control, family) && p->src_port == control_port && IS_MACHINES(&p->dst, revision, family) :
		     is_same(&p->dst, &control, family) && p->dst_port == control_port && IS_MACHINES(&p->src, revision, family));
}

/* is_dhcp is the other system rule of the machine's own: an address it leased
 * has to be renewed, whatever the rules say. */
INLINE int is_dhcp(const struct packet *p, int in, __u32 revision)
{
	if (p->proto != IPPROTO_UDP || p->fragment)
		return 0;
	return in ? p->src_port == DHCP_SERVER && p->dst_port == DHCP_CLIENT && !reserved(&p->src, revision, 4) && (p->dst.w[0] == ~0u || is_machines4(p->dst.w[0], revision)) :
		    p->src_port == DHCP_CLIENT && p->dst_port == DHCP_SERVER && (!p->src.w[0] || is_machines4(p->src.w[0], revision));
}

/* look_up names the packet's flow, by the port that it was moved to if somebody
 * looked, and asks the table; a stray fragment has none. */
INLINE int look_up(const struct packet *p, const struct verdict *v, struct track *k, __u32 looked, const int family)
{
	name_flow(p, v->direction, &k->t, family);
	if (looked)
		k->t.remote_port = port_looked(looked);
	return p->fragment != FRAGMENT_STRAY && find(k, units(v->now), family);
}

/* settled says that the packet changes nothing about its flow, which was judged
 * at this revision: all that is left is to count it. */
INLINE int settled(const struct track *k, const struct packet *p, const struct verdict *v, __u32 now)
{
	if (!k->slot || k->was.revision != v->revision || newer(now, k->was.seen) || k->was.flags & (FLOW_TUNNELLED | FLOW_MOVED))
		return 0;
	return has_ports(p->proto) && carries_on(p, k->was.state, k->was.flags, k->was.opener == v->direction);
}

/* direct handles everything but the tunnel, either way. k is what the table
 * knows of the packet's flow. */
INLINE int direct(struct __sk_buff *skb, struct packet *p, struct verdict *v, struct track *k, __u32 looked, const int family)
{
	int in = v->direction == DIRECTION_IN;
	__u32 now = units(v->now);
	if (settled(k, p, v, now)) {
		v->reason = REASON_ESTABLISHED;
		v->counter = k->was.counter;
		admitted(p, v, skb->len, 0);
		return TCX_NEXT;
	}
	struct instance *i = find_instance(in ? &p->dst : &p->src, v->revision, family);
	if (!i)
		return give_up(skb, p, v, in ? REASON_NO_MATCH : REASON_SPOOFED);
	if (p->fragment == FRAGMENT_STRAY)
		return give_up(skb, p, v, REASON_FRAGMENT);
	if (p->proto == icmp_of(family) && p->icmp_type != echo_of(family) && p->icmp_type != echoreply_of(family)) {
		struct packet q;
		int found = quoted_flow(skb, p, &q, v->direction, k, looked, now, family);
		if (in & !looked && p->error && has_ports(q.proto) && (found ? crosses(&k->was) : may_be_moved(&q, now)))
			return THEN_ASIDE;
		if (found && (k->was.flags & (FLOW_TUNNELLED | FLOW_VIA_GATEWAY)) != FLOW_TUNNELLED && STANDS(k, v->revision, family)) {
			if (k->was.flags & FLOW_MOVED && (in ? requote_in(skb, p, &q, k) : requote_out(skb, p, &q, k)))
				return drop(skb, p, v, REASON_TUNNEL_FAILED);
			v->reason = REASON_ESTABLISHED;
			admitted(p, v, skb->len, 0);
			return TCX_NEXT;
		}
		if (in && reserved(&p->src, v->revision, family))
			return give_up(skb, p, v, REASON_SPOOFED);
		if (!judge_peer(i, in ? &p->src : &p->dst, (__u32)p->proto << 16, v, family))
			return drop(skb, p, v, v->reason);
		admitted(p, v, skb->len, 0);
		return TCX_NEXT;
	}
	if (in && (k->slot ? !its_own(k, p->src_port, 0, 0, family) : !looked && may_be_moved(p, now))) {
		if (!looked && has_ports(p->proto))
			return THEN_ASIDE;
		if (has_ports(p->proto) || k->was.state == FLOW_OPEN)
			return give_up(skb, p, v, REASON_TUPLE_COLLISION);
	}
	/* Who was dialled may answer; what they begin themselves is another flow. */
	int turned = k->slot && k->was.opener != v->direction && asks(p, family);
	/* What came in at this revision was looked at then. */
	int current = k->slot && !turned && k->was.revision == v->revision && k->was.state != FLOW_REFUSED && !(k->was.flags & FLOW_TUNNELLED);
	if (in && !current && (!k->slot || k->was.opener != DIRECTION_OUT || turned) && reserved(&p->src, v->revision, family))
		return give_up(skb, p, v, REASON_SPOOFED);
	if (turned || (k->slot && k->was.flags & FLOW_TUNNELLED))
		begin_anew(k, v->direction);
	return track_direct(skb, p, i, k, v, now, family);
}

/* reply sends a tunnelled flow's answer back: as the VIP straight to the
 * client, or through the gateway it came from. */
INLINE int reply(struct __sk_buff *skb, struct packet *p, struct track *k, struct verdict *v, __u32 now, const int family)
{
	struct known want = k->was;
	v->target = k->was.target;
	v->counter = k->was.counter;
	v->reason = REASON_ESTABLISHED;
	if (k->was.flags & FLOW_MOVED)
		p->dst_port = k->was.client_port; /* as rules and verdicts know it */
	if (k->was.state == FLOW_REFUSED)
		return drop(skb, p, v, REASON_FLOW_REFUSED);
	if (k->was.revision < v->revision && vouched(k, v->revision, family)) {
		want.revision = v->revision;
	} else if (k->was.revision < v->revision) {
		want.flags &= ~FLOW_VOUCHED;
		struct instance *i = find_instance(&p->src, v->revision, family);
		v->direction = DIRECTION_IN;
		int ok = i && (held(i, &k->was, v->revision) || judge_peer(i, &p->dst, (__u32)p->proto << 16 | p->src_port, v, family));
		v->direction = DIRECTION_OUT;
		if (!ok)
			return refuse(skb, p, k, v, now, family);
		want.revision = v->revision;
		want.counter = v->counter;
	}
	struct peer_row *to = k->was.flags & (FLOW_VIA_GATEWAY | FLOW_RETURN) ? peer_numbered(k->was.gateway_row, k->was.gateway) : 0;
	if (to && !fits(skb, p, skb->len - p->l3, to, now)) {
		if (p->fragment)
			return drop(skb, p, v, REASON_FRAGMENT);
		skb->cb[0] = k->was.target;
		skb->cb[3] = room_to(to, now);
		return THEN_SIZE;
	}
	move_on(skb, k, p, DIRECTION_OUT, &want);
	int verdict = pass(skb, p, k, &want, v, now, family);
	if (verdict != TCX_NEXT)
		return verdict;
	lower_mss(skb, p, family);
	if (!(k->was.flags & FLOW_VIA_GATEWAY) && rewrite(skb, p, 1, &p->src, p->src_port, &k->was.vip, k->was.vport, family))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	if (k->was.flags & FLOW_MOVED && move_out(skb, p, k, now))
		return drop(skb, p, v, REASON_TUNNEL_FAILED);
	if (k->was.flags & (FLOW_VIA_GATEWAY | FLOW_RETURN))
		return to_gateway(skb, p, k, v, family);
	return TCX_NEXT;
}

/* refuse_size tells whoever sent an answer what of it fits into the tunnel back
 * to its gateway, as that tells clients: the machine's own stack, or the guest
 * behind the port. */
INLINE int refuse_size(struct __sk_buff *skb, __u32 flags, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_OUT, .target = skb->cb[0] };
	if (see(skb, &p, &v, current_revisions(), family))
		return drop(skb, &p, &v, REASON_MALFORMED);
	__u32 length = skb->len, room = skb->cb[3];
	if ((family == 4 ? too_big4(skb, &p, room) : too_big6(skb, &p, room)) || (!bare && turn_back(skb)))
		return drop(skb, &p, &v, REASON_TOO_BIG);
	refused(&p, &v, REASON_TOO_BIG, length);
	skb->mark = mark_judged;
	return bpf_redirect(skb->ifindex, flags);
}

__attribute__((noinline)) int refuse_size4(struct __sk_buff *skb, __u32 flags) { return refuse_size(skb, flags, 4); }
__attribute__((noinline)) int refuse_size6(struct __sk_buff *skb, __u32 flags) { return refuse_size(skb, flags, 6); }

/* has_guests says that packets may be for or from somebody behind a port. */
INLINE int has_guests(const struct revisions *r) { return r && READ_ONCE(r->here); }

/* guest_at gives the row of the guest that has an address, 0 when it is nobody's
 * or the machine's own. */
INLINE struct instance_row *guest_at(const struct addr *a, __u32 revision, const int family)
{
	struct instance_row *row = find_instance_row(a, family);
	struct instance *i = row ? instance_at(row, revision) : 0;
	return i && i->flags & INSTANCE_GUEST ? row : 0;
}

/* judged_elsewhere says where a packet of an address is judged: 1 at its guest's
 * port, -1 nowhere since that is not there, 0 here. */
INLINE int judged_elsewhere(const struct addr *a, __u32 revision, const int family)
{
	struct instance_row *row = guest_at(a, revision, family);
	return !row ? 0 : READ_ONCE(row->port) ? 1 : -1;
}

/* hand_over sends what came through the tunnel and was judged out of the port of
 * its guest, and leaves what is for the machine itself to its stack. */
__attribute__((noinline)) int hand_over(struct __sk_buff *skb, __u32 target, __u32 stamp)
{
	struct packet p;
	struct verdict v = { .gate = GATE_CVM, .direction = DIRECTION_IN, .target = target, .now = now_ns() };
	struct revisions *r = current_revisions();
	struct target *t = r ? find_target(target, v.revision = stamped_revision(r, stamp, &v)) : 0;
	__u32 at = (t ? number_of_instance6(&t->service) : 0) - 1;
	struct instance_row *row = bpf_map_lookup_elem(&instances, &at);
	if (!t || !row || !is_same(&row->key, &t->service, 6))
		return TCX_NEXT;
	struct instance *i = instance_at(row, v.revision);
	if (!i || !(i->flags & INSTANCE_GUEST))
		return TCX_NEXT;
	__u32 port = READ_ONCE(row->port);
	unread(&p, 0);
	if (!port)
		return drop(skb, &p, &v, REASON_GUEST_AWAY);
	if (bare ? frame_for(skb, row->mac) : bpf_skb_store_bytes(skb, offsetof(struct ethhdr, dst), row->mac, sizeof(row->mac), 0))
		return drop(skb, &p, &v, REASON_TUNNEL_FAILED);
	skb->mark = mark_judged;
	return bpf_redirect(port, 0);
}

/* system_rule says that a rule of the machine's own lets the packet pass. */
INLINE int system_rule(struct __sk_buff *skb, const struct packet *p, int in, __u32 revision, const int family)
{
	if (is_control(p, in, revision, family))
		return 1;
	return family == 4 ? is_dhcp(p, in, revision) : is_nd(skb, p, in) || is_dhcp6(p, in);
}

/* arriving judges what did not come through the tunnel. Whether an ICMP error is
 * about the tunnel itself has to be found out before. */
INLINE int arriving(struct __sk_buff *skb, __u32 looked, __u32 unrelated, const int family)
{
	struct packet p;
	struct track k = {};
	struct verdict v = { .direction = DIRECTION_IN };
	struct revisions *r = current_revisions();
	int elsewhere;
	if (see(skb, &p, &v, r, family))
		return give_up(skb, &p, &v, REASON_MALFORMED);
	if (has_guests(r) && (elsewhere = judged_elsewhere(&p.dst, v.revision, family)))
		return elsewhere > 0 ? TCX_NEXT : drop(skb, &p, &v, REASON_GUEST_AWAY);
	if (p.error && !unrelated && is_own(&p.dst, family))
		return THEN_UNDERLAY;
	if (system_rule(skb, &p, 1, v.revision, family)) {
		count_reason(REASON_SYSTEM_RULE);
		return TCX_NEXT;
	}
	look_up(&p, &v, &k, looked, family);
	return followed(&p, direct(skb, &p, &v, &k, looked, family));
}

__attribute__((noinline)) int arriving4(struct __sk_buff *skb, __u32 looked, __u32 unrelated) { return arriving(skb, looked, unrelated, 4); }
__attribute__((noinline)) int arriving6(struct __sk_buff *skb, __u32 looked, __u32 unrelated) { return arriving(skb, looked, unrelated, 6); }

/* leaving judges what an instance sends. ICMP errors it judges as such only when
 * they are about no flow of the tunnel, which has to be found out before. */
INLINE int leaving(struct __sk_buff *skb, __u32 unrelated, const int family)
{
	struct packet p;
	struct track k = {};
	struct verdict v = { .direction = DIRECTION_OUT };
	struct revisions *r = current_revisions();
	int elsewhere;
	if (see(skb, &p, &v, r, family))
		return give_up(skb, &p, &v, REASON_MALFORMED);
	if (has_guests(r) && (elsewhere = judged_elsewhere(&p.src, v.revision, family)))
		return elsewhere > 0 ? followed(&p, TCX_NEXT) : drop(skb, &p, &v, REASON_GUEST_AWAY);
	if (leads_astray(&p, family) || (family == 6 && astray6(skb, &p, v.revision)))
		return give_up(skb, &p, &v, REASON_SPOOFED);
	if (system_rule(skb, &p, 0, v.revision, family)) {
		count_reason(REASON_SYSTEM_RULE);
		return TCX_NEXT;
	}
	/* What reply put into the tunnel comes by here once more. */
	if (is_own(&p.src, family) && p.proto == IPPROTO_UDP && p.dst_port == tunnel_port && find_peer(&p.dst, family))
		return TCX_NEXT;
	if (p.error && !unrelated)
		return THEN_ERROR;
	if (look_up(&p, &v, &k, 0, family) && k.was.flags & FLOW_TUNNELLED && !asks(&p, family))
		return followed(&p, reply(skb, &p, &k, &v, units(v.now), family));
	return followed(&p, direct(skb, &p, &v, &k, 0, family));
}

__attribute__((noinline)) int leaving4(struct __sk_buff *skb, __u32 unrelated) { return leaving(skb, unrelated, 4); }
__attribute__((noinline)) int leaving6(struct __sk_buff *skb, __u32 unrelated) { return leaving(skb, unrelated, 6); }

/* arrive takes the tunnel off what is for this node's end of it. It gives 1
 * when a is filled, 0 when this is no tunnel after all, and -1 when the packet's
 * way ends here with a's answer. */
INLINE int arrive(struct __sk_buff *skb, struct arrival *a, const int family)
{
	struct packet p;
	struct verdict v = { .direction = DIRECTION_IN };
	if (!a || see(skb, &p, &v, current_revisions(), family) || !is_tunnel(&p, family))
		return 0;
	enum reason failed = decapsulate(skb, &p, a, family);
	if (failed == REASON_NONE)
		return 1;
	/* A failure that leaves it whole: maybe somebody else's tunnel. */
	a->answer = failed == REASON_TUNNEL_FAILED ? drop(skb, &p, &v, failed) : give_up(skb, &p, &v, failed);
	return -1;
}

__attribute__((noinline)) int arrive4(struct __sk_buff *skb, struct arrival *a) { return arrive(skb, a, 4); }
__attribute__((noinline)) int arrive6(struct __sk_buff *skb, struct arrival *a) { return arrive(skb, a, 6); }

/* of_link says that a frame is for the other end of the link itself, which no
 * bridge passes on: EAPOL, LLDP, LACP. It is never an instance's. */
__attribute__((noinline)) int of_link(struct __sk_buff *skb)
{
	__u8 to[6];
	return !bpf_skb_load_bytes(skb, 0, to, sizeof(to)) && to[0] == 0x01 && to[1] == 0x80 && to[2] == 0xc2 && !to[3] && !to[4] && to[5] < 16;
}

/* unnamed answers what needs no judging, and what is neither IPv4 nor IPv6. It
 * gives the family of all others. */
INLINE int unnamed(struct __sk_buff *skb, __u8 direction, int *answer)
{
	struct revisions *r = current_revisions();
	int other = tagged(skb), family = other ? 0 : family_of(skb);
	int resolves = !other && skb->protocol == htons(ETH_P_ARP) && !bare;
	*answer = TCX_NEXT;
	if (other && every_interface)
		return 0; /* to be judged without its tag */
	if (resolves && direction == DIRECTION_IN)
		return 0; /* system rule: address resolution */
	if (!other && !family && !bare && of_link(skb))
		return 0;
	if (r && !READ_ONCE(r->revision) && observe_first)
		return 0; /* nothing is known yet that could be told */
	if (r && family)
		return family;
	struct packet p;
	struct verdict v = { .gate = GATE_CVM, .direction = direction, .now = now_ns() };
	unread(&p, 0);
	if (r)
		v.revision = READ_ONCE(r->revision);
	if (resolves && resolves_own(skb, v.revision))
		return 0;
	*answer = give_up(skb, &p, &v, resolves ? REASON_SPOOFED : REASON_UNSUPPORTED);
	return 0;
}

/* through judges what came through the tunnel; from is the gateway's row, and what
 * aside said. */
INLINE int through(struct __sk_buff *skb, const struct arrival *a, __u32 from, __u32 second)
{
	int answer = a->family == 4 ? from_gateway4(skb, a->revision, a->target, from, second) :
				      from_gateway6(skb, a->revision, a->target, from, second);
	if (answer == THEN_ERROR)
		answer = a->family == 4 ? error_in4(skb, a->revision, a->target, from & LOOKED ? from : 0, second) :
					  error_in6(skb, a->revision, a->target, from & LOOKED ? from : 0, second);
	return answer;
}

/* arrived does so as often as it takes to find out whose the packet is. */
INLINE int arrived(struct __sk_buff *skb, const struct arrival *a)
{
	__u32 from = a->sender;
	int answer = through(skb, a, from, a->second);
	if (answer == THEN_ASIDE) {
		from |= a->family == 4 ? aside4(skb, a->target, a->revision) : aside6(skb, a->target, a->revision);
		answer = through(skb, a, from, a->second);
	}
	if (answer == THEN_ELSEWHERE) {
		answer = a->family == 4 ? elsewhere4(skb, a->sender, a->revision, a->target, a->second) :
					  elsewhere6(skb, a->sender, a->revision, a->target, a->second);
		if (answer == NOT_OURS)
			answer = through(skb, a, from, 0);
	}
	return answer;
}

SEC("tcx/ingress")
int host_in(struct __sk_buff *skb)
{
	struct arrival a = {};
	without_priority(skb);
	if (skb->mark == mark_judged) { /* what refuse_size tells this machine */
		skb->mark = 0;
		return TCX_NEXT;
	}
	int answer, how = 0, family = unnamed(skb, DIRECTION_IN, &answer);
	if (!family)
		return answer;
	if (family == 4 && for_us(skb, bare, 4))
		how = arrive4(skb, &a);
	if (family == 6 && for_us(skb, bare, 6))
		how = arrive6(skb, &a);
	if (how < 0)
		return a.answer;
	if (how) {
		answer = arrived(skb, &a);
		return answer == TCX_NEXT && has_guests(current_revisions()) ? hand_over(skb, a.target, a.revision) : answer;
	}
	answer = family == 4 ? arriving4(skb, 0, 0) : arriving6(skb, 0, 0);
	if (answer == THEN_UNDERLAY && (family == 4 ? learn4(skb, starts(skb)) : learn6(skb, starts(skb)))) {
		count_reason(REASON_SYSTEM_RULE);
		return TCX_NEXT;
	}
	if (answer == THEN_UNDERLAY)
		answer = family == 4 ? arriving4(skb, 0, 1) : arriving6(skb, 0, 1);
	if (answer == THEN_ASIDE)
		answer = family == 4 ? arriving4(skb, aside4(skb, 0, 0), 1) : arriving6(skb, aside6(skb, 0, 0), 1);
	return answer;
}

SEC("tcx/egress")
int host_out(struct __sk_buff *skb)
{
	if (skb->mark == mark_judged) { /* a guest's answer, which its port's program let out */
		skb->mark = 0;
		return TCX_NEXT;
	}
	int answer, family = unnamed(skb, DIRECTION_OUT, &answer);
	if (!family)
		return answer;
	answer = family == 4 ? leaving4(skb, 0) : leaving6(skb, 0);
	if (answer == THEN_ERROR)
		answer = family == 4 ? error_out4(skb, 0) : error_out6(skb, 0);
	if (answer == NOT_OURS)
		answer = family == 4 ? leaving4(skb, 1) : leaving6(skb, 1);
	if (answer == THEN_SIZE)
		answer = family == 4 ? refuse_size4(skb, BPF_F_INGRESS) : refuse_size6(skb, BPF_F_INGRESS);
	return answer;
}

#include "guest.h"

char _license[] SEC("license") = "Dual BSD/GPL";
