// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
)

func whole(uint32) uint32 { return WholeShare }

// named starts n targets that answer with their own number behind one rule.
func (r *rig) named(n int, edit func(*snapshot.Rule)) {
	var nums []uint32
	for i := range n {
		nums = append(nums, r.target(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i+1) }))
	}
	r.rule("a.example.com", "/", nums...)
	edit(&r.snap.Listeners[0].Rules[0])
	r.apply()
}

// fetch asks once, with a cookie unless it is empty, and says who answered and
// which cookie came along.
func (r *rig) fetch(c *http.Client, cookie string) (who, set string) {
	r.t.Helper()
	req, _ := http.NewRequestWithContext(r.t.Context(), http.MethodGet, "http://"+r.at.String()+"/", nil)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	res, err := c.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		return res.Status, ""
	}
	return string(body), res.Header.Get("Set-Cookie")
}

// A session stays with its target until that takes no more requests, and each
// answer renews the cookie.
func TestSession(t *testing.T) {
	r := newRig(t, Limits{})
	r.named(4, func(rule *snapshot.Rule) { rule.Choice = lb.Choice{Session: 60, Cookie: "route"} })
	c := r.client("127.0.0.2")
	first, set := r.fetch(c, "")
	if !strings.HasPrefix(set, "route=") || !strings.HasSuffix(set, "; Path=/; Max-Age=60; HttpOnly") {
		t.Fatalf("cookie %q", set)
	}
	cookie, _, _ := strings.Cut(set, ";")
	for range 8 {
		if who, again := r.fetch(c, "other=1; "+cookie); who != first || again != set {
			t.Fatalf("%s answered with %q, want %s with %q", who, again, first, set)
		}
	}
	if who, _ := r.fetch(r.client("127.0.0.3"), cookie); who != first {
		t.Errorf("from another address %s answered, want %s", who, first)
	}
	seen := map[string]bool{}
	for range 8 {
		who, _ := r.fetch(c, "route=nonsense")
		seen[who] = true
	}
	if len(seen) != 4 {
		t.Errorf("without a session of ours only %v answered", seen)
	}
	num := r.snap.Listeners[0].Rules[0].Targets[first[0]-'1'].Num
	r.mu.Lock()
	r.dead[num] = true
	r.mu.Unlock()
	other, moved := r.fetch(c, cookie)
	if other == first || moved == set || moved == "" {
		t.Errorf("with its target dead, %s answered with %q", other, moved)
	}
	r.mu.Lock()
	r.dead[num] = false
	r.mu.Unlock()
	r.snap.Listeners[0].Rules[0].Targets[first[0]-'1'].Weight = 0
	r.apply()
	if who, _ := r.fetch(c, cookie); who == first {
		t.Error("a target of weight 0 took a new request")
	}
}

// IP_HASH asks nothing but the client's address, and a target that goes moves
// its own clients only.
func TestByAddress(t *testing.T) {
	rule := func(nums ...uint32) snapshot.Rule {
		r := snapshot.Rule{ID: "loc-1", Scheduler: lb.SchedulerHash}
		for _, num := range nums {
			r.Targets = append(r.Targets, snapshot.TargetRef{Num: num, Weight: 10})
		}
		return r
	}
	all := newChooser(rule(1, 2, 3, 4, 5), nil, &loads{})
	place := func(c *chooser, i int, eligible map[uint32]bool) uint32 {
		client := netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})
		num, ok := c.next(job{client: client}, eligible, whole)
		if again, _ := c.next(job{client: client}, eligible, whole); !ok || again != num {
			t.Fatalf("%v went to %d and then to %d", client, num, again)
		}
		return num
	}
	everyone, without3 := map[uint32]bool{1: true, 2: true, 3: true, 4: true, 5: true}, map[uint32]bool{1: true, 2: true, 4: true, 5: true}
	const clients = 5000
	shares := map[uint32]int{}
	for i := range clients {
		was := place(all, i, everyone)
		shares[was]++
		if is := place(all, i, without3); is != was && was != 3 {
			t.Fatalf("client %d moved from %d to %d, and only 3 was away", i, was, is)
		}
	}
	for num, n := range shares {
		if n < clients/5*9/10 || n > clients/5*11/10 {
			t.Errorf("target %d has %d of %d clients", num, n, clients)
		}
	}
}

