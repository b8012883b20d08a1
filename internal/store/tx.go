// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
)

// maxNum is the largest number NextNum gives out: ids travel in 24 bits.
const maxNum = 1<<24 - 1

// errNums is final: numbers are never reused.
var errNums = errors.New("all 16,777,215 object numbers of this region are used up")

// errCounter is final too: the kernel carries revisions in 32 bits.
var errCounter = errors.New("the revision counter is used up")

// A Tx is one transaction in the making. It is valid only inside the function
// given to Update, in its goroutine.
type Tx struct {
	ctx   context.Context
	back  backend
	base  *view
	draft *draft
	write map[string][]byte // nil value: delete
	order []string          // keys of write, in order of first change
	aux   []change
	audit *Audit // who makes this change; nil: this process itself
	tasks []Task
	floor lb.Revision // the revision must become at least this; 0: the next will do
	err   error       // what methods without an error result ran into

	attempts int    // that run now, inside each other
	undo     []undo // what they changed in write, in order
}

func newTx(ctx context.Context, b backend, base *view) *Tx {
	return &Tx{ctx: ctx, back: b, base: base, draft: newDraft(base), write: map[string][]byte{}}
}

// State returns the state with this transaction's own changes in it. Its
// Revision is that of the state before them. It is immutable for the caller,
// but later changes of this transaction appear in it.
func (tx *Tx) State() *lb.State { return tx.draft.state }

// Index answers who refers to what in State.
func (tx *Tx) Index() *Index { return tx.draft.index }

// TouchedGroups are the groups that this transaction has put or deleted so
// far, in order of the first time.
func (tx *Tx) TouchedGroups() []lb.GroupID { return touched(tx, groups) }

// TouchedTemplates is TouchedGroups for templates.
func (tx *Tx) TouchedTemplates() []lb.TemplateID { return touched(tx, templates) }

// TouchedInstances is TouchedGroups for instances.
func (tx *Tx) TouchedInstances() []lb.InstanceID { return touched(tx, instances) }

// TouchedBalancers is TouchedGroups for load balancers.
func (tx *Tx) TouchedBalancers() []lb.BalancerID { return touched(tx, balancers) }

// TouchedListeners is TouchedGroups for listeners.
func (tx *Tx) TouchedListeners() []lb.ListenerID { return touched(tx, listeners) }

func touched[K ~string, V any](tx *Tx, c *collection[K, V]) []K {
	var found []K
	for _, key := range tx.order {
		if id, ok := strings.CutPrefix(key, objectKey(c.kind, "")); ok {
			found = append(found, K(id))
		}
	}
	return found
}

// NextNum returns a number for a load balancer, listener, target or node:
// unique in the region, never reused, from 1 and below 2^24. When the numbers
// are used up, the transaction fails.
func (tx *Tx) NextNum() uint32 {
	if tx.draft.num >= maxNum {
		tx.fail(errNums)
		return 0
	}
	tx.draft.num++
	return tx.draft.num
}

// PutGroup writes g, whole, under its ID. Like every Put it takes a copy.
func (tx *Tx) PutGroup(g *lb.SecurityGroup) { put(tx, groups, g.ID, g) }

// PutTemplate writes t, whole, under its ID.
func (tx *Tx) PutTemplate(t *lb.Template) { put(tx, templates, t.ID, t) }

// PutVPC writes v, whole, under its ID.
func (tx *Tx) PutVPC(v *lb.VPC) { put(tx, vpcs, v.ID, v) }

// PutSubnet writes n, whole, under its ID.
func (tx *Tx) PutSubnet(n *lb.Subnet) { put(tx, subnets, n.ID, n) }

// PutInstance writes i, whole, under its ID.
func (tx *Tx) PutInstance(i *lb.Instance) { put(tx, instances, i.ID, i) }

// PutBalancer writes b, whole, under its ID.
func (tx *Tx) PutBalancer(b *lb.LoadBalancer) { put(tx, balancers, b.ID, b) }

// PutListener writes l, whole, under its ID.
func (tx *Tx) PutListener(l *lb.Listener) { put(tx, listeners, l.ID, l) }

// PutTargetGroup writes g, whole, under its ID. It changes no listener.
func (tx *Tx) PutTargetGroup(g *lb.TargetGroup) { put(tx, targetGroups, g.ID, g) }

// PutCertificate writes c, whole, under its ID.
func (tx *Tx) PutCertificate(c *lb.Certificate) { put(tx, certificates, c.ID, c) }

// PutKey writes k, whole, under its ID.
func (tx *Tx) PutKey(k *lb.AccessKey) { put(tx, keys, k.ID, k) }

// PutNode writes n, whole, under its ID.
func (tx *Tx) PutNode(n *lb.Node) { put(tx, nodes, n.ID, n) }

// PutAddress writes a, whole, under its ID.
func (tx *Tx) PutAddress(a *lb.Address) { put(tx, addresses, a.ID, a) }

// DeleteGroup removes a group. Like every Delete it does nothing when there
// is no such object, and does not look at what still refers to it.
func (tx *Tx) DeleteGroup(id lb.GroupID) { remove(tx, groups, id) }

// DeleteTemplate removes a template.
func (tx *Tx) DeleteTemplate(id lb.TemplateID) { remove(tx, templates, id) }

