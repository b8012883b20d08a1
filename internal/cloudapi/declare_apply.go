// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type applyConfigurationIn struct {
	configuration
	DryRun bool `tc:""`
	Prune  bool `tc:""`
	// Open flows keep their verdict until they are idle, whatever rules change.
	KeepFlows bool `tc:""`
}

type applyConfigurationOut struct {
	Revision uint64 // that holds the outcome; with DryRun the one it was compared with
	Steps    []stepOut
}

// A stepOut is one thing that was done, or that would be.
type stepOut struct {
	Verb   string // create, change or delete
	Kind   string // "SecurityGroup", "Listener", …
	Id     string // "" for one that a dry run would create without a given id
	Name   string
	Fields []string // what changes, by the names in the document
	Path   string   // of the document, such as "SecurityGroups.0"; "" when there is none
}

// errDryRun ends the transaction of a dry run.
var errDryRun = errors.New("nothing was written: a dry run")

// applyConfiguration brings the documents' objects to what the documents say,
// in one transaction: all of it or nothing. It works through the same handlers
// as the actions, so what they refuse is refused here, all of it in one answer.
// A dry run does all of it too, and then does not write.
func applyConfiguration(c *Call, in *applyConfigurationIn) (*applyConfigurationOut, error) {
	if in.Prune && len(unlike(configuration{}, in.configuration)) == 0 {
		return nil, refuse(lb.Missing, "Prune", "no object is described, so everything would be deleted", "describe what is to stay; a VPC is enough")
	}
	out := &applyConfigurationOut{}
	c.keepFlows = in.KeepFlows
	err := c.Update(func(tx *store.Tx) error {
		a := &applier{c: c, tx: tx, in: &in.configuration, claimed: map[string]string{}, fresh: map[string]bool{}, dry: in.DryRun,
			groupIDs: make([]lb.GroupID, len(in.SecurityGroups)), failed: map[string]string{}, lost: map[string]bool{}, broken: map[string]bool{}}
		if err := a.outcome(a.documents()); err != nil {
			return err
		}
		if in.Prune {
			if err := a.prune(); err != nil {
				return err
			}
		}
		out.Steps = a.steps
		if in.DryRun {
			out.Revision = uint64(tx.State().Revision)
			return errDryRun
		}
		return nil
	})
	if errors.Is(err, errDryRun) {
		return out, nil
	}
	if err == nil {
		out.Revision = uint64(c.State().Revision)
	}
	return out, err
}

// An applier carries one configuration into one transaction.
type applier struct {
	c        *Call
	tx       *store.Tx
	in       *configuration
	claimed  map[string]string // path of the document by the id of its object
	fresh    map[string]bool   // ids of objects that this transaction made
	groupIDs []lb.GroupID      // of each document of a group
	dry      bool
	steps    []stepOut

	faults []Fault
	failed map[string]string // path of the document with faults, by the kind of its object and an id or name of it
	lost   map[string]bool   // paths of documents with faults
	broken map[string]bool   // those that had some as they were read
}

// documents tries all of them.
func (a *applier) documents() error {
	if err := a.read(a.c.faults); err != nil {
		return err
	}
	for _, step := range []func() error{a.vpcs, a.subnets, a.templates, a.groups, a.policies, a.addresses, a.instances, a.targetGroups, a.balancers} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) st() *lb.State { return a.tx.State() }

// sub is a call inside the transaction. ids are what it gives to the objects it
// makes, where they are not empty; echo is what it stores without effect.
func (a *applier) sub(echo map[string]string, ids ...string) *Call {
	c := *a.c
	c.tx, c.Echo, c.ids = a.tx, echo, slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	return &c
}

// claimNew is claim for an object that was made without asking for an id.
func (a *applier) claimNew(path, given, id string) error {
	if given != "" {
		return nil // match claimed it
	}
	return a.claim(path, id)
}

// noted notes a new object, or a changed one.
func (a *applier) noted(made bool, kind, given, id, name, path string, changed []string) error {
	if made {
		return a.create(kind, given, id, name, path)
	}
	if len(changed) > 0 {
		a.note("change", kind, id, name, path, changed...)
	}
	return nil
}

