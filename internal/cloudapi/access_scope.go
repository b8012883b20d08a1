// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// narrowed is the part of a state that a scoped key sees: the groups, load
// balancers with their listeners, and instances with their nodes of its projects,
// the templates that rules of those groups name, and the VPCs, subnets and gateways, which are
// everybody's. Objects are shared with st; what they refer to may be missing.
func narrowed(st *lb.State, k *lb.AccessKey) *lb.State {
	n := &lb.State{Revision: st.Revision, VPCs: st.VPCs, Subnets: st.Subnets}
	keepScoped(&n.Groups, st.Groups, st, k)
	keepScoped(&n.Instances, st.Instances, st, k)
	keepScoped(&n.Balancers, st.Balancers, st, k)
	keepScoped(&n.Listeners, st.Listeners, st, k)
	keepScoped(&n.Certificates, st.Certificates, st, k)
	keepTemplates(n, st)
	for id, node := range st.Nodes.All() {
		if node.Role == lb.RoleGateway || n.Instances.Get(node.Instance) != nil {
			n.Nodes.Put(id, node)
		}
	}
	return n
}

func keepScoped[K ~string, V any](into *lb.Table[K, V], from lb.Table[K, V], st *lb.State, k *lb.AccessKey) {
	for id, v := range from.All() {
		if project, ok := projectOfObject(st, v); ok && k.InScope(project) {
			into.Put(id, v)
		}
	}
}

// keepTemplates adds to n the templates of st that its groups' rules stand for.
func keepTemplates(n, st *lb.State) {
	for _, g := range n.Groups.All() {
		for _, rules := range [...][]lb.PolicyRule{g.Ingress, g.Egress} {
			for _, r := range rules {
				for _, id := range [...]lb.TemplateID{r.PeerTemplate, r.Service} {
					t := st.Templates.Get(id)
					if t == nil || n.Templates.Get(id) != nil {
						continue
					}
					n.Templates.Put(id, t)
					for _, part := range t.Templates {
						if list := st.Templates.Get(part); list != nil {
							n.Templates.Put(part, list)
						}
					}
				}
			}
		}
	}
}

// projectOfObject is the project of a group, load balancer, listener or
// instance; false for what belongs to none.
func projectOfObject(st *lb.State, object any) (string, bool) {
	switch o := object.(type) {
	case *lb.SecurityGroup:
		return o.ProjectID, true
	case *lb.LoadBalancer:
		return fmt.Sprint(projectOf(o)), true
	case *lb.Listener:
		b := st.Balancers.Get(o.Balancer)
		if b == nil {
			return "", false
		}
		return fmt.Sprint(projectOf(b)), true
	case *lb.Certificate:
		return o.ProjectID, true
	case *lb.Instance:
		return fmt.Sprint(projectOfInstance(o)), true
	}
	return "", false
}

func projectOfInstance(i *lb.Instance) int64 { return echoed(i.Echo, "Placement.ProjectId", int64(0)) }

// stored finds what the store calls a kind and an id; nil when there is none,
// or when its kind is nothing that a write of a scoped key may touch or newly
// name.
func stored(st *lb.State, kind, id string) any {
	found := func(v any) any {
		if reflect.ValueOf(v).IsNil() {
			return nil
		}
		return v
	}
	switch kind {
	case "group":
		return found(st.Groups.Get(lb.GroupID(id)))
	case "balancer":
		return found(st.Balancers.Get(lb.BalancerID(id)))
	case "listener":
		return found(st.Listeners.Get(lb.ListenerID(id)))
	case "instance":
		return found(st.Instances.Get(lb.InstanceID(id)))
	case "certificate":
		return found(st.Certificates.Get(lb.CertificateID(id)))
	case "template":
		return found(st.Templates.Get(lb.TemplateID(id)))
	case "target group":
		return found(st.TargetGroups.Get(lb.TargetGroupID(id)))
	}
	return nil
}

// checkScope refuses a write of a scoped key that changes an object outside of
// its projects, moves one there, or makes one of its own refer to one. What an
// object referred to before, it may go on referring to.
func (c *Call) checkScope(tx *store.Tx) error {
	if !c.narrow() {
		return nil
	}
	before, after := tx.Before(), tx.State()
	for _, t := range tx.Touched() {
		was, is := stored(before, t.Kind, t.ID), stored(after, t.Kind, t.ID)
		if was == nil && is == nil {
			return c.outOfScope("touch %s, which belongs to no project", objectName{t.Kind, t.ID})
		}
		if was != nil && !c.inScope(before, was) {
			return c.outOfScope("touch %s, which is outside of it", objectName{t.Kind, t.ID})
		}
		if is == nil {
			continue
		}
		if project, _ := projectOfObject(after, is); !c.inScope(after, is) {
			return c.outOfScope(intent(was)+" project "+project, objectName{t.Kind, t.ID})
		}
		known := map[objectName]bool{}
		if was != nil {
			for _, ref := range namesIn(was) {
				known[ref] = true
			}
		}
		for _, ref := range namesIn(is) {
			other := stored(after, ref.kind, ref.id)
			if other != nil && !known[ref] && !c.inScope(after, other) {
				return c.outOfScope("refer to %s, which is outside of it", ref)
			}
		}
	}
	return nil
}

func (c *Call) inScope(st *lb.State, object any) bool {
	project, ok := projectOfObject(st, object)
	return ok && c.Key.InScope(project)
}

// intent is what a write does that ends in another project. What it would make
// has no name: it is not there, and was given its id by this call.
func intent(was any) string {
	if was == nil {
		return "put a new %kind into"
	}
	return "move %s to"
}

// outOfScope refuses what a write would do to an object, in words with the
// object's place in them.
func (c *Call) outOfScope(would string, o objectName) error {
	kind := o.kind
	if kind == "balancer" {
		kind = "load balancer"
	}
	return errorf(codeUnauthorized, "the role %s of key %s is for project %s only, and %s would %s; name objects of those projects, or use a key without projects",
		c.Key.Role, c.Key.ID, strings.Join(c.Key.Projects, ", "), c.Action.Name, strings.NewReplacer("%s", kind+" "+o.id, "%kind", kind).Replace(would))
}

type objectName struct{ kind, id string }

// namesIn lists the objects that v names, wherever in it: ids are known by
// their types, so that a field that is added is found too.
func namesIn(v any) []objectName {
	var all []objectName
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch id := v.Interface().(type) {
		case lb.GroupID:
			all = append(all, objectName{"group", string(id)})
			return
		case lb.BalancerID:
			all = append(all, objectName{"balancer", string(id)})
			return
		case lb.ListenerID:
			all = append(all, objectName{"listener", string(id)})
			return
		case lb.InstanceID:
			all = append(all, objectName{"instance", string(id)})
			return
		case lb.CertificateID:
			if id != "" {
				all = append(all, objectName{"certificate", string(id)})
			}
			return
		case lb.TemplateID:
			all = append(all, objectName{"template", string(id)})
			return
		case lb.TargetGroupID:
			all = append(all, objectName{"target group", string(id)})
			return
		}
		switch v.Kind() {
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Struct:
			for i := range v.NumField() {
				if v.Type().Field(i).IsExported() {
					walk(v.Field(i))
				}
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(k)
				walk(v.MapIndex(k))
			}
		}
	}
	walk(reflect.ValueOf(v))
	return all
}
