// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// Keys. Everything under prefix is desired state and is watched; tasks and
// tokens stand beside it.
const (
	prefix      = "/sallyport/v1/"
	guardKey    = prefix + "rev"   // the revision; written by every transaction, last
	numKey      = prefix + "num"   // the last number given out
	auditNumKey = prefix + "audit" // the number of the audit log's newest line
	auditPrefix = "/sallyport/audit/"
	taskPrefix  = "/sallyport/task/"
	tokenPrefix = "/sallyport/token/"
)

func objectKey(kind, id string) string { return prefix + kind + "/" + id }
func taskKey(id string) string         { return taskPrefix + id }
func tokenKey(key string) string       { return tokenPrefix + key }

// validID keeps ids apart from the structure of keys.
func validID(id string) bool { return id != "" && !strings.Contains(id, "/") }

// A collection is one table of lb.State and the kind its keys carry.
type collection[K ~string, V any] struct {
	kind string
	of   func(*lb.State) *lb.Table[K, V]
}

var (
	groups = &collection[lb.GroupID, lb.SecurityGroup]{"group",
		func(s *lb.State) *lb.Table[lb.GroupID, lb.SecurityGroup] { return &s.Groups }}
	templates = &collection[lb.TemplateID, lb.Template]{"template",
		func(s *lb.State) *lb.Table[lb.TemplateID, lb.Template] { return &s.Templates }}
	vpcs = &collection[lb.VPCID, lb.VPC]{"vpc",
		func(s *lb.State) *lb.Table[lb.VPCID, lb.VPC] { return &s.VPCs }}
	subnets = &collection[lb.SubnetID, lb.Subnet]{"subnet",
		func(s *lb.State) *lb.Table[lb.SubnetID, lb.Subnet] { return &s.Subnets }}
	instances = &collection[lb.InstanceID, lb.Instance]{"instance",
		func(s *lb.State) *lb.Table[lb.InstanceID, lb.Instance] { return &s.Instances }}
	balancers = &collection[lb.BalancerID, lb.LoadBalancer]{"balancer",
		func(s *lb.State) *lb.Table[lb.BalancerID, lb.LoadBalancer] { return &s.Balancers }}
	listeners = &collection[lb.ListenerID, lb.Listener]{"listener",
		func(s *lb.State) *lb.Table[lb.ListenerID, lb.Listener] { return &s.Listeners }}
	targetGroups = &collection[lb.TargetGroupID, lb.TargetGroup]{"targetgroup",
		func(s *lb.State) *lb.Table[lb.TargetGroupID, lb.TargetGroup] { return &s.TargetGroups }}
	nodes = &collection[lb.NodeID, lb.Node]{"node",
		func(s *lb.State) *lb.Table[lb.NodeID, lb.Node] { return &s.Nodes }}
	addresses = &collection[lb.AddressID, lb.Address]{"address",
		func(s *lb.State) *lb.Table[lb.AddressID, lb.Address] { return &s.Addresses }}
	keys = &collection[lb.KeyID, lb.AccessKey]{"key",
		func(s *lb.State) *lb.Table[lb.KeyID, lb.AccessKey] { return &s.Keys }}
	certificates = &collection[lb.CertificateID, lb.Certificate]{"certificate",
		func(s *lb.State) *lb.Table[lb.CertificateID, lb.Certificate] { return &s.Certificates }}
)

// An anyCollection is a collection of whatever kind.
type anyCollection interface {
	name() string
	set(s *lb.State, x *Index, id string, raw []byte) error
	remove(s *lb.State, x *Index, id string)
	encoded(s *lb.State, id string) []byte
}

// collections lists every kind of object.
func collections() []anyCollection {
	return []anyCollection{
		groups,
		templates,
		vpcs,
		subnets,
		instances,
		balancers,
		listeners,
		targetGroups,
		nodes,
		addresses,
		keys,
		certificates,
	}
}

func (c *collection[K, V]) name() string { return c.kind }

func (c *collection[K, V]) set(s *lb.State, x *Index, id string, raw []byte) error {
	v := new(V)
	if err := decode(raw, v); err != nil {
		return fmt.Errorf("%s %s: %w", c.kind, id, err)
	}
	c.index(x, id, c.of(s).Get(K(id)), v)
	c.of(s).Put(K(id), v)
	return nil
}

// encoded is an object as the database holds it, nil when there is none.
func (c *collection[K, V]) encoded(s *lb.State, id string) []byte {
	v, ok := c.of(s).Find(K(id))
	if !ok {
		return nil
	}
	raw, err := encode(v)
	if err != nil {
		return nil // it was decoded from what encode made
	}
	return raw
}

func (c *collection[K, V]) remove(s *lb.State, x *Index, id string) {
	c.index(x, id, c.of(s).Get(K(id)), nil)
	c.of(s).Delete(K(id))
}

// index moves the references of an object; old and now may be nil.
func (c *collection[K, V]) index(x *Index, id string, old, now *V) {
	var was, is []reference
	if old != nil {
		was = x.references(old)
	}
	if now != nil {
		is = x.references(now)
	}
	x.move(id, was, is)
}

// emptyView is the state before the first write.
func emptyView() *view { return &view{state: &lb.State{}, index: &Index{}} }

// A draft is the next state in the making: it shares all with the view it
// began from but what is changed in it.
type draft struct {
	state *lb.State
	index *Index
	num   uint32
	audit uint64

	changed bool // an object was set or removed
}

func newDraft(v *view) *draft {
	s := *v.state
	x := *v.index
	return &draft{state: &s, index: &x, num: v.num, audit: v.audit}
}

func (d *draft) set(c anyCollection, id string, raw []byte) error {
	d.changed = true
	return c.set(d.state, d.index, id, raw)
}

func (d *draft) remove(c anyCollection, id string) {
	d.changed = true
	c.remove(d.state, d.index, id)
}

// JSON keeps addresses, prefixes and times exactly (times lose only Go's
// monotonic reading), and people can read it with etcdctl.
func encode(v any) ([]byte, error)         { return json.Marshal(v) }
func decode[T any](raw []byte, v *T) error { return json.Unmarshal(raw, v) }
