// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"
	"strconv"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// A port is unique among the listeners on TCP and among those on UDP; those of
// several ports take all of them.
func TestListenerPorts(t *testing.T) {
	s := newSite(t)
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[80],"Protocol":"UDP"}`), nil)
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[1000],"EndPort":2000,"Protocol":"UDP"}`), &made)
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[1000,3000],"FullEndPorts":[2000,65535],"Protocol":"TCP"}`), nil)
	var got struct {
		Listeners []struct {
			Protocol      string
			Port, EndPort int
			HealthCheck   struct{ CheckType string }
		}
	}
	s.must("DescribeListeners", s.q(`{"LoadBalancerId":"$lb","ListenerIds":["`+made.ListenerIds[0]+`"]}`), &got)
	if l := got.Listeners[0]; l.Protocol != "UDP" || l.Port != 1000 || l.EndPort != 2000 || l.HealthCheck.CheckType != "PING" {
		t.Errorf("%+v", l)
	}
	for _, tc := range []struct{ ports, code, text string }{
		{`"Ports":[80],"Protocol":"UDP"`, "InvalidParameter.PortCheckFailed", "UDP:80"},
		{`"Ports":[1500],"Protocol":"UDP"`, "InvalidParameter.PortCheckFailed", "UDP:1000-2000"},
		{`"Ports":[1500],"Protocol":"HTTP"`, "InvalidParameter.PortCheckFailed", "TCP:1000-2000"},
		{`"Ports":[900],"EndPort":1000,"Protocol":"UDP"`, "InvalidParameter.PortCheckFailed", "UDP:1000-2000"},
		{`"Ports":[1],"EndPort":65535,"Protocol":"UDP"`, "InvalidParameter.PortCheckFailed", "1-65535 is used"},
		{`"Ports":[2500,2501],"FullEndPorts":[2502,2503],"Protocol":"UDP"`, "InvalidParameter.PortCheckFailed", "Ports.1: 2501-2503 is in Ports.0 too"},
		{`"Ports":[2500],"EndPort":2500,"Protocol":"UDP"`, "InvalidParameterValue.Range", "EndPort: 2500 is no last port"},
		{`"Ports":[2500],"EndPort":65536,"Protocol":"UDP"`, "InvalidParameterValue.Range", "65536"},
		{`"Ports":[2500,2600],"EndPort":2700,"Protocol":"UDP"`, "InvalidParameterValue", "1 last port for 2 first ports"},
		{`"Ports":[2500],"EndPort":2700,"FullEndPorts":[2700],"Protocol":"UDP"`, "InvalidParameter", "EndPort"},
		{`"Ports":[2500],"EndPort":2700,"Protocol":"HTTP"`, "UnsupportedOperation", "one port"},
	} {
		s.refused("CreateListener", s.q(`{"LoadBalancerId":"$lb",`+tc.ports+`}`), tc.code, tc.text)
	}
}

// VIP, protocol, instance and service port are unique together, also where a
// listener serves many ports, and behind it an instance stands once.
func TestRangeTargets(t *testing.T) {
	s := newSite(t)
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[1000],"EndPort":2000,"Protocol":"UDP"}`), &made)
	at := `{"LoadBalancerId":"$lb","ListenerId":"` + made.ListenerIds[0] + `",`
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[53],"Protocol":"UDP"}`), &made)
	other := `{"LoadBalancerId":"$lb","ListenerId":"` + made.ListenerIds[0] + `",`
	s.must("RegisterTargets", s.q(other+`"Targets":[{"InstanceId":"ins-a","Port":1500}]}`), nil)
	s.refused("RegisterTargets", s.q(at+`"Targets":[{"InstanceId":"ins-a","Port":7}]}`), "InvalidParameterValue.Duplicate", "1000-2000 is bound to UDP listener")
	s.must("DeregisterTargets", s.q(other+`"Targets":[{"InstanceId":"ins-a","Port":1500}]}`), nil)
	s.must("RegisterTargets", s.q(at+`"Targets":[{"InstanceId":"ins-a","Port":7}]}`), nil)
	s.refused("RegisterTargets", s.q(at+`"Targets":[{"InstanceId":"ins-a","Port":8}]}`), "InvalidParameterValue.Duplicate", "bind it once")
	s.refused("RegisterTargets", s.q(other+`"Targets":[{"InstanceId":"ins-a","Port":1500}]}`), "InvalidParameterValue.Duplicate", "UDP listener")
	s.must("RegisterTargets", s.q(other+`"Targets":[{"InstanceId":"ins-a","Port":53}]}`), nil)
	l := slices.Collect(func(yield func(*lb.Listener) bool) {
		for _, l := range s.Store.State().Listeners.All() {
			if l.EndPort != 0 && !yield(l) {
				return
			}
		}
	})[0]
	if got := l.ServicePorts(l.Targets[0]); got != (lb.PortRange{First: 1000, Last: 2000}) {
		t.Errorf("%v", got)
	}
}

// What a check needs at its listener, and what it must not have.
func TestCheckTypes(t *testing.T) {
	s := newSite(t)
	port := 100
	for _, tc := range []struct{ protocol, check, code, text string }{
		{"UDP", `{"CheckType":"CUSTOM"}`, "", ""},
		{"UDP", `{"CheckType":"CUSTOM","ContextType":"HEX","SendContext":"0A","RecvContext":"0B"}`, "", ""},
		{"UDP", `{"CheckType":"PING","CheckPort":-1}`, "", ""},
		{"TCP", `{"CheckType":"CUSTOM","ContextType":"TEXT","SendContext":"PING","RecvContext":"PONG","CheckPort":6379}`, "", ""},
		{"TCP", `{"CheckType":"HTTP","HttpVersion":"HTTP/1.1","HttpCheckDomain":""}`, "", ""},
		{"UDP", `{"CheckType":"TCP"}`, "UnsupportedOperation", "targets of UDP cannot be checked by TCP; use PING or CUSTOM"},
		{"TCP", `{"CheckType":"PING"}`, "UnsupportedOperation", "use TCP or HTTP or CUSTOM"},
		{"TCP", `{"CheckType":"HTTP","HttpCheckDomain":"a.example.com"}`, "MissingParameter", "HealthCheck.HttpVersion"},
		{"TCP", `{"CheckType":"HTTP","HttpVersion":"HTTP/1.1"}`, "MissingParameter", "HealthCheck.HttpCheckDomain"},
		{"TCP", `{"CheckType":"CUSTOM"}`, "MissingParameter", "HealthCheck.ContextType"},
		{"UDP", `{"CheckType":"CUSTOM","SendContext":"a"}`, "MissingParameter", "HealthCheck.ContextType"},
		{"UDP", `{"CheckType":"CUSTOM","ContextType":"TEXT","SendContext":"a"}`, "MissingParameter", "HealthCheck.RecvContext"},
		{"UDP", `{"CheckType":"CUSTOM","ContextType":"HEX","SendContext":"ABC","RecvContext":"00"}`, "InvalidParameterValue", "HealthCheck.SendContext"},
		{"UDP", `{"CheckType":"PING","SendContext":"a"}`, "InvalidParameter", "HealthCheck.SendContext"},
		{"UDP", `{"CheckType":"PING","HttpCheckPath":"/"}`, "InvalidParameter", "HealthCheck.HttpCheckPath"},
	} {
		port++
		params := s.q(`{"LoadBalancerId":"$lb","Ports":[` + strconv.Itoa(port) + `],"Protocol":"` + tc.protocol + `","HealthCheck":` + tc.check + `}`)
		if tc.code == "" {
			s.must("CreateListener", params, nil)
			continue
		}
		s.refused("CreateListener", params, tc.code, tc.text)
	}
}
