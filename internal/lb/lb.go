// SPDX-License-Identifier: Apache-2.0

// Package lb holds the nouns: load balancer, listener, rule, target, security
// group, policy rule, instance, VPC, node and the whole desired State, with
// the validation of what a client may write into them. It is pure: no clock,
// disk, network or log.
package lb

import (
	"net/netip"
	"time"
)

// A Revision numbers the whole desired state; every write raises it. The zero
// Revision is "nothing yet". It fits 32 bits because the kernel carries it.
type Revision uint32

// Action is what a policy rule or a gate does with a packet.
type Action uint8

// The zero Action is invalid, so a forgotten one never admits.
const (
	Accept Action = 1
	Drop   Action = 2
)

// Proto is an IP protocol number; AnyProto matches all of them.
type Proto uint8

// The protocols that rules can name.
const (
	AnyProto Proto = 0
	ICMP     Proto = 1
	TCP      Proto = 6
	UDP      Proto = 17
	GRE      Proto = 47
	ICMPv6   Proto = 58
)

// Ids as clients see them: a prefix, a hyphen and eight characters of a-z0-9.
type (
	GroupID       string // sg-xxxxxxxx
	RuleID        string // a policy rule: pol-xxxxxxxx, stable for life
	VPCID         string // vpc-xxxxxxxx
	SubnetID      string // subnet-xxxxxxxx
	InstanceID    string // ins-xxxxxxxx
	BalancerID    string // lb-xxxxxxxx
	ListenerID    string // lbl-xxxxxxxx
	LocationID    string // loc-xxxxxxxx, a layer-7 rule
	TargetGroupID string // lbtg-xxxxxxxx
	NodeID        string // gateway-1, or the id of the instance that the host runs
)

// Tags are user labels, key to value.
type Tags map[string]string

// A PortRange is inclusive on both ends.
type PortRange struct {
	First, Last uint16
}

// Overlaps reports whether the ranges have a port in common.
func (r PortRange) Overlaps(o PortRange) bool { return r.First <= o.Last && o.First <= r.Last }

// A PolicyRule is one line of a security group. It keeps the texts a client
// wrote beside what they mean, because clients compare what they read back.
// The zero PolicyRule is invalid.
type PolicyRule struct {
	ID        RuleID
	Action    Action
	Proto     Proto
	Ports     []PortRange  // empty: every port
	Peer      netip.Prefix // masked; zero when PeerGroup or PeerTemplate is set
	PeerGroup GroupID      // private addresses of everything bound to that group; "" when another peer is set
	// PeerTemplate is an address template or group of them (ipm-, ipmg-), Service
	// one of services (ppm-, ppmg-), for which Proto and Ports are zero; "": none.
	PeerTemplate TemplateID `json:",omitempty"`
	Service      TemplateID `json:",omitempty"`
	Text         RuleText
	Description  string
	Modified     time.Time
}

// RuleText is a rule as its author spelled it, for reading back.
type RuleText struct {
	Protocol string // "tcp", "ALL", … as given; "" with a service template
	Port     string // "80", "80,443", "8000-8010", "ALL"; spaces removed; "" with a service template
	Cidr     string // CidrBlock; "" unless IPv4
	Cidr6    string // Ipv6CidrBlock; "" unless IPv6
}

// A SecurityGroup is two ordered lists of rules; the first match decides.
type SecurityGroup struct {
	ID        GroupID
	Name      string
	Desc      string
	ProjectID string // decimal integer, "0" by default
	IsDefault bool
	Created   time.Time
	Updated   time.Time
	Tags      Tags
	Version   uint64 // grows by one with every rule change
	Ingress   []PolicyRule
	Egress    []PolicyRule
}

// A VPC is a private network.
type VPC struct {
	ID        VPCID
	Name      string
	Cidr      netip.Prefix
	Assistant []netip.Prefix `json:",omitempty"` // further ranges, in the order in which they were added
	Cidr6     netip.Prefix   `json:",omitzero"`  // its IPv6 range; zero: none
	IsDefault bool
	Created   time.Time
	Tags      Tags
	Echo      map[string]string // stored and returned, without effect
}

// A Subnet is a part of a VPC from which private addresses come.
type Subnet struct {
	ID        SubnetID
	VPC       VPCID
	Name      string
	Cidr      netip.Prefix
	Cidr6     netip.Prefix `json:",omitzero"` // a /64 of the VPC's; zero: none
	Zone      string
	IsDefault bool
	Created   time.Time
	Tags      Tags
	Echo      map[string]string
}

// InstanceState is the life of an instance as the cvm service names it.
type InstanceState string

// The states that are served. Pending becomes Running when the instance's
// node has put a snapshot that contains it in force.
const (
	Pending      InstanceState = "PENDING"
	Running      InstanceState = "RUNNING"
	LaunchFailed InstanceState = "LAUNCH_FAILED"
	Stopping     InstanceState = "STOPPING"  // until its node has left
	Stopped      InstanceState = "STOPPED"   //
	Starting     InstanceState = "STARTING"  // like Pending, but not for the first time
	Rebooting    InstanceState = "REBOOTING" // Starting once its node has left
	Terminating  InstanceState = "TERMINATING"
)

