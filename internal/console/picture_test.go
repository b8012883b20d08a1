// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
)

// Every thing in the picture, ways too, is a link that the keyboard reaches,
// with a name; ways are coloured by health and say their rates.
func TestPictureIsLinks(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	*d.clock = d.clock.Add(-7 * time.Second) // the newest verdicts are in the last whole step
	d.settle()
	*d.clock = d.clock.Add(7 * time.Second)
	page := d.open("clb/"+w.balancer+"/picture", 200)
	_, svg, _ := strings.Cut(page, `<div class="scroll picture"`)
	svg, _, _ = strings.Cut(svg, "</svg></div>")
	links := regexp.MustCompile(`<a href="([^"]*)"([^>]*)>`).FindAllStringSubmatch(svg, -1)
	named := 0
	for _, l := range links {
		if strings.Contains(l[2], "tabindex") || l[1] == "" {
			t.Errorf("%q cannot be focused", l[0])
		}
		if strings.Contains(l[2], `aria-label="`) {
			named++
		}
	}
	if ways := strings.Count(svg, `class="edge `); ways < 7 || named < 14 {
		t.Errorf("%d ways, %d named links of %d", ways, named, len(links))
	}
	for _, text := range []string{`class="edge health-Dead`, `class="edge health-Alive`, "From gate 2 to web-1: ", "From HTTP:80 to gate 2 of web-2: ", "Abnormal", "From 203.0.113.0/24 to gate 1: 0.1/s allowed, 0/s refused"} {
		if !strings.Contains(svg, text) {
			t.Errorf("the picture has no %q", text)
		}
	}
}

// A path is not lit to a target that gets no new flows, and the page says who
// may serve.
func TestPictureLightsWhoServes(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	ask := func(source string) {
		t.Helper()
		d.open("clb/"+w.balancer+"/picture?source="+source+"&port=80&protocol=TCP", 200)
	}
	ask("203.0.113.10")
	d.says("<strong>May serve it:</strong> web-1 (10.200.0.2:8080).")
	d.says("<strong>Not chosen:</strong> web-2 (10.200.0.3:8080): abnormal, no new flows.")
	d.says(`class="alert ok"`)
	if n := strings.Count(d.page, `class="edge lit lit-ok"`); n != 4 {
		t.Errorf("%d ways are lit, want those from the client to web-1", n)
	}
	d.says(`class="edge skipped"`)
	d.says("gets no new flow")
	ask("198.51.100.20")
	d.says("<strong>May be chosen, and gate 2 refuses:</strong> web-1")
	d.says(`class="alert bad"`)
	d.says("and 1 other target for the same reason")
	// The one that is well is behind a gate that refuses: nobody serves.
	var out struct{ SecurityGroup group }
	d.do(vpcVersion, "CreateSecurityGroupWithPolicies", m{"GroupName": "shut", "GroupDescription": ""}, &out)
	d.do(vpcVersion, "ModifyInstancesAttribute", m{"InstanceIds": []string{w.ins1}, "SecurityGroups": []string{out.SecurityGroup.SecurityGroupId}}, nil)
	ask("203.0.113.10")
	d.says("Nobody serves it now")
	d.says(`class="alert warn"`)
	// All are abnormal: all are tried.
	for num := range d.facts.health {
		d.facts.health[num] = []flow.Health{{Target: num, State: flow.HealthDead, Kind: "refused"}}
	}
	ask("203.0.113.10")
	d.says("<strong>May serve it:</strong> web-2")
	d.saysNot("Not chosen")
	d.do(clbVersion, "ModifyTargetWeight", m{"LoadBalancerId": w.balancer, "ListenerId": w.listener, "LocationId": w.location, "Targets": []m{{"InstanceId": w.ins2, "Port": 8080, "Weight": 0}}}, nil)
	ask("203.0.113.10")
	d.says("web-2 (10.200.0.3:8080): weight 0, no new flows")
}