// network resolves a reference to a VPC; "" is the default one.
func (a *applier) network(field, ref string) (string, error) {
	if ref == "" {
		return string(a.sub(nil).defaultVPC(a.tx).ID), nil
	}
	_, id, err := vpcSort().find(a, field, ref)
	return string(id), err
}

// create notes a new object and refuses an id that it could not get. A dry run
// does not promise an id that nobody asked for.
func (a *applier) create(kind, given, id, name, path string) error {
	switch {
	case given != "" && (!idLike(given) || given[:strings.IndexByte(given, '-')] != id[:strings.IndexByte(id, '-')]):
		return refuse(lb.Malformed, path+"Id", strconv.Quote(clip(given, 40))+" is not the id of a "+kind, "leave it out to get one")
	case given != "" && given != id:
		return refuse(lb.Duplicate, path+"Id", given+" is the id of another object", "leave it out to get one")
	}
	a.fresh[id] = true
	if a.dry {
		id = given
	}
	a.note("create", kind, id, name, path)
	return nil
}

func (a *applier) note(verb, kind, id, name, path string, fields ...string) {
	a.steps = append(a.steps, stepOut{Verb: verb, Kind: kind, Id: id, Name: name, Fields: fields, Path: strings.TrimSuffix(path, ".")})
}

// at gives an error of a handler the place in the documents that it speaks of.
// cut is how the handler's names of fields begin where the document's do not.
func at(path, cut string, err error) error {
	if err == nil {
		return nil
	}
	if e := (*lb.Error)(nil); errors.As(err, &e) {
		moved := *e
		moved.Field = strings.TrimSuffix(path+strings.TrimPrefix(e.Field, cut), ".")
		return &moved
	}
	if e := (*Error)(nil); errors.As(err, &e) {
		field, rest, ok := strings.Cut(e.Message, ": ")
		if !ok || strings.ContainsRune(field, ' ') {
			field, rest = "", e.Message
		}
		return &Error{Code: e.Code, Message: strings.TrimSuffix(path+strings.TrimPrefix(field, cut), ".") + ": " + rest}
	}
	return err
}

// idLike reports whether a text could be an id of ours.
func idLike(text string) bool {
	prefix, rest, ok := strings.Cut(text, "-")
	return ok && idShape.MatchString(rest) && slices.Contains([]string{"vpc", "subnet", "sg", "ins", "eip", "ipm", "ipmg", "ppm", "ppmg", "lbtg", "lb", "lbl", "loc", "cert"}, prefix)
}

// A sort is one kind of object as documents refer to it.
type sort[K ~string, V any] struct {
	kind    string // "SecurityGroup"
	prefix  string // "sg-"
	objects func(*lb.State) lb.Table[K, V]
	name    func(*V) string
}

// find resolves a reference: an id, else a name that one object alone has.
func (s sort[K, V]) find(a *applier, field, ref string) (*V, K, error) {
	if on, ok := a.failed[s.kind+" "+ref]; ok {
		return nil, "", &dependence{field, s.kind, ref, on}
	}
	objects := s.objects(a.st())
	if v := objects.Get(K(ref)); v != nil {
		return v, K(ref), nil
	}
	found, n := K(""), 0
	for id, v := range objects.All() {
		if s.name(v) == ref {
			found, n = id, n+1
		}
	}
	switch n {
	case 1:
		return objects.Get(found), found, nil
	case 0:
		return nil, "", refuse(lb.NotFound, field, fmt.Sprintf("there is no %s with the name or id %q", s.kind, clip(ref, 60)), "describe it in these files, or correct the name")
	}
	return nil, "", refuse(lb.Invalid, field, fmt.Sprintf("%d objects of kind %s are named %q", n, s.kind, clip(ref, 60)), "write the id of one")
}

