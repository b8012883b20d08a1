// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type createListenerIn struct {
	LoadBalancerId string         `tc:"required"`
	Ports          []int64        `tc:"required,range=1-65535"`
	Protocol       string         `tc:"required,only=TCP|UDP|HTTP|HTTPS,enum=TCP|UDP|HTTP|HTTPS|TCP_SSL|QUIC"`
	ListenerNames  []string       `tc:"len=80"`
	HealthCheck    *healthCheckIn `tc:""`
	choiceIn
	tlsIn
	TargetType   string   `tc:"only=NODE|TARGETGROUP|TARGETGROUP-V2"`
	SessionType  string   `tc:"only=NORMAL"`
	EndPort      *int64   `tc:"range=0-65535"`
	FullEndPorts []int64  `tc:"range=0-65535"`
	_            struct{} `unserved:"KeepaliveEnable DeregisterTargetRst MultiCertInfo MaxConn MaxCps IdleConnectTimeout ProxyProtocol SnatEnable H2cSwitch SslCloseSwitch DataCompressMode RescheduleTargetZeroWeight RescheduleUnhealthy RescheduleExpandTarget RescheduleStartTime RescheduleInterval"`
}

type createListenerOut struct {
	ListenerIds []string
}

// createListener makes a listener for each port; the ids are in their order.
func createListener(c *Call, in *createListenerIn) (*createListenerOut, error) {
	proto, err := listenerProtocol(in.Protocol)
	if err != nil {
		return nil, err
	}
	if len(in.Ports) == 0 {
		return nil, refuse(lb.Missing, "Ports", "no port is given", "give at least one")
	}
	if n := len(in.ListenerNames); n != 0 && n != len(in.Ports) {
		return nil, refuse(lb.Invalid, "ListenerNames", fmt.Sprintf("%s for %s", count(n, "name"), count(len(in.Ports), "port")), "give a name for each port or none")
	}
	ranges, err := in.ports(proto)
	if err != nil {
		return nil, err
	}
	check, err := newListenerCheck(in.HealthCheck, proto)
	if err != nil {
		return nil, err
	}
	from := targetType(in.TargetType)
	if err := checkListenerFrom(from, proto); err != nil {
		return nil, err
	}
	var ids []string
	err = c.Update(func(tx *store.Tx) error {
		ids = nil
		b, err := findBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		c.probeFrom(b, &check, in.HealthCheck)
		certificate, sni, err := in.tlsIn.of(c, tx, proto, b)
		if err != nil {
			return err
		}
		for i, ports := range ranges {
			l := &lb.Listener{Balancer: b.ID, Protocol: proto, Port: ports.First, Created: c.Now().UTC(), Check: check, From: from, Certificate: certificate, SNI: sni}
			if ports.Last != ports.First {
				l.EndPort = ports.Last
			}
			if err := in.choiceIn.ofListener(l); err != nil {
				return err
			}
			if len(in.ListenerNames) > 0 {
				l.Name = in.ListenerNames[i]
			}
			if err := c.addListener(tx, l); err != nil {
				return err
			}
			ids = append(ids, string(l.ID))
		}
		return nil
	})
	return &createListenerOut{ListenerIds: ids}, err
}

func listenerProtocol(text string) (lb.ListenerProtocol, error) {
	const hint = "use TCP, UDP, HTTP or HTTPS"
	switch p := lb.ListenerProtocol(text); {
	case slices.Contains(lb.ListenerProtocols(), p):
		return p, nil
	case p == "TCP_SSL" || p == "QUIC":
		return "", refuse(lb.Unsupported, "Protocol", text+" listeners are not served", hint)
	}
	return "", refuse(lb.Invalid, "Protocol", fmt.Sprintf("%q is not a protocol of listeners", clip(text, 40)), hint)
}

// newListenerCheck is the check of a new listener: at layer 7 there is none,
// rules have their own.
func newListenerCheck(in *healthCheckIn, p lb.ListenerProtocol) (lb.HealthCheck, error) {
	if p.Layer7() {
		if in != nil {
			return lb.HealthCheck{}, errLayer7Check()
		}
		return lb.HealthCheck{}, nil
	}
	check := lb.DefaultCheck(p)
	return check, in.apply(&check, p)
}

func errLayer7Check() error {
	return refuse(lb.Invalid, "HealthCheck", "an HTTP listener is checked by its rules", "give HealthCheck to CreateRule or ModifyRule")
}

func (c *Call) addListener(tx *store.Tx, l *lb.Listener) error {
	others := listenersIn(tx, l.Balancer)
	if len(others) >= c.Quotas.ListenersPerLB {
		return refuse(lb.LimitExceeded, "Ports", fmt.Sprintf("a load balancer has at most %s", count(c.Quotas.ListenersPerLB, "listener")), "delete one")
	}
	for _, other := range others {
		if other.Protocol.Transport() == l.Protocol.Transport() && l.Ports().Overlaps(other.Ports()) {
			return errorf("InvalidParameter.PortCheckFailed", "Ports: %v is used by listener %s (%s:%v); choose another port", l.Ports(), other.ID, other.Protocol, other.Ports())
		}
	}
	l.ID, l.Num = makeID(c, "lbl-", tx.State().Listeners), tx.NextNum()
	tx.PutListener(l)
	return nil
}

type modifyListenerIn struct {
	LoadBalancerId string         `tc:"required"`
	ListenerId     string         `tc:"required"`
	ListenerName   *string        `tc:"len=80"`
	HealthCheck    *healthCheckIn `tc:""`
	choiceIn
	tlsIn
	TargetType  string   `tc:"only=NODE|TARGETGROUP|TARGETGROUP-V2"`
	SessionType string   `tc:"only=NORMAL"`
	_           struct{} `unserved:"KeepaliveEnable DeregisterTargetRst MultiCertInfo MaxConn MaxCps IdleConnectTimeout ProxyProtocol SnatEnable DataCompressMode RescheduleTargetZeroWeight RescheduleUnhealthy RescheduleExpandTarget RescheduleStartTime RescheduleInterval"`
}

