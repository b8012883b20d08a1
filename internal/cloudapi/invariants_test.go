// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
)

// inconsistencies lists what may never be in a state, however it came about:
// references to what is not there, numbers or addresses given twice, ids that
// are not their key, lists that hold something twice.
func inconsistencies(s *lb.State) []string {
	c := &checker{s: s, nums: map[uint32]string{}, addresses: map[netip.Addr]string{}}
	for id, g := range s.Groups.All() {
		c.say(id == g.ID, "group %s is kept as %s", g.ID, id)
		c.group(g)
	}
	for id, n := range s.Subnets.All() {
		c.say(id == n.ID && s.VPCs.Get(n.VPC) != nil, "subnet %s (%s) of VPC %s", id, n.ID, n.VPC)
		if v := s.VPCs.Get(n.VPC); v != nil {
			c.say(v.Cidr.Contains(n.Cidr.Addr()) || len(v.Ranges()) > 1, "subnet %s %v outside its VPC's %v", id, n.Cidr, v.Cidr)
		}
	}
	for id, i := range s.Instances.All() {
		c.say(id == i.ID, "instance %s is kept as %s", i.ID, id)
		c.instance(i)
	}
	for id, b := range s.Balancers.All() {
		c.say(id == b.ID, "load balancer %s is kept as %s", b.ID, id)
		c.balancer(b)
	}
	ports := map[portKey]lb.ListenerID{}
	for id, l := range s.Listeners.All() {
		c.say(id == l.ID, "listener %s is kept as %s", l.ID, id)
		for port := int(l.Ports().First); port <= int(l.Ports().Last); port++ {
			key := portKey{l.Balancer, l.Protocol.Transport(), port}
			c.say(ports[key] == "", "listeners %s and %s share port %d of %s", id, ports[key], port, l.Balancer)
			ports[key] = id
		}
		c.listener(l)
	}
	c.named(s)
	for id, n := range s.Nodes.All() {
		c.say(id == n.ID, "node %s is kept as %s", n.ID, id)
		c.number(n.Num, "node "+string(id))
	}
	for id, a := range s.Addresses.All() {
		c.say(id == a.ID && (a.Balancer == "" || s.Balancers.Get(a.Balancer) != nil), "EIP %s is bound to %s", id, a.Balancer)
		c.address(a.IP, "EIP "+string(id))
	}
	return c.faults
}

// portKey is a port of a load balancer.
type portKey struct {
	balancer  lb.BalancerID
	transport lb.Proto
	port      int
}

// named checks target groups, templates and certificates.
func (c *checker) named(s *lb.State) {
	for id, g := range s.TargetGroups.All() {
		c.say(id == g.ID && s.VPCs.Get(g.VPC) != nil, "target group %s (%s) of VPC %s", id, g.ID, g.VPC)
		seen := map[string]bool{}
		for _, m := range g.Members {
			key := fmt.Sprint(m.Instance, m.Port)
			i := s.Instances.Get(m.Instance)
			c.say(i != nil && i.VPC == g.VPC && !seen[key], "target group %s has %s, which is not in its VPC or there twice", id, key)
			seen[key] = true
		}
	}
	for id, t := range s.Templates.All() {
		c.say(id == t.ID && len(t.Members)+len(t.Templates) > 0, "template %s (%s) holds nothing", id, t.ID)
		for _, list := range t.Templates {
			c.say(s.Templates.Get(list) != nil, "template %s holds %s, which is not there", id, list)
		}
	}
	for id, own := range s.Certificates.All() {
		c.say(id == own.ID && len(own.Sealed) > 0, "certificate %s (%s) has no key", id, own.ID)
	}
	for id, b := range s.Balancers.All() {
		var listeners []*lb.Listener
		for _, l := range s.Listeners.All() {
			if l.Balancer == id {
				listeners = append(listeners, l)
			}
		}
		if err := lb.RewritesOf(listeners, ""); err != nil {
			c.say(false, "the redirects of %s: %v", b.ID, err)
		}
	}
}

// follows checks that a place has the members of its target group.
func (c *checker) follows(id lb.TargetGroupID, targets []lb.Target, who string) {
	if id == "" {
		return
	}
	g := c.s.TargetGroups.Get(id)
	c.say(g != nil, "%s follows %s, which is not there", who, id)
	if g == nil {
		return
	}
	same := len(targets) == len(g.Members)
	for i, m := range g.Members {
		same = same && targets[i].Instance == m.Instance && targets[i].Port == m.Port && targets[i].Weight == m.Weight
	}
	c.say(same, "%s has %+v of %s, which has %+v", who, targets, id, g.Members)
}

// shows checks a certificate.
func (c *checker) shows(id lb.CertificateID, needed bool, who string) {
	c.say((id != "") == needed, "%s shows %q", who, id)
	c.say(id == "" || c.s.Certificates.Get(id) != nil, "%s shows %s, which is not there", who, id)
}

type checker struct {
	s         *lb.State
	nums      map[uint32]string
	addresses map[netip.Addr]string
	faults    []string
}

