/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What programs and loader share: rows, slots, events and maps. This is the
 * only definition of these layouts; Go's types are generated from it.
 * Addresses are in network byte order, ports in host byte order. */
#pragma once
#include "addr.h"
#include "kernel.h"
#include "reason.h"

/* Raise when a slot of a flow table or the hash that places it changes: the
 * number is in the pinned names. A host's table is state: a new program reads
 * that of the former number too (former.h). A gateway's is a cache, which may
 * start empty. */
enum { HOST_FLOW_LAYOUT = 3, GATEWAY_FLOW_LAYOUT = 2 };

/* Set by the loader before the programs are loaded. */
volatile const struct addr own_address;  /* where this node ends the tunnel over IPv4; 0: nowhere */
volatile const struct addr own_address6; /* and over IPv6 */
volatile const __u16 tunnel_port;    /* UDP port of the tunnel */
volatile const struct addr control_address; /* the control plane, for the system rule */
volatile const __u8 control_family;  /* of its address; 0: none */
volatile const __u16 control_port;
volatile const __u8 own_mac[6];      /* of the device */
volatile const __u8 answer_vips;     /* the gateway answers ARP for VIPs */
volatile const __u8 observe_first;   /* before the first snapshot a machine that joined is let be */
volatile const __u32 uplink;         /* the device that faces the network */
volatile const __u32 arena_mask;     /* words of the arena - 1 */
volatile const __u32 flow_mask;      /* flow buckets - 1 */
volatile const __u64 hash_key;       /* keeps strangers from aiming at buckets */
volatile const __u32 event_rate;     /* verdict events a second and CPU */
volatile const __u8 node_gate;       /* GATE_CLB or GATE_CVM */

/* Set before the programs are attached, and whenever the device's MTU changes. */
volatile __u16 inner_mss; /* greatest TCP segment of IPv4 that fits inside the tunnel */

/* Which revisions rows can be read at: these three and none between them, for what
 * was not put in force here was overwritten. oldest <= revision <= staged. */
struct revisions {
	__u32 revision; /* in force */
	__u32 staged;   /* newest whose rows are complete */
	__u32 oldest;   /* what was in force before, while its rows are still complete; else revision */
	__u32 here;     /* gateway: not 0 while another answers for the VIPs; host: how many guests are behind its ports */
	__u64 hash_key; /* of the flow table; kept for the next program */
};

/* Every versioned row holds two versions; readers take the newest whose
 * `from` is not above the revision they judge at. from 0 is an empty version. */
struct listener_key {
	struct addr addr;
	__u16 port;
	__u8 proto;
	__u8 pad;
};

enum {
	LISTENER_LAYER7 = 1,
	LISTENER_BY_ADDRESS = 2,   /* the client's address alone chooses */
	LISTENER_LEAST = 4,        /* the fewest connections for the weight, of two */
	LISTENER_HEALTHY_ONLY = 8, /* nobody is taken when all are dead */
};

struct listener {
	__u32 from;
	__u32 present;
	__u32 num;
	__u32 balancer;
	__u32 policy;   /* arena offset; 0: no group bound, everyone is admitted */
	__u32 implicit; /* counter slot of the implicit refusal */
	__u32 ring;     /* arena offset of the Maglev table */
	__u32 ring_len; /* entries; 0: no target */
	__u32 flags;
	__u32 judged;   /* flows judged at this revision or later keep their verdict */
	__u32 former;     /* arena offset of the table before, whose flows may go on */
	__u32 former_len; /* entries; 0: none */
};

struct listener_row {
	struct listener_key key;
	__u32 pad;
	struct listener v[2];
};

/* An address of a load balancer, which no interface has. */
struct vip {
	__u32 from;
	__u32 present;
	__u32 balancer;
	__u32 policy;   /* gate 1's for what goes to no listener, as a listener's */
	__u32 implicit; /* counter slot of the implicit refusal */
	__u32 ranges;   /* arena offset of the listeners of several ports, see index.h; 0: there is none */
};

/* One cache line, as long as keys have four words. */
struct vip_row {
	struct addr key;
	struct vip v[2];
};

