// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync/atomic"
	"testing"
	"time"
)

// A host keeps the former revision for packets stamped with it until gateways
// have passed it: however long that takes, and whatever is said of others.
func TestFormerRevisionIsKeptUntilPassed(t *testing.T) {
	s := newSiege(t)
	open, shut := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2")
	nobody := compiled(t, "sg-e")
	s.force(open, nobody, nil)
	former := s.through(5000, first)
	s.force(shut, nobody, nil)
	s.want("a packet stamped with the former revision", true, "host_in", former)
	s.Passed(s.rev - 1)
	s.Passed(s.rev + 1)
	s.Passed(s.rev)
	if s.passed.IsZero() {
		t.Fatal("the host took no note")
	}
	until := time.Now().Add(10 * time.Second)
	for atomic.LoadUint32(&s.revisions.Oldest) != uint32(s.rev) {
		if time.Now().After(until) {
			t.Fatal("the former revision is kept for ever")
		}
		time.Sleep(time.Millisecond)
	}
	s.want("a packet that comes too late", false, "host_in", s.through(5001, first))
	s.want("one stamped with what nobody stamps any more", false, "host_in", former)

	// The next revision says that gateways have passed the one in force, and
	// what is under way still gets its time.
	s.force(open, nobody, nil)
	staged := time.Now()
	s.force(shut, nobody, nil)
	if took := time.Since(staged); took < underWay {
		t.Errorf("the former revision was given up after %v, packets may be under way for %v", took, underWay)
	}
	if oldest := s.revisions.Oldest; oldest != uint32(s.rev-1) {
		t.Errorf("judges from revision %d on at %d", oldest, s.rev)
	}
	s.Passed(s.rev)
	s.force(open, nobody, nil)
	s.settle() // of the revision before: too late now
	if oldest := s.revisions.Oldest; oldest != uint32(s.rev-1) {
		t.Errorf("judges from revision %d on at %d, which nobody has passed", oldest, s.rev)
	}
}
