// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// What is only staged judges nothing but what is stamped with it.
func TestStagedJudgesNothing(t *testing.T) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	s.force(shut, none, nil)
	inForce := s.through(5000, first)
	s.want("a refused packet", false, "host_in", inForce)
	for rev := s.rev + 1; rev < s.rev+3; rev++ { // no gateway ever got either
		_, h := pair(t, rev, nil, open)
		h.Policies[none.Hash] = none
		h.Instances[0].Egress = none.Hash
		if err := s.Stage(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		t.Logf("staged %d; in force %d, oldest %d, staged %d", rev, s.revisions.Revision, s.revisions.Oldest, s.revisions.Staged)
		s.want("a packet stamped with what is in force", false, "host_in", inForce)
	}
	t.Logf("told: %+v", s.lastTold())
}

// A revision that the gateways stamp and that a host holds stays at hand while the
// host is given it once more, or the next one.
func TestStagedStaysAtHand(t *testing.T) {
	for _, next := range []lb.Revision{0, 1} {
		t.Run(map[lb.Revision]string{0: "the same again", 1: "the next"}[next], func(t *testing.T) { staysAtHand(t, next) })
	}
}

func staysAtHand(t *testing.T, next lb.Revision) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	s.force(open, none, nil)
	stage := func(rev lb.Revision) {
		_, h := pair(t, rev, nil, shut)
		h.Policies[none.Hash] = none
		h.Instances[0].Egress = none.Hash
		if err := s.Stage(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	stamped := s.rev + 1
	stage(stamped)
	frame := inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, first), gwAddr, hostAddr, uint32(stamped), 7)
	s.want("a packet that gateways stamped with what is staged", false, "host_in", frame)
	var over atomic.Bool
	var all sync.WaitGroup
	let, of := 0, 0
	p := s.loaded(t, "host_in")
	all.Go(func() {
		for !over.Load() {
			answer, err := p.Run(&ebpf.RunOptions{Data: frame, DataOut: make([]byte, 2048)})
			if err != nil {
				t.Error(err)
				return
			}
			of++
			if answer != actShot {
				let++
			}
		}
	})
	stage(stamped + next) // the stream broke before the commit came, say
	over.Store(true)
	all.Wait()
	t.Logf("staging %d again as %d: %d of %d packets were admitted by revision %d", stamped, stamped+next, let, of, s.rev)
	if let > 0 {
		t.Errorf("%d packets stamped with %d, which was staged and refuses them, were judged at %d", let, stamped, s.rev)
	}
}

// A flow that a revision let in which was staged here, stamped by gateways and never
// committed here is judged again by the rules of the next one.
func TestLetInByWhatWasOnlyStaged(t *testing.T) {
	s := newSiege(t)
	open, shut, none := compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-2"), compiled(t, "sg-e")
	stage := func(rev lb.Revision, in *policy.Compiled) {
		t.Helper()
		_, h := pair(t, rev, nil, in)
		h.Policies[none.Hash] = none
		h.Instances[0].Egress = none.Hash
		if err := s.Stage(t.Context(), h); err != nil {
			t.Fatal(err)
		}
	}
	s.force(shut, none, nil)
	through := func(rev uint32, flags byte) []byte {
		return inTunnel(frameBetween(lb.TCP, clientA, 5000, vip, 80, flags), gwAddr, hostAddr, rev, 7)
	}
	stage(2, open)
	s.want("stamped with what is staged and accepts", true, "host_in", through(2, first))
	stage(3, shut)
	if err := s.Commit(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	s.want("its answer, at 3", false, "host_out", outbound(8080, 5000, second))
	s.want("the rest of it, at 3", false, "host_in", through(3, later))
	s.rev = 3
	for range 3 {
		s.force(shut, none, nil)
		s.want("the rest of it, later on", false, "host_in", through(uint32(s.rev), later))
		s.want("its answer, later on", false, "host_out", outbound(8080, 5000, later))
	}
	s.want("another flow", false, "host_in", inTunnel(frameBetween(lb.TCP, clientA, 5001, vip, 80, first), gwAddr, hostAddr, uint32(s.rev), 7))
}
