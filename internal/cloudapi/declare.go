// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"
	"encoding/json"
	"reflect"
	"strings"
)

func declareActions() []Action {
	return []Action{
		action(serviceSallyport, "DescribeConfiguration", describeConfiguration),
		action(serviceSallyport, "ApplyConfiguration", applyConfiguration).gathering().fails("LimitExceeded", "UnsupportedOperation.DuplicatePolicy", "FailedOperation", "InvalidParameter.PortCheckFailed", "InvalidParameterValue", "ResourceInUse", "ResourceNotFound", "UnsupportedOperation").
			like(`{"Instances":[{"InstanceName":"web-1","SecurityGroups":["sg-1a2b3c4d"]}],"DryRun":true}`),
	}
}

// A configuration is the desired state as people keep it in files: the objects
// with the fields of the actions that make them. Where one object names another
// it writes its name, or its id when several have that name. Each document is
// the whole truth about its object; objects without a document are left alone
// unless the caller prunes.
type configuration struct {
	Vpcs               []vpcDoc         `tc:""`
	Subnets            []subnetDoc      `tc:""`
	ParameterTemplates []templateDoc    `tc:""`
	SecurityGroups     []groupDoc       `tc:""`
	Addresses          []addressDoc     `tc:""`
	Instances          []instanceDoc    `tc:""`
	TargetGroups       []targetGroupDoc `tc:""`
	LoadBalancers      []balancerDoc    `tc:""`
}

type vpcDoc struct {
	Id              string   `tc:""`
	VpcName         string   `tc:"required,len=60"`
	CidrBlock       string   `tc:"required"`
	Ipv6CidrBlock   string   `tc:""`
	AssistantCidrs  []string `tc:""`
	IsDefault       bool     `tc:""`
	EnableMulticast string   `tc:"" kept:"echo"`
	DnsServers      []string `tc:"" kept:"echo"`
	DomainName      string   `tc:"" kept:"echo"`
	Tags            []Tag    `tc:""`
}

type subnetDoc struct {
	Id              string `tc:""`
	SubnetName      string `tc:"required,len=60"`
	Vpc             string `tc:"required"`
	CidrBlock       string `tc:"required"`
	Ipv6CidrBlock   string `tc:""`
	Zone            string `tc:""`
	IsDefault       bool   `tc:""`
	EnableBroadcast string `tc:"" kept:"echo"`
	Tags            []Tag  `tc:""`
}

type groupDoc struct {
	Id               string      `tc:""`
	GroupName        string      `tc:"required,len=60"`
	GroupDescription string      `tc:"len=100"`
	ProjectId        string      `tc:""`
	IsDefault        bool        `tc:""`
	Ingress          []policyDoc `tc:""`
	Egress           []policyDoc `tc:""`
	Tags             []Tag       `tc:""`
}

type policyDoc struct {
	Action            string `tc:"required,enum=ACCEPT|DROP,anycase"`
	Protocol          string `tc:"enum=TCP|UDP|ICMP|ICMPv6|GRE|ALL,anycase"`
	Port              string `tc:""`
	CidrBlock         string `tc:""`
	Ipv6CidrBlock     string `tc:""`
	SecurityGroup     string `tc:""`
	AddressTemplate   string `tc:""` // a list or a group of lists
	ServiceTemplate   string `tc:""` // instead of Protocol and Port
	PolicyDescription string `tc:"len=100"`
}

