// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"strings"

	"pgregory.net/rapid"
)

// A templateWire is how a kind of template is called.
type templateWire struct{ kind, name, members string }

// modelTemplates are the four kinds, each of them after what it holds.
func modelTemplates() []templateWire {
	return []templateWire{
		{"ipm-", "AddressTemplate", "Addresses"}, {"ppm-", "ServiceTemplate", "Services"},
		{"ipmg-", "AddressTemplateGroup", "AddressTemplateIds"}, {"ppmg-", "ServiceTemplateGroup", "ServiceTemplateIds"},
	}
}

// membersOf draws what a template holds.
func (w *world) membersOf(kind string) []string {
	list := []string{}
	for range rapid.IntRange(0, 4).Draw(w.T, "members") {
		var one string
		switch kind {
		case "ipm-":
			one = rapid.SampledFrom([]string{"10.1.0.0/16", "10.2.0.0/16", "203.0.113.0/24", "2001:db8:1::/48", "10.3.0.1-10.3.0.9", "10.0.0.0/33", "10.3.0.9-10.3.0.1"}).Draw(w.T, "address")
		case "ppm-":
			one = rapid.SampledFrom([]string{"tcp:80", "tcp:80,443", "udp:53-60", "tcp:all", "icmp", "gre", "tcp:90-80", "sctp:80"}).Draw(w.T, "service")
		case "ipmg-":
			one = w.template("ipm-")
		case "ppmg-":
			one = w.template("ppm-")
		}
		list = append(list, one)
	}
	return list
}

func (w *world) someTemplates() templateWire {
	return rapid.SampledFrom(modelTemplates()).Draw(w.T, "kind")
}

func (w *world) newTemplate() {
	t := w.someTemplates()
	members := w.membersOf(t.kind)
	codes := w.createTemplate(t.kind, members)
	var out map[string]any
	w.ask("Create"+t.name, map[string]any{t.name + "Name": "office", t.members: members}, codes, &out)
	if len(codes) > 0 {
		return
	}
	made := out[t.name].(map[string]any)
	w.templates[made[t.name+"Id"].(string)] = members
}

func (w *world) editTemplate() {
	t := w.someTemplates()
	id := w.template(t.kind)
	if rapid.IntRange(0, 3).Draw(w.T, "delete") == 0 {
		w.did("Delete"+t.name, map[string]any{t.name + "Id": id}, w.model.deleteTemplate(id), id)
		return
	}
	members := w.membersOf(t.kind)
	w.ask("Modify"+t.name+"Attribute", map[string]any{t.name + "Id": id, t.members: members}, w.changeTemplate(id, members), nil)
}

// readTemplates is what the Describe actions answer, by id.
func (w *world) readTemplates(lines map[string]string) {
	for _, t := range modelTemplates() {
		var out map[string]any
		w.ask("Describe"+t.name+"s", map[string]any{}, nil, &out)
		for _, one := range out[t.name+"Set"].([]any) {
			o := one.(map[string]any)
			field := map[string]string{"Addresses": "AddressSet", "Services": "ServiceSet", "AddressTemplateIds": "AddressTemplateIdSet", "ServiceTemplateIds": "ServiceTemplateIdSet"}[t.members]
			var members []string
			for _, m := range o[field].([]any) {
				members = append(members, m.(string))
			}
			lines[o[t.name+"Id"].(string)] = strings.Join(members, " ")
		}
	}
}
