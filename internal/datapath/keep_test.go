// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// An open connection keeps its verdict where it is to, at either gate, by
// setting or by choice of a change, through new processes too; a new connection
// meets the new rules at once; and what was kept is judged in the end.
func TestKeptFlows(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	open1, open2 := compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080))
	none1, none2 := compiled(t, "sg-1", accept(clientB+"/32", 80)), compiled(t, "sg-2", accept(clientB+"/32", 8080))
	rev := lb.Revision(0)
	var always, choice, mute snapshot.Keeping
	always.Always = true
	set := func(g1, g2 *policy.Compiled, k1, k2 snapshot.Keeping) {
		t.Helper()
		rev++
		for _, k := range []*snapshot.Keeping{&k1, &k2} {
			if k.Since == now {
				k.Since = rev
			}
		}
		s1, s2 := pair(t, rev, g1, g2)
		s1.Listeners[0].Keep, s2.Instances[0].Keep = k1, k2
		put(t, gw, host, s1, s2)
	}
	choice.Since = now
	for name, keep := range map[string]snapshot.Keeping{"setting": always, "choice": choice} {
		set(open1, open2, mute, mute)
		c, err := w.dial("dp-a", vip+":80", 2*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReaderSize(c, 64).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		k := talk{c: c}
		set(none1, open2, keep, keep)
		if !k.alive(3 * time.Second) {
			t.Fatalf("%s: the open connection broke at gate 1", name)
		}
		if _, err := w.dial("dp-a", vip+":80", 300*time.Millisecond); err == nil {
			t.Errorf("%s: a new connection was let in by the old rules", name)
		}
		set(open1, none2, keep, keep)
		if !k.alive(3 * time.Second) {
			t.Fatalf("%s: the open connection broke at gate 2", name)
		}
		set(open1, none2, keep, keep) // nothing about the rules has changed
		gw.Close()
		host.Close()
		gw, host = w.pairOpen()
		s1, s2 := pair(t, rev, open1, none2)
		if keep.Since == now {
			keep.Since = rev
		}
		s1.Listeners[0].Keep, s2.Instances[0].Keep = keep, keep
		put(t, gw, host, s1, s2)
		if !k.alive(3 * time.Second) {
			t.Fatalf("%s: the open connection broke with new processes", name)
		}
		set(open1, compiled(t, "sg-2", accept("198.51.100.99/32", 8080)), mute, mute)
		if k.alive(300 * time.Millisecond) {
			t.Fatalf("%s: the open connection outlives a change that keeps nothing", name)
		}
		c.Close()
	}
}

// now stands for the revision of the change itself.
const now lb.Revision = 1 << 31
