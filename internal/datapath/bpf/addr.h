/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Addresses of both families. Functions that work on either take the family
 * as a literal, 4 or 6, so that the compiler makes one of each. */
#pragma once
#include "kernel.h"

/* In network byte order: IPv4 in w[0]. In rows the rest is 0 then; in packets
 * of IPv4 it is not written and not to be read. */
struct addr {
	__be32 w[4];
};

INLINE __u64 first_half(const struct addr *a, const int family)
{
	return family == 4 ? a->w[0] : (__u64)a->w[1] << 32 | a->w[0];
}

INLINE __u64 second_half(const struct addr *a, const int family)
{
	return family == 4 ? 0 : (__u64)a->w[3] << 32 | a->w[2];
}

/* is_same compares the addresses of two packets, or of a packet and a flow. */
INLINE int is_same(const struct addr *a, const struct addr *b, const int family)
{
	__u32 d = a->w[0] ^ b->w[0];
	if (family == 6)
		d |= (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) | (a->w[3] ^ b->w[3]);
	return !d;
}

/* is_key compares an address with that of a row, which may be of the other
 * family: an IPv6 address of which only the first word is not 0 is nobody's. */
INLINE int is_key(const struct addr *key, const struct addr *a, const int family)
{
	if (family == 4)
		return !((key->w[0] ^ a->w[0]) | key->w[1] | key->w[2] | key->w[3]);
	return is_same(key, a, 6) && a->w[1] | a->w[2] | a->w[3];
}

INLINE void set_addr(struct addr *to, const struct addr *from, const int family)
{
	to->w[0] = from->w[0];
	if (family == 6) {
		to->w[1] = from->w[1];
		to->w[2] = from->w[2];
		to->w[3] = from->w[3];
	}
}

/* Flow slots hold the first word of an address in what both families' slots
 * begin with, and an IPv6 address's other words behind. */
INLINE __u32 differs(const struct addr *a, __be32 first, const __be32 *rest, const int family)
{
	__u32 d = a->w[0] ^ first;
	if (family == 6)
		d |= (a->w[1] ^ rest[0]) | (a->w[2] ^ rest[1]) | (a->w[3] ^ rest[2]);
	return d;
}

INLINE void keep_addr(__be32 *first, __be32 *rest, const struct addr *a, const int family)
{
	*first = a->w[0];
	if (family == 6) {
		rest[0] = a->w[1];
		rest[1] = a->w[2];
		rest[2] = a->w[3];
	}
}

INLINE void recall_addr(struct addr *a, __be32 first, const __be32 *rest, const int family)
{
	a->w[0] = first;
	if (family == 6) {
		a->w[1] = rest[0];
		a->w[2] = rest[1];
		a->w[3] = rest[2];
	}
}
