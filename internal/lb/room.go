// SPDX-License-Identifier: Apache-2.0

package lb

// What the kernel programs of one node have room for. datapath makes its maps
// of these sizes, and the API keeps the desired state within the Max… below:
// no node ever meets a revision that it cannot put in force.
const (
	ListenerRows = 4096    // gateway: one for each address and port that is listened on
	TargetRows   = 16384   // gateway: of all listeners; host: of its instance
	InstanceRows = 1024    // host: one for each address of its machine
	VIPRows      = 4096    // addresses of load balancers
	PeerRows     = 4096    // nodes at the other end of the tunnel
	CounterSlots = 16384   // rules and implicit refusals; slot 0 counts nothing
	GatewayArena = 1 << 21 // words of 8 bytes: policies of gate 1 and tables of targets
	HostArena    = 1 << 20 // words of 8 bytes: the instance's two policies
)

// What one revision may take. Two revisions stand side by side while one is
// put in force, and share nothing in the worst case: hence half of the rows. In
// the arena it is a third, which leaves gaps that are too small to be of use
// wherever they are: what is moved together takes twice its size at most.
const (
	MaxListenerRows     = ListenerRows / 2
	MaxTargetRows       = TargetRows / 2
	MaxInstanceRows     = InstanceRows / 2
	MaxVIPRows          = VIPRows / 2
	MaxPeerRows         = PeerRows / 2
	MaxCounterSlots     = CounterSlots/2 - 1
	MaxGatewayWords     = GatewayArena / 3
	MaxHostWords        = HostArena / 3
	BlobHeader      int = 2 // words that stand before every policy and table
)

// MaxRoster is how many targets with weight of one listener a gateway looks
// through for one that is alive; bpf/choose.h says the same.
const MaxRoster = 128

// RangeWords are the arena's words that a listener of several ports takes at
// each of its addresses, at most: its own, and those of the list it stands in.
const RangeWords = 2 + BlobHeader

// A NodeRoom is what the nodes have room for of one revision.
type NodeRoom struct {
	Listeners int // counted for each address of their load balancer
	Targets   int // of all listeners and rules
	Addresses int // of load balancers
	Instances int // each with a node of its own
	Words     int // of a gateway's arena
	Counters  int // of a gateway
}

// RingWords are the arena's words that the Maglev table of n targets takes,
// with the list of the targets behind it.
func RingWords(n int) int {
	if n == 0 {
		return 0
	}
	return BlobHeader + (MaglevSize(n)+1+n+1)/2
}
