// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// fill puts load balancers into the state, each with that many listeners of
// that many targets, and gives the first one's id.
func (b *bench) fill(balancers, listeners, targets int) lb.BalancerID {
	b.Helper()
	b.seed(func(tx *store.Tx) {
		tx.PutInstance(&lb.Instance{ID: "ins-00000000", Private: netip.MustParseAddr("10.0.0.1")})
		for i := range balancers {
			id := lb.BalancerID(fmt.Sprintf("lb-%08d", i))
			tx.PutBalancer(&lb.LoadBalancer{ID: id, Num: tx.NextNum(), Name: string(id), Type: lb.Open,
				VIPs: []netip.Addr{netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})}})
			for k := range listeners {
				l := &lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%04d%04d", i, k)), Num: tx.NextNum(), Balancer: id, Protocol: lb.ListenTCP, Port: uint16(1000 + k)}
				for n := range targets {
					l.Targets = append(l.Targets, lb.Target{Num: tx.NextNum(), Instance: "ins-00000000", Port: uint16(1 + k*targets + n), Weight: 10})
				}
				tx.PutListener(l)
			}
		}
	})
	return "lb-00000000"
}

// refusedAndUnchanged wants a call refused in words, and nothing of it stored.
func (b *bench) refusedAndUnchanged(action, params string, words ...string) {
	b.Helper()
	before := b.Store.State()
	for _, w := range words {
		b.refused(action, params, "LimitExceeded", w)
	}
	if after := b.Store.State(); !reflect.DeepEqual(before, after) {
		b.Errorf("%s was refused and changed the state", action)
	}
}

// What a gateway has to hold is bounded at the door, whatever it is made of:
// no change is stored that a node could not put in force.
func TestTooMuchForANodeIsRefused(t *testing.T) {
	listener := func(id lb.BalancerID, port int) string {
		return fmt.Sprintf(`{"LoadBalancerId":%q,"Protocol":"TCP","Ports":[%d]}`, id, port)
	}
	t.Run("listeners", func(t *testing.T) {
		b := newBench(t)
		first := b.fill(64, lb.MaxListenerRows/64, 0)
		b.refusedAndUnchanged("CreateListener", listener(first, 80), "2049 listeners", "room for 2048", "delete listeners")
		b.must("DeleteListener", `{"LoadBalancerId":"lb-00000000","ListenerId":"lbl-00000000"}`, nil)
		b.must("CreateListener", listener(first, 80), nil)
	})
	t.Run("targets", func(t *testing.T) {
		b := newBench(t)
		first := b.fill(2, lb.MaxTargetRows/200, 100)
		b.seed(func(tx *store.Tx) {
			l := *tx.State().Listeners.Get("lbl-00000000")
			l.Targets = l.Targets[:99]
			tx.PutListener(&l)
		})
		target := func(port int) string {
			return fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":"lbl-00000000","Targets":[{"InstanceId":"ins-00000000","Port":%d}]}`, first, port)
		}
		b.seed(func(tx *store.Tx) { // up to the limit
			l := *tx.State().Listeners.Get("lbl-00010000")
			for n := 0; holdingsOf(b.Compile, tx.State()).targets < lb.MaxTargetRows; n++ {
				l.Targets = append(l.Targets, lb.Target{Num: tx.NextNum(), Instance: "ins-00000000", Port: uint16(50000 + n), Weight: 10})
				tx.PutListener(&l)
			}
		})
		b.refusedAndUnchanged("RegisterTargets", target(40000), fmt.Sprintf("%d targets", lb.MaxTargetRows+1), "take targets away")
	})
	t.Run("memory of tables", func(t *testing.T) {
		b := newBench(t)
		first := b.fill(8, 20, 41) // 160 tables of 8,009 places
		if n := holdingsOf(b.Compile, b.Store.State()).rings; n < lb.MaxGatewayWords*2/3 || n > lb.MaxGatewayWords {
			t.Fatalf("%d words are no good start for the limit %d", n, lb.MaxGatewayWords)
		}
		var err error
		for k := 0; err == nil && k < 25; k++ { // each listener more has a table of its own, of 8,009 places
			b.must("CreateListener", listener(first, 5000+k), nil)
			var made lb.ListenerID
			for id, l := range b.Store.State().Listeners.All() {
				if int(l.Port) == 5000+k {
					made = id
				}
			}
			var list []string
			for n := range 41 {
				list = append(list, fmt.Sprintf(`{"InstanceId":"ins-00000000","Port":%d}`, 10000+100*k+n))
			}
			before := b.Store.State()
			err = b.try("RegisterTargets", fmt.Sprintf(`{"LoadBalancerId":%q,"ListenerId":%q,"Targets":[%s]}`, first, made, strings.Join(list, ",")), nil)
			if err != nil && !reflect.DeepEqual(before, b.Store.State()) {
				t.Error("it was refused and changed the state")
			}
		}
		if err == nil || asError(err).Code != "LimitExceeded" || !strings.Contains(err.Error(), "words of memory on a gateway") {
			t.Errorf("no end: %v", err)
		}
		if n := holdingsOf(b.Compile, b.Store.State()).rings; n > lb.MaxGatewayWords {
			t.Errorf("%d words were taken, room is for %d", n, lb.MaxGatewayWords)
		}
	})
}