// fillBalancer gives one load balancer this many listeners with this many
// targets each, all different, one in ten abnormal.
func (d *desk) fillBalancer(listeners, targets int) (balancer string) {
	d.Helper()
	id := lb.BalancerID("lb-crowded")
	health := map[uint32][]flow.Health{}
	_, err := d.api.Store.Update(d.Context(), func(tx *store.Tx) error {
		tx.PutGroup(&lb.SecurityGroup{ID: "sg-crowded", Name: "crowded", ProjectID: "0",
			Ingress: []lb.PolicyRule{{ID: "pol-all", Action: lb.Accept, Proto: lb.AnyProto, Peer: netip.MustParsePrefix("0.0.0.0/0")}}})
		tx.PutBalancer(&lb.LoadBalancer{ID: id, Num: tx.NextNum(), Name: "crowded", Type: lb.Open, VPC: "vpc-1", VIPs: []netip.Addr{netip.MustParseAddr("192.0.2.9")}})
		for i := range targets {
			tx.PutInstance(&lb.Instance{ID: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), Name: fmt.Sprintf("a-name-that-is-rather-long-%d", i), Private: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}),
				Groups: []lb.GroupID{"sg-crowded"}, VPC: "vpc-1", State: lb.Running})
		}
		for n := range listeners {
			l := &lb.Listener{ID: lb.ListenerID(fmt.Sprintf("lbl-%08d", n)), Num: tx.NextNum(), Balancer: id, Name: "a listener", Protocol: lb.ListenTCP, Port: uint16(80 + n), Check: lb.DefaultCheck(lb.ListenTCP)}
			for i := range targets {
				num := tx.NextNum()
				l.Targets = append(l.Targets, lb.Target{Num: num, Instance: lb.InstanceID(fmt.Sprintf("ins-%08d", i)), Port: uint16(8000 + n), Weight: 10})
				health[num] = []flow.Health{{Target: num, State: flow.HealthAlive}}
				if (i+n)%10 == 0 {
					health[num] = []flow.Health{{Target: num, State: flow.HealthDead, Kind: "timeout", Text: "no answer within 2 s"}}
				}
			}
			tx.PutListener(l)
		}
		return nil
	})
	if err != nil {
		d.Fatal(err)
	}
	d.facts.health = health
	var events []flow.Event
	for n := range listeners {
		for i := range targets {
			for _, gate := range []policy.Gate{policy.GateCLB, policy.GateCVM} {
				e := flow.Event{Time: d.clock.Add(-7 * time.Second), Verdict: policy.Verdict{Gate: gate, Action: lb.Accept, Reason: policy.NoGroups}, Direction: policy.In, Proto: lb.TCP,
					Src: netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, byte(i), 7}), 40000), Dst: netip.MustParseAddrPort("192.0.2.9:80"), Balancer: id, Listener: lb.ListenerID(fmt.Sprintf("lbl-%08d", n))}
				if gate == policy.GateCVM {
					e.Instance = lb.InstanceID(fmt.Sprintf("ins-%08d", i))
				}
				events = append(events, e)
			}
		}
	}
	d.facts.tell(events...)
	d.settle()
	return string(id)
}

// A load balancer with 11 listeners of 100 targets each fits into one picture:
// those in trouble by name, the others together.
func TestPictureOfACrowd(t *testing.T) {
	d := newDesk(t)
	d.login()
	id := d.fillBalancer(11, 100)
	for query, ill := range map[string]string{"": "ins-00000000", "?source=203.0.113.10&port=83&protocol=TCP": "ins-00000007"} {
		page := d.open("clb/"+id+"/picture"+query, 200)
		t.Logf("%q has %d bytes", query, len(page))
		if len(page) > 300_000 {
			t.Errorf("%q has %d bytes", query, len(page))
		}
		d.says("more targets")
		d.says("Instance " + ill + ", Abnormal")
	}
	d.open("clb/"+id+"/picture?source=203.0.113.10&port=83&protocol=TCP", 200)
	d.says("May serve it:")
	d.says("and 85 more")
	d.says("more targets, Healthy")
	d.says("TCP:83")
	many := d.fillBalancer(40, 3)
	if page := d.open("clb/"+many+"/picture?source=203.0.113.10&port=119&protocol=TCP", 200); !strings.Contains(page, "TCP:119") || !strings.Contains(page, "29 more listeners") || len(page) > 300_000 {
		t.Errorf("40 listeners make %d bytes", len(page))
	}
}

// When every target is abnormal they are all tried, and the picture says what
// that is worth.
func TestPictureSaysThatAllAreAbnormal(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	path := "clb/" + w.balancer + "/picture?source=203.0.113.10&port=80&protocol=TCP"
	d.open(path, 200)
	d.says("lit lit-ok")
	d.saysNot("lit-warn")
	d.facts.mu.Lock()
	for num, all := range d.facts.health {
		d.facts.health[num] = []flow.Health{{Node: "gateway-1", Target: num, State: flow.HealthDead, Kind: "timeout", Text: all[0].Text}}
	}
	d.facts.mu.Unlock()
	d.open(path, 200)
	d.says("May serve it:")
	d.says("All of them are abnormal")
	d.says(`alert warn`)
	d.says("lit lit-warn")
}
