// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/sallyport/sallyport/internal/lb"
)

// cmpExact compares addresses and prefixes by value, times by instant.
var cmpExact = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

// bothBackends runs a test on an empty store of either kind.
func bothBackends(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Run("memory", func(t *testing.T) {
		s := NewMemory()
		defer s.Close()
		test(t, s)
	})
	t.Run("etcd", func(t *testing.T) { test(t, open(t, t.TempDir())) })
}

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func update(t *testing.T, s *Store, fn func(tx *Tx)) lb.Revision {
	t.Helper()
	rev, err := s.Update(t.Context(), func(tx *Tx) error { fn(tx); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func wantRevision(t *testing.T, s *Store, got, want lb.Revision) {
	t.Helper()
	if got != want || s.State().Revision != want {
		t.Fatalf("Update returned revision %d, State is at %d; want %d", got, s.State().Revision, want)
	}
}

// everything puts one object of each kind, with every field in use.
func everything(tx *Tx) {
	when := time.Date(2026, 11, 23, 3, 4, 5, 678901234, time.UTC)
	tags := lb.Tags{"owner": "edge", "<&>": "é"}
	tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: "web", ProjectID: "0", Created: when, Updated: when, Tags: tags, Version: 3,
		Ingress: []lb.PolicyRule{
			{ID: "pol-1", Action: lb.Accept, Proto: lb.TCP, Ports: []lb.PortRange{{First: 80, Last: 80}, {First: 8000, Last: 65535}},
				Peer: netip.MustParsePrefix("203.0.113.0/24"), Text: lb.RuleText{Protocol: "tcp", Port: "80,8000-65535", Cidr: "203.0.113.0/24"}, Modified: when},
			{ID: "pol-2", Action: lb.Drop, Peer: netip.MustParsePrefix("2001:db8::/32"), Text: lb.RuleText{Protocol: "ALL", Port: "ALL", Cidr6: "2001:db8::/32"}},
		},
		Egress: []lb.PolicyRule{{ID: "pol-3", Action: lb.Accept, PeerGroup: "sg-2", Description: "to the others"}}})
	tx.PutVPC(&lb.VPC{ID: "vpc-1", Cidr: netip.MustParsePrefix("10.0.0.0/16"), IsDefault: true, Created: when, Echo: map[string]string{"a": "b"}})
	tx.PutSubnet(&lb.Subnet{ID: "subnet-1", VPC: "vpc-1", Cidr: netip.MustParsePrefix("10.0.1.0/24"), Zone: "local-1", Created: when})
	tx.PutInstance(&lb.Instance{ID: "ins-1", Private: netip.MustParseAddr("10.0.1.2"), Groups: []lb.GroupID{"sg-1"}, State: lb.Pending, Created: when})
	tx.PutBalancer(&lb.LoadBalancer{ID: "lb-1", Num: tx.NextNum(), Type: lb.Open, VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}, Created: when})
	tx.PutListener(&lb.Listener{ID: "lbl-1", Num: tx.NextNum(), Balancer: "lb-1", Protocol: lb.ListenHTTP, Port: 80, Created: when,
		Check: lb.HealthCheck{On: true, HTTPCode: 31},
		Rules: []lb.Rule{{ID: "loc-1", Domain: "*.example.com", URL: "/", Targets: []lb.Target{{Num: tx.NextNum(), Instance: "ins-1", Port: 8080, Weight: 10, Registered: when}}}}})
	weight := 5
	tx.PutTargetGroup(&lb.TargetGroup{ID: "lbtg-1", VPC: "vpc-1", Type: lb.TargetGroupV2, Protocol: lb.ListenHTTP, Port: 80, Weight: &weight, Check: lb.HealthCheck{On: true},
		Members: []lb.Member{{Instance: "ins-1", Port: 8080, Registered: when}}, Created: when, Tags: tags})
	tx.PutCertificate(&lb.Certificate{ID: "cert-1", Alias: "web", ProjectID: "0", Chain: "-----BEGIN CERTIFICATE-----", Sealed: []byte{0, 1, 255}, Subject: "www.example.com",
		Names: []string{"www.example.com"}, NotBefore: when, NotAfter: when, Created: when, Tags: tags})
	tx.PutNode(&lb.Node{ID: "gateway-1", Num: tx.NextNum(), Role: lb.RoleGateway, Address: netip.MustParseAddr("192.0.2.129"), Created: when})
}

