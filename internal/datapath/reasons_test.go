// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
)

// dropsElsewhere are reasons that other tests make, with the file that does and
// the word that it names them by.
func dropsElsewhere() map[policy.Reason][2]string {
	return map[policy.Reason][2]string{
		policy.Unrelated:       {"icmp_test.go", "policy.Unrelated"},
		policy.TooBig:          {"icmp_test.go", "policy.TooBig"},
		policy.GuestAway:       {"guests_test.go", "policy.GuestAway"},
		policy.NoHealthyTarget: {"choice_test.go", "policy.NoHealthyTarget"},
		policy.Unsupported:     {"icmp_test.go", "policy.Unsupported"},
		policy.ProxyAway:       {"layer7_test.go", "policy.ProxyAway"},
		policy.Hairpin:         {"../scenario/testdata/private-reach.txtar", "hairpin_self"},
	}
}

// counted reports whether a program drops a frame and counts it on a reason.
func (s *siege) counted(want policy.Reason, program string, frame []byte) bool {
	s.t.Helper()
	was := reason(s.t, s.Datapath, want)
	passed := s.passes(program, frame)
	return !passed && reason(s.t, s.Datapath, want) == was+1
}

// tunnelFails reports whether a packet is dropped and counted where a driver has
// left too little room in front of it for the tunnel's headers.
func (s *siege) tunnelFails(frame []byte) bool {
	s.t.Helper()
	const taken = 200 // of 256 bytes, by what the driver says about the packet
	was := reason(s.t, s.Datapath, policy.TunnelFailed)
	data := append(make([]byte, taken), frame...)
	answer, err := s.loaded(s.t, "gateway_xdp").Run(&ebpf.RunOptions{Data: data, DataOut: make([]byte, 2048), Context: [6]uint32{taken, uint32(len(data))}})
	if err != nil {
		s.t.Fatal(err)
	}
	return answer == xdpDrop && reason(s.t, s.Datapath, policy.TunnelFailed) == was+1
}

// Every reason for which programs drop is counted on a packet that is dropped
// for it, here or in the test named.
func TestEveryReasonToDropIsShown(t *testing.T) {
	shown := map[policy.Reason]bool{}
	w := newQuiet(t)
	gw := &siege{w.benchOf(lb.RoleGateway, nil), t, make([]byte, 2048)}
	front, _ := pair(t, 1, nil, compiled(t, "sg-2"))
	empty := front.Listeners[0]
	empty.Num, empty.ID, empty.Port, empty.Targets = 6, "lbl-2", 82, nil
	front.Listeners = append(front.Listeners, empty)
	gw.stage(t, front)
	toVIP := func(port uint16) []byte { return frameBetween(lb.TCP, clientA, 4000, vip, port, first) }
	for want, frame := range map[policy.Reason][]byte{
		policy.NoListener: toVIP(81),
		policy.NoTarget:   toVIP(82),
		policy.Fragment:   goodFrames()["fragment"],
		policy.Malformed:  toVIP(80)[:40],
		policy.Spoofed:    frameBetween(lb.TCP, "100.64.0.1", 4000, vip, 80, first),
	} {
		if shown[want] = gw.counted(want, "gateway", frame); !shown[want] {
			t.Errorf("at the gateway nothing was dropped as %v", want)
		}
	}
	if shown[policy.TunnelFailed] = gw.tunnelFails(toVIP(80)); !shown[policy.TunnelFailed] {
		t.Error("at the gateway nothing was dropped as tunnel_failed")
	}
	gw.Close()
	s := &siege{w.benchOf(lb.RoleHost, nil), t, gw.out}
	s.force(compiled(t, "sg-2", accept("0.0.0.0/0", 8080)), compiled(t, "sg-e"), func(h *snapshot.Snapshot) { h.Targets[0].ViaGateway = true })
	tunnel := func(target uint32) []byte {
		return inTunnel(inbound(5000, 8080, first), gwAddr, hostAddr, uint32(s.rev), target)
	}
	s.want("a direct connection", true, "host_in", inbound(5000, 8080, first))
	s.want("its answer", true, "host_out", outbound(8080, 5000, second))
	s.want("its third", true, "host_in", inbound(5000, 8080, later))
	s.fill(tunnel(7))
	forged := tunnel(7)
	forged[14+20+8+8+20] ^= 1 // in the key
	for want, frame := range map[policy.Reason][]byte{
		policy.NoMatch:        inbound(5000, 22, first),
		policy.UnknownTarget:  tunnel(99),
		policy.UnknownGateway: forged,
		policy.TupleCollision: tunnel(7),
	} {
		if shown[want] = s.counted(want, "host_in", frame); !shown[want] {
			t.Errorf("at the host nothing was dropped as %v", want)
		}
	}
	shown[policy.FlowRefused] = s.counted(policy.FlowRefused, "host_out", outbound(8080, 5009, later))
	atomic.StoreUint32(&s.shares[shareDirect].Limit, 1)
	shown[policy.TableFull] = s.counted(policy.TableFull, "host_in", frameBetween(lb.TCP, clientB, 5000, service, 8080, first))
	for r, where := range dropsElsewhere() {
		text, err := os.ReadFile(where[0])
		shown[r] = err == nil && strings.Contains(string(text), where[1])
	}
	for _, r := range policy.Reasons() {
		if r >= policy.NoListener && r != policy.Observed && r != policy.PassedOn || r == policy.NoMatch {
			if !shown[r] {
				t.Errorf("no test drops a packet as %v", r)
			}
		}
	}
}