// match finds the object that a document is about; nil when it is to be made.
func (s sort[K, V]) match(a *applier, path, id, name string) (*V, K, error) {
	objects := s.objects(a.st())
	if id != "" {
		if !hasShape(s.prefix, id) {
			return nil, "", refuse(lb.Malformed, path+"Id", strconv.Quote(clip(id, 40))+" is not the id of a "+s.kind, "ids look like "+s.prefix+"12345678; leave it out for a new object")
		}
		return objects.Get(K(id)), K(id), a.claim(path, id)
	}
	var found []K
	for k, v := range objects.All() {
		if s.name(v) == name {
			found = append(found, k)
		}
	}
	switch len(found) {
	case 0:
		return nil, "", nil
	case 1:
		return objects.Get(found[0]), found[0], a.claim(path, string(found[0]))
	}
	return nil, "", refuse(lb.Invalid, path+"Id", fmt.Sprintf("%d objects of kind %s have this name", len(found), s.kind), "say which by its id")
}

// claim refuses two documents about one object.
func (a *applier) claim(path, id string) error {
	if first, ok := a.claimed[id]; ok && a.lost[first] { // which may have given the name up
		return &dependence{strings.TrimSuffix(path, "."), "the object", id, first}
	} else if ok {
		return refuse(lb.Duplicate, strings.TrimSuffix(path, "."), strings.TrimSuffix(first, ".")+" is about the same object", "keep one of the two")
	}
	a.claimed[id] = path
	return nil
}

func vpcSort() sort[lb.VPCID, lb.VPC] {
	return sort[lb.VPCID, lb.VPC]{"Vpc", "vpc-", func(s *lb.State) lb.Table[lb.VPCID, lb.VPC] { return s.VPCs }, func(v *lb.VPC) string { return v.Name }}
}

func subnetSort() sort[lb.SubnetID, lb.Subnet] {
	return sort[lb.SubnetID, lb.Subnet]{"Subnet", "subnet-", func(s *lb.State) lb.Table[lb.SubnetID, lb.Subnet] { return s.Subnets }, func(n *lb.Subnet) string { return n.Name }}
}

func groupSort() sort[lb.GroupID, lb.SecurityGroup] {
	return sort[lb.GroupID, lb.SecurityGroup]{"SecurityGroup", "sg-", func(s *lb.State) lb.Table[lb.GroupID, lb.SecurityGroup] { return s.Groups }, func(g *lb.SecurityGroup) string { return g.Name }}
}

func instanceSort() sort[lb.InstanceID, lb.Instance] {
	return sort[lb.InstanceID, lb.Instance]{"Instance", "ins-", func(s *lb.State) lb.Table[lb.InstanceID, lb.Instance] { return s.Instances }, func(i *lb.Instance) string { return i.Name }}
}

func balancerSort() sort[lb.BalancerID, lb.LoadBalancer] {
	return sort[lb.BalancerID, lb.LoadBalancer]{"LoadBalancer", "lb-", func(s *lb.State) lb.Table[lb.BalancerID, lb.LoadBalancer] { return s.Balancers }, func(b *lb.LoadBalancer) string { return b.Name }}
}

// unlike names the fields in which two documents of one type differ, apart
// from those named in but.
func unlike[D any](have, want D, but ...string) []string {
	var fields []string
	h, w := reflect.ValueOf(have), reflect.ValueOf(want)
	for i := range h.NumField() {
		name := h.Type().Field(i).Name
		if slices.Contains(but, name) || empty(h.Field(i)) && empty(w.Field(i)) || reflect.DeepEqual(h.Field(i).Interface(), w.Field(i).Interface()) {
			continue
		}
		fields = append(fields, name)
	}
	return fields
}

// empty treats a list without items like no list.
func empty(v reflect.Value) bool { return v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 }

// fixed refuses changes of what an object keeps for life.
func fixed(path, kind string, changed []string, names ...string) error {
	for _, name := range names {
		if slices.Contains(changed, name) {
			return refuse(lb.Unsupported, path+name, "it stays for the life of "+kind, "keep it, or describe a new one under another name and without Id")
		}
	}
	return nil
}