func (c *checker) say(ok bool, format string, args ...any) {
	if !ok {
		c.faults = append(c.faults, fmt.Sprintf(format, args...))
	}
}

// number checks one of the numbers that the kernel knows objects by.
func (c *checker) number(n uint32, who string) {
	c.say(n > 0 && n < 1<<24, "%s has number %d", who, n)
	c.say(c.nums[n] == "", "%s and %s have number %d", who, c.nums[n], n)
	c.nums[n] = who
}

func (c *checker) address(a netip.Addr, who string) {
	if a.IsValid() {
		c.say(c.addresses[a] == "", "%s and %s have address %v", who, c.addresses[a], a)
		c.addresses[a] = who
	}
}

// bound checks a list of bound groups.
func (c *checker) bound(groups []lb.GroupID, who string) {
	seen := map[lb.GroupID]bool{}
	for _, id := range groups {
		c.say(c.s.Groups.Get(id) != nil, "%s binds %s, which is not there", who, id)
		c.say(!seen[id], "%s binds %s twice", who, id)
		seen[id] = true
	}
}

func (c *checker) group(g *lb.SecurityGroup) {
	ids := map[lb.RuleID]bool{}
	for _, d := range directions() {
		keys := map[string]bool{}
		for i, r := range *d.stored(g) {
			where := fmt.Sprintf("%s %s %d", g.ID, d.name, i)
			c.say(r.ID != "" && !ids[r.ID], "%s: rule id %q is empty or there twice", where, r.ID)
			c.say(!keys[ruleKey(r)], "%s: the rule stands twice", where)
			for _, id := range []lb.TemplateID{r.PeerTemplate, r.Service} {
				c.say(id == "" || c.s.Templates.Get(id) != nil, "%s names %s, which is not there", where, id)
			}
			c.say(r.PeerGroup == "" || c.s.Groups.Get(r.PeerGroup) != nil, "%s names %s, which is not there", where, r.PeerGroup)
			if err := r.Validate(""); err != nil {
				c.say(false, "%s: %v", where, err)
			}
			ids[r.ID], keys[ruleKey(r)] = true, true
		}
	}
}

func (c *checker) instance(i *lb.Instance) {
	who := "instance " + string(i.ID)
	c.bound(i.Groups, who)
	c.say(len(i.Groups) > 0 || i.Joined, "%s has no group", who)
	c.say(i.VPC == "" || c.s.VPCs.Get(i.VPC) != nil, "%s is in VPC %s, which is not there", who, i.VPC)
	if i.Subnet != "" {
		n := c.s.Subnets.Get(i.Subnet)
		c.say(n != nil && n.VPC == i.VPC && n.Cidr.Contains(i.Private), "%s at %v is not within its subnet %s", who, i.Private, i.Subnet)
	}
	c.address(i.Public, who)
	if i.VPC == "" {
		return
	}
	for id, other := range c.s.Instances.All() {
		c.say(id == i.ID || other.VPC != i.VPC || other.Private != i.Private, "%s and %s have %v in %s", who, id, i.Private, i.VPC)
	}
}

func (c *checker) balancer(b *lb.LoadBalancer) {
	who := "load balancer " + string(b.ID)
	c.number(b.Num, who)
	c.bound(b.Groups, who)
	c.say(len(b.VIPs) > 0, "%s has no VIP", who)
	c.say(b.VPC == "" || c.s.VPCs.Get(b.VPC) != nil, "%s is in VPC %s, which is not there", who, b.VPC)
	if !b.Private() {
		for _, vip := range b.VIPs {
			c.address(vip, who)
		}
	}
}

func (c *checker) listener(l *lb.Listener) {
	who := "listener " + string(l.ID)
	c.number(l.Num, who)
	c.say(c.s.Balancers.Get(l.Balancer) != nil, "%s belongs to %s, which is not there", who, l.Balancer)
	c.say(l.Port > 0, "%s has no port", who)
	c.targets(l.Targets, who)
	c.follows(l.Group, l.Targets, who)
	https := l.Protocol == lb.ListenHTTPS
	c.shows(l.Certificate, https && !l.SNI, who)
	places := map[string]bool{}
	for _, r := range l.Rules {
		place := r.Domain + r.URL
		c.say(r.ID != "" && !places[place], "%s has %s twice", who, place)
		places[place] = true
		c.targets(r.Targets, who+" rule "+string(r.ID))
		c.follows(r.Group, r.Targets, who+" rule "+string(r.ID))
		c.shows(r.Certificate, https && l.SNI, who+" rule "+string(r.ID))
	}
}

func (c *checker) targets(targets []lb.Target, who string) {
	seen := map[string]bool{}
	for _, t := range targets {
		key := fmt.Sprint(t.Instance, t.Port)
		c.number(t.Num, fmt.Sprintf("target %s of %s", key, who))
		c.say(!seen[key], "%s has target %s twice", who, key)
		c.say(c.s.Instances.Get(t.Instance) != nil, "%s has target %s, which is not there", who, t.Instance)
		c.say(t.Weight >= 0 && t.Weight <= 100 && t.Port > 0, "%s has target %+v", who, t)
		seen[key] = true
	}
}
