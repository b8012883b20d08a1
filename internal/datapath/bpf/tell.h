/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counting and telling. Counters are exact; events are rate-limited and what
 * was not told is counted. */
#pragma once
#include "layout.h"
#include "packet.h"

/* What is known about one packet's judgement, gathered on its way. */
struct verdict {
	__u64 now; /* coarse monotonic ns, read once for the packet */
	__u32 revision;
	__u32 stamped;
	__u32 counter;
	__u32 listener;
	__u32 target;
	__u8 gate;
	__u8 direction;
	__u8 action; /* 1 accept, 2 drop */
	__u8 reason;
	__u8 observed; /* refused, but the machine is only observed */
	__u8 strict;   /* the packet is a guest's: only the machine itself is ever observed */
};

/* What a function for one family leaves to its caller, so that no two great
 * frames lie on the stack: no answers of a program. */
enum then {
	THEN_ECHO = 1 << 16,
	THEN_ERROR = 2 << 16, /* an ICMP error about a flow */
	THEN_SIZE = 3 << 16,  /* too big for the tunnel; the packet's cb holds listener and target */
	NOT_OURS = 4 << 16,
	THEN_ELSEWHERE = 6 << 16, /* of a flow that another host may know: see elsewhere.h and resend.h */
	THEN_ASIDE = 5 << 16, /* another flow has its tuple: see collide.h */
	THEN_FRAGMENT = 7 << 16,
	THEN_MACHINE = 9 << 16,  /* the guest's gate lets it pass, and the machine's own is next */
	THEN_UNDERLAY = 8 << 16, /* an ICMP error that may be about the tunnel itself */
};

enum { ACCEPT = 1, DROP = 2 };

/* What a rule's word says (see judge.h); 0 is none that matches. */
INLINE int accepts(__u64 rule) { return (rule >> 32 & 0xff) == ACCEPT; }
INLINE __u8 told_as(__u64 rule) { return !rule ? REASON_NO_MATCH : rule >> 40 ? rule >> 40 : REASON_RULE; }

/* now_ns is the coarse monotonic clock, asked for only when jiffies moved. */
INLINE __u64 now_ns(void)
{
	__u32 zero = 0;
	__u64 jiffies = bpf_jiffies64();
	struct tick *t = bpf_map_lookup_elem(&clock, &zero);
	if (!t)
		return bpf_ktime_get_coarse_ns();
	if (t->jiffies != jiffies) {
		t->ns = bpf_ktime_get_coarse_ns();
		barrier(); /* whoever interrupts us here reads the clock for himself */
		t->jiffies = jiffies;
	}
	return t->ns;
}

INLINE void count_reason(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&reasons, &reason);
	if (n)
		(*n)++;
}

/* count_rule books a packet on the rule that let it in or refused it. */
INLINE void count_rule(const struct verdict *v, __u32 bytes, int new_flow)
{
	struct counter *c;
	__u32 slot = v->counter;
	if (!slot || !(c = bpf_map_lookup_elem(&counters, &slot)))
		return;
	c->packets++;
	c->bytes += bytes;
	c->new_flows += new_flow;
	c->last = v->now;
}

INLINE int may_tell(__u64 now)
{
	__u32 zero = 0;
	struct event_budget *b = bpf_map_lookup_elem(&budgets, &zero);
	if (!b)
		return 0;
	if (b->second != now >> 30) {
		b->second = now >> 30;
		b->spent = 0;
	}
	if (b->spent >= event_rate) {
		b->lost++;
		return 0;
	}
	b->spent++;
	return 1;
}

INLINE void tell(const struct packet *p, const struct verdict *v, __u32 length)
{
	__u64 now = v->now;
	if (!may_tell(now))
		return;
	struct event *e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		__u32 zero = 0;
		struct event_budget *b = bpf_map_lookup_elem(&budgets, &zero);
		if (b)
			b->lost++;
		return;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = now;
	e->src.w[0] = p->src.w[0];
	e->dst.w[0] = p->dst.w[0];
	if (p->family == 6) {
		e->src = p->src;
		e->dst = p->dst;
	}
	e->src_port = p->src_port;
	e->dst_port = p->dst_port;
	e->proto = p->proto;
	e->family = p->family == 6 ? 6 : 4;
	e->gate = v->gate;
	e->direction = v->direction;
	e->action = v->action;
	e->reason = v->reason;
	e->observed = v->observed;
	e->revision = v->revision;
	e->stamped = v->stamped;
	e->counter = v->counter;
	e->listener = v->listener;
	e->target = v->target;
	e->length = length;
	bpf_ringbuf_submit(e, 0);
}

/* refused books a packet that is about to be dropped. */
INLINE void refused(const struct packet *p, struct verdict *v, __u8 reason, __u32 length)
{
	v->reason = reason;
	v->action = DROP;
	/* A rule is booked only for what it decided itself. */
	if (reason != REASON_RULE && reason != REASON_NO_MATCH && reason != REASON_FLOW_REFUSED && reason != REASON_SYSTEM_RULE)
		v->counter = 0;
	count_reason(reason);
	count_rule(v, length, 0);
	tell(p, v, length);
}

/* drop ends a packet: the only place where one is thrown away. */
INLINE int drop(struct __sk_buff *skb, const struct packet *p, struct verdict *v, __u8 reason)
{
	refused(p, v, reason, skb->len);
	return TC_ACT_SHOT;
}

/* admitted books an accepted packet, and tells of it when it opens a flow. One
 * that only an observed machine lets in is booked on what would have refused it. */
INLINE void admitted(const struct packet *p, struct verdict *v, __u32 length, int new_flow)
{
	v->action = v->observed ? DROP : ACCEPT;
	count_reason(v->observed ? REASON_OBSERVED : v->reason);
	count_rule(v, length, new_flow && !v->observed);
	if (new_flow || v->observed)
		tell(p, v, length);
}
