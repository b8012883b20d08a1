// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// asProgram makes the test binary be the program, so that what it starts by
// its own path works too.
const asProgram = "SALLYPORT_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A fakeAPI answers actions by name; what it was asked is kept.
type fakeAPI struct {
	answers map[string]func(in map[string]any) any
	asked   []string
}

func (f *fakeAPI) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	action := r.Header.Get("X-TC-Action")
	f.asked = append(f.asked, action)
	var in map[string]any
	_ = json.NewDecoder(r.Body).Decode(&in)
	answer := any(map[string]any{"Error": map[string]any{"Code": "InvalidAction", "Message": "no " + action}})
	if f.answers[action] != nil {
		answer = f.answers[action](in)
	}
	_ = json.NewEncoder(rw).Encode(map[string]any{"Response": answer})
}

// program runs a command line against the fake.
func (f *fakeAPI) program(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	server := httptest.NewServer(f)
	defer server.Close()
	var o, e bytes.Buffer
	args = append(args, "--endpoint", server.URL, "--secret-id", "AKIDx", "--secret-key", "y")
	code = run(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestExitCodes(t *testing.T) {
	rows := []struct {
		args string
		code int
		says string
	}{
		{"version", 0, ""},
		{"--help", 0, ""},
		{"frobnicate", 2, `unknown command "frobnicate"`},
		{"up --frobnicate", 2, "unknown flag: --frobnicate"},
		{"up extra", 2, "usage: sallyport up"},
		{"lab frobnicate", 2, "unknown command"},
		{"lab exec client-1", 2, "usage: sallyport lab exec HOST -- COMMAND"},
		{"lab forward a b", 2, "usage: sallyport lab forward LOCAL:PORT CLIENT VIP:PORT"},
		{"call clb", 2, "usage: sallyport call SERVICE ACTION"},
		{"call nosuch Describe", 2, "it is one of clb, vpc, cvm, tag, ssl, sallyport"},
		{"call clb Describe {", 2, "not a JSON object"},
		{"call clb Describe --endpoint http://127.0.0.1:1 --secret-id a --secret-key b", 1, "connection refused"},
	}
	for _, r := range rows {
		var out, errs bytes.Buffer
		if code := run(context.Background(), strings.Fields(r.args), &out, &errs); code != r.code {
			t.Errorf("%s: exit code %d, want %d (%s)", r.args, code, r.code, errs.String())
		}
		if !strings.Contains(errs.String(), r.says) || strings.Count(errs.String(), "\n") > 1 {
			t.Errorf("%s: said %q, want one line with %q", r.args, errs.String(), r.says)
		}
	}
}

func TestCallPrintsAnswerOrRefusal(t *testing.T) {
	f := &fakeAPI{answers: map[string]func(map[string]any) any{
		"DescribeVpcs": func(in map[string]any) any { return map[string]any{"Asked": in["Limit"], "RequestId": "r1"} },
		"DescribeStatus": func(map[string]any) any {
			return map[string]any{"Revision": 7, "Nodes": []any{
				map[string]any{"Name": "gateway-1", "Connected": true, "Revision": 7},
				map[string]any{"Name": "gone", "Connected": false, "Revision": 3},
			}}
		},
	}}
	code, out, errs := f.program(t, "call", "vpc", "DescribeVpcs", `{"Limit":"5"}`, "--wait")
	if want := "{\n  \"Asked\": \"5\",\n  \"RequestId\": \"r1\"\n}\n"; code != 0 || out != want {
		t.Errorf("exit %d, printed %q, want %q (%s)", code, out, want, errs)
	}
	if !strings.HasPrefix(errs, "in force on 1 node after ") {
		t.Errorf("--wait said %q", errs)
	}
	code, _, errs = f.program(t, "call", "vpc", "NoSuch")
	if code != 1 || errs != "sallyport: InvalidAction: no NoSuch\n" {
		t.Errorf("a refused call: exit %d, %q", code, errs)
	}
}

func TestWaitGoesOnUntilTheLastNode(t *testing.T) {
	asked := 0
	f := &fakeAPI{answers: map[string]func(map[string]any) any{
		"ModifyX": func(map[string]any) any { return map[string]any{} },
		"DescribeStatus": func(map[string]any) any {
			asked++ // the second node follows at the third look; the state moves on meanwhile
			return map[string]any{"Revision": 10 + asked, "Nodes": []any{
				map[string]any{"Name": "a", "Connected": true, "Revision": 11},
				map[string]any{"Name": "b", "Connected": true, "Revision": 8 + asked},
			}}
		},
	}}
	code, _, errs := f.program(t, "call", "clb", "ModifyX", "--wait")
	if code != 0 || asked != 3 || !strings.HasPrefix(errs, "in force on 2 nodes") {
		t.Errorf("exit %d after %d looks: %s", code, asked, errs)
	}
}

func TestStatusText(t *testing.T) {
	f := &fakeAPI{answers: map[string]func(map[string]any) any{"DescribeStatus": func(map[string]any) any {
		return map[string]any{
			"Revision": 12,
			"Nodes": []any{
				map[string]any{"Name": "gateway-1", "Role": "gateway", "Address": "192.0.2.129", "Connected": true, "Revision": 12, "LagMs": 3.6},
				map[string]any{"Name": "ins-aaaaaaaa", "Role": "host", "Address": "192.0.2.130", "Revision": 11, "LagMs": 5, "Error": "no such device"},
			},
			"Targets": []any{
				map[string]any{"LoadBalancerId": "lb-1", "ListenerId": "lbl-1", "LocationId": "loc-1", "InstanceId": "ins-aaaaaaaa", "Port": 8080, "Health": "Dead",
					"HealthReason": map[string]any{"Kind": "gate", "Text": "gate cvm drops the probe: sg-1 rule 2"}},
				map[string]any{"LoadBalancerId": "lb-1", "ListenerId": "lbl-2", "InstanceId": "ins-aaaaaaaa", "Port": 22, "Health": "Alive"},
			},
		}
	}}}
	_, out, errs := f.program(t, "status")
	want := `revision 12 is in force on 1 of 2 nodes; 1 of 2 targets unhealthy

NODE          ROLE     ADDRESS      REVISION  LAG   STATE
gateway-1     gateway  192.0.2.129  12        4 ms  connected
ins-aaaaaaaa  host     192.0.2.130  11        5 ms  not connected: no such device

TARGET        PORT  LOAD BALANCER  LISTENER  HEALTH  WHY
ins-aaaaaaaa  8080  lb-1           loc-1     Dead    gate cvm drops the probe: sg-1 rule 2
ins-aaaaaaaa  22    lb-1           lbl-2     Alive   ` + "\n"
	if diff := cmp.Diff(want, out); diff != "" || errs != "" {
		t.Errorf("status (-want +got):\n%s%s", diff, errs)
	}
	_, out, _ = f.program(t, "status", "--json")
	var s statusAnswer
	if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Targets) != 2 {
		t.Errorf("status --json: %v\n%s", err, out)
	}
}

func TestVerdictsPageByPage(t *testing.T) {
	f := &fakeAPI{answers: map[string]func(map[string]any) any{"DescribeVerdicts": func(in map[string]any) any {
		switch in["After"].(float64) {
		case 0:
			return map[string]any{"Verdicts": []any{map[string]any{"Text": "first"}, map[string]any{"Text": "second"}}, "Next": 2}
		case 2:
			return map[string]any{"Verdicts": []any{map[string]any{"Text": "third", "Gate": "clb"}}, "Next": 9, "Lost": 6}
		}
		return map[string]any{"Verdicts": []any{}, "Next": 9}
	}}}
	code, out, errs := f.program(t, "verdicts")
	if code != 0 || out != "first\nsecond\nthird\n" || !strings.Contains(errs, "(6 verdicts were not kept") {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	_, out, _ = f.program(t, "verdicts", "--json")
	if lines := strings.Split(strings.TrimSpace(out), "\n"); len(lines) != 3 || lines[2] != `{"Gate":"clb","Text":"third"}` {
		t.Errorf("verdicts --json:\n%s", out)
	}
}

func TestFlows(t *testing.T) {
	f := &fakeAPI{answers: map[string]func(map[string]any) any{"DescribeFlows": func(in map[string]any) any {
		if in["Client"] == "203.0.113.0/24" && in["Port"] == 80.0 && in["State"] == "open" && in["Limit"] == 2.0 && len(in) == 4 {
			return map[string]any{"Flows": []any{map[string]any{"Text": "first"}, map[string]any{"Text": "second"}}, "TotalCount": 5,
				"Silent": []any{map[string]any{"Node": "gateway-2", "Why": "it is not connected"}}}
		}
		return map[string]any{"Flows": []any{map[string]any{"Text": "all", "Node": "gateway-1"}}, "TotalCount": 1}
	}}}
	code, out, errs := f.program(t, "flows", "--client", "203.0.113.0/24", "--port", "80", "--state", "open", "--limit", "2")
	if code != 0 || out != "first\nsecond\n" || errs != "(nothing of gateway-2: it is not connected)\n(3 more match: narrow them down, or raise --limit)\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if _, out, _ = f.program(t, "flows", "--json"); out != `{"Node":"gateway-1","Text":"all"}`+"\n" {
		t.Errorf("flows --json: %s", out)
	}
}

func TestDrain(t *testing.T) {
	var called []string
	note := func(action string) func(map[string]any) any {
		return func(in map[string]any) any {
			called = append(called, action+" "+in["Name"].(string))
			return map[string]any{}
		}
	}
	f := &fakeAPI{answers: map[string]func(map[string]any) any{"DrainNode": note("DrainNode"), "UndrainNode": note("UndrainNode")}}
	f.program(t, "node", "drain", "gateway-1")
	f.program(t, "node", "undrain", "gateway-1")
	if want := []string{"DrainNode gateway-1", "UndrainNode gateway-1"}; !slices.Equal(called, want) {
		t.Errorf("called %v, want %v", called, want)
	}
	if got := (statusNode{Connected: true, Drained: true, Alarms: []string{"flow table flows is full"}}).state(); got != "connected, drained, ALARM: flow table flows is full" {
		t.Errorf("status says %q", got)
	}
}

func TestConnectionPrefersFlagsThenEnvironment(t *testing.T) {
	t.Setenv("SALLYPORT_ENDPOINT", "http://env")
	t.Setenv("SALLYPORT_SECRET_ID", "env-id")
	t.Setenv("SALLYPORT_SECRET_KEY", "env-key")
	client, err := (&connection{Endpoint: "http://flag"}).client()
	if err != nil {
		t.Fatal(err)
	}
	if client.Endpoint != "http://flag" || client.SecretID != "env-id" || client.SecretKey != "env-key" {
		t.Errorf("got %+v", client)
	}
}

func sampleRecord() *lab.Record {
	return &lab.Record{
		API: "http://127.0.0.1:7780", Region: "local",
		Hosts: []lab.HostRecord{
			{Name: "client-1", Role: lab.RoleClient, PID: 11, Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.10")}},
			{Name: "ins-aaaaaaaa", Role: lab.RoleInstance, InstanceID: "ins-aaaaaaaa", PID: 12, Title: "web-1",
				Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.64"), netip.MustParseAddr("10.0.1.2")}},
		},
	}
}

// The ready file's shape is a promise to scripts.
func TestReadyFileGolden(t *testing.T) {
	client := &cloudapi.Client{SecretID: "AKIDx", SecretKey: "y"}
	path := filepath.Join(t.TempDir(), "ready.json")
	if err := newReady(sampleRecord(), client, []readyBalancer{{"lb-11111111", "demo", []string{"192.0.2.1"}}}).write(path); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "api": "http://127.0.0.1:7780",
  "region": "local",
  "secretId": "AKIDx",
  "secretKey": "y",
  "hosts": [
    {
      "name": "client-1",
      "role": "client",
      "instanceId": "",
      "pid": 11,
      "addresses": [
        "203.0.113.10"
      ]
    },
    {
      "name": "ins-aaaaaaaa",
      "role": "instance",
      "instanceId": "ins-aaaaaaaa",
      "pid": 12,
      "addresses": [
        "192.0.2.64",
        "10.0.1.2"
      ]
    }
  ],
  "loadBalancers": [
    {
      "id": "lb-11111111",
      "name": "demo",
      "vips": [
        "192.0.2.1"
      ]
    }
  ]
}
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("ready file (-want +got):\n%s", diff)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v (%v), want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/.*"); len(left) > 0 {
		t.Errorf("half-made files are left: %v", left)
	}
	empty, _ := json.Marshal(newReady(&lab.Record{}, client, nil))
	if !bytes.Contains(empty, []byte(`"hosts":[],"loadBalancers":[]`)) {
		t.Errorf("empty lists must be lists: %s", empty)
	}
}

func TestTries(t *testing.T) {
	d := demo{balancer: "lb-1", vip: "192.0.2.1", clbGroup: "sg-clb", cvmGroup: "sg-cvm", web: hostInstance{InstanceName: "web-1", PublicAddress: "192.0.2.64"}}
	var out bytes.Buffer
	if err := printTries(&out, d.tries("bin/sallyport")); err != nil {
		t.Fatal(err)
	}
	var comments, commands []string
	for line := range strings.Lines(out.String()) {
		switch {
		case strings.HasPrefix(line, "# "):
			comments = append(comments, line)
		case strings.HasPrefix(line, "bin/sallyport "):
			commands = append(commands, strings.TrimSpace(line))
		}
	}
	want := []string{
		`bin/sallyport lab get --from client-1 http://192.0.2.1/`,
		`bin/sallyport call --wait vpc CreateSecurityGroupPolicies '{"SecurityGroupId":"sg-clb","SecurityGroupPolicySet":{"Ingress":[{"Action":"DROP","CidrBlock":"198.51.100.0/24","PolicyIndex":0,"Port":"80","Protocol":"TCP"}]}}'; bin/sallyport lab get --from client-2 http://192.0.2.1/`,
		`bin/sallyport lab get --from client-1 http://192.0.2.64:8081/`,
		`bin/sallyport call --wait vpc DeleteSecurityGroupPolicies '{"SecurityGroupId":"sg-clb","SecurityGroupPolicySet":{"Ingress":[{"Action":"DROP","CidrBlock":"198.51.100.0/24","Port":"80","Protocol":"TCP"}]}}'; bin/sallyport lab get --from client-2 http://192.0.2.1/`,
		`bin/sallyport call --wait vpc CreateSecurityGroupPolicies '{"SecurityGroupId":"sg-cvm","SecurityGroupPolicySet":{"Ingress":[{"Action":"ACCEPT","CidrBlock":"0.0.0.0/0","Port":"8081","Protocol":"TCP"}]}}'; bin/sallyport lab get --from client-1 http://192.0.2.64:8081/`,
	}
	if diff := cmp.Diff(want, commands); diff != "" || len(comments) != len(commands) {
		t.Errorf("commands (-want +got):\n%s%s", diff, out.String())
	}
}

func TestUnhealthyNamesTargetAndReason(t *testing.T) {
	s := statusAnswer{Targets: []statusTarget{
		{LoadBalancerId: "lb-other", Health: "Dead"},
		{LoadBalancerId: "lb-1", InstanceId: "ins-a", Port: 8080, Health: "Alive"},
	}}
	if why := s.unhealthy("lb-1"); why != "" {
		t.Errorf("all Alive, yet %q", why)
	}
	if why := s.unhealthy("lb-2"); why == "" {
		t.Error("a load balancer without known targets counts as ready")
	}
	s.Targets = append(s.Targets, statusTarget{LoadBalancerId: "lb-1", InstanceId: "ins-b", Port: 8080, Health: "Dead", HealthReason: &healthReason{Text: "no answer"}})
	if why := s.unhealthy("lb-1"); why != "ins-b:8080 is Dead, no answer" {
		t.Errorf("got %q", why)
	}
}

func TestDemoAsksForTheDocumentsExample(t *testing.T) {
	sent := map[string][]map[string]any{}
	keep := func(action string, answer map[string]any) func(map[string]any) any {
		return func(in map[string]any) any {
			sent[action] = append(sent[action], in)
			return answer
		}
	}
	made := 0
	f := &fakeAPI{answers: map[string]func(map[string]any) any{
		"DescribeLoadBalancers": func(map[string]any) any {
			if len(sent["CreateLoadBalancer"]) == 0 {
				return map[string]any{"TotalCount": 0}
			}
			return map[string]any{"TotalCount": 1, "LoadBalancerSet": []any{map[string]any{
				"LoadBalancerId": "lb-1", "LoadBalancerName": "demo", "LoadBalancerVips": []string{"192.0.2.1"}}}}
		},
		"CreateVpc":    keep("CreateVpc", map[string]any{"Vpc": map[string]any{"VpcId": "vpc-1"}}),
		"CreateSubnet": keep("CreateSubnet", map[string]any{"Subnet": map[string]any{"SubnetId": "subnet-1"}}),
		"CreateSecurityGroupWithPolicies": func(in map[string]any) any {
			return keep("groups", map[string]any{"SecurityGroup": map[string]any{"SecurityGroupId": "sg-" + in["GroupName"].(string)}})(in)
		},
		"RunInstances": func(in map[string]any) any {
			made++
			return keep("RunInstances", map[string]any{"InstanceIdSet": []string{[]string{"ins-1", "ins-2"}[made-1]}})(in)
		},
		"CreateLoadBalancer":            keep("CreateLoadBalancer", map[string]any{"LoadBalancerIds": []string{"lb-1"}, "RequestId": "t"}),
		"SetLoadBalancerSecurityGroups": keep("bind", map[string]any{"RequestId": "t"}),
		"CreateListener":                keep("CreateListener", map[string]any{"ListenerIds": []string{"lbl-1"}, "RequestId": "t"}),
		"CreateRule":                    keep("CreateRule", map[string]any{"LocationIds": []string{"loc-1"}, "RequestId": "t"}),
		"RegisterTargets":               keep("RegisterTargets", map[string]any{"RequestId": "t"}),
		"DescribeTaskStatus":            func(map[string]any) any { return map[string]any{"Status": 0} },
		"DescribeHosts": func(map[string]any) any {
			return map[string]any{"Revision": 3, "Instances": []any{map[string]any{"InstanceId": "ins-1", "InstanceName": "web-1", "PublicAddress": "192.0.2.64"}}}
		},
	}}
	server := httptest.NewServer(f)
	defer server.Close()
	u := &upper{o: upOptions{region: "local"}, client: &cloudapi.Client{Endpoint: server.URL}}
	d, err := u.buildDemo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !d.complete() || d.vip != "192.0.2.1" || d.web.InstanceName != "web-1" {
		t.Errorf("the example is incomplete: %+v", d)
	}
	check := sent["CreateRule"][0]["Rules"].([]any)[0].(map[string]any)["HealthCheck"].(map[string]any)
	for name, want := range map[string]any{"IntervalTime": 2.0, "HealthNum": 2.0, "UnHealthNum": 2.0, "CheckType": "HTTP"} {
		if check[name] != want {
			t.Errorf("health check has %s %v, want %v", name, check[name], want)
		}
	}
	listener := sent["CreateListener"][0]
	if listener["Protocol"] != "HTTP" || len(sent["CreateListener"]) != 1 || listener["Ports"].([]any)[0] != 80.0 {
		t.Errorf("listeners %v, want one, HTTP:80", sent["CreateListener"])
	}
	targets := sent["RegisterTargets"][0]["Targets"].([]any)
	if len(targets) != 2 || targets[1].(map[string]any)["Port"] != 8080.0 {
		t.Errorf("targets %v, want two on 8080", targets)
	}
	if !slices.Equal(sent["bind"][0]["SecurityGroups"].([]any), []any{"sg-clb-web"}) {
		t.Errorf("bound %v", sent["bind"])
	}

	// Brought back by its data directory, nothing is made a second time.
	f.asked = nil
	f.answers["DescribeSecurityGroups"] = func(map[string]any) any {
		return map[string]any{"SecurityGroupSet": []any{
			map[string]any{"SecurityGroupId": "sg-1", "SecurityGroupName": "clb-web"}, map[string]any{"SecurityGroupId": "sg-2", "SecurityGroupName": "cvm-web"}}}
	}
	again, err := u.buildDemo(t.Context())
	if err != nil || !again.complete() || again.clbGroup != "sg-1" || again.cvmGroup != "sg-2" {
		t.Errorf("found %+v (%v)", again, err)
	}
	for _, action := range f.asked {
		if !strings.HasPrefix(action, "Describe") {
			t.Errorf("%s was called although the example is there", action)
		}
	}
}
