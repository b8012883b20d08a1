// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

func (s *site) targetsOf(listener string) string {
	l := s.Store.State().Listeners.Get(lb.ListenerID(listener))
	targets := l.Targets
	for _, r := range l.Rules {
		targets = append(targets, r.Targets...)
	}
	var all []string
	for _, t := range targets {
		all = append(all, fmt.Sprintf("%s:%d=%d", t.Instance, t.Port, t.Weight))
	}
	return strings.Join(all, " ")
}

// Listeners whose targets are all fine are changed, the others are named.
func TestBatchTargets(t *testing.T) {
	s := newSite(t)
	var out batchTargetsOut
	s.must("BatchRegisterTargets", s.q(`{"LoadBalancerId":"$lb","Targets":[
		{"ListenerId":"$http","LocationId":"$rule","InstanceId":"ins-a","Port":8080},
		{"ListenerId":"$tcp","InstanceId":"ins-a","Port":9000,"Weight":3},
		{"ListenerId":"$http","LocationId":"$rule","InstanceId":"ins-b","Port":8080,"Weight":0}]}`), &out)
	if len(out.FailListenerIdSet) != 0 || out.Message != "" || s.targetsOf(s.http) != "ins-a:8080=10 ins-b:8080=0" || s.targetsOf(s.tcp) != "ins-a:9000=3" {
		t.Errorf("%+v, %s, %s", out, s.targetsOf(s.http), s.targetsOf(s.tcp))
	}
	s.must("BatchRegisterTargets", s.q(`{"LoadBalancerId":"$lb","Targets":[
		{"ListenerId":"$tcp","InstanceId":"ins-b","Port":9000},
		{"ListenerId":"$http","LocationId":"$rule","InstanceId":"ins-a","Port":8081},
		{"ListenerId":"$http","LocationId":"$rule","InstanceId":"ins-none","Port":8080}]}`), &out)
	if len(out.FailListenerIdSet) != 1 || out.FailListenerIdSet[0] != s.http || !strings.Contains(out.Message, `Targets.2.InstanceId: there is no instance "ins-none"`) {
		t.Errorf("%+v", out)
	}
	if s.targetsOf(s.http) != "ins-a:8080=10 ins-b:8080=0" || s.targetsOf(s.tcp) != "ins-a:9000=3 ins-b:9000=10" {
		t.Errorf("a listener was changed in part: %s, %s", s.targetsOf(s.http), s.targetsOf(s.tcp))
	}
	s.must("BatchModifyTargetWeight", s.q(`{"LoadBalancerId":"$lb","ModifyList":[
		{"ListenerId":"$http","LocationId":"$rule","Weight":7,"Targets":[{"InstanceId":"ins-a","Port":8080},{"InstanceId":"ins-b","Port":8080,"Weight":1}]},
		{"ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":9000}]}]}`), nil)
	if s.targetsOf(s.http) != "ins-a:8080=7 ins-b:8080=1" || s.targetsOf(s.tcp) != "ins-a:9000=10 ins-b:9000=10" {
		t.Errorf("%s, %s", s.targetsOf(s.http), s.targetsOf(s.tcp))
	}
	s.must("BatchDeregisterTargets", s.q(`{"LoadBalancerId":"$lb","Targets":[
		{"ListenerId":"$http","LocationId":"$rule","InstanceId":"ins-a","Port":8080},
		{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1}]}`), &out)
	if len(out.FailListenerIdSet) != 1 || out.FailListenerIdSet[0] != s.tcp || !strings.Contains(out.Message, "ins-a port 1 is not bound") {
		t.Errorf("%+v", out)
	}
	if s.targetsOf(s.http) != "ins-b:8080=1" {
		t.Error(s.targetsOf(s.http))
	}
}