func modifyListener(c *Call, in *modifyListenerIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := changeListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		if in.ListenerName != nil {
			l.Name = *in.ListenerName
		}
		if in.HealthCheck != nil && l.Protocol.Layer7() {
			return errLayer7Check()
		}
		if in.TargetType != "" {
			if err := changeFrom(l, targetType(in.TargetType)); err != nil {
				return err
			}
		}
		if err := in.choiceIn.ofListener(l); err != nil {
			return err
		}
		if err := in.tlsIn.change(c, tx, l); err != nil {
			return err
		}
		before := l.Check
		if err := in.HealthCheck.apply(&l.Check, l.Protocol); err != nil {
			return err
		}
		if err := keepsCheck(l.From, before, l.Check); err != nil {
			return err
		}
		tx.PutListener(l)
		return nil
	})
}

type deleteListenerIn struct {
	LoadBalancerId string `tc:"required"`
	ListenerId     string `tc:"required"`
}

func deleteListener(c *Call, in *deleteListenerIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		l, err := findListener(tx.State(), in.LoadBalancerId, in.ListenerId)
		if err != nil {
			return err
		}
		tx.DeleteListener(l.ID)
		return rewritesHold(tx, l.Balancer, "ListenerId")
	})
}

type deleteLoadBalancerListenersIn struct {
	LoadBalancerId string   `tc:"required"`
	ListenerIds    []string `tc:""`
}

// deleteLoadBalancerListeners deletes the listeners named; without names, all.
func deleteLoadBalancerListeners(c *Call, in *deleteLoadBalancerListenersIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		b, err := findBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		for i, id := range in.ListenerIds {
			l, err := findListener(tx.State(), in.LoadBalancerId, id)
			if err != nil {
				return inList(err, "ListenerIds", i)
			}
			tx.DeleteListener(l.ID)
		}
		if len(in.ListenerIds) == 0 {
			for _, l := range listenersIn(tx, b.ID) {
				tx.DeleteListener(l.ID)
			}
		}
		return rewritesHold(tx, b.ID, "ListenerIds")
	})
}

// listenerChoice is how describing calls pick listeners of one load balancer.
type listenerChoice struct {
	LoadBalancerId string   `tc:"required"`
	ListenerIds    []string `tc:""`
	Protocol       string   `tc:"enum=TCP|UDP|HTTP|HTTPS|TCP_SSL|QUIC"` // there are none of the last two
	Port           *int64   `tc:"range=0-65535"`
}

// choose lists the listeners chosen, in order of creation. An unknown listener
// is merely absent, an unknown load balancer is an error.
func (in *listenerChoice) choose(st *lb.State) ([]*lb.Listener, error) {
	b, err := findBalancer(st, in.LoadBalancerId)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(listenersOf(st, b.ID), func(l *lb.Listener) bool {
		return len(in.ListenerIds) > 0 && !slices.Contains(in.ListenerIds, string(l.ID)) ||
			in.Protocol != "" && in.Protocol != string(l.Protocol) ||
			in.Port != nil && *in.Port != 0 && *in.Port != int64(l.Port)
	}), nil
}

type describeListenersIn struct {
	listenerChoice
}

type describeListenersOut struct {
	Listeners  []listenerOut
	TotalCount int
}

// listenerOut is a listener as clients read it. Protocol and SniSwitch are
// never null: a client dereferences them.
type listenerOut struct {
	ListenerId, ListenerName, Protocol, CreateTime, TargetType, SessionType string
	Port, EndPort, SessionExpireTime, SniSwitch, KeepaliveEnable            int
	MaxConn, MaxCps                                                         int
	Scheduler                                                               *string
	HealthCheck                                                             *healthCheckOut
	Certificate                                                             *certificateOut
	IdleConnectTimeout                                                      *int64
	TargetGroup                                                             *basicGroup
	TargetGroupList                                                         []basicGroup
	Rules                                                                   []ruleOut
	AttrFlags                                                               []string
	Toa, DeregisterTargetRst                                                bool
}

func describeListeners(c *Call, in *describeListenersIn) (*describeListenersOut, error) {
	st := c.State()
	listeners, err := in.choose(st)
	if err != nil {
		return nil, err
	}
	out := &describeListenersOut{TotalCount: len(listeners)}
	for _, l := range listeners {
		out.Listeners = append(out.Listeners, showListener(st, l))
	}
	return out, nil
}

func showListener(st *lb.State, l *lb.Listener) listenerOut {
	out := listenerOut{
		ListenerId: string(l.ID), ListenerName: l.Name, Protocol: string(l.Protocol), CreateTime: stamp(l.Created),
		TargetType: l.From.Name(), SessionType: "NORMAL", Port: int(l.Port), EndPort: int(l.EndPort), MaxConn: -1, MaxCps: -1,
		Certificate: showCertificate(l.Certificate),
	}
	if l.SNI {
		out.SniSwitch = 1
	}
	if !l.Protocol.Layer7() {
		out.Scheduler, out.HealthCheck, out.SessionExpireTime = &l.Scheduler, showCheck(l.Check), l.Choice.Session
	}
	if l.Stopped {
		out.AttrFlags = append(out.AttrFlags, flagStop)
	}
	out.TargetGroup, out.TargetGroupList = showGroup(st, l.Group)
	for i := range l.Rules {
		out.Rules = append(out.Rules, showRule(st, l, &l.Rules[i]))
	}
	return out
}