enum {
	TARGET_PASS = 1,         /* the load balancer vouches: gate 2 is skipped */
	TARGET_VIA_GATEWAY = 2,  /* replies return through the gateway */
	TARGET_PROBE_EXEMPT = 4, /* probes are a system rule at gate 2 */
	TARGET_PROBE_PING = 8,   /* probes are pings too */
	TARGET_RETURN = 16,      /* what clients get as from the VIP passes the gateway */
	TARGET_KIN = 32,         /* its instance has further addresses, which the map kin knows */
};

struct target {
	__u32 from;
	__u32 present;
	struct addr host;
	struct addr service;
	struct addr public; /* the instance's other address; the service's again if it has none */
	struct addr vip;
	struct addr eip;    /* the load balancer's other address; the VIP again if it has none */
	struct addr probe_source; /* 100.64.0.0 stands for every gateway's */
	__u16 service_port;
	__u16 vport;
	__u16 probe_port;
	__u8 proto;
	__u8 flags;
	__u16 span; /* further ports from vport on; the service has as many from service_port on */
	__u16 share; /* the budget of its load balancer's flows */
	__u16 step; /* what one connection adds to the row's load: less with more weight; 0: nobody counts */
	__u16 pad;
};

/* What stands before the versions are facts and hints, not policy. */
struct target_row {
	__u32 num;
	__u16 dead; /* probes found it so */
	__u16 held; /* of 256 flows that the ring gives it, how many it does not take yet */
	__u32 peer; /* where its host's row is likely to be */
	__u32 load; /* connections as its host told last, and those since, times step */
	struct target v[2];
};

struct instance {
	__u32 from;
	__u32 present;
	__u32 num;      /* index of the instance in the node's snapshot history */
	__u32 ingress;  /* arena offset of the policy; never 0 for a present instance */
	__u32 egress;
	__u32 implicit_in;
	__u32 implicit_out;
	__u32 flags;
	__u32 judged; /* flows judged at this revision or later keep their verdict */
	__u32 pad;
};

/* Nobody has bound a group to the machine yet: gate 2 says what it would
 * refuse, and refuses nothing. The row of address 0 says it for the packets
 * that belong to no address of the machine. */
enum {
	INSTANCE_OBSERVED = 1,
	INSTANCE_GUEST = 2, /* a machine of its own behind a port of this host, where its gate stands */
};

struct instance_row {
	struct addr key;
	__u32 port; /* a guest's; 0: it is not there. A fact, and not versioned */
	__u8 mac[6]; /* the guest's */
	__u8 pad[6];
	struct instance v[2];
};

struct peer {
	__u64 key[2]; /* the first is sent, both are accepted; 0: none */
	__u32 ifindex; /* with the MACs: send straight out; 0: let the kernel resolve the neighbour */
	__u8 mac[6];
	__u8 own_mac[6];
	__u8 family; /* of its address: 4 or 6 */
	__u8 pad[3];
};

/* The loader writes the version that is not read and then names it. */
struct peer_row {
	struct addr key;
	__u32 num; /* the node's */
	__u32 which;
	struct peer v[2];
	__u32 row; /* which one of the table this is */
	__u32 room; /* for a packet inside the tunnel, as a router on the way told; 0: none did */
	__u32 room_until; /* units of 2^30 ns: what it told is forgotten then */
	__u32 pad[7];
};

struct counter {
	__u64 packets;
	__u64 bytes;
	__u64 new_flows;
	__u64 last; /* coarse monotonic ns; 0: never */
};

/* What a counter slot counts; kept in a map so that it survives the node. */
struct counter_name {
	__u8 gate;
	__u8 direction;
	__u8 pad[6];
	__u64 baseline; /* unix ns */
	char group[16];
	char rule[16];
	char object[16]; /* whose implicit refusal, when rule is empty */
};

/* A gateway's flow: a cache of "gate 1 said yes at revision, and this is the
 * target". One of IPv6 begins like one of IPv4 and carries the rest of its
 * addresses behind; the families have tables of their own. */