// DeleteVPC removes a VPC.
func (tx *Tx) DeleteVPC(id lb.VPCID) { remove(tx, vpcs, id) }

// DeleteSubnet removes a subnet.
func (tx *Tx) DeleteSubnet(id lb.SubnetID) { remove(tx, subnets, id) }

// DeleteInstance removes an instance.
func (tx *Tx) DeleteInstance(id lb.InstanceID) { remove(tx, instances, id) }

// DeleteBalancer removes a load balancer.
func (tx *Tx) DeleteBalancer(id lb.BalancerID) { remove(tx, balancers, id) }

// DeleteListener removes a listener.
func (tx *Tx) DeleteListener(id lb.ListenerID) { remove(tx, listeners, id) }

// DeleteTargetGroup removes a target group.
func (tx *Tx) DeleteTargetGroup(id lb.TargetGroupID) { remove(tx, targetGroups, id) }

// DeleteNode removes a node.
func (tx *Tx) DeleteNode(id lb.NodeID) { remove(tx, nodes, id) }

// DeleteAddress removes an elastic address.
func (tx *Tx) DeleteAddress(id lb.AddressID) { remove(tx, addresses, id) }

// DeleteCertificate removes a certificate.
func (tx *Tx) DeleteCertificate(id lb.CertificateID) { remove(tx, certificates, id) }

// PutTask records the result of an asynchronous action for 24 hours, with the
// revision that this transaction makes.
func (tx *Tx) PutTask(t Task) {
	if t.ID == "" {
		tx.fail(errors.New("a task needs an ID"))
		return
	}
	tx.tasks = append(tx.tasks, t)
}

// Token returns what a client token was used for within the last 24 hours,
// also within this transaction; false when it is new.
func (tx *Tx) Token(key string) (value string, ok bool) {
	for i := len(tx.aux) - 1; i >= 0; i-- {
		if tx.aux[i].key == tokenKey(key) {
			return string(tx.aux[i].value), true
		}
	}
	raw, ok, err := tx.back.aux(tx.ctx, tokenKey(key))
	if err != nil {
		tx.fail(fmt.Errorf("read client token: %w", err))
		return "", false
	}
	return string(raw), ok
}

// PutToken records what a client token was used for, for 24 hours.
func (tx *Tx) PutToken(key, value string) {
	tx.aux = append(tx.aux, change{tokenKey(key), []byte(value)})
}

// fail makes Update return the first of such errors and write nothing.
func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// finish returns the write and the view it leads to, or a nil view when there
// is nothing to write. Whatever raises the revision has a line in the audit
// log, because it is made here.
func (tx *Tx) finish() (write, *view, error) {
	w := write{base: tx.base, revision: tx.base.state.Revision, num: tx.draft.num, aux: tx.aux}
	for _, key := range tx.order {
		w.changes = append(w.changes, change{key, tx.write[key]})
	}
	changed := len(w.changes) > 0 || w.num != tx.base.num || tx.floor > w.revision
	if !changed && len(w.aux)+len(tx.tasks) == 0 && tx.audit == nil {
		return w, nil, nil
	}
	next := &view{state: tx.base.state, index: tx.base.index, num: w.num, audit: tx.base.audit}
	if changed {
		w.revision = max(w.revision+1, tx.floor)
		tx.draft.state.Revision = w.revision
		next.state, next.index = tx.draft.state, tx.draft.index
	}
	for _, t := range tx.tasks {
		t.Revision = w.revision
		raw, err := encode(t)
		if err != nil {
			return w, nil, fmt.Errorf("task %s: %w", t.ID, err)
		}
		w.aux = append(w.aux, change{taskKey(t.ID), raw})
	}
	if changed || tx.audit != nil {
		var err error
		if w.line, err = tx.auditLine(w); err != nil {
			return w, nil, err
		}
		next.audit++
	}
	return w, next, nil
}

// put stores a decoded copy: what the caller does with v afterwards changes
// no published state, and what is read back is what the database holds.
func put[K ~string, V any](tx *Tx, c *collection[K, V], id K, v *V) {
	if !validID(string(id)) {
		tx.fail(fmt.Errorf("%s: %q cannot be an id", c.kind, id))
		return
	}
	raw, err := encode(v)
	if err != nil {
		tx.fail(fmt.Errorf("%s %s: %w", c.kind, id, err))
		return
	}
	if old, ok := c.of(tx.draft.state).Find(id); ok {
		if before, err := encode(old); err == nil && bytes.Equal(before, raw) {
			return
		}
	}
	if err := tx.draft.set(c, string(id), raw); err != nil {
		tx.fail(err)
		return
	}
	tx.record(objectKey(c.kind, string(id)), raw)
}

func remove[K ~string, V any](tx *Tx, c *collection[K, V], id K) {
	if _, ok := c.of(tx.draft.state).Find(id); !ok {
		return
	}
	tx.draft.remove(c, string(id))
	tx.record(objectKey(c.kind, string(id)), nil)
}

func (tx *Tx) record(key string, value []byte) {
	if tx.base.state.Revision == math.MaxUint32 {
		tx.fail(errCounter)
	}
	before, ok := tx.write[key]
	if !ok {
		tx.order = append(tx.order, key)
	}
	if tx.attempts > 0 {
		tx.undo = append(tx.undo, undo{key, before, ok})
	}
	tx.write[key] = value
}
