// SPDX-License-Identifier: Apache-2.0

package lb

import "time"

// TargetType says where a listener or rule has its targets from.
type TargetType string

// The types of targets. The zero TargetType is TargetNode.
const (
	TargetNode    TargetType = ""               // bound one by one; clients write NODE
	TargetGroupV1 TargetType = "TARGETGROUP"    // a group's, checked as the listener or rule says
	TargetGroupV2 TargetType = "TARGETGROUP-V2" // a group's, checked as the group says
)

// Name is the type as clients write it.
func (t TargetType) Name() string {
	if t == TargetNode {
		return "NODE"
	}
	return string(t)
}

// A TargetGroup is a list of instances' ports that listeners and rules share.
// Those that are associated with it hold its members as targets of their own,
// numbered each by itself, and follow every change of it in one transaction.
type TargetGroup struct {
	ID       TargetGroupID
	Name     string
	VPC      VPCID
	Type     TargetType       // TargetGroupV1 or TargetGroupV2
	Protocol ListenerProtocol // whose listeners and rules it goes with; V2 only
	Port     uint16           // of members that name none; 0: they must
	Weight   *int             // of members that name none; nil: not set; V2 only
	Check    HealthCheck      // V2 only
	Members  []Member
	Created  time.Time
	Updated  time.Time
	Tags     Tags
}

// A Member is an instance's port in a target group.
type Member struct {
	Instance   InstanceID
	Port       uint16
	Weight     int // 0–100; 0: no new flows
	Registered time.Time
}