struct gateway_flow {
	__u32 seq; /* odd while being written; 0: never used */
	__u32 revision;
	__be32 client; /* first word */
	__u32 listener;
	__u16 client_port;
	__u16 port;
	__u32 target; /* 0: layer 7, delivered locally */
	__u32 counter;
	__u32 seen; /* units of 2^30 ns, with SEEN_CLOSING once a FIN or RST went by, and SEEN_UNSURE */
};

#define SEEN_CLOSING (1u << 31)
#define SEEN_UNSURE (1u << 30) /* chosen in the middle of the flow: another target may know it */

struct gateway_bucket {
	struct gateway_flow slot[2];
};

struct gateway_flow6 {
	struct gateway_flow head;
	__be32 client[3]; /* the other words */
	__u32 pad[5];
};

struct gateway_bucket6 {
	struct gateway_flow6 slot[2];
};

enum flow_state {
	FLOW_FREE = 0,
	FLOW_HALF = 1,    /* the opener was heard, nobody else */
	FLOW_OPEN = 2,
	FLOW_CLOSING = 3, /* FINs of both sides or an RST were seen */
	FLOW_REFUSED = 4, /* was tracked, then refused: replies must not reopen it */
};

enum {
	FLOW_TUNNELLED = 1,
	FLOW_VIA_GATEWAY = 2,
	FLOW_VOUCHED = 4, /* pass to target or system rule: no policy to judge again */
	FLOW_ENDED_IN = 8, /* a FIN came from the peer */
	FLOW_ENDED_OUT = 16, /* and one from the instance */
	FLOW_RETURN = 32, /* what clients get as from the VIP passes the gateway */
	FLOW_MOVED = 64, /* the instance knows the client's port as another one: see collide.h */
	FLOW_ANSWERED = 128, /* the other side has said something, of TCP since the first SYN */
	FLOW_ENDED = FLOW_ENDED_IN | FLOW_ENDED_OUT,
	FLOW_PAST = FLOW_ENDED | FLOW_ANSWERED, /* what packets have shown so far */
};

/* A host's flow: state. It knows the way back and who opened it. */
struct host_flow {
	__u32 seq;
	__u32 revision;
	__be32 remote; /* first word */
	__be32 local;  /* first word */
	__u16 remote_port;
	__u16 local_port;
	__u8 proto;
	__u8 opener; /* enum direction */
	__u8 state;  /* enum flow_state */
	__u8 flags;
	__be32 vip;  /* first word of what the client dialled; 0: the local address itself */
	__u16 vport;
	__u16 gateway_row; /* where among the peers the gateway is likely to be */
	__u32 gateway;     /* its node's number */
	__u32 target;
	__u32 counter;
	__u32 seen; /* units of 2^30 ns */
	__u8 share; /* whose budget it is on */
	__u8 pad;
	__u16 client_port; /* of a moved flow: the client's own */
	__u32 ack; /* TCP: what its opener has yet to acknowledge, to show that it hears the other side; 0: nothing */
	__u32 pad2[2];
};

struct host_bucket {
	struct host_flow slot[2];
};

struct host_flow6 {
	struct host_flow head;
	__be32 remote[3], local[3], vip[3]; /* the other words */
	__u32 pad[7];
};

struct host_bucket6 {
	struct host_flow6 slot[2];
};

enum direction { DIRECTION_IN = 1, DIRECTION_OUT = 2 };

struct event {
	__u64 time; /* coarse monotonic ns */
	struct addr src;
	struct addr dst;
	__u16 src_port;
	__u16 dst_port;
	__u8 proto;
	__u8 family; /* 4 or 6 */
	__u8 gate;
	__u8 direction;
	__u8 action; /* 1 accept, 2 drop */
	__u8 reason;
	__u8 observed; /* action is what would have been: the packet was passed on */
	__u8 pad;
	__u32 revision;
	__u32 stamped; /* what the tunnel asked for when it was not at hand; else 0 */
	__u32 counter; /* slot of the deciding rule or implicit refusal; 0: none */
	__u32 listener;
	__u32 target;
	__u32 length;
};