func TestBatchRefusals(t *testing.T) {
	s := newSite(t)
	many := strings.Repeat(`{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1},`, 501)
	entry := `{"ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":1}]},`
	var wide []string
	for i := range 51 {
		wide = append(wide, fmt.Sprintf(`{"InstanceId":"ins-a","Port":%d}`, i+1))
	}
	for _, tc := range []struct{ action, params, code, text string }{
		{"BatchRegisterTargets", `"Targets":[]`, "InvalidParameterValue.Length", "Targets: 0 items; give 1-500"},
		{"BatchRegisterTargets", `"Targets":[` + strings.TrimSuffix(many, ",") + `]`, "InvalidParameterValue.Length", "501 items"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a"}]`, "MissingParameter", "Targets.0.Port"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","Port":1}]`, "MissingParameter", "Targets.0.InstanceId"},
		{"BatchRegisterTargets", `"Targets":[{"InstanceId":"ins-a","Port":1}]`, "MissingParameter", "Targets.0.ListenerId"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":0}]`, "InvalidParameterValue.Range", "Targets.0.Port: 0 is outside 1-65535"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1,"Weight":101}]`, "InvalidParameterValue.Range", "Targets.0.Weight: 101"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1},{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1,"Weight":4}]`, "InvalidParameterValue.Duplicate", "Targets.1.Port: ins-a port 1 is named twice"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1,"EniIp":"10.0.0.1"}]`, "InvalidParameter", "Targets.0.EniIp"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","EniIp":"web","Port":1}]`, "InvalidParameterValue", `Targets.0.EniIp: "web" is not an address`},
		{"BatchDeregisterTargets", `"Targets":[{"ListenerId":"$tcp","EniIp":"10.200.0.2","Port":1},{"ListenerId":"$tcp","EniIp":"10.200.0.2","Port":1}]`, "InvalidParameterValue.Duplicate", "Targets.1.Port: 10.200.0.2 port 1 is named twice"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1,"Tag":"x"}]`, "UnsupportedOperation", "Targets.0.Tag"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"lbl-none","InstanceId":"ins-a","Port":1}]`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$http","LocationId":"loc-none","InstanceId":"ins-a","Port":1}]`, "InvalidParameter.LocationNotFound", "loc-none"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$tcp","LocationId":"$rule","InstanceId":"ins-a","Port":1}]`, "InvalidParameter.LocationNotFound", "leave out LocationId"},
		{"BatchRegisterTargets", `"Targets":[{"ListenerId":"$http","InstanceId":"ins-a","Port":1}]`, "MissingParameter", "LocationId"},
		{"BatchDeregisterTargets", `"Targets":[]`, "InvalidParameterValue.Length", "Targets"},
		{"BatchDeregisterTargets", `"Targets":[{"ListenerId":"lbl-none","InstanceId":"ins-a","Port":1}]`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"BatchModifyTargetWeight", `"ModifyList":[]`, "InvalidParameterValue.Length", "ModifyList: 0 items; give 1-100"},
		{"BatchModifyTargetWeight", `"ModifyList":[` + strings.TrimSuffix(strings.Repeat(entry, 101), ",") + `]`, "InvalidParameterValue.Length", "101 items"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"$tcp","Targets":[]}]`, "InvalidParameterValue.Length", "ModifyList.0.Targets"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"$tcp","Targets":[` + strings.Join(wide, ",") + `]}]`, "InvalidParameterValue.Length", "ModifyList.0.Targets: 51 items; give 1-50"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"$tcp","Weight":-1,"Targets":[{"InstanceId":"ins-a","Port":1}]}]`, "InvalidParameterValue.Range", "ModifyList.0.Weight"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":1}]}]`, "InvalidParameter", "not bound here; DescribeTargets"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"lbl-none","Targets":[{"InstanceId":"ins-a","Port":1}]}]`, "InvalidParameter.ListenerIdNotFound", "lbl-none"},
		{"BatchModifyTargetWeight", `"ModifyList":[{"ListenerId":"$http","LocationId":"loc-none","Targets":[{"InstanceId":"ins-a","Port":1}]}]`, "InvalidParameter.LocationNotFound", "loc-none"},
	} {
		s.refused(tc.action, s.q(`{"LoadBalancerId":"$lb",`+tc.params+`}`), tc.code, tc.text)
	}
	s.refused("BatchDeregisterTargets", s.q(`{"LoadBalancerId":"lb-none","Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1}]}`), "InvalidParameter.LBIdNotFound", "lb-none")
	s.refused("BatchRegisterTargets", s.q(`{"LoadBalancerId":"lb-none","Targets":[{"ListenerId":"$tcp","InstanceId":"ins-a","Port":1}]}`), "InvalidParameter.LBIdNotFound", "lb-none")
	s.refused("BatchModifyTargetWeight", s.q(`{"LoadBalancerId":"lb-none","ModifyList":[{"ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":1}]}]}`), "InvalidParameter.LBIdNotFound", "lb-none")
}

// VIP, protocol, service address and service port are unique together at
// layer 4; rules may share a service.
func TestOneListenerForAService(t *testing.T) {
	s := newSite(t)
	var made struct{ ListenerIds []string }
	s.must("CreateListener", s.q(`{"LoadBalancerId":"$lb","Ports":[82],"Protocol":"TCP"}`), &made)
	other := `{"LoadBalancerId":"$lb","ListenerId":"` + made.ListenerIds[0] + `","Targets":[{"InstanceId":"ins-a","Port":%d}]%s}`
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$tcp","Targets":[{"InstanceId":"ins-a","Port":9000}]}`), nil)
	s.refused("RegisterTargets", s.q(fmt.Sprintf(other, 9000, "")), "InvalidParameterValue.Duplicate", "Targets.0.Port: ins-a port 9000 is bound to TCP listener "+s.tcp)
	s.must("RegisterTargets", s.q(fmt.Sprintf(other, 9001, "")), nil)
	s.refused("ModifyTargetPort", s.q(fmt.Sprintf(other, 9001, `,"NewPort":9000`)), "InvalidParameterValue.Duplicate", "NewPort: ins-a port 9000 is bound to TCP listener")
	s.must("RegisterTargets", s.q(`{"LoadBalancerId":"$lb","ListenerId":"$http","LocationId":"$rule","Targets":[{"InstanceId":"ins-a","Port":9000}]}`), nil)
}