// InstanceStates lists every state.
func InstanceStates() []InstanceState {
	return []InstanceState{Pending, Running, LaunchFailed, Stopping, Stopped, Starting, Rebooting, Terminating}
}

// An Instance is a machine with an agent of ours on it (a CVM).
type Instance struct {
	ID          InstanceID
	Name        string
	VPC         VPCID    // "": in the basic network
	Subnet      SubnetID // "" there
	Private     netip.Addr
	Public      netip.Addr   // zero: no public address
	IPv6        netip.Addr   `json:",omitzero"`  // from the subnet's IPv6 range; zero: none
	Others      []netip.Addr `json:",omitempty"` // further addresses of a machine that joined
	Joined      bool         `json:",omitempty"` // a machine of somebody's own, which we neither make nor power
	Host        NodeID       `json:",omitempty"` // a guest's: the node that guards its port; "": it has a node of its own
	Port        string       `json:",omitempty"` // a guest's: the host's interface behind which it is
	MAC         string       `json:",omitempty"` // a guest's
	Keep        bool         `json:",omitempty"` // true: open flows keep their verdict at gate 2 when its rules change
	KeptSince   Revision     `json:",omitempty"` // first of the newest changes of its rules, all of which were told to keep open flows; 0: the newest was not
	Observe     bool         `json:",omitempty"` // joined, and no group was ever bound to it: gate 2 refuses nothing
	Groups      []GroupID    // first has highest priority; never empty
	State       InstanceState
	Operation   string `json:",omitempty"` // the last one that began; "": it was made
	OperationID string `json:",omitempty"` // its RequestId
	Created     time.Time
	Tags        Tags
	Echo        map[string]string // ImageId, InstanceType, …: stored and returned, without effect
}

// BalancerType is public (OPEN) or private (INTERNAL).
type BalancerType string

// The two kinds of load balancer.
const (
	Open     BalancerType = "OPEN"
	Internal BalancerType = "INTERNAL"
)

// A LoadBalancer owns virtual addresses (VIPs) and listeners.
type LoadBalancer struct {
	ID           BalancerID
	Num          uint32 // the kernel's name for it; unique in the region
	Name         string
	Type         BalancerType
	Classic      bool         // of the kind that is no longer sold (Forward 0)
	VPC          VPCID        // "": in the basic network
	Subnet       SubnetID     // "" for a public one and in the basic network
	VIPs         []netip.Addr // IPv4 first
	EIP          netip.Addr   // public address of a private one; zero: none is bound
	Groups       []GroupID    // gate 1; first has highest priority; empty: every client is admitted
	Keep         bool         `json:",omitempty"` // true: open flows keep their verdict at gate 1 when its rules change
	KeptSince    Revision     `json:",omitempty"` // as Instance's
	PassToTarget bool         // true: gate 2 is skipped for traffic that comes through this load balancer
	ReturnPath   ReturnPath   `json:",omitempty"` // of answers to clients of layer-4 listeners
	Protected    bool         // true: deleting it is refused
	Created      time.Time
	Tags         Tags
	Echo         map[string]string
}

// ListenerProtocol is what a listener speaks with clients.
type ListenerProtocol string

// The protocols served now.
const (
	ListenTCP  ListenerProtocol = "TCP"
	ListenUDP  ListenerProtocol = "UDP"
	ListenHTTP ListenerProtocol = "HTTP"
	// ListenHTTPS is HTTP inside TLS, which ends at the gateway.
	ListenHTTPS ListenerProtocol = "HTTPS"
)

// ListenerProtocols lists them, for those who name all.
func ListenerProtocols() []ListenerProtocol {
	return []ListenerProtocol{ListenTCP, ListenUDP, ListenHTTP, ListenHTTPS}
}

// Transport is the protocol of the packets: UDP has ports of its own, all
// others share those of TCP.
func (p ListenerProtocol) Transport() Proto {
	if p == ListenUDP {
		return UDP
	}
	return TCP
}

// Layer7 reports whether rules stand between the listener and its targets.
func (p ListenerProtocol) Layer7() bool { return p == ListenHTTP || p == ListenHTTPS }

// A Listener is a port of a load balancer. A layer-4 listener has Targets,
// Check and Scheduler itself; a layer-7 one has them in its Rules.
type Listener struct {
	ID        ListenerID
	Num       uint32 // the kernel's name for it: unique in the region, never reused
	Balancer  BalancerID
	Name      string
	Protocol  ListenerProtocol
	Port      uint16
	EndPort   uint16 `json:",omitempty"` // last of several ports that begin with Port, above it; 0: one port; layer 4 only
	Created   time.Time
	Scheduler string // SchedulerWRR, …; layer 4 only
	Choice    Choice `json:",omitzero"` // layer 4 only
	Check     HealthCheck
	Targets   []Target
	Rules     []Rule        // layer 7; in order of creation
	Stopped   bool          // true: it answers nobody and its targets are not probed
	From      TargetType    // layer 4 only
	Group     TargetGroupID // whose members Targets are; "": none is associated
	// Certificate is what an HTTPS listener shows clients; "" where SNI is true:
	// then each domain has its own, chosen by the name that a client asks for.
	Certificate CertificateID `json:",omitempty"`
	SNI         bool          `json:",omitempty"`
	Echo        map[string]string
}