/* Keeps the type in the debugging information, from which Go reads it. */
const struct event *event_type __attribute__((unused));

/* The coarse clock as last read on this CPU: asking for it costs as much as a
 * hash lookup, and it only moves when jiffies do. */
struct tick {
	__u64 jiffies;
	__u64 ns;
};

struct event_budget {
	__u64 second;
	__u64 spent;
	__u64 lost;
};

#define ARRAY(name_, value_, entries_) \
	struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, entries_); __uint(pinning, LIBBPF_PIN_BY_NAME); \
		 __type(key, __u32); __type(value, value_); } name_ SEC(".maps")
/* Rows that the loader writes in place, field by field, through a mapping. */
#define MAPPED(name_, value_, entries_) \
	struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, entries_); __uint(map_flags, BPF_F_MMAPABLE); \
		 __uint(pinning, LIBBPF_PIN_BY_NAME); __type(key, __u32); __type(value, value_); } name_ SEC(".maps")
#define PERCPU(name_, value_, entries_) \
	struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, entries_); __uint(pinning, LIBBPF_PIN_BY_NAME); \
		 __type(key, __u32); __type(value, value_); } name_ SEC(".maps")
/* From keys to rows: two candidate buckets of one cache line for each key. Half
 * of the entries at most are taken. */
struct index_bucket {
	__u64 entry[8]; /* hash of the key in the high half, row + 1 in the low one; 0: none */
};
#define INDEX_BUCKETS(rows) ((rows) / 4)
#define INDEX(name_, rows_) MAPPED(name_, struct index_bucket, INDEX_BUCKETS(rows_))
#define HASH(name_, key_, value_, entries_) \
	struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, entries_); __uint(map_flags, BPF_F_NO_PREALLOC); \
		 __uint(pinning, LIBBPF_PIN_BY_NAME); __type(key, key_); __type(value, value_); } name_ SEC(".maps")

MAPPED(revisions, struct revisions, 1);
/* Policies and Maglev tables, placed by the loader; see judge.h for a policy's words. */
struct arena {
	__u64 word[1 << 18];
};
MAPPED(arena, struct arena, 1);
INDEX(target_index, 16384);
MAPPED(targets, struct target_row, 16384);
INDEX(vip_index, 4096);
MAPPED(vips, struct vip_row, 4096);
MAPPED(vip_filter, __u64, 512); /* a bit for each hash that a VIP may have: most addresses are none */
INDEX(peer_index, 4096);
MAPPED(peers, struct peer_row, 4096);
PERCPU(counters, struct counter, 16384);
HASH(counter_names, __u32, struct counter_name, 16384);
PERCPU(reasons, __u64, 64);
PERCPU(budgets, struct event_budget, 1);
PERCPU(clock, struct tick, 1);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

/* ours says that an address is one of 100.64.0.0/16 (probes) or 100.127.0.0/16
 * (pools). There are none of IPv6. */
INLINE int ours(const struct addr *a, const int family)
{
	__be32 net = a->w[0] & htonl(0xffff0000);
	return family == 4 && (net == htonl(0x64400000) || net == htonl(0x647f0000));
}

/* is_own says that an address is where this node ends the tunnel. */
INLINE int is_own(const struct addr *a, const int family)
{
	if (family == 4)
		return a->w[0] == own_address.w[0];
	return !((a->w[0] ^ own_address6.w[0]) | (a->w[1] ^ own_address6.w[1]) | (a->w[2] ^ own_address6.w[2]) | (a->w[3] ^ own_address6.w[3])) && a->w[0];
}

/* newest gives the version of a row to read at revision: 0, 1, or -1 for none. */
#define newest(row, at) ({ \
	__u32 f0 = READ_ONCE((row)->v[0].from), f1 = READ_ONCE((row)->v[1].from); \
	int ok0 = f0 && f0 <= (at), ok1 = f1 && f1 <= (at); \
	ok1 && (!ok0 || f1 > f0) ? 1 : ok0 ? 0 : -1; })
