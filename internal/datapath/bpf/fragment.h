/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Fragments. Only the first one of a packet has ports. Once it was let through,
 * the table knows them for a while, and each later fragment is judged with them
 * like any other packet of its flow. One whose first was not let through, or is
 * not there yet, stays a stray, and so does every fragment where the tunnel has no
 * room for what clients send: it would be cut once more. Part of packet.h. */

enum {
	FRAGMENT_STRAY = 1, /* nobody can say whose it is */
	FRAGMENT_FIRST = 2, /* with its transport's whole header */
	FRAGMENT_LATER = 3, /* and its first was let through */
};

enum {
	CLIENT_MTU = 1500,   /* of whoever sends to us */
	FRAGMENT_LIFE = 4,   /* units, about seconds: ids come again soon */
};

struct fragment_key {
	struct addr src, dst;
	__be32 id;
	__u32 proto;
};

struct fragment {
	__u32 seen; /* units of 2^30 ns */
	__u16 src_port, dst_port;
	__u16 end; /* of the first: no later one may reach back into it */
	__u8 icmp_type;
	__u8 pad[5];
};

/* Bounded, and apart from the flows: whoever floods it costs others' fragments. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} fragments SEC(".maps");

/* The fragment that this CPU has read last, off the programs' stacks: its name
 * and, until it is let through, what a first one says. */
struct read_fragment {
	struct fragment_key key;
	struct fragment is;
};
PERCPU(read_fragments, struct read_fragment, 1);

INLINE struct read_fragment *fragment_read(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&read_fragments, &zero);
}

/* passes_fragments says that a packet of clients' full size fits into the tunnel
 * whole. */
INLINE int passes_fragments(void) { return tunnel_room() >= CLIENT_MTU; }

/* name_fragment gives the bytes of its packet in front of a fragment, and the
 * name that all fragments of the packet share; a negative number when it cannot. */
INLINE int name_fragment(struct __sk_buff *skb, const struct packet *p, struct fragment_key *k, const int family)
{
	__be16 h[4]; /* IPv4: id, offset; IPv6: next header, offset, id */
	if (bpf_skb_load_bytes(skb, family == 4 ? p->l3 + offsetof(struct iphdr, id) : p->l4 - sizeof(h), h, sizeof(h)))
		return -1;
	*k = (struct fragment_key){};
	set_addr(&k->src, &p->src, family);
	set_addr(&k->dst, &p->dst, family);
	k->id = family == 4 ? h[0] : (__u32)h[3] << 16 | h[2];
	k->proto = p->proto | family << 8;
	return family == 4 ? (ntohs(h[1]) & 0x1fff) * 8 : ntohs(h[1]) & 0xfff8;
}

/* recall_fragment gives a later fragment the ports of its first. */
INLINE void recall_fragment(struct packet *p, const struct fragment_key *k, __u32 offset)
{
	struct fragment *f = bpf_map_lookup_elem(&fragments, k);
	if (!f || (__s32)((__u32)(bpf_ktime_get_coarse_ns() >> UNIT_SHIFT) - f->seen) > FRAGMENT_LIFE || offset < f->end)
		return;
	p->src_port = f->src_port;
	p->dst_port = f->dst_port;
	p->icmp_type = f->icmp_type;
	p->fragment = FRAGMENT_LATER;
}

/* note_first notes what the first fragment that p was read from says, with
 * payload bytes of its packet. */
INLINE void note_first(struct packet *p, struct read_fragment *f, __u32 payload)
{
	f->is.seen = bpf_ktime_get_coarse_ns() >> UNIT_SHIFT;
	f->is.src_port = p->src_port;
	f->is.dst_port = p->dst_port;
	f->is.end = payload;
	f->is.icmp_type = p->icmp_type;
	p->fragment = FRAGMENT_FIRST;
}

/* keep_first lets those that belong to it follow the first fragment that was
 * read last. */
__attribute__((noinline)) int keep_first(void)
{
	struct read_fragment *f = fragment_read();
	return f ? bpf_map_update_elem(&fragments, &f->key, &f->is, 0) : 0;
}

/* followed gives a program's answer to a packet, after which the rest of it may
 * follow if that lets it go on. */
INLINE int followed(const struct packet *p, int answer)
{
	if (p->fragment == FRAGMENT_FIRST && (answer == TCX_NEXT || answer == TC_ACT_REDIRECT))
		keep_first();
	return answer;
}