// Policies that are fine one by one are too much for a gateway together: the
// binding that goes over the limit is refused, and one that shares the policy
// of another load balancer is not.
func TestTooMuchPolicyForAGatewayIsRefused(t *testing.T) {
	compiled := 0
	memory := map[string]*policy.Compiled{}
	b := newBench(t, func(o *Options) {
		o.Compile = func(g []policy.Group) (*policy.Compiled, error) {
			key := fmt.Sprint(g)
			if memory[key] == nil {
				compiled++
				c, err := policy.Compile(g)
				if err != nil {
					return nil, err
				}
				memory[key] = c
			}
			return memory[key], nil
		}
	})
	b.fill(12, 0, 0)
	// 100 sources, each with its own line of a thousand ports: about 100,000 segments.
	group := func(n int) lb.GroupID {
		id := lb.GroupID(fmt.Sprintf("sg-%08d", n))
		b.seed(func(tx *store.Tx) {
			g := &lb.SecurityGroup{ID: id, Name: string(id)}
			for i := range 100 {
				var ports []lb.PortRange
				for k := range 500 {
					port := uint16(1 + 2*k + 1000*(i%3) + n)
					ports = append(ports, lb.PortRange{First: port, Last: port})
				}
				g.Ingress = append(g.Ingress, lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%d-%d", n, i)), Action: lb.Accept, Proto: lb.TCP, Ports: ports,
					Peer: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n), byte(i), 0}), 24)})
			}
			tx.PutGroup(g)
		})
		return id
	}
	bind := func(n int, id lb.GroupID) string {
		return fmt.Sprintf(`{"LoadBalancerId":"lb-%08d","SecurityGroups":[%q]}`, n, id)
	}
	held := 0
	for n := range 12 {
		id := group(n)
		if err := b.try("SetLoadBalancerSecurityGroups", bind(n, id), nil); err != nil {
			b.refusedAndUnchanged("SetLoadBalancerSecurityGroups", bind(n, id), "words of memory on a gateway", "let load balancers share")
			b.must("SetLoadBalancerSecurityGroups", bind(n, "sg-00000000"), nil) // the same policy as another's
			break
		}
		held++
	}
	sum := 0
	for _, c := range memory {
		sum += c.Words()
	}
	if held == 0 || held == 12 {
		t.Errorf("%d of 12 policies were taken; each takes about %d words", held, sum/len(memory))
	}
	t.Logf("%d policies of about %d words were taken, room is for %d", held, sum/len(memory), lb.MaxGatewayWords)
	compiled = 0
	b.must("CreateListener", `{"LoadBalancerId":"lb-00000000","Protocol":"TCP","Ports":[80]}`, nil)
	if compiled != 0 {
		t.Errorf("a listener more cost %d compilations", compiled)
	}
}