func TestPutReadsBackExactly(t *testing.T) {
	want := newTx(t.Context(), newMemory(time.Now), emptyView())
	everything(want)
	bothBackends(t, func(t *testing.T, s *Store) {
		wantRevision(t, s, update(t, s, everything), 1)
		got := *s.State()
		got.Revision = 0
		if diff := cmp.Diff(*want.State(), got, cmpExact, asMaps()); diff != "" {
			t.Fatalf("state differs (-want +got):\n%s", diff)
		}
	})
}

// asMaps compares the tables of states as the maps that they stand for.
func asMaps() cmp.Options {
	return cmp.Options{asMap[lb.GroupID, lb.SecurityGroup](), asMap[lb.TemplateID, lb.Template](), asMap[lb.VPCID, lb.VPC](), asMap[lb.SubnetID, lb.Subnet](),
		asMap[lb.InstanceID, lb.Instance](), asMap[lb.BalancerID, lb.LoadBalancer](), asMap[lb.ListenerID, lb.Listener](), asMap[lb.NodeID, lb.Node](),
		asMap[lb.TargetGroupID, lb.TargetGroup](), asMap[lb.AddressID, lb.Address](), asMap[lb.KeyID, lb.AccessKey](), asMap[lb.CertificateID, lb.Certificate]()}
}

func asMap[K ~string, V any]() cmp.Option {
	return cmp.Transformer("map", func(t lb.Table[K, V]) map[K]*V { return maps.Collect(t.All()) })
}

func TestRevisions(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		wantRevision(t, s, 0, 0)
		put := func(tx *Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: "a"}) }
		for _, step := range []struct {
			name string
			fn   func(tx *Tx)
			want lb.Revision
		}{
			{"a read", func(tx *Tx) { _ = tx.State().Groups.Get("sg-1") }, 0},
			{"a first write", put, 1},
			{"the same again", put, 1},
			{"delete what is not there", func(tx *Tx) { tx.DeleteVPC("vpc-9"); tx.DeleteGroup("sg-9") }, 1},
			{"two objects at once", func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-1"}); tx.PutVPC(&lb.VPC{ID: "vpc-2"}) }, 2},
			{"a task alone", func(tx *Tx) { tx.PutTask(Task{ID: "t"}) }, 2},
			{"a number alone", func(tx *Tx) { tx.NextNum() }, 3},
			{"delete", func(tx *Tx) { tx.DeleteGroup("sg-1") }, 4},
			{"put and delete at once", func(tx *Tx) { put(tx); tx.DeleteGroup("sg-1") }, 5},
		} {
			rev := update(t, s, step.fn)
			if rev != step.want || s.State().Revision != step.want {
				t.Fatalf("%s: revision %d, State at %d; want %d", step.name, rev, s.State().Revision, step.want)
			}
		}
		if st := s.State(); st.Groups.Len() != 0 || st.VPCs.Len() != 2 {
			t.Fatalf("groups %v, VPCs %v", st.Groups, st.VPCs)
		}
	})
}

