// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"
)

// The shapes of the API's answers, as far as pages read them. Their fields
// have the API's names.

type group struct {
	SecurityGroupId, SecurityGroupName, SecurityGroupDesc, ProjectId string
	IsDefault                                                        bool
	CreatedTime, UpdateTime                                          string
	Ingress, Egress, CVM, CLB, SG                                    int
}

type policyRule struct {
	PolicyIndex                                                  int
	PolicyId, Action, Protocol, Port                             string
	CidrBlock, Ipv6CidrBlock, SecurityGroupId, PolicyDescription string
	ModifyTime                                                   string
	AddressTemplate                                              struct{ AddressId, AddressGroupId string }
	ServiceTemplate                                              struct{ ServiceId, ServiceGroupId string }
}

type policySet struct {
	Version         string
	Ingress, Egress []policyRule
}

// list is one direction's rules.
func (s policySet) list(dir string) []policyRule {
	if dir == dirOut {
		return s.Egress
	}
	return s.Ingress
}

type balancer struct {
	LoadBalancerId, LoadBalancerName, LoadBalancerType string
	LoadBalancerVips, SecureGroups, AttributeFlags     []string
	VpcId, SubnetId, CreateTime                        string
	LoadBalancerPassToTarget                           bool
	Forward                                            int
}

// Private reports whether only its own network reaches its VIP.
func (b balancer) Private() bool { return b.LoadBalancerType == kindPrivate }

// Basic reports whether it stands outside any VPC.
func (b balancer) Basic() bool { return b.VpcId == "" }

// Classic reports whether it is of the older kind.
func (b balancer) Classic() bool { return b.Forward == 0 }

// TakesEIP reports whether an EIP can be bound to it.
func (b balancer) TakesEIP() bool { return b.Private() && !b.Classic() && !b.Basic() }

// Kind is what kind of load balancer it is, in words.
func (b balancer) Kind() string {
	kind := "public"
	if b.Private() {
		kind = "private"
	}
	if b.Classic() {
		kind += " classic"
	}
	return kind
}

// Protected reports whether deleting it is refused.
func (b balancer) Protected() bool {
	return strings.Contains(strings.Join(b.AttributeFlags, ","), "DeleteProtect")
}

type check struct {
	HealthSwitch, TimeOut, IntervalTime, HealthNum, UnHealthNum  int
	HttpCode                                                     int
	HttpCheckPath, HttpCheckDomain, HttpCheckMethod, HttpVersion string
	ContextType, SendContext, RecvContext                        *string
	CheckPort                                                    *int
	CheckType                                                    string
	SourceIpType                                                 int
}

type listener struct {
	ListenerId, ListenerName, Protocol string
	Port, EndPort                      int
	SniSwitch                          int
	Certificate                        *shownCertificate
	HealthCheck                        *check
	Rules                              []location
	Targets                            []target `json:"-"` // layer 4
	More                               int      `json:"-"` // targets that a page leaves out
}

// Title is protocol and port, or ports.
func (l listener) Title() string {
	if l.EndPort != 0 {
		return fmt.Sprintf("%s:%d-%d", l.Protocol, l.Port, l.EndPort)
	}
	return fmt.Sprintf("%s:%d", l.Protocol, l.Port)
}

// A shownCertificate is what a listener or domain shows its clients.
type shownCertificate struct{ CertId string }

// A certificate is one that listeners can show.
type certificate struct{ CertificateId, Alias, Domain, CertEndTime string }

// Layer7 reports whether targets stand behind rules.
func (l listener) Layer7() bool { return l.Protocol == "HTTP" || l.Protocol == "HTTPS" }

type location struct {
	LocationId, Domain, Url string
	DefaultServer           bool
	HealthCheck             *check
	Certificate             *shownCertificate
	Targets                 []target `json:"-"`
}

type target struct {
	InstanceId, InstanceName              string
	Port, Weight                          int
	PublicIpAddresses, PrivateIpAddresses []string
	Health                                string        `json:"-"`
	Why                                   *healthReason `json:"-"`
}

type healthReason struct {
	Kind, SecurityGroupId string
	PolicyIndex           int
	Text                  string
}

type targetStatus struct {
	LoadBalancerId, ListenerId, LocationId, InstanceId string
	Port                                               int
	Health                                             string
	HealthReason                                       *healthReason
}

type node struct {
	Name, Role, InstanceId, Address string
	Connected                       bool
	Revision                        uint32
	LagMs                           float64
	Error                           string
	Drained                         bool
	Addresses, Alarms               []string
	FlowTables                      []flowTable
	Gate                            string // host: enforce, or observe until a group is bound
}

type flowTable struct {
	Name         string
	Slots, Flows uint64
}

// Full is how much of a table is taken, in percent.
func (t flowTable) Full() uint64 { return 100 * t.Flows / max(t.Slots, 1) }

type status struct {
	Revision uint32
	Nodes    []node
	Targets  []targetStatus
	Summary  *summary

	Barred bool `json:"-"` // the key may not know
}

type summary struct {
	LoadBalancers, Instances, SecurityGroups int
	TargetCounts                             []struct {
		LoadBalancerId string
		tally
	}
}

type instance struct {
	InstanceId, InstanceName, InstanceState, CreatedTime    string
	PrivateIpAddresses, PublicIpAddresses, SecurityGroupIds []string
	VirtualPrivateCloud                                     struct{ VpcId, SubnetId string }
}

type counter struct {
	Gate, SecurityGroupId, PolicyId, Object, Direction string
	Packets, Bytes, NewFlows                           uint64
	LastHit, Baseline                                  string
}

type verdict struct {
	Time, Node, Gate, Action, Reason, SecurityGroupId, PolicyId string
	PolicyPosition                                              int
	Revision, StampedRevision                                   uint32
	Protocol, Source, Destination, Direction                    string
	LoadBalancerId, ListenerId, InstanceId                      string
	Text                                                        string

	probe bool // a load balancer's own, not a client's; see history
}

type explained struct {
	Revision                      uint32
	Protocol, Source, Destination string
	LoadBalancerId, ListenerId    string
	Admitted                      bool
	Text                          string
	Gates                         []gateVerdict
}

type gateVerdict struct {
	Gate, LoadBalancerId, InstanceId, LocationId, Direction string
	Port, Weight                                            int
	Action, Reason, SecurityGroupId, PolicyId               string
	PolicyIndex                                             int
	Text                                                    string
	Nearest                                                 []nearRule
	Same                                                    int    `json:"-"` // other targets of which the same is true
	Name                                                    string `json:"-"` // of the group
}

type nearRule struct {
	SecurityGroupId, PolicyId string
	PolicyIndex               int
	Rule                      string
	Mismatch                  []string
	Why                       string
	Name                      string `json:"-"` // of the group
}
