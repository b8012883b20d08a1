// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/json"
	"strings"
)

// Example is a request body of the action as JSON: its required fields with
// values of the right kind and form. The ids in it stand for the caller's own.
func (a *Action) Example() json.RawMessage {
	if a.sample != "" {
		return json.RawMessage(a.sample)
	}
	text, err := json.Marshal(a.fields.sample())
	if err != nil { // maps, lists, texts and numbers always marshal
		return json.RawMessage("{}")
	}
	return text
}

// sample is the required fields with values.
func (o *object) sample() map[string]any {
	tree := map[string]any{}
	for _, f := range o.fields {
		if f.required {
			tree[f.name] = f.sample()
		}
	}
	return tree
}

// sample is a value that the field's schema accepts.
func (f *field) sample() any {
	v := f.value
	for v.kind == kindList {
		v = v.elem
	}
	if f.filters != nil {
		return []any{f.filters[0].sample()}
	}
	var one any
	switch v.kind {
	case kindObject:
		one = v.obj.sample()
	case kindBool:
		one = true
	case kindInt:
		one = f.sampleNumber()
	default:
		one = f.sampleText()
	}
	for v = f.value; v.kind == kindList; v = v.elem {
		one = []any{one}
	}
	return one
}

func (f *field) sampleNumber() any {
	switch {
	case f.only != nil:
		return json.Number(f.only[0])
	case f.enum != nil:
		return json.Number(f.enum[0])
	case strings.HasSuffix(f.name, "Port") || f.name == "Ports":
		return 80
	case f.bounds != nil:
		return max(f.bounds.least, min(1, f.bounds.most))
	}
	return 1
}

func (f *field) sampleText() string {
	switch {
	case f.only != nil:
		return f.only[0]
	case f.enum != nil:
		return f.enum[0]
	}
	if prefix := idPrefix(f.name); prefix != "" {
		return prefix + "1a2b3c4d"
	}
	switch name := strings.TrimSuffix(f.name, "s"); {
	case strings.HasSuffix(name, "CidrBlock"):
		return "10.0.0.0/16"
	case strings.HasSuffix(name, "Zone"):
		return "local-1"
	case name == "Protocol":
		return "TCP"
	case strings.HasSuffix(name, "Port"):
		return "80"
	case strings.HasSuffix(name, "Domain"):
		return "www.example.com"
	case strings.HasSuffix(name, "Url"):
		return "/"
	case name == "Source" || strings.HasSuffix(name, "Address") || strings.HasSuffix(name, "IpAddresse"):
		return "192.0.2.10"
	case strings.HasSuffix(name, "Service") || name == "ServicesExtra":
		return "tcp:80"
	case name == "ProjectId" || name == "Offset" || name == "Version":
		return "0"
	case name == "Resource":
		return "qcs::clb:local:uin/:clb/lb-1a2b3c4d"
	case name == "Direction":
		return "Ingress"
	}
	return "example"
}

// idPrefix is how the ids begin that a field of this name takes, such as "lb-";
// "" for fields that take none.
func idPrefix(name string) string {
	name = strings.TrimSuffix(strings.TrimSuffix(name, "Set"), "s")
	for _, p := range [...][2]string{
		{"LoadBalancerId", "lb-"}, {"SourceListenerId", "lbl-"}, {"TargetListenerId", "lbl-"}, {"ListenerId", "lbl-"}, {"LocationId", "loc-"},
		{"TargetGroupId", "lbtg-"}, {"SecurityGroupId", "sg-"}, {"InstanceId", "ins-"}, {"VpcId", "vpc-"}, {"SubnetId", "subnet-"}, {"RouteTableId", "rtb-"},
		{"AddressTemplateGroupId", "ipmg-"}, {"AddressTemplateId", "ipm-"}, {"ServiceTemplateGroupId", "ppmg-"}, {"ServiceTemplateId", "ppm-"},
		{"NetworkInterfaceId", "eni-"}, {"AddressId", "eip-"}, {"CertificateId", "cert-"}, {"CertId", "cert-"},
	} {
		if strings.HasSuffix(name, p[0]) {
			return p[1]
		}
	}
	switch name {
	case "SecurityGroup":
		return "sg-"
	case "TaskId":
		return "6c5e1b7a-0000-4000-8000-0000"
	}
	return ""
}