type instanceDoc struct {
	Id               string   `tc:""`
	InstanceName     string   `tc:""`
	Network          string   `tc:"enum=VPC|BASIC"`
	Vpc              string   `tc:""`
	Subnet           string   `tc:""`
	PrivateIpAddress string   `tc:""`
	PublicIpAddress  string   `tc:""`
	Ipv6Address      string   `tc:""`
	PublicIpAssigned bool     `tc:""`
	SecurityGroups   []string `tc:"required"`
	Tags             []Tag    `tc:""`
	Joined           bool     `tc:""` // a machine of one's own, which has to join first
	Host             string   `tc:""` // a guest's, which AddGuest has to add first
	Device           string   `tc:""`
	MacAddress       string   `tc:""`
	KeepFlows        bool     `tc:""`
	Observe          bool     `tc:""` // joined, and no group was ever bound to it

	InstanceType            *string     `tc:"" kept:"echo"`
	ImageId                 *string     `tc:"" kept:"echo"`
	InstanceChargeType      *string     `tc:"enum=POSTPAID_BY_HOUR|PREPAID|SPOTPAID|CDHPAID|CDCPAID|UNDERWRITE" kept:"echo"`
	InstanceChargePrepaid   *prepaidIn  `tc:"" kept:"echo"`
	ProjectId               *int64      `tc:"range=0-" kept:"echo=Placement.ProjectId"`
	SystemDisk              *diskIn     `tc:"" kept:"echo"`
	DataDisks               []diskIn    `tc:"" kept:"echo"`
	InternetChargeType      *string     `tc:"enum=TRAFFIC_POSTPAID_BY_HOUR|BANDWIDTH_POSTPAID_BY_HOUR|BANDWIDTH_PACKAGE|BANDWIDTH_PREPAID" kept:"echo=InternetAccessible.InternetChargeType"`
	InternetMaxBandwidthOut *int64      `tc:"range=0-65535" kept:"echo=InternetAccessible.InternetMaxBandwidthOut"`
	EnhancedService         *enhancedIn `tc:"" kept:"echo"`
	HostName                *string     `tc:"" kept:"echo"`
	UserData                *string     `tc:"" kept:"echo"`
	DisableApiTermination   *bool       `tc:"" kept:"echo"`
}

type balancerDoc struct {
	Id                       string              `tc:""`
	LoadBalancerName         string              `tc:"required,len=80"`
	LoadBalancerType         string              `tc:"only=OPEN|INTERNAL"`
	AddressIPVersion         string              `tc:"only=IPV4|ipv4|IPv6FullChain|IPV6FullChain|ipv6fullchain"` // "": IPV4
	Classic                  bool                `tc:""`
	CreateTime               string              `tc:""` // of a classic one: it decides how it is probed
	Network                  string              `tc:"enum=VPC|BASIC"`
	Vpc                      string              `tc:""`
	Subnet                   string              `tc:""`
	Vip                      string              `tc:""`
	Address                  string              `tc:""` // the EIP of a private one
	SecurityGroups           []string            `tc:""`
	LoadBalancerPassToTarget bool                `tc:""`
	KeepFlows                bool                `tc:""`
	ReturnPath               string              `tc:"enum=direct|gateway"` // direct when it is not given
	DeleteProtect            bool                `tc:""`
	ProjectId                *int64              `tc:"range=0-" kept:"echo"`
	InternetAccessible       *internetAccessible `tc:"" kept:"echo"`
	LBChargeType             *string             `tc:"enum=POSTPAID_BY_HOUR|POSTPAID|PREPAID" kept:"echo"`
	Tags                     []clbTag            `tc:""`
	Listeners                []listenerDoc       `tc:""`
}

type listenerDoc struct {
	Id                string         `tc:""`
	Protocol          string         `tc:"required,only=TCP|UDP|HTTP|HTTPS,enum=TCP|UDP|HTTP|HTTPS|TCP_SSL|QUIC"`
	Port              int64          `tc:"required,range=1-65535"`
	EndPort           int64          `tc:"range=0-65535"`
	ListenerName      string         `tc:"len=80"`
	Certificate       string         `tc:""` // uploaded before: no file holds a private key
	SniSwitch         int64          `tc:"range=0-1"`
	HealthCheck       *healthCheckIn `tc:""`
	Scheduler         string         `tc:"enum=WRR|LEAST_CONN|IP_HASH"`
	SessionExpireTime int64          `tc:"range=0-86400"`
	WhenAllUnhealthy  string         `tc:"enum=ALL|NONE"`
	SlowStart         int64          `tc:"range=0-900"`
	Stopped           bool           `tc:""`
	TargetGroup       string         `tc:""`
	TargetType        string         `tc:"only=NODE|TARGETGROUP|TARGETGROUP-V2"`
	Targets           []targetDoc    `tc:""`
	Rules             []ruleDoc      `tc:""`
}