// Counting what has changed comes to the same as counting everything, whatever
// changes: also across transactions that were given up.
func TestHoldingsFollowChanges(t *testing.T) {
	b := newBench(t)
	d := rand.New(rand.NewPCG(5, 8))
	var group, balancer, listener, instance, template = func() lb.GroupID { return lb.GroupID(fmt.Sprintf("sg-%08d", d.IntN(5))) },
		func() lb.BalancerID { return lb.BalancerID(fmt.Sprintf("lb-%08d", d.IntN(5))) },
		func() lb.ListenerID { return lb.ListenerID(fmt.Sprintf("lbl-%08d", d.IntN(8))) },
		func() lb.InstanceID { return lb.InstanceID(fmt.Sprintf("ins-%08d", d.IntN(6))) },
		func() lb.TemplateID { return lb.TemplateID(fmt.Sprintf("ipm-%08d", d.IntN(3))) }
	addr := func() netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(d.IntN(2)), byte(d.IntN(20))}) }
	rules := func() (all []lb.PolicyRule) {
		for i := range d.IntN(4) {
			r := lb.PolicyRule{ID: lb.RuleID(fmt.Sprintf("pol-%08d", i)), Action: lb.Accept, Proto: lb.TCP}
			switch d.IntN(3) {
			case 0:
				r.Peer = netip.PrefixFrom(addr(), 32)
			case 1:
				r.PeerGroup = group()
			case 2:
				r.PeerTemplate = template()
			}
			all = append(all, r)
		}
		return all
	}
	change := func(tx *store.Tx) {
		switch d.IntN(11) {
		case 0:
			tx.PutGroup(&lb.SecurityGroup{ID: group(), Ingress: rules()})
		case 1, 2:
			one := &lb.LoadBalancer{ID: balancer(), Type: []lb.BalancerType{lb.Open, lb.Internal}[d.IntN(2)], VPC: "vpc-00000001", VIPs: []netip.Addr{addr()}}
			if d.IntN(2) == 0 {
				one.EIP = addr()
			}
			for range d.IntN(3) {
				if g := group(); !slices.Contains(one.Groups, g) {
					one.Groups = append(one.Groups, g)
				}
			}
			tx.PutBalancer(one)
		case 3, 4:
			l := &lb.Listener{ID: listener(), Balancer: balancer(), Protocol: []lb.ListenerProtocol{lb.ListenTCP, lb.ListenHTTP}[d.IntN(2)]}
			l.Targets = make([]lb.Target, d.IntN(30))
			l.EndPort = uint16(d.IntN(2) * 9000)
			l.Rules = []lb.Rule{{Targets: make([]lb.Target, d.IntN(3))}}
			tx.PutListener(l)
		case 5, 6:
			tx.PutInstance(&lb.Instance{ID: instance(), Private: addr(), Groups: []lb.GroupID{group()}, Joined: d.IntN(2) == 0, VPC: "vpc-00000001"})
		case 7:
			tx.PutTemplate(&lb.Template{ID: template(), Members: []lb.TemplateMember{{Peers: lb.AddressRange{First: addr(), Last: netip.MustParseAddr("10.0.2.0")}}}})
		case 8:
			tx.PutVPC(&lb.VPC{ID: "vpc-00000001", Cidr: netip.PrefixFrom(addr(), 24+d.IntN(8)).Masked()})
		case 9:
			tx.DeleteListener(listener())
			tx.DeleteInstance(instance())
		case 10:
			tx.DeleteBalancer(balancer())
			tx.DeleteGroup(group())
			tx.DeleteTemplate(template())
		}
	}
	told := func(h *holdings) string {
		return fmt.Sprint(h.listeners, h.targets, h.addresses, h.rings, h.policies, h.counters, h.rooms.Len(), h.shared.Len(), h.bound.Len())
	}
	most := ""
	for i := range 800 {
		_, err := b.Store.Update(t.Context(), func(tx *store.Tx) error {
			for range 1 + d.IntN(3) {
				change(tx)
			}
			now, _ := b.rooms.follow(b.Compile, tx)
			got, want := told(now), told(holdingsOf(b.Compile, tx.State()))
			if most = max(most, got); got != want {
				t.Fatalf("after %d changes %s, counted anew %s", i, got, want)
			}
			if d.IntN(4) == 0 {
				return errors.New("given up")
			}
			return nil
		})
		if err != nil && err.Error() != "given up" {
			t.Fatal(err)
		}
	}
	t.Log("greatest: ", most)
}
