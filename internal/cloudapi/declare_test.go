// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sallyport/sallyport/internal/lb"
)

// export is what `sallyport export` writes: files by name.
func (b *bench) export() map[string]string {
	b.Helper()
	raw, err := b.Do(context.Background(), serviceSallyport.Version, "DescribeConfiguration", nil)
	if err != nil {
		b.Fatal(err)
	}
	files, err := ExportFiles(raw)
	if err != nil {
		b.Fatal(err)
	}
	texts := map[string]string{}
	for name, content := range files {
		texts[name] = string(content)
	}
	return texts
}

// load reads files as `sallyport apply` does.
func load(t *testing.T, files map[string]string) *Configuration {
	t.Helper()
	c := &Configuration{}
	for _, name := range sortedKeys(files) {
		if err := c.Add(name, []byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// apply answers the steps, one line each.
func (b *bench) apply(files map[string]string, dryRun, prune bool) []string {
	b.Helper()
	params, err := load(b.T, files).JSON(dryRun, prune, false)
	if err != nil {
		b.Fatal(err)
	}
	var out applyConfigurationOut
	b.must("ApplyConfiguration", string(params), &out)
	var lines []string
	for _, s := range out.Steps {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", s.Verb, s.Kind, s.Name, strings.Join(s.Fields, ","))))
	}
	return lines
}

// wealthy makes one of everything that a configuration holds.
func wealthy(b *bench) {
	b.Helper()
	apply := map[string]string{"all.yaml": `
Vpcs:
- {VpcName: office, CidrBlock: 10.1.0.0/16, Ipv6CidrBlock: "2001:db8:200:100::/56", AssistantCidrs: [10.9.0.0/24], Tags: [{Key: a, Value: b}]}
Subnets:
- {SubnetName: desks, Vpc: office, CidrBlock: 10.1.1.0/24, Ipv6CidrBlock: "2001:db8:200:105::/64"}
ParameterTemplates:
- {Kind: AddressTemplateGroup, Name: everyone, Templates: [partners, partners-2]}
- {Kind: AddressTemplate, Name: partners, Members: [{Member: 203.0.113.0/24}, {Member: 198.51.100.7-198.51.100.9, Description: three}]}
- {Kind: AddressTemplate, Name: partners-2, Members: [{Member: 192.0.2.200}]}
- {Kind: ServiceTemplate, Name: web, Members: [{Member: "tcp:80,443"}], Tags: [{Key: t, Value: u}]}
SecurityGroups:
- GroupName: front
  Ingress:
  - {Action: ACCEPT, Protocol: TCP, Port: 80, CidrBlock: 0.0.0.0/0, PolicyDescription: the shop}
  - {Action: ACCEPT, ServiceTemplate: web, AddressTemplate: everyone}
  - {Action: DROP, Protocol: UDP, Port: ALL, AddressTemplate: partners}
  - {Action: DROP, Protocol: ALL, Port: ALL, CidrBlock: 0.0.0.0/0}
- GroupName: back
  GroupDescription: "behind: the shop"
  Ingress:
  - {Action: ACCEPT, Protocol: tcp, Port: "8080,8090-8099", Ipv6CidrBlock: "2001:db8::/32"}
  - {Action: ACCEPT, Protocol: tcp, Port: 8080, SecurityGroup: front}
  Egress:
  - {Action: ACCEPT, Protocol: ALL, Port: ALL, CidrBlock: 0.0.0.0/0}
- {GroupName: twin}
Addresses:
- {AddressName: door, InternetMaxBandwidthOut: 5, Tags: [{Key: e, Value: f}]}
- {AddressName: spare}
Instances:
- {InstanceName: web-1, Vpc: office, Subnet: desks, SecurityGroups: [back, twin], PublicIpAssigned: true, InstanceType: S5.SMALL2, ProjectId: 4}
- {InstanceName: old-1, Network: BASIC, SecurityGroups: [back]}
- {InstanceName: web-2, Vpc: office, Subnet: desks, SecurityGroups: [back], PrivateIpAddress: 10.1.1.77, Ipv6Address: "2001:db8:200:105::77", Tags: [{Key: x, Value: y}]}
TargetGroups:
- {TargetGroupName: pool, Vpc: office, Port: 9000, Members: [{Instance: web-1, Port: 9000}, {Instance: web-2, Port: 9001, Weight: 3}]}
- {TargetGroupName: checked, Vpc: office, Type: v2, Protocol: TCP, Port: 9100, Weight: 7, HealthCheck: {HealthSwitch: true, GapTime: 8}, Members: [{Instance: web-2, Port: 9100}], Tags: [{TagKey: g, TagValue: h}]}
LoadBalancers:
- {LoadBalancerName: inside, LoadBalancerType: INTERNAL, Vpc: office, Subnet: desks, Address: door, SecurityGroups: [front], Listeners: [{Protocol: TCP, Port: 91, TargetGroup: checked, Stopped: true}, {Protocol: TCP, Port: 90, TargetGroup: pool}]}
- {LoadBalancerName: ancient, Classic: true, CreateTime: "2015-01-02 03:04:05", LoadBalancerType: INTERNAL, Vpc: office, Subnet: desks}
- {LoadBalancerName: plain, Network: BASIC, LoadBalancerType: INTERNAL, Listeners: [{Protocol: TCP, Port: 80, Targets: [{Instance: old-1, Port: 80}]}]}
- LoadBalancerName: shop
  Vpc: office
  SecurityGroups: [front]
  DeleteProtect: true
  ProjectId: 3
  Tags: [{TagKey: k, TagValue: v}]
  Listeners:
  - Protocol: HTTP
    Port: 80
    Rules:
    - {Domain: a.example.com, Url: /, Targets: [{Instance: web-1, Port: 8080}, {Instance: web-2, Port: 8080, Weight: 0}]}
    - {Domain: b.example.com, Url: /x, DefaultServer: true, HealthCheck: {HealthSwitch: 0}}
    - {Domain: b.example.com, Url: /pool, TargetGroup: pool}
    - {Domain: c.example.com, Url: /, Redirect: {Port: 80, Domain: a.example.com, Url: /, RewriteCode: 301, TakeUrl: true}}
  - {Protocol: TCP, Port: 443, ListenerName: tls, HealthCheck: {IntervalTime: 9}, Targets: [{Instance: web-2, Port: 8443, Weight: 50}]}
- {LoadBalancerName: spare, Vpc: office, LoadBalancerPassToTarget: true, ReturnPath: gateway}
- {LoadBalancerName: six, AddressIPVersion: IPV6FullChain, Vpc: office, Subnet: desks, Listeners: [{Protocol: TCP, Port: 80, Targets: [{Instance: web-2, Port: 80}]}]}
`}
	b.apply(apply, false, false)
	b.must("CreateSecurityGroup", `{"GroupName":"twin","GroupDescription":"the second of that name"}`, nil)
}

func TestExportAppliesToItself(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	before := b.export()
	var all strings.Builder
	for _, name := range sortedKeys(before) {
		all.WriteString(before[name])
	}
	if made, next := strings.Index(all.String(), "Port: 91\n"), strings.Index(all.String(), "Port: 90\n"); made < 0 || next < made {
		t.Errorf("listeners are not told in the order they were made in: %d, %d", made, next)
	}
	if steps := b.apply(before, true, true); len(steps) > 0 {
		t.Errorf("applying what is there would change it:\n%s", strings.Join(steps, "\n"))
	}
	at := b.Store.State().Revision
	b.apply(before, false, true)
	if now := b.Store.State().Revision; now != at {
		t.Errorf("it wrote revision %d on top of %d", now, at)
	}

	other := newBench(t)
	empty := other.Store.State().Revision
	other.apply(before, true, false)
	if st := other.Store.State(); st.Groups.Len()+st.VPCs.Len() > 0 || st.Revision != empty {
		t.Fatalf("a dry run wrote revision %d", st.Revision)
	}
	other.apply(before, false, false)
	if diff := cmp.Diff(before, other.export()); diff != "" {
		t.Errorf("the empty system turned out different:\n%s", diff)
	}
	own := cmp.FilterPath(func(p cmp.Path) bool {
		field, ok := p.Last().(cmp.StructField)
		return ok && slices.Contains(unsaid(), field.Name()) && !(field.Name() == "ID" && p.Index(-2).Type() != reflect.TypeFor[lb.PolicyRule]())
	}, cmp.Ignore())
	if diff := cmp.Diff(b.Store.State(), other.Store.State(), own, asMaps(), cmpopts.EquateEmpty(), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
		cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("what the files do not say apart, the empty system's state is another:\n%s", diff)
	}
}

// asMaps compares the tables of states as the maps that they stand for.
func asMaps() cmp.Options {
	return cmp.Options{asMap[lb.GroupID, lb.SecurityGroup](), asMap[lb.TemplateID, lb.Template](), asMap[lb.VPCID, lb.VPC](), asMap[lb.SubnetID, lb.Subnet](),
		asMap[lb.InstanceID, lb.Instance](), asMap[lb.BalancerID, lb.LoadBalancer](), asMap[lb.ListenerID, lb.Listener](), asMap[lb.NodeID, lb.Node](),
		asMap[lb.TargetGroupID, lb.TargetGroup](), asMap[lb.AddressID, lb.Address](), asMap[lb.KeyID, lb.AccessKey](), asMap[lb.CertificateID, lb.Certificate]()}
}

func asMap[K ~string, V any]() cmp.Option {
	return cmp.Transformer("map", func(t lb.Table[K, V]) map[K]*V { return maps.Collect(t.All()) })
}

// unsaid are fields of the state that files do not carry, because they belong to
// one server's life: numbers, times, versions and the states of machines, and
// what no file may hold: secrets and private keys.
func unsaid() []string {
	return []string{"Revision", "Num", "KeptSince", "Created", "Updated", "Modified", "Registered", "Version", "State", "Operation", "OperationID", "Others", "Keys", "Certificates", "Nodes", "ID"}
}

// Every field of the state is in the files, or named here as one that is not:
// a new one cannot be forgotten.
func TestFilesCarryEveryField(t *testing.T) {
	carried := map[reflect.Type][]string{
		reflect.TypeFor[lb.VPC]():           {"ID", "Name", "Cidr", "Cidr6", "Assistant", "IsDefault", "Tags", "Echo"},
		reflect.TypeFor[lb.Subnet]():        {"ID", "VPC", "Name", "Cidr", "Cidr6", "Zone", "IsDefault", "Tags", "Echo"},
		reflect.TypeFor[lb.SecurityGroup](): {"ID", "Name", "Desc", "ProjectID", "IsDefault", "Tags", "Ingress", "Egress"},
		reflect.TypeFor[lb.PolicyRule]():    {"Action", "Proto", "Ports", "Peer", "PeerGroup", "PeerTemplate", "Service", "Text", "Description"},
		reflect.TypeFor[lb.Template]():      {"ID", "Name", "Tags", "Members", "Templates"},
		reflect.TypeFor[lb.Address]():       {"ID", "Name", "IP", "Balancer", "Tags", "Echo"},
		reflect.TypeFor[lb.Instance]():      {"ID", "Name", "VPC", "Subnet", "Private", "Public", "IPv6", "Joined", "Host", "Port", "MAC", "Observe", "Keep", "Groups", "Tags", "Echo"},
		reflect.TypeFor[lb.TargetGroup]():   {"ID", "Name", "VPC", "Type", "Protocol", "Port", "Weight", "Check", "Members", "Tags"},
		reflect.TypeFor[lb.Member]():        {"Instance", "Port", "Weight"},
		reflect.TypeFor[lb.LoadBalancer]():  {"ID", "Name", "Type", "Classic", "VPC", "Subnet", "VIPs", "EIP", "Groups", "PassToTarget", "Keep", "ReturnPath", "Protected", "Tags", "Echo"},
		reflect.TypeFor[lb.Listener]():      {"ID", "Balancer", "Name", "Protocol", "Port", "EndPort", "Scheduler", "Choice", "Check", "Targets", "Rules", "Stopped", "From", "Group", "Certificate", "SNI", "Echo"},
		reflect.TypeFor[lb.Rule]():          {"ID", "Domain", "URL", "Default", "Scheduler", "Choice", "Check", "Targets", "From", "Group", "Rewrite", "Certificate", "Echo"},
		reflect.TypeFor[lb.Choice]():        {"Session", "Cookie", "HealthyOnly", "SlowStart"},
		reflect.TypeFor[lb.Target]():        {"Instance", "Port", "Weight", "Group", "ByAddress"},
		reflect.TypeFor[lb.Rewrite]():       {"Listener", "Location", "Code", "TakeURL", "Auto"},
		reflect.TypeFor[lb.State]():         {"Groups", "VPCs", "Subnets", "Instances", "Balancers", "Listeners", "TargetGroups", "Addresses", "Templates"},
	}
	for noun, fields := range carried {
		for i := range noun.NumField() {
			if name := noun.Field(i).Name; !slices.Contains(fields, name) && !slices.Contains(unsaid(), name) {
				t.Errorf("%v.%s: do files carry it? Serve it in declare*.go and name it here, or say in unsaid why not", noun, name)
			}
		}
	}
}

// Objects may have no name.
func TestNamelessObjects(t *testing.T) {
	b := newBench(t)
	b.must("AllocateAddresses", `{"AddressCount":2}`, nil)
	b.runInstances(`{}`)
	files := b.export()
	other := newBench(t)
	other.apply(files, false, false)
	if diff := cmp.Diff(files, other.export()); diff != "" {
		t.Errorf("the empty system turned out different:\n%s", diff)
	}
	if steps := other.apply(files, true, true); len(steps) > 0 {
		t.Errorf("a second time it would %s", steps)
	}
}

func TestApplyChanges(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	for _, tc := range []struct {
		name, file string
		prune      bool
		want       []string
	}{
		{"a rule", "SecurityGroups:\n- {GroupName: front, Ingress: [{Action: ACCEPT, Protocol: TCP, Port: 81, CidrBlock: 0.0.0.0/0}]}",
			false, []string{"change SecurityGroup front Ingress"}},
		{"nothing", "SecurityGroups:\n- {GroupName: front, Ingress: [{Action: accept, Protocol: TCP, Port: 81, CidrBlock: 0.0.0.0/0}]}", false, nil},
		{"groups of an instance", "Instances:\n- {InstanceName: web-2, Vpc: office, Subnet: desks, SecurityGroups: [front, back]}",
			false, []string{"change Instance web-2 SecurityGroups,Tags"}},
		{"what is kept for clients", "Instances:\n- {InstanceName: web-1, Vpc: office, Subnet: desks, SecurityGroups: [back], PublicIpAssigned: true, HostName: shop-1, DisableApiTermination: true, UserData: YQ==}",
			false, []string{"change Instance web-1 SecurityGroups,HostName,UserData,DisableApiTermination"}},
		{"listeners", `
LoadBalancers:
- LoadBalancerName: shop
  Vpc: office
  SecurityGroups: [back, front]
  Listeners:
  - {Protocol: TCP, Port: 80, Targets: [{Instance: web-2, Port: 8443, Weight: 7}]}
  - {Protocol: TCP, Port: 443, Targets: [{Instance: web-1, Port: 8443}]}
`, false, []string{
			"change LoadBalancer shop SecurityGroups,DeleteProtect,Tags", "delete Listener HTTP:80 of shop",
			"create Listener TCP:80 of shop", "change Listener TCP:443 of shop ListenerName,HealthCheck",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := b.Store.State().Revision
			got := b.apply(map[string]string{"a.yaml": tc.file}, false, tc.prune)
			got = slices.DeleteFunc(got, func(line string) bool { return strings.Contains(line, " Target ") })
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("steps:\n%s", diff)
			}
			if now := b.Store.State().Revision; (now == at) != (len(tc.want) == 0) || now > at+1 {
				t.Errorf("revision %d became %d: one change is one revision", at, now)
			}
			if again := b.apply(map[string]string{"a.yaml": tc.file}, true, false); len(again) > 0 {
				t.Errorf("a second time it would %s", again)
			}
		})
	}
}

func TestApplyPrunes(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	b.must("ModifyLoadBalancerAttributes", fmt.Sprintf(`{"LoadBalancerId":%q,"DeleteProtect":false}`, b.balancerNamed("shop")), nil)
	steps := b.apply(map[string]string{"a.yaml": "Vpcs:\n- {VpcName: office, CidrBlock: 10.1.0.0/16}\n"}, false, true)
	st := b.Store.State()
	if st.Balancers.Len()+st.Listeners.Len()+st.Instances.Len()+st.Groups.Len()+st.Subnets.Len() > 0 || st.VPCs.Len() != 1 {
		t.Errorf("after %s there are %d load balancers, %d instances, %d groups, %d subnets, %d VPCs", steps, st.Balancers.Len(), st.Instances.Len(), st.Groups.Len(), st.Subnets.Len(), st.VPCs.Len())
	}
}

func (b *bench) balancerNamed(name string) string {
	b.Helper()
	for id, l := range b.Store.State().Balancers.All() {
		if l.Name == name {
			return string(id)
		}
	}
	b.Fatalf("no load balancer %s", name)
	return ""
}

func TestApplyRefuses(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	for _, tc := range []struct{ name, file, code, text, place string }{
		{"a bad port", "SecurityGroups:\n- GroupName: front\n  Ingress:\n  - {Action: ACCEPT, Protocol: TCP, Port: 80-,\n     CidrBlock: 0.0.0.0/0}\n",
			"InvalidParameterValue", "SecurityGroups.0.Ingress.0.Port", "a.yaml:4:43"},
		{"a group that is not", "SecurityGroups:\n- {GroupName: front}\n- {GroupName: new, Ingress: [{Action: ACCEPT, SecurityGroup: nobody}]}\n",
			"ResourceNotFound", "SecurityGroups.1.Ingress.0.SecurityGroup", "a.yaml:3:62"},
		{"two of a name", "SecurityGroups:\n- {GroupName: twin}\n", "InvalidParameterValue", "SecurityGroups.0.Id", "a.yaml:2:3"},
		{"two documents of one", "Vpcs:\n- {VpcName: office, CidrBlock: 10.1.0.0/16}\n- {VpcName: office, CidrBlock: 10.1.0.0/16}\n", "InvalidParameterValue", "Vpcs.1", "a.yaml:3:3"},
		{"a network that moves", "Vpcs:\n- {VpcName: office, CidrBlock: 10.2.0.0/16}\n", "UnsupportedOperation", "Vpcs.0.CidrBlock", "a.yaml:2:32"},
		{"an id of another sort", "Vpcs:\n- {Id: sg-12345678, VpcName: x, CidrBlock: 10.2.0.0/16}\n", "InvalidParameterValue", "Vpcs.0.Id", "a.yaml:2:8"},
		{"a port twice", "LoadBalancers:\n- LoadBalancerName: shop\n  Vpc: office\n  Listeners: [{Protocol: TCP, Port: 7}, {Protocol: TCP, Port: 7}]\n",
			"InvalidParameter.PortCheckFailed", "LoadBalancers.0.Listeners.1", "a.yaml:4:63"},
		{"an instance without group", "Instances:\n- {InstanceName: web-1, Vpc: office, Subnet: desks, PublicIpAssigned: true, SecurityGroups: []}\n", "MissingParameter", "Instances.0.SecurityGroups", "a.yaml:2:93"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := *b
			b.T = t
			c := load(t, map[string]string{"a.yaml": tc.file})
			for _, dry := range []bool{true, false} {
				params, err := c.JSON(dry, false, false)
				if err != nil {
					t.Fatal(err)
				}
				b.refused("ApplyConfiguration", string(params), tc.code, tc.text)
			}
			params, _ := c.JSON(false, false, false)
			err := b.try("ApplyConfiguration", string(params), nil)
			if got := c.Place(asError(err).Message).String(); got != tc.place {
				t.Errorf("%v is placed at %q, want %q", err, got, tc.place)
			}
		})
	}
}

// What pruning cannot delete keeps everything.
func TestPruneRefuses(t *testing.T) {
	b := newBench(t)
	wealthy(b)
	b.refused("ApplyConfiguration", `{"Prune":true,"Vpcs":[{"VpcName":"office","CidrBlock":"10.1.0.0/16","AssistantCidrs":["10.9.0.0/24"]}]}`, "FailedOperation", "LoadBalancers")
	for _, nothing := range []string{`{"Prune":true}`, `{"Prune":true,"DryRun":true}`, `{"Prune":true,"Vpcs":[],"Instances":[]}`} {
		b.refused("ApplyConfiguration", nothing, "MissingParameter", "everything would be deleted")
	}
	b.must("ModifyLoadBalancerAttributes", fmt.Sprintf(`{"LoadBalancerId":%q,"DeleteProtect":false}`, b.balancerNamed("shop")), nil)
	b.refused("ApplyConfiguration", `{"Prune":true,"Instances":[{"InstanceName":"web-2","Vpc":"office","Subnet":"desks","SecurityGroups":["back"]}],
		"SecurityGroups":[{"GroupName":"back"}]}`, "ResourceInUse", "Subnets")
}

func TestYAMLFaults(t *testing.T) {
	for _, tc := range []struct{ name, file, want string }{
		{"unknown kind", "Groups: []", `f.yaml:1:1: "Groups" is not known here`},
		{"unknown field", "Vpcs:\n- VpcName: a\n  Cidr: 10.0.0.0/8", `f.yaml:3:3: "Cidr" is not known here`},
		{"given twice", "Vpcs:\n- VpcName: a\n  VpcName: b", "f.yaml:3:3: VpcName is given twice, first in line 2"},
		{"missing", "Vpcs:\n- VpcName: a", "f.yaml:2:3: CidrBlock is missing"},
		{"no list", "Vpcs: {}", "f.yaml:1:7: this is a mapping; want a list"},
		{"no number", "LoadBalancers:\n- LoadBalancerName: x\n  Listeners: [{Protocol: TCP, Port: http}]", `f.yaml:3:37: "http" is not a whole number`},
		{"no switch", "LoadBalancers:\n- LoadBalancerName: x\n  DeleteProtect: 1", `f.yaml:3:18: "1" is neither true nor false`},
		{"a text", "hello", `f.yaml:1:1: "hello" is a single value; want a mapping`},
		{"no YAML", "Vpcs: [", "f.yaml:1:1: "},
		{"a tab", "Vpcs:\n- VpcName: a\n  \tCidrBlock: b", "f.yaml:"},
		{"many aliases", "Vpcs:\n- {VpcName: &a x, CidrBlock: *a, DnsServers: &b [*a, *a]}\n- {VpcName: *b, CidrBlock: x}", "f.yaml:3:13: this is a list; want a string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := (&Configuration{}).Add("f.yaml", []byte(tc.file))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// All faults of all files are told, each once, in the order of their places.
func TestYAMLFaultsOfAllFiles(t *testing.T) {
	c := &Configuration{}
	add := func(file, text string) string {
		if err := c.Add(file, []byte(text)); err != nil {
			return err.Error()
		}
		return ""
	}
	got := add("a.yaml", "Vpcs:\n- {VpcName: a}\n- {VpcNam: b}\n- VpcName: c\n  CidrBlock: []\n  IsDefault: 1\n  IsDefault: true\nGroups: []\n---\nSubnets: {}\n")
	want := []string{`a.yaml:2:3: CidrBlock is missing; `, `a.yaml:3:4: "VpcNam" is not known here; `, `a.yaml:5:14: this is a list; want a string`, `a.yaml:6:14: "1" is neither true nor false`,
		`a.yaml:7:3: IsDefault is given twice, first in line 6`, `a.yaml:8:1: "Groups" is not known here; `, `a.yaml:10:10: this is a mapping; want a list`}
	lines := strings.Split(got, "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d faults:\n%s", len(lines), got)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("fault %d is %s, want %s", i, line, want[i])
		}
	}
	if got := add("b.yaml", "Vpcs:\n- {Name: &x {Cidr: 1}, VpcName: *x, CidrBlock: *x}\n"); strings.Count(got, "\n") != 2 {
		t.Errorf("a second file: %s", got)
	}
	if got := add("c.yaml", "Groups: []\n---\nVpcs: ["); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, `c.yaml:1:1: "Groups" is not known`) {
		t.Errorf("a file that is no YAML: %s", got)
	}
	if got := add("d.yaml", strings.Repeat("Groups: []\n", 60)); strings.Count(got, "\n") > maxFaults || !strings.Contains(got, "more than 50 faults") {
		t.Errorf("a file of faults: %s", got)
	}
}

// FuzzConfiguration: whatever a file holds, it is read or refused with its
// place, and what was read is what the server's decoder takes.
func FuzzConfiguration(f *testing.F) {
	b := newBench(&testing.T{})
	wealthy(b)
	for _, text := range b.export() {
		f.Add(text)
	}
	f.Add("Vpcs: &a\n- {VpcName: x, CidrBlock: y}\n---\nVpcs: []\n")
	action := b.actions[actionKey{serviceSallyport.Version, "ApplyConfiguration"}]
	f.Fuzz(func(t *testing.T, text string) {
		c := &Configuration{}
		if err := c.Add("f.yaml", []byte(text)); err != nil {
			if !strings.HasPrefix(err.Error(), "f.yaml") {
				t.Errorf("%q: no place in %v", text, err)
			}
			return
		}
		params, err := c.JSON(true, false, false)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(params) {
			t.Fatalf("not JSON: %s", params)
		}
		if _, _, err := action.decode(&request{body: params}); err != nil && asError(err).Code == "UnknownParameter" {
			t.Errorf("%q: the server does not know what was read: %v", text, err)
		}
	})
}

// What the actions store without effect is in the files too.
func TestFilesCarryWhatIsKept(t *testing.T) {
	for action, doc := range map[string]any{
		"CreateVpc": vpcDoc{}, "ModifySubnetAttribute": subnetDoc{}, "AllocateAddresses": addressDoc{}, "RunInstances": instanceDoc{}, "CreateLoadBalancer": balancerDoc{},
	} {
		var kept []string
		for i := range reflect.TypeOf(doc).NumField() {
			kept = append(kept, keptAs(reflect.TypeOf(doc).Field(i)))
		}
		a, ok := Find(action)
		if !ok {
			t.Fatalf("no action %s", action)
		}
		a.fields.eachField("", func(path string, f *field) {
			if f.echo && !slices.Contains(kept, path) {
				t.Errorf("%s keeps %s, and %T has no field for it", action, path, doc)
			}
		})
	}
}

// What may be empty and has to be said is said: an EIP without a name, a tag
// without a value, a switch that is off.
func TestExportOfWhatIsEmpty(t *testing.T) {
	from, to := newBench(t), newBench(t)
	from.must("AllocateAddresses", `{}`, nil)
	from.must("AllocateAddresses", `{"Tags":[{"Key":"mark","Value":""}]}`, nil)
	from.must("CreateSecurityGroup", `{"GroupName":"g","GroupDescription":"","Tags":[{"Key":"mark","Value":""}]}`, nil)
	from.must("CreateTargetGroup", `{"TargetGroupName":"off","Type":"v2","Protocol":"TCP","Port":80,"HealthCheck":{"HealthSwitch":false}}`, nil)
	from.must("RunInstances", `{"ImageId":"img-echo0web","Placement":{"Zone":"local-1"},"HostName":"","DisableApiTermination":false}`, nil)
	from.must("CreateLoadBalancer", `{"LoadBalancerType":"OPEN","Tags":[{"TagKey":"mark","TagValue":""}]}`, nil)
	want := from.export()
	to.apply(want, false, false)
	if got := to.export(); !maps.Equal(got, want) {
		t.Errorf("exported\n%v\nand of what that made\n%v", want, got)
	}
	if plan := from.apply(want, true, true); len(plan) != 0 {
		t.Errorf("its own export changes it: %v", plan)
	}
}
