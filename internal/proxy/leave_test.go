// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/snapshot"
)

// without takes a target away.
func (r *rig) without(num uint32) {
	rule := &r.snap.Listeners[0].Rules[0]
	var refs []snapshot.TargetRef
	for _, ref := range rule.Targets {
		if ref.Num != num {
			refs = append(refs, ref)
		}
	}
	rules := append([]snapshot.Rule(nil), r.snap.Listeners[0].Rules...)
	rules[0].Targets = refs
	listener := r.snap.Listeners[0]
	listener.Rules = rules
	r.snap.Listeners = []snapshot.Listener{listener}
	var targets []snapshot.Target
	for _, t := range r.snap.Targets {
		if t.Num != num {
			targets = append(targets, t)
		}
	}
	r.snap.Targets = targets
	r.apply()
}

// A slow answer comes whole from a target that was taken away meanwhile, new
// requests go to the others, and nobody waits for more than the limit.
func TestTargetTakenAway(t *testing.T) {
	for _, row := range []struct {
		name  string
		limit time.Duration
		want  string
	}{
		{"in time", time.Hour, "beginning end"},
		{"too late", time.Millisecond, "beginning "},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, Limits{Leave: row.limit})
			begun, release, over := make(chan bool, 1), make(chan bool), make(chan bool, 1)
			slow := r.target(func(w http.ResponseWriter, req *http.Request) {
				io.WriteString(w, "beginning ")
				http.NewResponseController(w).Flush()
				begun <- true
				select {
				case <-release:
				case <-req.Context().Done(): // its connection was closed
					over <- true
				}
				io.WriteString(w, "end")
			})
			r.rule("a", "/", slow)
			r.apply()
			c := r.client("127.0.0.2")
			said := make(chan string)
			go func() {
				res, err := c.Get("http://" + r.at.String() + "/")
				if err != nil {
					said <- err.Error()
					return
				}
				defer res.Body.Close()
				body, _ := io.ReadAll(res.Body)
				said <- string(body)
			}()
			<-begun
			other := r.target(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") })
			rule := &r.snap.Listeners[0].Rules[0]
			rule.Targets = append(rule.Targets, snapshot.TargetRef{Num: other, Weight: 10})
			r.without(slow)
			for range 4 {
				if _, body := r.get(r.client("127.0.0.2"), "/"); body != "other" {
					t.Errorf("a new request got %q", body)
				}
			}
			if row.limit == time.Hour {
				close(release)
			} else {
				<-over
			}
			if got := <-said; got != row.want {
				t.Errorf("the slow answer is %q, want %q", got, row.want)
			}
		})
	}
}

// A target that comes back before its time is as any other, and a request that
// came before it was taken away chooses it only if there is no other.
func TestTargetComesBack(t *testing.T) {
	u := &upstreams{open: map[uint32]map[*upstream]bool{}, ends: map[uint32]*time.Timer{}}
	with, none := &view{targets: map[uint32]snapshot.Target{7: {}}}, &view{}
	u.turn(with, none, time.Hour)
	timer := u.ends[7]
	u.turn(none, with, time.Hour)
	if len(u.ends) != 0 || timer == nil || timer.Stop() {
		t.Errorf("its end is still to come: %v", u.ends)
	}
	u.turn(with, none, time.Hour)
	u.end(7, &timer)
	if u.ends[7] == nil {
		t.Error("a time that was taken back ended another one's")
	}
	u.stop()

	wheel := &wheel{seats: []seat{{num: 7, weight: 1}, {num: 8, weight: 1}}}
	j := job{view: &view{targets: map[uint32]snapshot.Target{7: {}, 8: {}}}, choose: &chooser{wheel: wheel}}
	for _, row := range []struct{ there, want map[uint32]bool }{
		{map[uint32]bool{7: true, 8: true}, map[uint32]bool{7: true, 8: true}},
		{map[uint32]bool{8: true}, map[uint32]bool{8: true}},
		{nil, map[uint32]bool{7: true, 8: true}},
	} {
		got := tries{func(uint32) bool { return true }, func(num uint32) bool { return row.there[num] }, nil}.eligible(j)
		if len(got) != len(row.want) || got[7] != row.want[7] || got[8] != row.want[8] {
			t.Errorf("%v there: %v may be chosen, want %v", row.there, got, row.want)
		}
	}
}
