// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common"
	sdkerrors "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/errors"
	sdkhttp "github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/http"
	"github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common/profile"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// An sdk is the official Go client, unmodified, pointed at a bench.
type sdk struct {
	*bench
	client *common.Client
}

// newSDK speaks plain HTTP.
func newSDK(t *testing.T) *sdk {
	t.Helper()
	b := newBench(t)
	web := httptest.NewServer(b)
	t.Cleanup(web.Close)
	return &sdk{b, common.NewCommonClient(common.NewCredential(vectorID, vectorKey), "local", sdkProfile("HTTP", strings.TrimPrefix(web.URL, "http://")))}
}

// newSecureSDK speaks HTTPS with a server whose certificate our CA made.
func newSecureSDK(t *testing.T) *sdk {
	t.Helper()
	b := newBench(t)
	address, caFile := serveTLS(t, b)
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	client := common.NewCommonClient(common.NewCredential(vectorID, vectorKey), "local", sdkProfile("HTTPS", address))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	client.WithHttpTransport(transport)
	return &sdk{b, client}
}

func sdkProfile(scheme, endpoint string) *profile.ClientProfile {
	p := profile.NewClientProfile()
	p.HttpProfile.Scheme, p.HttpProfile.Endpoint = scheme, endpoint
	return p
}

func (s *sdk) send(service, version, action, params string) ([]byte, error) {
	s.Helper()
	req := sdkhttp.NewCommonRequest(service, version, action)
	if err := req.SetActionParameters([]byte(params)); err != nil {
		s.Fatal(err)
	}
	res := sdkhttp.NewCommonResponse()
	err := s.client.Send(req, res)
	return res.GetBody(), err
}

// ask sends an action that must succeed and decodes what is inside Response.
func ask[T any](s *sdk, service, action, params string) T {
	s.Helper()
	raw, err := s.send(service, s.versionOf(action), action, params)
	if err != nil {
		s.Fatalf("%s %s: %v", action, params, err)
	}
	var out struct{ Response T }
	if err := json.Unmarshal(raw, &out); err != nil {
		s.Fatalf("%s answers %s: %v", action, raw, err)
	}
	return out.Response
}

type anything = map[string]any

// The document's example by the official client: a public load balancer,
// HTTP:80, two instances on 8080, a group at each gate.
func TestOfficialClientRunsTheExample(t *testing.T) {
	t.Run("HTTP", func(t *testing.T) { newSDK(t).runExample() })
	t.Run("TLS", func(t *testing.T) { newSecureSDK(t).runExample() })
}