func TestErrorWritesNothing(t *testing.T) {
	boom := errors.New("boom")
	bothBackends(t, func(t *testing.T, s *Store) {
		update(t, s, func(tx *Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: "before"}) })
		before := s.State()
		for _, test := range []struct {
			name string
			fn   func(tx *Tx) error
			want string
		}{
			{"fn's own error", func(tx *Tx) error { return boom }, "boom"},
			{"an empty id", func(tx *Tx) error { tx.PutVPC(&lb.VPC{}); return nil }, `vpc: "" cannot be an id`},
			{"an id with a slash", func(tx *Tx) error { tx.PutVPC(&lb.VPC{ID: "a/b"}); return nil }, `vpc: "a/b" cannot be an id`},
			{"a task without id", func(tx *Tx) error { tx.PutTask(Task{}); return nil }, "a task needs an ID"},
			{"numbers used up", func(tx *Tx) error { tx.draft.num = maxNum; tx.NextNum(); return nil }, errNums.Error()},
		} {
			_, err := s.Update(t.Context(), func(tx *Tx) error {
				tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: "after"})
				tx.DeleteGroup("sg-1")
				tx.PutToken("k", "v")
				tx.NextNum()
				return test.fn(tx)
			})
			if err == nil || err.Error() != test.want {
				t.Errorf("%s: error %v, want %s", test.name, err, test.want)
			}
			if s.State() != before || before.Groups.Get("sg-1").Name != "before" {
				t.Errorf("%s: the state changed", test.name)
			}
			update(t, s, func(tx *Tx) {
				if v, ok := tx.Token("k"); ok {
					t.Errorf("%s: the token was kept: %q", test.name, v)
				}
			})
		}
		if _, err := s.Update(t.Context(), func(*Tx) error { return boom }); !errors.Is(err, boom) {
			t.Errorf("error %v is not fn's", err)
		}
	})
}

// A transaction sees its own changes; nobody else does before it is written,
// and what the caller does with its values afterwards changes nothing.
func TestIsolation(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		update(t, s, func(tx *Tx) {
			tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: "one"})
			tx.PutGroup(&lb.SecurityGroup{ID: "sg-2", Name: "two"})
		})
		before := s.State()
		g := &lb.SecurityGroup{ID: "sg-1", Name: "changed"}
		update(t, s, func(tx *Tx) {
			tx.PutGroup(g)
			tx.DeleteGroup("sg-2")
			tx.PutGroup(&lb.SecurityGroup{ID: "sg-3"})
			st := tx.State()
			if st.Groups.Get("sg-1").Name != "changed" || st.Groups.Get("sg-2") != nil || st.Groups.Get("sg-3") == nil {
				t.Errorf("a transaction does not see its own changes: %v", st.Groups)
			}
		})
		g.Name = "scribbled"
		after := s.State()
		if before.Groups.Len() != 2 || before.Groups.Get("sg-1").Name != "one" {
			t.Errorf("an old state changed: %v", before.Groups)
		}
		if after.Groups.Get("sg-1").Name != "changed" {
			t.Errorf("the caller's value reached the state: %q", after.Groups.Get("sg-1").Name)
		}
		kept := after.Groups.Get("sg-3")
		update(t, s, func(tx *Tx) { tx.PutGroup(&lb.SecurityGroup{ID: "sg-4"}) })
		if s.State().Groups.Get("sg-3") != kept {
			t.Error("an unchanged object was copied")
		}
	})
}

func TestNextNumIsUniqueAndNeverReused(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		var nums []uint32
		update(t, s, func(tx *Tx) { nums = append(nums, tx.NextNum(), tx.NextNum()) })
		update(t, s, func(tx *Tx) { nums = append(nums, tx.NextNum()) })
		if diff := cmp.Diff([]uint32{1, 2, 3}, nums); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		const writers, rounds = 8, 10
		count(t, writers, rounds, func(int) *Store { return s })
		if v := s.State().Groups.Get("sg-n").Version; v != writers*rounds {
			t.Fatalf("%d increments of %d arrived", v, writers*rounds)
		}
		if rev := s.State().Revision; rev != writers*rounds {
			t.Fatalf("revision %d, want %d", rev, writers*rounds)
		}
	})
}

