// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
)

// scan is the slow twin of Index: every reference of a state, by looking at
// every object.
func scan(s *lb.State) *Index {
	x := &Index{}
	for id, g := range s.Groups.All() {
		x.move(string(id), nil, x.references(g))
	}
	for id, t := range s.Templates.All() {
		x.move(string(id), nil, x.references(t))
	}
	for id, i := range s.Instances.All() {
		x.move(string(id), nil, x.references(i))
	}
	for id, b := range s.Balancers.All() {
		x.move(string(id), nil, x.references(b))
	}
	for id, l := range s.Listeners.All() {
		x.move(string(id), nil, x.references(l))
	}
	for id, g := range s.TargetGroups.All() {
		x.move(string(id), nil, x.references(g))
	}
	return x
}

func pairs(r *relation) map[string][]string {
	all := map[string][]string{}
	for key, list := range r.lists.All() {
		all[key] = *list
	}
	return all
}

func sameIndex(a, b *Index) bool {
	for _, r := range [][2]*relation{{&a.instances, &b.instances}, {&a.balancers, &b.balancers}, {&a.naming, &b.naming}, {&a.using, &b.using}, {&a.holding, &b.holding}, {&a.listeners, &b.listeners}, {&a.serving, &b.serving},
		{&a.following, &b.following}, {&a.located, &b.located}, {&a.joined, &b.joined}, {&a.placed, &b.placed}, {&a.showing, &b.showing}} {
		if !reflect.DeepEqual(pairs(r[0]), pairs(r[1])) {
			return false
		}
	}
	return true
}

// randomChange puts or deletes an object with random references.
func randomChange(tx *Tx, r *rand.Rand) {
	pick := func(prefix string) string { return fmt.Sprintf("%s-%d", prefix, r.IntN(6)) }
	bound := func() (groups []lb.GroupID) {
		for range r.IntN(4) {
			groups = append(groups, lb.GroupID(pick("sg")))
		}
		return groups
	}
	targets := func() (all []lb.Target) {
		for range r.IntN(4) {
			all = append(all, lb.Target{Instance: lb.InstanceID(pick("ins"))})
		}
		return all
	}
	switch r.IntN(12) {
	case 0:
		g := &lb.SecurityGroup{ID: lb.GroupID(pick("sg")), Ingress: []lb.PolicyRule{{}}}
		for _, id := range bound() {
			g.Ingress, g.Egress = append(g.Ingress, lb.PolicyRule{PeerGroup: id, Service: lb.TemplateID(pick("ppm"))}), append(g.Egress, lb.PolicyRule{PeerTemplate: lb.TemplateID(pick("ipmg"))})
		}
		tx.PutGroup(g)
	case 1, 2:
		tx.PutInstance(&lb.Instance{ID: lb.InstanceID(pick("ins")), Groups: bound(), Private: netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))}),
			IPv6: netip.AddrFrom16([16]byte{0: 0x20, 15: byte(r.IntN(4))})})
	case 10:
		g := &lb.TargetGroup{ID: lb.TargetGroupID(pick("lbtg"))}
		for _, t := range targets() {
			g.Members = append(g.Members, lb.Member{Instance: t.Instance})
		}
		tx.PutTargetGroup(g)
	case 11:
		tx.DeleteTargetGroup(lb.TargetGroupID(pick("lbtg")))
	case 3:
		tx.PutBalancer(&lb.LoadBalancer{ID: lb.BalancerID(pick("lb")), Groups: bound()})
	case 4, 5:
		tx.PutListener(&lb.Listener{ID: lb.ListenerID(pick("lbl")), Balancer: lb.BalancerID(pick("lb")), Targets: targets(), Group: lb.TargetGroupID(pick("lbtg")), Certificate: lb.CertificateID(pick("cert")),
			Rules: []lb.Rule{{ID: lb.LocationID(pick("loc")), Certificate: lb.CertificateID(pick("cert")), Targets: targets(), Group: lb.TargetGroupID(pick("lbtg"))}}})
	case 6:
		t := &lb.Template{ID: lb.TemplateID(pick("ipmg"))}
		for range r.IntN(3) {
			t.Templates = append(t.Templates, lb.TemplateID(pick("ipm")))
		}
		tx.PutTemplate(t)
	case 7:
		tx.DeleteTemplate(lb.TemplateID(pick("ipmg")))
	case 8:
		tx.DeleteInstance(lb.InstanceID(pick("ins")))
	default:
		tx.DeleteListener(lb.ListenerID(pick("lbl")))
	}
}

// After any sequence of transactions the index is what a look at every object
// gives, inside the transaction too, and older states keep theirs.
func TestIndexIsWhatAScanGives(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 7))
	s := NewMemory()
	type past struct {
		state *lb.State
		index *Index
	}
	var kept []past
	for range 400 {
		_, err := s.Update(context.Background(), func(tx *Tx) error {
			for range 1 + r.IntN(4) {
				randomChange(tx, r)
				if !sameIndex(tx.Index(), scan(tx.State())) {
					t.Fatal("inside a transaction the index is not what a scan gives")
				}
			}
			if r.IntN(5) == 0 {
				return context.Canceled // nothing of it may stay
			}
			return nil
		})
		if err != nil && err != context.Canceled {
			t.Fatal(err)
		}
		v, _ := s.current()
		kept = append(kept, past{v.state, v.index})
	}
	for i, p := range kept {
		if !sameIndex(p.index, scan(p.state)) {
			t.Fatalf("the index of state %d of %d has changed since", i, len(kept))
		}
	}
}

// A store that was opened again has the index of what it read.
func TestIndexAfterOpening(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		if _, err := s.Update(t.Context(), func(tx *Tx) error { randomChange(tx, r); randomChange(tx, r); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), Options{DataDir: dir}); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v, _ := s.current()
	if !sameIndex(v.index, scan(v.state)) {
		t.Error("the index is not that of the state read")
	}
}

func TestTouched(t *testing.T) {
	_, err := NewMemory().Update(t.Context(), func(tx *Tx) error {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-2"})
		tx.PutInstance(&lb.Instance{ID: "ins-1"})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-1"})
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-2", Name: "again"})
		tx.DeleteBalancer("lb-none")
		if got := tx.TouchedGroups(); !slices.Equal(got, []lb.GroupID{"sg-2", "sg-1"}) {
			t.Errorf("groups %v", got)
		}
		if got := tx.TouchedInstances(); !slices.Equal(got, []lb.InstanceID{"ins-1"}) {
			t.Errorf("instances %v", got)
		}
		if got := tx.TouchedBalancers(); got != nil {
			t.Errorf("load balancers %v", got)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