func (s *sdk) runExample() {
	s.Helper()
	vpc := ask[struct{ Vpc struct{ VpcId string } }](s, "vpc", "CreateVpc", `{"VpcName":"site","CidrBlock":"10.1.0.0/16"}`).Vpc.VpcId
	subnet := ask[struct{ Subnet struct{ SubnetId string } }](s, "vpc", "CreateSubnet",
		`{"VpcId":"`+vpc+`","SubnetName":"web","CidrBlock":"10.1.1.0/24","Zone":"local-1"}`).Subnet.SubnetId
	group := func(name, ingress string) string {
		id := ask[struct {
			SecurityGroup struct{ SecurityGroupId string }
		}](s, "vpc", "CreateSecurityGroup",
			`{"GroupName":"`+name+`","GroupDescription":""}`).SecurityGroup.SecurityGroupId
		ask[anything](s, "vpc", "CreateSecurityGroupPolicies", `{"SecurityGroupId":"`+id+`","SecurityGroupPolicySet":{"Ingress":`+ingress+`}}`)
		return id
	}
	edge := group("edge", `[{"Protocol":"TCP","Port":"80","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"},{"Protocol":"ALL","Port":"ALL","CidrBlock":"0.0.0.0/0","Action":"DROP"}]`)
	web := group("web", `[{"Protocol":"TCP","Port":"8080","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"},{"Protocol":"TCP","Port":"22","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"},
		{"Protocol":"TCP","Port":"3389","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"},{"Protocol":"ICMP","Port":"ALL","CidrBlock":"0.0.0.0/0","Action":"ACCEPT"}]`)
	instances := ask[struct{ InstanceIdSet []string }](s, "cvm", "RunInstances", `{"InstanceCount":2,"InstanceName":"web","ImageId":"img-lab","Placement":{"Zone":"local-1"},
		"VirtualPrivateCloud":{"VpcId":"`+vpc+`","SubnetId":"`+subnet+`"},"InternetAccessible":{"PublicIpAssigned":true,"InternetMaxBandwidthOut":10},"SecurityGroupIds":["`+web+`"]}`).InstanceIdSet
	created := ask[struct{ RequestId string }](s, "clb", "CreateLoadBalancer", `{"LoadBalancerType":"OPEN","LoadBalancerName":"demo","VpcId":"`+vpc+`"}`)
	task := ask[struct {
		Status          int64
		LoadBalancerIds []string
	}](s, "clb", "DescribeTaskStatus", `{"TaskId":"`+created.RequestId+`"}`)
	if len(instances) != 2 || task.Status != 0 || len(task.LoadBalancerIds) != 1 {
		s.Fatalf("instances %v, task %+v", instances, task)
	}
	clb := task.LoadBalancerIds[0]
	listener := ask[struct{ ListenerIds []string }](s, "clb", "CreateListener", `{"LoadBalancerId":"`+clb+`","Ports":[80],"Protocol":"HTTP","ListenerNames":["web"]}`).ListenerIds[0]
	rule := ask[struct{ LocationIds []string }](s, "clb", "CreateRule", `{"LoadBalancerId":"`+clb+`","ListenerId":"`+listener+`","Rules":[{"Domain":"www.example.com","Url":"/",
		"HealthCheck":{"HealthSwitch":1,"TimeOut":2,"IntervalTime":2,"HealthNum":2,"UnHealthNum":2}}]}`).LocationIds[0]
	ask[anything](s, "clb", "RegisterTargets", `{"LoadBalancerId":"`+clb+`","ListenerId":"`+listener+`","LocationId":"`+rule+`",
		"Targets":[{"InstanceId":"`+instances[0]+`","Port":8080},{"InstanceId":"`+instances[1]+`","Port":8080}]}`)
	ask[anything](s, "clb", "SetLoadBalancerSecurityGroups", `{"LoadBalancerId":"`+clb+`","SecurityGroups":["`+edge+`"]}`)

	got := ask[struct{ LoadBalancerSet []loadBalancerOut }](s, "clb", "DescribeLoadBalancers", `{"LoadBalancerIds":["`+clb+`"]}`).LoadBalancerSet[0]
	if !slices.Equal(got.SecureGroups, []lb.GroupID{lb.GroupID(edge)}) || got.VpcId != vpc {
		s.Errorf("the load balancer reads %+v", got)
	}
	targets := ask[struct{ Listeners []listenerBackend }](s, "clb", "DescribeTargets", `{"LoadBalancerId":"`+clb+`"}`)
	if rs := targets.Listeners[0].Rules[0].Targets; len(rs) != 2 || rs[0].Port != 8080 || !strings.HasPrefix(rs[0].PrivateIpAddresses[0], "10.1.1.") {
		s.Errorf("targets read %+v", rs)
	}
	health := ask[struct{ LoadBalancers []balancerHealth }](s, "clb", "DescribeTargetHealth", `{"LoadBalancerIds":["`+clb+`"]}`)
	if w := health.LoadBalancers[0].Listeners[0].Rules[0].Targets[0].HealthStatusDetail; w != "Unknown" {
		s.Errorf("without nodes health is %s", w)
	}
	s.gatesJudge(lb.BalancerID(clb), lb.InstanceID(instances[0]))
}

// gatesJudge checks what the groups of the example mean at both gates.
func (s *sdk) gatesJudge(clb lb.BalancerID, instance lb.InstanceID) {
	s.Helper()
	st := s.Store.State()
	b, i := st.Balancers.Get(clb), st.Instances.Get(instance)
	client := netip.MustParseAddr("203.0.113.10")
	for _, tc := range []struct {
		gate   policy.Gate
		groups []lb.GroupID
		p      lb.Packet
		want   lb.Action
	}{
		{policy.GateCLB, b.Groups, lb.Packet{Proto: lb.TCP, Src: client, Dst: b.VIPs[0], DstPort: 80}, lb.Accept},
		{policy.GateCLB, b.Groups, lb.Packet{Proto: lb.TCP, Src: client, Dst: b.VIPs[0], DstPort: 81}, lb.Drop},
		{policy.GateCVM, i.Groups, lb.Packet{Proto: lb.TCP, Src: client, Dst: i.Private, DstPort: 8080}, lb.Accept},
		{policy.GateCVM, i.Groups, lb.Packet{Proto: lb.TCP, Src: b.VIPs[0], Dst: i.Private, DstPort: 8080}, lb.Accept},
		{policy.GateCVM, i.Groups, lb.Packet{Proto: lb.ICMP, Src: client, Dst: i.Private}, lb.Accept},
		{policy.GateCVM, i.Groups, lb.Packet{Proto: lb.TCP, Src: client, Dst: i.Private, DstPort: 81}, lb.Drop},
	} {
		if v := policy.Decide(tc.gate, policy.In, policy.Resolve(st, tc.groups, policy.In), tc.p); v.Action != tc.want {
			s.Errorf("gate %v: %v is %v, want %v", tc.gate, tc.p, v.Action, tc.want)
		}
	}
}

// The official client's error carries our code, message and RequestId.
func TestOfficialClientSeesErrors(t *testing.T) {
	s := newSDK(t)
	_, err := s.send("clb", "2018-03-17", "DescribeListeners", `{"LoadBalancerId":"lb-none"}`)
	var e *sdkerrors.TencentCloudSDKError
	if !errors.As(err, &e) || e.GetCode() != "InvalidParameter.LBIdNotFound" || len(e.GetRequestId()) != 36 || !strings.Contains(e.GetMessage(), "lb-none") {
		t.Errorf("got %v", err)
	}
}
