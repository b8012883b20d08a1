// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* The programs' parser on many frames in one test run: each repetition puts
 * the next frame into the packet and notes what was read. */
#include "packet.h"
#include "index.h"

enum { FRAMES = 65536, ROOM = 188 };

struct parse_frame {
	__u32 length;
	__u8 data[ROOM];
};

struct parse_result {
	struct addr src, dst;
	__u16 src_port, dst_port;
	__u16 l4;
	__u16 tcp_header;
	__u8 outcome; /* enum parsed, or 255: not run */
	__u8 proto;
	__u8 tcp_flags;
	__u8 icmp_type;
	__u8 fragment;
	__u8 plain; /* what the early hook's parser says of it */
	__u8 family;
	__u8 pad;
};

MAPPED(parse_frames, struct parse_frame, FRAMES);
MAPPED(parse_results, struct parse_result, FRAMES);
volatile __u32 parse_next;

static long (*const bpf_skb_pull_data)(struct __sk_buff *, __u32 len) = (void *)39;

SEC("tcx/ingress")
int parse(struct __sk_buff *skb)
{
	struct packet p = {}, q = {};
	__u32 i = parse_next++ & (FRAMES - 1);
	struct parse_frame *f = bpf_map_lookup_elem(&parse_frames, &i);
	struct parse_result *r = bpf_map_lookup_elem(&parse_results, &i);
	if (!f || !r)
		return TC_ACT_OK;
	r->outcome = 255;
	__u32 length = f->length;
	if (length < ETH_HLEN + 20 || length > ROOM)
		return TC_ACT_OK;
	if (bpf_skb_change_tail(skb, length, 0) || bpf_skb_store_bytes(skb, 0, f->data, length, 0) || bpf_skb_pull_data(skb, length))
		return TC_ACT_OK;
	__u32 plain, outcome;
	if (f->data[ETH_HLEN - 2] == 0x86 && f->data[ETH_HLEN - 1] == 0xdd) {
		plain = parse_plain((void *)(long)skb->data, (void *)(long)skb->data_end, length, ETH_HLEN, &q, 6);
		outcome = parse_packet(skb, ETH_HLEN, &p, 6);
	} else {
		plain = parse_plain((void *)(long)skb->data, (void *)(long)skb->data_end, length, ETH_HLEN, &q, 4);
		outcome = parse_packet(skb, ETH_HLEN, &p, 4);
	}
	r->plain = plain;
	r->outcome = outcome;
	r->family = p.family;
	r->src = p.src;
	r->dst = p.dst;
	r->src_port = p.src_port;
	r->dst_port = p.dst_port;
	r->l4 = p.l4;
	r->tcp_header = p.tcp_header;
	r->proto = p.proto;
	r->tcp_flags = p.tcp_flags;
	r->icmp_type = p.icmp_type;
	r->fragment = p.fragment;
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