// Ports are all the ports on which the listener is.
func (l *Listener) Ports() PortRange {
	if l.EndPort == 0 {
		return PortRange{l.Port, l.Port}
	}
	return PortRange{l.Port, l.EndPort}
}

// On reports whether the listener is on the packet's port of a VIP.
func (l *Listener) On(p Packet) bool {
	ports := l.Ports()
	return p.Proto == l.Protocol.Transport() && ports.First <= p.DstPort && p.DstPort <= ports.Last
}

// ServicePorts are the ports of its instance that a target of the listener
// serves: its own, or where the listener has several the very ones dialled.
func (l *Listener) ServicePorts(t Target) PortRange {
	if l.EndPort == 0 {
		return PortRange{t.Port, t.Port}
	}
	return l.Ports()
}

// A Rule sends requests for a domain and URL prefix to its targets.
type Rule struct {
	ID        LocationID
	Domain    string // exact, "*.example.com" or "www.example.*"
	URL       string // prefix, begins with /
	Default   bool   // its domain serves hosts that match no other
	Created   time.Time
	Scheduler string
	Choice    Choice `json:",omitzero"`
	Check     HealthCheck
	Targets   []Target
	From      TargetType
	Group     TargetGroupID // whose members Targets are; "": none is associated
	Rewrite   *Rewrite      // not nil: it redirects, and its targets are neither asked nor probed
	// Certificate is its domain's, where the listener has SNI; the same on all
	// rules of the domain.
	Certificate CertificateID `json:",omitempty"`
	Echo        map[string]string
}

// A Target is an instance's port behind a listener or rule.
type Target struct {
	Num        uint32 // target id in tunnel and kernel: unique in the region, never reused
	Instance   InstanceID
	Port       uint16 // behind a listener of several ports: only what is probed
	Weight     int    // 0–100; 0: no new flows
	Registered time.Time
	Group      TargetGroupID // the target group whose member it is; "": bound by itself
	ByAddress  bool          `json:",omitempty"` // named by the instance's address, not its id; for clients that read it back
}

// A HealthCheck says how targets are probed. Times are whole seconds.
type HealthCheck struct {
	On           bool
	Type         string // "TCP", "HTTP", "PING" or "CUSTOM"
	TimeOut      int
	IntervalTime int
	HealthNum    int
	UnHealthNum  int
	HTTPCode     int // bit mask 1…31: 1 is 1xx, 2 is 2xx, …
	HTTPPath     string
	HTTPDomain   string // "": the rule's domain, or the target's address
	HTTPMethod   string // HEAD or GET
	HTTPVersion  string
	Port         int // 0: the target's own port
	SourceIPType int // 0: the VIP; 1: an address of 100.64.0.0/16
	// What a CUSTOM check sends and what it expects; all "" is allowed for UDP alone.
	ContextType string `json:",omitempty"` // HEX or TEXT
	SendContext string `json:",omitempty"`
	RecvContext string `json:",omitempty"`
}

// NodeRole says what a node does.
type NodeRole string

// The two roles of a node.
const (
	RoleGateway NodeRole = "gateway"
	RoleHost    NodeRole = "host"
)

// A Node is a machine that runs sallyport-node.
type Node struct {
	ID          NodeID
	Num         uint32 // unique in the region
	Role        NodeRole
	Instance    InstanceID // the instance on a host; "" on a gateway
	Address     netip.Addr // where the tunnel ends
	Other       netip.Addr `json:",omitzero"` // the same over the other family; zero: over Address's only
	Created     time.Time
	Certificate string `json:",omitempty"` // SHA-256 of the one it attaches with, hex; "": enrolled by an earlier release, any of ours
	Drained     bool   `json:",omitempty"` // gateway: new flows are to go to others
	KeyEpoch    uint32 // gateway: how often its tunnel keys have been rotated
}

// State is the whole desired state of one region at one revision. A State
// handed out is never changed: writers make a new one.
type State struct {
	Revision     Revision
	Groups       Table[GroupID, SecurityGroup]
	Templates    Table[TemplateID, Template]
	VPCs         Table[VPCID, VPC]
	Subnets      Table[SubnetID, Subnet]
	Instances    Table[InstanceID, Instance]
	Balancers    Table[BalancerID, LoadBalancer]
	Listeners    Table[ListenerID, Listener]
	Nodes        Table[NodeID, Node]
	TargetGroups Table[TargetGroupID, TargetGroup]
	Addresses    Table[AddressID, Address]
	Keys         Table[KeyID, AccessKey]
	Certificates Table[CertificateID, Certificate]
}

// A Packet is what a gate judges: one packet's addresses as they are at that
// gate. Ports are 0 for protocols without ports.
type Packet struct {
	Proto            Proto
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
}
