// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"reflect"
)

func declareActions() []Action {
	return []Action{
		action(serviceSallyport, "DescribeConfiguration", describeConfiguration),
		action(serviceSallyport, "ApplyConfiguration", applyConfiguration).fails("FailedOperation", "InvalidParameter.PortCheckFailed", "InvalidParameterValue", "ResourceInUse", "ResourceNotFound", "UnsupportedOperation").
			like(`{"Instances":[{"InstanceName":"web-1","SecurityGroups":["sg-1a2b3c4d"]}],"DryRun":true}`),
	}
}

// A configuration is the desired state as people keep it in files: the objects
// with the fields of the actions that make them. Where one object names another
// it writes its name, or its id when several have that name. Each document is
// the whole truth about its object; objects without a document are left alone
// unless the caller prunes.
type configuration struct {
	Vpcs           []vpcDoc      `tc:""`
	Subnets        []subnetDoc   `tc:""`
	SecurityGroups []groupDoc    `tc:""`
	Instances      []instanceDoc `tc:""`
	LoadBalancers  []balancerDoc `tc:""`
}

type vpcDoc struct {
	Id              string   `tc:""`
	VpcName         string   `tc:"required"`
	CidrBlock       string   `tc:"required"`
	IsDefault       bool     `tc:""`
	EnableMulticast string   `tc:"" kept:"echo"`
	DnsServers      []string `tc:"" kept:"echo"`
	DomainName      string   `tc:"" kept:"echo"`
	Tags            []Tag    `tc:""`
}

type subnetDoc struct {
	Id         string `tc:""`
	SubnetName string `tc:"required"`
	Vpc        string `tc:"required"`
	CidrBlock  string `tc:"required"`
	Zone       string `tc:""`
	IsDefault  bool   `tc:""`
	Tags       []Tag  `tc:""`
}

type groupDoc struct {
	Id               string      `tc:""`
	GroupName        string      `tc:"required"`
	GroupDescription string      `tc:""`
	ProjectId        string      `tc:""`
	IsDefault        bool        `tc:""`
	Ingress          []policyDoc `tc:""`
	Egress           []policyDoc `tc:""`
	Tags             []Tag       `tc:""`
}

type policyDoc struct {
	Action            string `tc:"required"`
	Protocol          string `tc:""`
	Port              string `tc:""`
	CidrBlock         string `tc:""`
	Ipv6CidrBlock     string `tc:""`
	SecurityGroup     string `tc:""`
	PolicyDescription string `tc:""`
}

type instanceDoc struct {
	Id               string   `tc:""`
	InstanceName     string   `tc:"required"`
	Vpc              string   `tc:""`
	Subnet           string   `tc:""`
	PrivateIpAddress string   `tc:""`
	PublicIpAddress  string   `tc:""`
	PublicIpAssigned bool     `tc:""`
	SecurityGroups   []string `tc:"required"`
	Tags             []Tag    `tc:""`
}

type balancerDoc struct {
	Id                       string              `tc:""`
	LoadBalancerName         string              `tc:"required"`
	LoadBalancerType         string              `tc:""`
	Vpc                      string              `tc:""`
	Vip                      string              `tc:""`
	SecurityGroups           []string            `tc:""`
	LoadBalancerPassToTarget bool                `tc:""`
	DeleteProtect            bool                `tc:""`
	ProjectId                *int64              `tc:"" kept:"echo"`
	InternetAccessible       *internetAccessible `tc:"" kept:"echo"`
	LBChargeType             *string             `tc:"" kept:"echo"`
	Tags                     []clbTag            `tc:""`
	Listeners                []listenerDoc       `tc:""`
}

type listenerDoc struct {
	Id           string         `tc:""`
	Protocol     string         `tc:"required"`
	Port         int64          `tc:"required"`
	ListenerName string         `tc:""`
	HealthCheck  *healthCheckIn `tc:""`
	Scheduler    string         `tc:""`
	Targets      []targetDoc    `tc:""`
	Rules        []ruleDoc      `tc:""`
}

type ruleDoc struct {
	Id            string         `tc:""`
	Domain        string         `tc:"required"`
	Url           string         `tc:"required"`
	DefaultServer bool           `tc:""`
	HealthCheck   *healthCheckIn `tc:""`
	Scheduler     string         `tc:""`
	Targets       []targetDoc    `tc:""`
}

type targetDoc struct {
	Instance string `tc:"required"`
	Port     int64  `tc:"required"`
	Weight   *int64 `tc:""`
}

// echoOf gathers the fields of a document that are stored and returned without
// effect, as JSON by name; absent ones are not in it.
func echoOf(doc any) map[string]string {
	var echo map[string]string
	v := reflect.ValueOf(doc)
	for i := range v.NumField() {
		if v.Type().Field(i).Tag.Get("kept") != "echo" || v.Field(i).IsZero() {
			continue
		}
		raw, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			continue // texts, numbers and structs of them always marshal
		}
		if echo == nil {
			echo = map[string]string{}
		}
		echo[v.Type().Field(i).Name] = string(raw)
	}
	return echo
}

// echoNames names the fields of a document that are stored without effect.
func echoNames(doc any) []string {
	var names []string
	t := reflect.TypeOf(doc)
	for i := range t.NumField() {
		if t.Field(i).Tag.Get("kept") == "echo" {
			names = append(names, t.Field(i).Name)
		}
	}
	return names
}

// fillEcho is echoOf the other way round. doc points to a document.
func fillEcho(doc any, echo map[string]string) {
	v := reflect.ValueOf(doc).Elem()
	for i := range v.NumField() {
		if text, ok := echo[v.Type().Field(i).Name]; ok && v.Type().Field(i).Tag.Get("kept") == "echo" {
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
