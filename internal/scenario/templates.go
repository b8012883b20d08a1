// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A template is a parameter template of the story.
type template struct{ id, noun string }

// The nouns of templates as the API's actions have them.
const (
	addressNoun = "AddressTemplate"
	serviceNoun = "ServiceTemplate"
	groupSuffix = "Group"
)

// template makes a parameter template, or gives the one of that name exactly
// these members: addresses or hosts, services, or templates of one kind.
func (w *world) template(ctx context.Context, args []string) error {
	name, noun, field := args[0], addressNoun, "Addresses"
	var members []string
	for _, text := range args[1:] {
		if t, ok := w.templates[text]; ok {
			noun, field, text = t.noun+groupSuffix, t.noun+"Ids", t.id
		} else if a, ok := w.address(text); ok {
			text = a.String()
		} else if proto, _, _ := strings.Cut(text, ":"); proto == "tcp" || proto == "udp" || proto == "icmp" || proto == "gre" {
			noun, field = serviceNoun, "Services"
		}
		members = append(members, text)
	}
	in := map[string]any{noun + "Name": name, field: members}
	if t, ok := w.templates[name]; ok {
		in[noun+"Id"] = t.id
		return w.engine.Call(ctx, apiVPC(), "Modify"+noun+"Attribute", in, nil)
	}
	var made map[string]any
	if err := w.engine.Call(ctx, apiVPC(), "Create"+noun, in, &made); err != nil {
		return err
	}
	made, _ = made[noun].(map[string]any)
	id, _ := made[noun+"Id"].(string)
	w.templates[name], w.names[id] = template{id, noun}, name
	return nil
}

// dropTemplates deletes what template made: groups first.
func (w *world) dropTemplates(ctx context.Context) error {
	for _, groups := range []bool{true, false} {
		for name, t := range w.templates {
			if strings.HasSuffix(t.noun, groupSuffix) != groups {
				continue
			}
			if err := w.engine.Call(ctx, apiVPC(), "Delete"+t.noun, map[string]any{t.noun + "Id": t.id}, nil); err != nil {
				return err
			}
			delete(w.templates, name)
		}
	}
	return nil
}

// named is the field of a rule that names a template.
func (t template) named() (field string, value map[string]any) {
	noun, isGroup := strings.CutSuffix(t.noun, groupSuffix)
	id := strings.TrimSuffix(noun, "Template")
	if isGroup {
		id += groupSuffix
	}
	return noun, map[string]any{id + "Id": t.id}
}

// insert puts the section's inbound rules into a group, so that the first of
// them becomes its rule N.
func (w *world) insert(ctx context.Context, args []string) error {
	id, ok := w.groups[args[0]]
	n, err := strconv.Atoi(args[1])
	if !ok || err != nil || n < 1 {
		return fmt.Errorf("write %s", verbs["insert"].usage)
	}
	rules, err := w.policyList(w.script.rules(args[2], false, w.without))
	if err != nil || len(rules) == 0 {
		return err
	}
	for _, rule := range rules {
		rule["PolicyIndex"] = n - 1
	}
	return w.engine.Call(ctx, apiVPC(), "CreateSecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": policySet{Ingress: rules}}, nil)
}

// templateOf is the id of a template that a rule of the API names, "" when it
// names none.
func templateOf(field any) string {
	ids, _ := field.(map[string]any)
	text := ""
	for _, id := range ids {
		text += fmt.Sprint(id)
	}
	return text
}
