// SPDX-License-Identifier: Apache-2.0

package bench

// Goals are the rows that the table has to have, in its order.
func Goals() []Goal {
	const (
		ns       = "ns/packet"
		proto    = "prototype"
		plain    = "plain forwarding"
		nft      = "nftables DNAT"
		haproxy  = "HAProxy TCP"
		request  = "µs gateway's own CPU/request, quartiles"
		conn     = "µs gateway's own CPU/connection, quartiles"
		datagram = "µs gateway's own CPU/packet, quartiles"
		megabyte = "µs CPU/MB"
	)
	goals := []Goal{
		{"hit-1", "gate 1 (XDP), established flow, one", ns, proto, 2.6},
		{"hit-1-tc", "gate 1 (TC, less the kernel's making of room), established flow, one", ns, proto, 2.6},
		{"hit-64k", "gate 1 (XDP), established flow, 64 k of them", ns, proto, 1.45},
		{"hit-64k-tc", "gate 1 (TC, less the kernel's making of room), established flow, 64 k of them", ns, proto, 1.45},
		{"hit-1m", "gate 1 (XDP), established flow, 1 M of them", ns, proto, 1.45},
		{"hit-1m-tc", "gate 1 (TC, less the kernel's making of room), established flow, 1 M of them", ns, proto, 1.45},
		{"new-512", "gate 1 (XDP), new flow, inserted and judged by 512 rules", ns, proto + " without rules", 1.65},
		{"new-512-tc", "gate 1 (TC, less the kernel's making of room), new flow, inserted and judged by 512 rules", ns, proto + " without rules", 1.65},
		{"grow", "gate 1 (XDP), established flow, 2,560 rules", ns, "ourselves with 10 rules", 1.05},
		{"judge-512", "judging alone, 512 rules", ns, "nft chain", 0.03},
		{"judge-2560", "judging alone, 2,560 rules", ns, "nft chain", 0.008},
		{"judge-proto-512", "judging alone, 512 rules", ns, "prototype, compact search", 0},
		{"judge-proto-2560", "judging alone, 2,560 rules", ns, "prototype, compact search", 0},
		{"refuse-xdp", "refused by one of 10 rules at XDP, live frame", ns, "nft prerouting chain", 0.30},
		{"refuse-tc", "refused by one of 10 rules at TC, live frame", ns, "nft prerouting chain", 0.75},
		{"state-host", "gate 2's check of an established flow, live frame", ns, "nft conntrack", 0.35},
		{"rr-plain", "layer 4, one request", request, plain, 1.0},
		{"rr-nft", "layer 4, one request", request, nft, 0.55},
		{"rr-haproxy", "layer 4, one request", request, haproxy, 0.18},
		{"crr-plain", "layer 4, one connection", conn, plain, 1.3},
		{"crr-nft", "layer 4, one connection", conn, nft, 0.45},
		{"crr-haproxy", "layer 4, one connection", conn, haproxy, 0.18},
		{"udp-nft", "layer 4, one UDP packet", datagram, nft, 0.5},
		{"rr-both-plain", "layer 4 and gate 2 at the host, one request", "µs own CPU/request, quartiles", plain + " and no gate 2", 0},
		{"crr-both-plain", "layer 4 and gate 2 at the host, one connection", "µs own CPU/connection, quartiles", plain + " and no gate 2", 0},
		{"udp-both-nft", "layer 4 and gate 2 at the host, one UDP packet", "µs own CPU/packet, quartiles", nft + " and no gate 2", 0},
		{"bulk-plain", "layer 4, download", megabyte, plain, 1.05},
		{"bulk-haproxy", "layer 4, download", megabyte, haproxy, 0.35},
		{"bulk-up-plain", "layer 4, upload", megabyte, plain, 1.05},
		{"bulk-up-haproxy", "layer 4, upload", megabyte, haproxy, 0.35},
		{"bulk-wire-plain", "layer 4, upload, the wire cuts all into frames", megabyte, plain, 1.05},
		{"gate2-nft", "gate 2 added to direct traffic, one request", "µs added CPU/request, quartiles", "nft conntrack filter on the host", 0.4},
		{"swap-2560", "live replacement of 2,560 rules", "ms", "nft -f", 0.25},
	}
	return goals
}
