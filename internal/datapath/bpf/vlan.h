/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* VLAN tags. No node has anything to do with other VLANs than the one that its
 * device gives without a tag. The kernel keeps the outermost tag beside the
 * frame; those behind it stand in the frame. */
#pragma once
#include "packet.h"

enum { VLAN_ID = 0xfff, TAGS = 4 }; /* tags in a frame that are walked */

INLINE int is_tag(__be16 type) { return type == htons(0x8100) || type == htons(0x88a8) || type == htons(0x9100); }

/* tagged says that a frame is of another VLAN. A tag without a VLAN names
 * nothing but a priority. */
INLINE int tagged(const struct __sk_buff *skb) { return (skb->vlan_present && skb->vlan_tci & VLAN_ID) || is_tag(skb->protocol); }

/* without_priority takes such a tag off, so that no answer carries it. */
INLINE void without_priority(struct __sk_buff *skb)
{
	if (skb->vlan_present && !(skb->vlan_tci & VLAN_ID))
		bpf_skb_vlan_pop(skb);
}

/* behind_tags gives the Ethernet type behind a frame's tags, 0 when there are
 * too many, and where its packet begins. */
INLINE __be16 behind_tags(struct __sk_buff *skb, __u32 *l3)
{
	__be16 type = skb->protocol;
	__u32 at = ETH_HLEN;
	for (int i = 0; i < TAGS && is_tag(type); i++) {
		if (bpf_skb_load_bytes(skb, at + 2, &type, sizeof(type)))
			return 0;
		at += 4;
	}
	*l3 = at;
	return is_tag(type) ? 0 : type;
}