// The target with the fewest requests under way for its weight is next.
func TestLeastBusy(t *testing.T) {
	l := &loads{all: map[uint32]*atomic.Int64{}}
	c := newChooser(snapshot.Rule{Scheduler: lb.SchedulerLeast, Targets: []snapshot.TargetRef{{Num: 1, Weight: 10}, {Num: 2, Weight: 30}, {Num: 3, Weight: 0}}}, nil, l)
	eligible := map[uint32]bool{1: true, 2: true, 3: true}
	for range 40 { // nothing ends: shares become those of the weights
		num, ok := c.next(job{}, eligible, whole)
		if !ok {
			t.Fatal("nobody was eligible")
		}
		new(hold).at(l, num)
	}
	if a, b := l.of(1).Load(), l.of(2).Load(); a != 10 || b != 30 || l.of(3).Load() != 0 {
		t.Errorf("%d and %d of 40, want 10 and 30", a, b)
	}
	l.of(2).Store(3)
	if num, _ := c.next(job{}, eligible, whole); num != 2 {
		t.Error("a target with little under way was not next")
	}
	if _, ok := c.next(job{}, nil, whole); ok {
		t.Error("nobody was eligible")
	}
	h := &hold{}
	h.at(l, 1)
	h.at(l, 2)
	h.at(l, 0)
	if a, b := l.of(1).Load(), l.of(2).Load(); a != 10 || b != 3 {
		t.Errorf("after a request that tried both there are %d and %d under way", a, b)
	}
	l.of(1).Store(0)
	if l.keep(nil); len(l.all) != 1 {
		t.Errorf("%d targets are remembered, want the one that is busy", len(l.all))
	}
}

// While slow requests sit at one target, LEAST_CONN sends the next ones
// elsewhere; when they have ended nothing is under way.
func TestLeastConnOverHTTP(t *testing.T) {
	r := newRig(t, Limits{})
	end := make(chan struct{})
	release := sync.OnceFunc(func() { close(end) })
	t.Cleanup(release) // or a failure would wait for the slow one for good
	began := make(chan struct{}, 8)
	slow := r.target(func(http.ResponseWriter, *http.Request) { began <- struct{}{}; <-end })
	quick := r.target(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "quick") })
	r.rule("a.example.com", "/", slow, quick)
	r.snap.Listeners[0].Rules[0].Scheduler = lb.SchedulerLeast
	r.snap.Listeners[0].Rules[0].Targets[0].Weight = 20 // is asked first
	r.apply()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if res, err := r.client("127.0.0.2").Get("http://" + r.at.String() + "/"); err == nil {
			res.Body.Close()
		}
	}()
	<-began
	for range 6 {
		if who, _ := r.fetch(r.client("127.0.0.3"), ""); who != "quick" {
			t.Fatalf("%s answered while one request was under way at the other", who)
		}
		r.apply() // counts outlive views
		// The client has its answer a moment before the request counts as ended.
		for deadline := time.Now().Add(5 * time.Second); r.proxy.loads.of(quick).Load() != 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		}
	}
	release()
	<-done
	if n := r.proxy.loads.of(slow).Load() + r.proxy.loads.of(quick).Load(); n != 0 {
		t.Errorf("%d requests are under way at the end", n)
	}
}

// With no healthy target, all are asked or none, as the rule says.
func TestAllUnhealthy(t *testing.T) {
	for only, want := range map[bool]string{false: "1", true: "503 Service Unavailable"} {
		r := newRig(t, Limits{})
		r.named(1, func(rule *snapshot.Rule) { rule.Choice.HealthyOnly = only })
		r.mu.Lock()
		r.dead[1] = true
		r.mu.Unlock()
		if who, _ := r.fetch(r.client("127.0.0.2"), ""); who != want {
			t.Errorf("only=%v: %s, want %s", only, who, want)
		}
	}
}

// A target that starts slowly gets its share of requests, or of addresses.
func TestShare(t *testing.T) {
	targets := []snapshot.TargetRef{{Num: 1, Weight: 10}, {Num: 2, Weight: 10}}
	share := func(num uint32) uint32 {
		if num == 2 {
			return WholeShare / 4
		}
		return WholeShare
	}
	eligible := map[uint32]bool{1: true, 2: true}
	for scheduler, bounds := range map[string][2]int{"": {195, 205}, lb.SchedulerHash: {95, 155}} {
		c := newChooser(snapshot.Rule{Scheduler: scheduler, Targets: targets}, nil, &loads{})
		n := 0
		for i := range 1000 {
			num, _ := c.next(job{client: netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)})}, eligible, share)
			if num == 2 {
				n++
			}
		}
		if n < bounds[0] || n > bounds[1] {
			t.Errorf("%q: a target with a quarter of its share has %d of 1000, want %d to %d", scheduler, n, bounds[0], bounds[1])
		}
	}
}
