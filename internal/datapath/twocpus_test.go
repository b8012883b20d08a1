// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
)

// Both directions of one flow, each on a CPU of its own: nothing of it is lost.
func TestTwoCPUsLoseNothing(t *testing.T) {
	for _, proto := range []lb.Proto{lb.TCP, lb.UDP} {
		t.Run(proto.String(), func(t *testing.T) {
			s := newSiege(t)
			s.force(toAll(t, "sg-2"), compiled(t, "sg-e"), nil) // in may come what wants, out may go nothing but answers
			in := func(flags byte) []byte { return frameBetween(proto, clientA, 5000, service, 8080, flags) }
			out := func(flags byte) []byte { return frameBetween(proto, service, 8080, clientA, 5000, flags) }
			s.want("first", true, "host_in", in(first))
			s.want("second", true, "host_out", out(second))
			s.want("third", true, "host_in", in(later))
			until := time.Now().Add(5 * time.Second)
			var wg sync.WaitGroup
			var ran [2]int
			for cpu, program := range []string{"host_in", "host_out"} {
				frame := in(later)
				if cpu == 1 {
					frame = out(later)
				}
				p := s.loaded(t, program)
				wg.Go(func() {
					pinTo(t, cpu)
					const repeat = 1 << 16
					for time.Now().Before(until) {
						if _, err := p.Run(&ebpf.RunOptions{Data: frame, Repeat: repeat}); err != nil {
							t.Error(err)
							return
						}
						ran[cpu] += repeat
					}
				})
			}
			wg.Wait()
			slots := 0
			for i := range s.hostFlows {
				for _, f := range s.hostFlows[i].Slot {
					if f.Seq != 0 && f.State != 0 {
						slots++
						t.Logf("slot: opener %d, state %d, seen %d, seq %d", f.Opener, f.State, f.Seen, f.Seq)
					}
				}
			}
			all := reasonsOf(t, s.Datapath)
			t.Logf("%v packets, %d slots, %v", ran, slots, all)
			if slots != 1 || len(all) > 2 {
				t.Errorf("packets of an established flow were refused, or it stands in %d slots: %v", slots, all)
			}
		})
	}
}

// Two new flows that come at one instant on two CPUs both stand in the table.
func TestTwoNewFlowsAtOnce(t *testing.T) {
	s := newSiege(t)
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), nil)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := map[int]uint16{}
	var ports [2]uint16
	var bucket int
	for port := uint16(5000); ports[0] == 0; port++ {
		s.want("a first packet", true, "host_in", inbound(port, 8080, first))
		for i := range s.hostFlows {
			for _, f := range s.hostFlows[i].Slot {
				if f.RemotePort == port && f.State != 0 {
					if other, ok := at[i]; ok {
						ports, bucket = [2]uint16{other, port}, i
					}
					at[i] = port
				}
			}
		}
		clear(s.hostFlows)
	}
	clear(s.shares)
	const rounds = 100_000
	var ready, gone atomic.Int64
	var wg sync.WaitGroup
	lost, counted, refused := 0, int64(0), atomic.Int64{}
	for cpu := range 2 {
		p := s.loaded(t, "host_in")
		frame := inbound(ports[cpu], 8080, first)
		wg.Go(func() {
			pinTo(t, cpu)
			for n := int64(1); n <= rounds; n++ {
				if cpu == 0 { // whoever starts looks what became of the last, and clears it
					for gone.Load() != 2*(n-1) {
					}
					if n > 1 {
						there := 0
						for _, f := range s.hostFlows[bucket].Slot {
							if f.State != 0 {
								there++
							}
						}
						if now := refused.Load(); there < 2 && now == counted {
							lost++
						} else {
							counted = now
						}
					}
					clear(s.hostFlows[bucket].Slot[:])
					ready.Store(n)
				}
				for ready.Load() < n {
				}
				if answer, err := p.Run(&ebpf.RunOptions{Data: frame}); err != nil || answer != actNext {
					refused.Add(1)
				}
				gone.Add(1)
			}
		})
	}
	wg.Wait()
	t.Logf("%d times two flows at once in bucket %d, ports %v: %d times one of them was written over, %d packets refused", rounds, bucket, ports, lost, refused.Load())
	if lost > 0 {
		t.Errorf("%d new flows that were let in were written over by another one, with a free slot beside", lost)
	}
}
