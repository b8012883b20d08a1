// SPDX-License-Identifier: Apache-2.0

// Package snapshot is one node's part of the state, ready to be put in force:
// numbered, self-consistent, all or nothing. It is pure. Assemble makes one
// from a State; the wire form is a manifest of content hashes plus the blobs
// that the node does not have yet.
package snapshot

import (
	"net/netip"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Snapshot is what one node enforces at one revision. Slices are sorted by
// their first field, so equal states give equal snapshots.
type Snapshot struct {
	Revision  lb.Revision
	Node      lb.NodeID
	Role      lb.NodeRole
	Drained   []lb.NodeID                      // gateway only: those that are drained
	Policies  map[policy.Hash]*policy.Compiled // every policy that the rest names
	Listeners []Listener                       // gateway only
	Targets   []Target                         // gateway: of all its listeners; host: of its instance
	Instances []Instance                       // host only
	Peers     []Peer                           // gateway: the hosts; host: the gateways
	Fronts    []Front                          // gateway only: what stands at each of its VIPs
	// Certificates are what its HTTPS listeners show, with their private keys.
	Certificates []Certificate // gateway only
	VIPs         []netip.Addr  // gateway: every address of a load balancer that it owns; host: every one of the region (anti-spoofing)
}

// Keeping says whether open flows keep their verdict when the rules that let
// them in have changed. The zero Keeping judges them again.
type Keeping struct {
	Always bool        `json:",omitempty"` // whenever rules change
	Since  lb.Revision `json:",omitempty"` // the changes from this revision on were told to keep them; 0: the newest was not
}

// A Front is an address of a load balancer as clients find it, also where no
// listener is.
type Front struct {
	Addr        netip.Addr
	Balancer    lb.BalancerID
	BalancerNum uint32
	Gate1       policy.Hash // "": no group bound, every client is admitted
}

// Answers reports whether a gateway answers for its VIPs: it is not drained
// itself, and the one that it stands by for is. standby "": it stands by for none.
func (s *Snapshot) Answers(standby lb.NodeID) bool {
	return !slices.Contains(s.Drained, s.Node) && (standby == "" || slices.Contains(s.Drained, standby))
}

// A Listener is a port of a VIP. Targets of layer-4 listeners stand in Ring
// order on every gateway alike. What a private load balancer has on its EIP is
// a Listener of its own, with EIPNum for its number: other clients may come
// there, so the two share no verdict.
type Listener struct {
	Num         uint32
	ID          lb.ListenerID
	Balancer    lb.BalancerID
	BalancerNum uint32
	VIPs        []netip.Addr
	Proto       lb.Proto
	Port        uint16
	EndPort     uint16      `json:",omitempty"` // last of several ports that begin with Port; 0: one port; layer 4 only
	Gate1       policy.Hash // "": no group bound, every client is admitted
	Layer7      bool
	Keep        Keeping          // of flows that gate 1 let in
	Targets     []TargetRef      // layer 4
	Rules       []Rule           // layer 7, in order of creation
	Check       lb.HealthCheck   // layer 4
	Scheduler   string           `json:",omitempty"` // layer 4; "": WRR
	Choice      lb.Choice        `json:",omitzero"`  // layer 4
	TLS         bool             `json:",omitempty"` // layer 7: clients speak HTTP inside TLS
	Certificate lb.CertificateID `json:",omitempty"` // with TLS: what is shown; "": each domain's own
}

// A TargetRef is a candidate of a listener or rule.
type TargetRef struct {
	Num    uint32
	Weight int
}

// A Rule is a layer-7 rule.
type Rule struct {
	ID          lb.LocationID
	Domain      string
	URL         string
	Default     bool
	Targets     []TargetRef
	Check       lb.HealthCheck
	Redirect    *Redirect        `json:",omitempty"` // not nil: answered by the proxy itself
	Scheduler   string           `json:",omitempty"` // "": WRR
	Choice      lb.Choice        `json:",omitzero"`
	Certificate lb.CertificateID `json:",omitempty"` // its domain's, where the listener shows none itself
}

// A Redirect is where a rule sends clients on.
type Redirect struct {
	Code   int    // 301, 302 or 307
	Scheme string // http or https
	Host   string // "": the one asked for
	Port   uint16 // 0: the scheme's own
	URL    string // "": the path and query asked for
}

// A Target is where a flow of one listener or rule may go. Both ends of the
// tunnel take everything from their own row for Num.
type Target struct {
	Num          uint32
	ID           TargetID
	Host         netip.Addr     // where the host ends the tunnel
	Service      netip.AddrPort // the instance's own address and service port
	Public       netip.Addr     // the instance's public address; zero: it has none
	Others       []netip.Addr   `json:",omitempty"` // for gateways: the instance's further addresses of the service's family
	VIPs         []netip.Addr   // of the load balancer, then its EIP
	VPort        uint16         // the listener's port
	VPortEnd     uint16         `json:",omitempty"` // the last of several, each of which is the service port too; 0: one port
	Proto        lb.Proto
	PassToTarget bool
	ViaGateway   bool       // replies return through the gateway (layer 7); false: directly
	ReturnVia    bool       `json:",omitempty"` // layer 4: what goes back to clients passes the gateway; false: it leaves the host directly
	Counted      bool       `json:",omitempty"` // hosts tell how many connections it has
	ProbePort    uint16     // destination port of probes; the service port unless CheckPort says otherwise
	ProbePing    bool       `json:",omitempty"` // probes are pings too
	ProbeExempt  bool       // probes from ProbeSource are a system rule at gate 2
	ProbeSource  netip.Addr // where probes come from: the VIP, or the gateway's address in 100.64.0.0/16; on a host 100.64.0.0 stands for every gateway's
}

// EIPNum is the kernel's name for the listener num where it stands on the EIP.
// The control plane hands out no number that has this bit.
func EIPNum(num uint32) uint32 { return num | 1<<31 }

// Owns reports whether addr is the target's own: a client who comes from there
// would meet itself.
func (t *Target) Owns(addr netip.Addr) bool {
	return addr == t.Service.Addr() || t.Public.IsValid() && addr == t.Public || slices.Contains(t.Others, addr)
}

// A TargetID says in clients' words what a target number stands for.
type TargetID struct {
	Balancer lb.BalancerID
	Listener lb.ListenerID
	Location lb.LocationID // "" at layer 4
	Instance lb.InstanceID
	Port     uint16
}

// An Instance is a machine whose traffic this host judges.
type Instance struct {
	ID      lb.InstanceID
	Addrs   []netip.Addr // private first
	Ingress policy.Hash
	Egress  policy.Hash
	Observe bool    // gate 2 refuses nothing: nobody has bound a group yet
	Keep    Keeping // of flows that gate 2 let in
	Port    string  `json:",omitempty"` // the host's interface behind which a guest is; "": the host itself
	MAC     string  `json:",omitempty"` // a guest's
}

// A Peer is the other end of a tunnel. Keys keep strangers out of it; the
// first is sent, both are accepted.
type Peer struct {
	Node lb.NodeID
	Num  uint32
	Addr netip.Addr
	Keys [2]uint64
}

// Marks are how a gateway's own sockets and programs talk to each other.
// MarkLocal asks the policy route to deliver a packet locally; TargetMark
// asks the egress program to tunnel it to a target.
const (
	MarkMask   uint32 = 0xff000000
	MarkLocal  uint32 = 0x51000000
	markTarget uint32 = 0x52000000
	MarkJudged uint32 = 0x53000000 // between the programs of a host: gate 2 has judged it
	LocalTable        = 7780       // the routing table that the policy route uses
)

// TargetMark is the SO_MARK that sends a socket's packets through the tunnel
// to target num. Only the low 24 bits of num fit: the control plane hands out
// no greater number.
func TargetMark(num uint32) uint32 { return markTarget | num&^MarkMask }
