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

/* place_addr gives the hash of an address and up to one word more. */
INLINE __u64 place_addr(const struct addr *a, __u64 more, const int family)
{
	return place(first_half(a, family), second_half(a, family), more);
}

INLINE struct peer_row *peer_row_at(__u64 hash)
{
	__u32 i = row_of(peer_index, hash) - 1;
	return bpf_map_lookup_elem(&peers, &i);
}

/* find_peer gives the row of the node that ends the tunnel at an address. */
INLINE struct peer_row *find_peer(const struct addr *a, const int family)
{
	struct peer_row *row = peer_row_at(place_addr(a, 0, family));
	return row && is_key(&row->key, a, family) ? row : 0;
}

/* peer_at does the same when the row is likely to be known, for the address
 * that stands in a row, of either family. */
INLINE struct peer_row *peer_at(__u32 i, const struct addr *a)
{
	struct peer_row *row = bpf_map_lookup_elem(&peers, &i);
	if (!row || !is_same(&row->key, a, 6))
		row = peer_row_at(place_addr(a, 0, 6));
	return row && is_same(&row->key, a, 6) ? row : 0;
}

/* peer_numbered gives row i when it is still that of the node numbered num. */
INLINE struct peer_row *peer_numbered(__u32 i, __u32 num)
{
	struct peer_row *row = bpf_map_lookup_elem(&peers, &i);
	return row && num && READ_ONCE(row->num) == num ? row : 0;
}

/* peer_of gives what a row says now. */
INLINE struct peer *peer_of(struct peer_row *row) { return READ_ONCE(row->which) ? &row->v[1] : &row->v[0]; }

/* vip_at gives what stands of an address among the VIPs at a revision, 0 when
 * it is none of them. */
INLINE struct vip *vip_at(const struct addr *a, __u32 revision, const int family)
{
	__u64 hash = place_addr(a, 0, family);
	__u32 i = (__u32)(hash >> 6) & 511;
	__u64 *bits = bpf_map_lookup_elem(&vip_filter, &i);
	if (!bits || !(READ_ONCE(*bits) >> (hash & 63) & 1))
		return 0;
	i = row_of(vip_index, hash) - 1;
	struct vip_row *row = bpf_map_lookup_elem(&vips, &i);
	if (!row || !is_key(&row->key, a, family))
		return 0;
	int n = newest(row, revision);
	struct vip *v = n < 0 ? 0 : n ? &row->v[1] : &row->v[0];
	return v && v->present ? v : 0;
}

INLINE int is_vip(const struct addr *a, __u32 revision, const int family) { return vip_at(a, revision, family) != 0; }

/* reserved says that an address is the load balancer's own: a VIP or one of ours. */
INLINE int reserved(const struct addr *a, __u32 revision, const int family) { return ours(a, family) || is_vip(a, revision, family); }
