/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Finding rows by their keys. The loader writes the index through a mapping,
 * one store for an entry; table.go places keys by the same arithmetic. */
#pragma once
#include "layout.h"

INLINE __u64 mix(__u64 x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ull;
	x ^= x >> 32;
	return x;
}

/* place gives the hash of a key of up to three words. */
INLINE __u64 place(__u64 a, __u64 b, __u64 c)
{
	return mix((a + b * 0x9e3779b97f4a7c15ull + c * 0xc2b2ae3d27d4eb4full) ^ hash_key);
}

/* entry_of gives the entry of one bucket whose key has the hash, 0 for none. */
INLINE __u32 entry_of(const struct index_bucket *b, __u32 tag)
{
#pragma unroll
	for (int i = 0; i < 8; i++) {
		__u64 e = READ_ONCE(b->entry[i]);
		if ((__u32)(e >> 32) == tag && (__u32)e)
			return (__u32)e;
	}
	return 0;
}

/* row_of gives a row's number plus one, or 0. Whoever asks compares the row's
 * own key: the hash is a hint. */
#define row_of(map, hash) ({ \
	__u32 mask_ = sizeof(*(map).max_entries) / sizeof(int) - 1; \
	__u32 at_ = (__u32)(hash) & mask_, found_ = 0; \
	struct index_bucket *b_ = bpf_map_lookup_elem(&(map), &at_); \
	if (b_) \
		found_ = entry_of(b_, (hash) >> 32); \
	if (!found_) { \
		at_ = (__u32)((hash) >> 14) & mask_; \
		if ((b_ = bpf_map_lookup_elem(&(map), &at_))) \
			found_ = entry_of(b_, (hash) >> 32); \
	} \
	found_; })

/* find_peer gives what is known of the node that ends the tunnel at addr. */
INLINE struct peer *find_peer(__be32 addr)
{
	__u64 hash = place(addr, 0, 0);
	__u32 i = row_of(peer_index, hash) - 1;
	struct peer_row *row = bpf_map_lookup_elem(&peers, &i);
	if (!row || row->key.addr[0] != addr)
		return 0;
	return READ_ONCE(row->which) ? &row->v[1] : &row->v[0];
}

/* peer_at does the same when the row is likely to be known. */
INLINE struct peer *peer_at(__u32 i, __be32 addr)
{
	struct peer_row *row = bpf_map_lookup_elem(&peers, &i);
	if (!row || row->key.addr[0] != addr)
		return find_peer(addr);
	return READ_ONCE(row->which) ? &row->v[1] : &row->v[0];
}

/* vip_at gives what stands of an address among the VIPs at a revision, 0 when
 * it is none of them. */
INLINE struct vip *vip_at(__be32 addr, __u32 revision)
{
	__u64 hash = place(addr, 0, 0);
	__u32 i = (__u32)(hash >> 6) & 511;
	__u64 *bits = bpf_map_lookup_elem(&vip_filter, &i);
	if (!bits || !(READ_ONCE(*bits) >> (hash & 63) & 1))
		return 0;
	i = row_of(vip_index, hash) - 1;
	struct vip_row *row = bpf_map_lookup_elem(&vips, &i);
	if (!row || row->key.addr[0] != addr)
		return 0;
	int n = newest(row, revision);
	struct vip *v = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return v && v->present ? v : 0;
}

INLINE int is_vip(__be32 addr, __u32 revision) { return vip_at(addr, revision) != 0; }

/* reserved says that an address is the load balancer's own: a VIP or one of ours. */
INLINE int reserved(__be32 addr, __u32 revision) { return ours(addr) || is_vip(addr, revision); }