// Two control planes on one cluster: conflicts are real, and each sees what
// the other wrote.
func TestTwoControlPlanesLoseNothing(t *testing.T) {
	a := open(t, t.TempDir())
	b, err := Open(t.Context(), Options{Endpoints: []string{a.back.(*etcd).server.endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	const writers, rounds = 6, 10
	both := []*Store{a, b}
	count(t, writers, rounds, func(i int) *Store { return both[i%2] })
	for _, s := range both {
		st := await(t, s, func(st *lb.State) bool { return st.Revision == writers*rounds })
		if v := st.Groups.Get("sg-n").Version; v != writers*rounds {
			t.Errorf("%d increments of %d arrived", v, writers*rounds)
		}
	}
	update(t, a, func(tx *Tx) { tx.DeleteGroup("sg-n"); tx.PutVPC(&lb.VPC{ID: "vpc-1"}) })
	st := await(t, b, func(st *lb.State) bool { return st.Revision == writers*rounds+1 })
	if st.Groups.Get("sg-n") != nil || st.VPCs.Get("vpc-1") == nil {
		t.Errorf("b sees groups %v, VPCs %v", st.Groups, st.VPCs)
	}
}

func count(t *testing.T, writers, rounds int, store func(writer int) *Store) {
	t.Helper()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range rounds {
				_, err := store(w).Update(t.Context(), func(tx *Tx) error {
					g := lb.SecurityGroup{ID: "sg-n"}
					if old := tx.State().Groups.Get("sg-n"); old != nil {
						g = *old
					}
					g.Version++
					tx.PutGroup(&g)
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// await watches until a state meets the condition.
func await(t *testing.T, s *Store, ok func(*lb.State) bool) *lb.State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for st := range s.Watch(ctx) {
		if ok(st) {
			return st
		}
	}
	t.Fatalf("the state never came; it is at revision %d", s.State().Revision)
	return nil
}

func TestTokensAndTasks(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		task := Task{ID: "req-1", Status: 1, LoadBalancerIDs: []string{"lb-1"}, Message: "no room", Created: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)}
		update(t, s, func(tx *Tx) {
			if v, ok := tx.Token("me/CreateLoadBalancer/x"); ok {
				t.Errorf("a new token reads %q", v)
			}
			tx.PutToken("me/CreateLoadBalancer/x", "lb-0")
			tx.PutToken("me/CreateLoadBalancer/x", "lb-1")
			if v, ok := tx.Token("me/CreateLoadBalancer/x"); !ok || v != "lb-1" {
				t.Errorf("within the transaction the token reads %q, %v", v, ok)
			}
			tx.PutTask(task)
		})
		update(t, s, func(tx *Tx) {
			if v, ok := tx.Token("me/CreateLoadBalancer/x"); !ok || v != "lb-1" {
				t.Errorf("the token reads %q, %v", v, ok)
			}
		})
		got, ok, err := s.Task(t.Context(), "req-1")
		if err != nil || !ok || cmp.Diff(task, got) != "" {
			t.Errorf("task %+v, %v, %v", got, ok, err)
		}
		if _, ok, err := s.Task(t.Context(), "req-2"); ok || err != nil {
			t.Errorf("an unknown task: %v, %v", ok, err)
		}
		if s.State().Revision != 0 {
			t.Errorf("tasks and tokens raised the revision to %d", s.State().Revision)
		}
	})
}

// A task knows the revision that holds what its action changed.
func TestTasksKnowTheirRevision(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		put := func(id string, change bool) {
			update(t, s, func(tx *Tx) {
				tx.PutTask(Task{ID: id})
				if change {
					tx.PutGroup(&lb.SecurityGroup{ID: "sg-1", Name: id})
				}
			})
		}
		put("first", true)
		put("nothing", false)
		put("second", true)
		for id, want := range map[string]lb.Revision{"first": 1, "nothing": 1, "second": 2} {
			if got, ok, err := s.Task(t.Context(), id); err != nil || !ok || got.Revision != want {
				t.Errorf("%s: %+v, %v, %v; want revision %d", id, got, ok, err, want)
			}
		}
	})
}

func TestMemoryForgetsAfterADay(t *testing.T) {
	now := time.Unix(1, 0)
	m := newMemory(func() time.Time { return now })
	s := newStore(m, emptyView())
	update(t, s, func(tx *Tx) { tx.PutTask(Task{ID: "old"}) })
	now = now.Add(keepAux - time.Second)
	if _, ok, _ := s.Task(t.Context(), "old"); !ok {
		t.Error("forgotten too early")
	}
	now = now.Add(time.Second)
	if _, ok, _ := s.Task(t.Context(), "old"); ok {
		t.Error("still there after a day")
	}
	update(t, s, func(tx *Tx) { tx.PutTask(Task{ID: "new"}) })
	if len(m.items) != 1 {
		t.Errorf("%d items kept", len(m.items))
	}
}

func TestEtcdLeaseCoversADay(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, func(tx *Tx) { tx.PutTask(Task{ID: "a"}) })
	update(t, s, func(tx *Tx) { tx.PutTask(Task{ID: "b"}) })
	e := s.back.(*etcd)
	resp, err := e.client.TimeToLive(t.Context(), e.lease)
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Duration(resp.TTL) * time.Second; left < keepAux+renewLease {
		t.Errorf("the lease ends in %v", left)
	}
	// A lease that is gone is replaced by the next attempt.
	if _, err := e.client.Revoke(t.Context(), e.lease); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(t.Context(), func(tx *Tx) error { tx.PutTask(Task{ID: "c"}); return nil }); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := s.Task(t.Context(), "c"); !ok || err != nil {
		t.Errorf("task c: %v, %v", ok, err)
	}
}

