// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// How targets are shown and called that were bound by id, or by address.
const (
	typeCVM = "CVM"
	typeENI = "ENI"
)

// field is the field that names the instance.
func (t *targetIn) field() string {
	if t.EniIp != "" {
		return "EniIp"
	}
	return "InstanceId"
}

// name is what the instance was called.
func (t *targetIn) name() string {
	if t.EniIp != "" {
		return clip(t.EniIp, 60)
	}
	return clip(t.InstanceId, 40)
}

func (t *targetIn) twice(at string) error {
	return refuse(lb.Duplicate, at+"Port", fmt.Sprintf("%s port %d is named twice", t.name(), t.Port), "name each target once")
}

// nowhere refuses an address that is no instance's within the load balancer's
// reach.
func (t *targetIn) nowhere(b *lb.LoadBalancer, at string) error {
	return refuse(lb.NotFound, at+"EniIp", fmt.Sprintf("no instance in %s has the private address %s", networkText(b.VPC), t.EniIp), "give one that DescribeInstances lists there")
}

// checkName refuses what does not name one instance in one way.
func (t *targetIn) checkName(at string) error {
	switch {
	case t.InstanceId == "" && t.EniIp == "":
		return refuse(lb.Missing, at+"InstanceId", "neither it nor EniIp is given", "give one of them")
	case t.InstanceId != "" && t.EniIp != "":
		return refuse(lb.Coexist, at+"EniIp", "InstanceId names the instance too", "give one of them")
	case t.Type == typeENI && t.EniIp == "", t.Type == typeCVM && t.EniIp != "":
		return refuse(lb.Coexist, at+"Type", fmt.Sprintf("%s does not go with %s", t.Type, t.field()), "CVM goes with InstanceId, ENI with EniIp; or leave it out")
	}
	if t.EniIp != "" {
		if a, err := netip.ParseAddr(t.EniIp); err != nil || a.Zone() != "" {
			return refuse(lb.Invalid, at+"EniIp", fmt.Sprintf("%q is not an address", clip(t.EniIp, 60)), "give an instance's private address")
		}
	}
	return nil
}

// byInstance looks up the instances of targets that were named by address: by
// that which the listener's load balancer would dial. InstanceId stays empty
// where nothing has it, so that it is bound nowhere. at is how a fault names
// the i-th.
func byInstance(tx *store.Tx, l *lb.Listener, given []targetIn, at func(i int) string) ([]targetIn, error) {
	b := tx.State().Balancers.Get(l.Balancer)
	found := make([]targetIn, len(given))
	seen := map[lb.Target]bool{}
	for i, t := range given {
		if t.EniIp != "" {
			addr, err := netip.ParseAddr(t.EniIp)
			if err != nil {
				return nil, t.checkName(at(i))
			}
			if b.IPv6() != addr.Is6() {
				return nil, refuse(lb.Invalid, at(i)+"EniIp", fmt.Sprintf("%v is not of the family of %s, which is an %s load balancer", addr, b.ID, map[bool]string{false: "IPv4", true: "IPv6"}[b.IPv6()]), "give the instance's address of that family")
			}
			for _, id := range tx.Index().Placed(addr) {
				if instance := tx.State().Instances.Get(id); instance.VPC == b.VPC && instance.ServiceFor(b) == addr {
					t.InstanceId = string(id)
				}
			}
		}
		key := lb.Target{Instance: lb.InstanceID(t.InstanceId), Port: uint16(t.Port)}
		if t.InstanceId != "" && seen[key] {
			return nil, t.twice(at(i))
		}
		seen[key] = true
		found[i] = t
	}
	return found, nil
}
