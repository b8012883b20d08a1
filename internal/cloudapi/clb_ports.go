// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// ports gives the ports of each listener to be made, in the order of Ports.
// EndPort is the last port of the only listener, FullEndPorts has one for each.
func (in *createListenerIn) ports(p lb.ListenerProtocol) ([]lb.PortRange, error) {
	ends, field := in.FullEndPorts, "FullEndPorts"
	if in.EndPort != nil && *in.EndPort != 0 {
		if len(ends) > 0 {
			return nil, refuse(lb.Coexist, "EndPort", "the last ports stand in FullEndPorts too", "give one of them")
		}
		ends, field = []int64{*in.EndPort}, "EndPort"
	}
	switch {
	case len(ends) > 0 && p.Layer7():
		return nil, refuse(lb.Unsupported, field, "an HTTP listener has one port", "leave it out, or use TCP or UDP")
	case len(ends) > 0 && len(ends) != len(in.Ports):
		return nil, refuse(lb.Invalid, field, fmt.Sprintf("%s for %s", count(len(ends), "last port"), count(len(in.Ports), "first port")), "give one for each of Ports")
	}
	var all []lb.PortRange
	for i, first := range in.Ports {
		if first < 1 || first > 65535 {
			return nil, refuse(lb.Range, "Ports", fmt.Sprintf("%d is outside 1-65535", first), "give a port within it")
		}
		ports := lb.PortRange{First: uint16(first), Last: uint16(first)}
		if len(ends) > 0 {
			if ends[i] <= first || ends[i] > 65535 {
				return nil, refuse(lb.Range, field, fmt.Sprintf("%d is no last port of a range that begins with %d", ends[i], first), "give a greater one, up to 65535")
			}
			ports.Last = uint16(ends[i])
		}
		if other := slices.IndexFunc(all, func(o lb.PortRange) bool { return o.Overlaps(ports) }); other >= 0 {
			return nil, errorf("InvalidParameter.PortCheckFailed", "Ports.%d: %v is in Ports.%d too; give each port once", i, ports, other)
		}
		all = append(all, ports)
	}
	return all, nil
}

// soleListener keeps the published rule that one load balancer reaches a
// service by at most one layer-4 listener of a protocol: VIP, protocol,
// service address and service port are unique together.
func soleListener(tx *store.Tx, l *lb.Listener, instance lb.InstanceID, port uint16, field string) error {
	if l.Protocol.Layer7() {
		return nil
	}
	served := l.ServicePorts(lb.Target{Port: port})
	for _, other := range listenersIn(tx, l.Balancer) {
		if other.ID != l.ID && other.Protocol == l.Protocol && slices.ContainsFunc(other.Targets, func(t lb.Target) bool {
			return t.Instance == instance && served.Overlaps(other.ServicePorts(t))
		}) {
			return refuse(lb.Duplicate, field, fmt.Sprintf("%s port %v is bound to %s listener %s of this load balancer", instance, served, other.Protocol, other.ID), "bind another port, or unbind it there")
		}
	}
	return nil
}

// onceBehind refuses a second target of an instance behind a listener of
// several ports: both would serve the very same.
func onceBehind(l *lb.Listener, targets []lb.Target, instance lb.InstanceID, field string) error {
	if l.EndPort != 0 && slices.ContainsFunc(targets, func(t lb.Target) bool { return t.Instance == instance }) {
		return refuse(lb.Duplicate, field, fmt.Sprintf("%s is bound already, with all of the ports %v", instance, l.Ports()), "bind it once")
	}
	return nil
}