func TestWatchDeliversTheNewest(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		ch := s.Watch(ctx)
		if st := <-ch; st.Revision != 0 {
			t.Fatalf("first state is revision %d", st.Revision)
		}
		const n = 20
		for i := range n {
			update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: lb.VPCID(fmt.Sprint("vpc-", i))}) })
		}
		seen, last := 0, lb.Revision(0)
		for st := range ch {
			if st.Revision <= last {
				t.Fatalf("revision %d after %d", st.Revision, last)
			}
			last = st.Revision
			if seen++; last == n {
				break
			}
		}
		if seen > 2 {
			t.Errorf("a receiver that slept got %d states of %d instead of at most 2", seen, n)
		}
		cancel()
		for range ch {
			t.Error("a state after the end")
		}
	})
}

func TestClose(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		ch := s.Watch(t.Context())
		<-ch
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, ok := <-ch; ok {
			t.Error("the watch goes on after Close")
		}
		if _, ok := <-s.Watch(t.Context()); ok {
			t.Error("a watch begins after Close")
		}
		if _, err := s.Update(t.Context(), func(*Tx) error { return nil }); !errors.Is(err, ErrClosed) {
			t.Errorf("Update after Close: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("second Close: %v", err)
		}
	})
}

func TestUpdateEndsWithItsContext(t *testing.T) {
	bothBackends(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Update(ctx, func(tx *Tx) error { tx.PutVPC(&lb.VPC{ID: "vpc-1"}); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	})
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long-", 30)) // longer than a socket's path may be
	first := open(t, dir)
	update(t, first, everything)
	if _, err := Open(t.Context(), Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), dir+" is in use by another process") {
		t.Errorf("second Open: %v", err)
	}
	if info, err := os.Stat(filepath.Join(dir, "etcd")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the socket's directory: %v %v", info.Mode(), err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("no directory was accepted")
	}
}

// The watch may be behind compaction, or torn by hand; the state is then read
// again as a whole.
func TestWatchSurvivesCompactionAndTampering(t *testing.T) {
	s := open(t, t.TempDir())
	update(t, s, everything)
	e := s.back.(*etcd)
	_, at, err := e.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		update(t, s, func(tx *Tx) { tx.PutVPC(&lb.VPC{ID: lb.VPCID(fmt.Sprint("vpc-", i))}) })
	}
	if _, err := e.client.Compact(t.Context(), at+4); err != nil {
		t.Fatal(err)
	}
	late := newStore(e, emptyView())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); e.follow(ctx, late, at) }()
	st := await(t, late, func(st *lb.State) bool { return st.Revision == 6 })
	if st.VPCs.Len() != 5 || st.Listeners.Get("lbl-1") == nil {
		t.Errorf("after compaction: %d VPCs", st.VPCs.Len())
	}
	cancel()
	<-done
	if _, err := e.client.Delete(t.Context(), prefix, clientPrefix); err != nil {
		t.Fatal(err)
	}
	await(t, s, func(st *lb.State) bool { return st.Revision == 0 && st.VPCs.Len() == 0 })
	wantRevision(t, s, update(t, s, everything), 1)
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	os.Exit(code)
}