type ruleDoc struct {
	Id                string         `tc:""`
	Domain            string         `tc:"required,len=80"`
	Url               string         `tc:"required,len=200"`
	DefaultServer     bool           `tc:""`
	Certificate       string         `tc:""` // of its domain, where the listener has SniSwitch 1
	HealthCheck       *healthCheckIn `tc:""`
	Scheduler         string         `tc:"enum=WRR|LEAST_CONN|IP_HASH"`
	SessionExpireTime int64          `tc:"range=0-86400"`
	CookieName        string         `tc:"len=80"`
	WhenAllUnhealthy  string         `tc:"enum=ALL|NONE"`
	SlowStart         int64          `tc:"range=0-900"`
	Redirect          *redirectDoc   `tc:""`
	TargetGroup       string         `tc:""`
	TargetType        string         `tc:"only=NODE|TARGETGROUP|TARGETGROUP-V2"`
	Targets           []targetDoc    `tc:""`
}

// A redirectDoc names the rule of the same load balancer that clients are sent to.
type redirectDoc struct {
	Port        int64  `tc:"required,range=1-65535"`
	Domain      string `tc:"required"`
	Url         string `tc:"required"`
	RewriteCode int64  `tc:"enum=301|302|307"` // 0: 302
	TakeUrl     bool   `tc:""`
	Auto        bool   `tc:""` // as AutoRewrite makes it
}

type targetDoc struct {
	Instance string `tc:"required"`
	Port     int64  `tc:"required,range=1-65535"`
	Weight   *int64 `tc:"range=0-100"`
	Type     string `tc:"only=CVM|ENI"` // ENI: bound by address, and read so; not for members of target groups
}

// keptAs is the name under which a document's field is stored without effect;
// "" for a field that has one. The tag is kept:"echo", or kept:"echo=NAME" where
// the actions call it otherwise.
func keptAs(f reflect.StructField) string {
	kind, name, _ := strings.Cut(f.Tag.Get("kept"), "=")
	if kind != "echo" {
		return ""
	}
	return cmp.Or(name, f.Name)
}

// echoOf gathers the fields of a document that are stored and returned without
// effect, as JSON by name; absent ones are not in it.
func echoOf(doc any) map[string]string {
	var echo map[string]string
	v := reflect.ValueOf(doc)
	for i := range v.NumField() {
		name := keptAs(v.Type().Field(i))
		if name == "" || v.Field(i).IsZero() {
			continue
		}
		raw, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			continue // texts, numbers and structs of them always marshal
		}
		if echo == nil {
			echo = map[string]string{}
		}
		echo[name] = string(raw)
	}
	return echo
}

// echoNames names the fields of a document that are stored without effect.
func echoNames(doc any) []string {
	var names []string
	t := reflect.TypeOf(doc)
	for i := range t.NumField() {
		if keptAs(t.Field(i)) != "" {
			names = append(names, t.Field(i).Name)
		}
	}
	return names
}

// fillEcho is echoOf the other way round. doc points to a document.
func fillEcho(doc any, echo map[string]string) {
	v := reflect.ValueOf(doc).Elem()
	for i := range v.NumField() {
		if text, ok := echo[keptAs(v.Type().Field(i))]; ok {
			_ = json.Unmarshal([]byte(text), v.Field(i).Addr().Interface()) // what was stored came from such a field
		}
	}
}

type describeConfigurationIn struct{}

type describeConfigurationOut struct {
	Revision uint64
	configuration
}

// describeConfiguration exports the desired state, in an order that does not
// change from call to call.
func describeConfiguration(c *Call, _ *describeConfigurationIn) (*describeConfigurationOut, error) {
	st := c.State()
	x := exporter{st: st, names: namesOf(st)}
	return &describeConfigurationOut{Revision: uint64(st.Revision), configuration: x.all()}, nil
}
