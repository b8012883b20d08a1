// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A region is the README's section done: a server, a gateway, two hosts and two
// clients on one segment.
type region struct {
	*site
	steps                        []step
	server, gateway, web1, web2  *machine
	client, other                *machine
	serving, onGateway           *running
	agents                       map[*machine]*running
	gatewayToken                 string
	instances                    map[*machine]string
	balancer, vip, listener, sg0 string
}

// underUnit is how the systemd unit runs `sallyport-node run`: with these
// capabilities and no others, and no way to get more.
func underUnit(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../../dist/systemd/sallyport-node.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^CapabilityBoundingSet=(.*)$`).FindSubmatch(raw)
	if m == nil {
		t.Fatal("the unit bounds no capabilities")
	}
	var set []string
	for _, name := range strings.Fields(string(m[1])) {
		set = append(set, "+"+strings.ToLower(strings.TrimPrefix(name, "CAP_")))
	}
	return "setpriv --bounding-set=-all," + strings.Join(set, ",") + " --no-new-privs "
}

var tokenText = regexp.MustCompile(`^sp1\.[0-9a-f]{32}\.[0-9a-f]{64}\.198\.51\.100\.1:7781$`)

func newRegion(t *testing.T) *region {
	r := &region{site: newSite(t), steps: steps(t, "On your own machines"), agents: map[*machine]*running{}, instances: map[*machine]string{}}
	r.server, r.gateway = r.add("server", "198.51.100.1"), r.add("gateway", "198.51.100.2")
	r.web1, r.web2 = r.add("web1", "198.51.100.11"), r.add("web2", "198.51.100.12")
	r.client, r.other = r.add("client", "198.51.100.100"), r.add("other", "198.51.100.101")
	r.web2.sh("ip addr add 198.51.100.13/24 dev eth0")
	for _, m := range []*machine{r.web1, r.web2} {
		m.begin("env " + serveVariable + "=0.0.0.0:8080 /proc/" + fmt.Sprint(os.Getpid()) + "/exe")
	}
	r.serving = r.server.begin(only(t, r.steps, "server", "^sallyport server"))
	r.serving.waitFor("serving")
	return r
}

// token runs the README's line that prints one.
func (r *region) token(role string) string {
	r.t.Helper()
	token := strings.TrimSpace(r.server.sh(only(r.t, r.steps, "server", "node token --role "+role)))
	if !tokenText.MatchString(token) {
		r.t.Fatalf("not a token with the server's address: %q", token)
	}
	return token
}

// join runs the README's two lines on a machine; what it says is given.
func (r *region) join(m *machine, token string) string {
	r.t.Helper()
	said := m.sh(strings.Replace(only(r.t, r.steps, "gateway", "^sallyport-node join"), "TOKEN", token, 1))
	r.agents[m] = m.begin(underUnit(r.t) + only(r.t, r.steps, "gateway", "^sallyport-node run"))
	return said
}

// inForce waits until every node has the newest revision in force.
func (r *region) inForce(nodes int) {
	r.t.Helper()
	r.eventually(fmt.Sprint(nodes, " nodes have everything in force"), func() string {
		if out := r.server.sh("sallyport status"); !strings.Contains(out, fmt.Sprintf("is in force on %d of %d node", nodes, nodes)) {
			return out
		}
		return ""
	})
}

type instanceSeen struct {
	InstanceSet []struct {
		InstanceId, InstanceName, InstanceState string
		PrivateIpAddresses, SecurityGroupIds    []string
	}
}

func (r *region) instance(m *machine) (found struct {
	InstanceId, InstanceName, InstanceState string
	PrivateIpAddresses, SecurityGroupIds    []string
}) {
	r.t.Helper()
	var seen instanceSeen
	r.call("cvm", "DescribeInstances", map[string]any{}, &seen)
	for _, i := range seen.InstanceSet {
		if i.InstanceId == r.instances[m] || r.instances[m] == "" && slices.Contains(i.PrivateIpAddresses, m.address) {
			return i
		}
	}
	return found
}

// group makes a security group with rules, as "ACCEPT tcp 80 203.0.113.0/24".
func (r *region) group(name string, ingress, egress []string) string {
	r.t.Helper()
	var made struct {
		SecurityGroup struct{ SecurityGroupId string }
	}
	r.call("vpc", "CreateSecurityGroup", map[string]any{"GroupName": name, "GroupDescription": name}, &made)
	id := made.SecurityGroup.SecurityGroupId
	for direction, rules := range map[string][]string{"Ingress": ingress, "Egress": egress} {
		var set []map[string]any
		for _, rule := range rules {
			f := strings.Fields(rule)
			set = append(set, map[string]any{"Action": f[0], "Protocol": f[1], "Port": f[2], "CidrBlock": f[3]})
		}
		if len(set) > 0 {
			r.call("vpc", "CreateSecurityGroupPolicies", map[string]any{"SecurityGroupId": id, "SecurityGroupPolicySet": map[string]any{direction: set}}, nil)
		}
	}
	return id
}

// bindInstance makes ids an instance's whole list of groups.
func (r *region) bindInstance(m *machine, ids ...string) {
	r.t.Helper()
	r.call("cvm", "ModifyInstancesAttribute", map[string]any{"InstanceIds": []string{r.instances[m]}, "SecurityGroups": ids}, nil)
}

// Machines of somebody's own, by the README's very commands: they join, are
// observed, pass traffic through both gates, are shut by the first binding, can
// never shut their own agents out, move, and are forgotten.
func TestOwnMachines(t *testing.T) {
	r := newRegion(t)
	for _, part := range []func(){r.machinesJoin, r.onlyObserved, r.bothGates, r.guests, r.darkAndBack, r.processesAway, r.bothFamilies, r.otherAddresses, r.forgotten} {
		if part(); t.Failed() {
			return
		}
	}
}

func (r *region) machinesJoin() {
	r.gatewayToken = r.token("gateway")
	if said := r.join(r.gateway, r.gatewayToken); !strings.Contains(said, "This machine is gateway gateway-1 of the server at 198.51.100.1:7781") {
		r.t.Errorf("the gateway was told %q", said)
	}
	for _, m := range []*machine{r.web1, r.web2} {
		if said := r.join(m, r.token("host")); !strings.Contains(said, "only observes until the first security group") {
			r.t.Errorf("%s was told %q", m.name, said)
		}
	}
	r.inForce(3)
	if _, errs, code := r.other.try("sallyport-node join " + r.gatewayToken); code != exitNo || !strings.Contains(errs, "unknown, used or expired") {
		r.t.Errorf("a used token: exit %d, %s", code, errs)
	}
	if _, errs, code := r.gateway.try("sallyport-node join " + r.gatewayToken); code != exitError || !strings.Contains(errs, "has joined already") {
		r.t.Errorf("joining again: exit %d, %s", code, errs)
	}
	for m, want := range map[*machine][]string{r.web1: {"198.51.100.11"}, r.web2: {"198.51.100.12", "198.51.100.13"}} {
		r.eventually(m.name+" is an instance that runs", func() string {
			i := r.instance(m)
			if i.InstanceName != "web-1" || i.InstanceState != "RUNNING" || !slices.Equal(i.PrivateIpAddresses, want) {
				return fmt.Sprintf("it is %+v", i)
			}
			r.instances[m], r.sg0 = i.InstanceId, i.SecurityGroupIds[0]
			return ""
		})
	}
}

// What the rules of an observed machine refuse goes through, and is told.
func (r *region) onlyObserved() {
	if out := r.server.sh(only(r.t, r.steps, "server", "^sallyport node ls")); strings.Count(out, "only observes until a group is bound") != 2 {
		r.t.Errorf("node ls says\n%s", out)
	}
	r.call("vpc", "ModifySecurityGroupPolicies", map[string]any{"SecurityGroupId": r.sg0, "SecurityGroupPolicySet": map[string]any{"Version": "0"}}, nil)
	for _, url := range []string{"http://198.51.100.11:8080/", "http://198.51.100.13:8080/"} {
		if got := r.client.fetch(url); got != r.client.address {
			r.t.Errorf("%s, which an observed machine would refuse, answers %q", url, got)
		}
	}
	if _, errs, code := r.web1.try("curl -s -m 2 -o /dev/null http://198.51.100.12:8080/"); code != 0 {
		r.t.Errorf("what an observed machine dials: %d %s", code, errs)
	}
	r.eventually("the verdicts say what would have been", func() string {
		out := r.server.sh("sallyport verdicts")
		if !strings.Contains(out, "would DROP gate cvm "+r.instances[r.web1]+" in") || !strings.Contains(out, "would DROP gate cvm "+r.instances[r.web1]+" out") {
			return out
		}
		return ""
	})
}

// The gateway answers for its VIP on its own segment, both gates judge, and the
// hosts answer the client straight.
func (r *region) bothGates() {
	var made struct{ LoadBalancerIds []string }
	r.call("clb", "CreateLoadBalancer", map[string]any{"LoadBalancerType": "OPEN", "LoadBalancerName": "web"}, &made)
	r.balancer = made.LoadBalancerIds[0]
	var shown struct {
		LoadBalancerSet []struct{ LoadBalancerVips []string }
	}
	r.call("clb", "DescribeLoadBalancers", map[string]any{}, &shown)
	r.vip = shown.LoadBalancerSet[0].LoadBalancerVips[0]
	if !strings.HasPrefix(r.vip, "198.51.100.6") {
		r.t.Fatalf("the VIP %s is not of --vip-pool", r.vip)
	}
	var listeners struct{ ListenerIds []string }
	r.call("clb", "CreateListener", map[string]any{"LoadBalancerId": r.balancer, "Protocol": "TCP", "Ports": []int{80},
		"HealthCheck": map[string]any{"IntervalTime": 2, "TimeOut": 2, "HealthNum": 2, "UnHealthNum": 2}}, &listeners)
	r.listener = listeners.ListenerIds[0]
	var targets []map[string]any
	for _, m := range []*machine{r.web1, r.web2} {
		targets = append(targets, map[string]any{"InstanceId": r.instances[m], "Port": 8080})
	}
	r.call("clb", "RegisterTargets", map[string]any{"LoadBalancerId": r.balancer, "ListenerId": r.listener, "Targets": targets}, nil)
	r.client.answers("http://"+r.vip+"/", r.client.address)
	r.call("clb", "CreateListener", map[string]any{"LoadBalancerId": r.balancer, "Protocol": "HTTP", "Ports": []int{81}}, &listeners)
	r.call("clb", "CreateRule", map[string]any{"LoadBalancerId": r.balancer, "ListenerId": listeners.ListenerIds[0],
		"Rules": []map[string]any{{"Domain": r.vip, "Url": "/"}}}, nil)
	r.call("clb", "RegisterTargets", map[string]any{"LoadBalancerId": r.balancer, "ListenerId": listeners.ListenerIds[0], "Domain": r.vip, "Url": "/", "Targets": targets}, nil)
	r.client.answers("http://"+r.vip+":81/", r.client.address)
	r.web1.sh("ip neigh flush dev eth0; ping -c 1 -W 1 198.51.100.2") // no kernel lost its way meanwhile
	front := r.group("front", []string{"ACCEPT tcp 80,81 198.51.100.100/32"}, nil)
	r.call("clb", "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": r.balancer, "SecurityGroups": []string{front}}, nil)
	for _, port := range []string{"80", "81"} {
		if got := r.other.fetch("http://" + r.vip + ":" + port + "/"); got != "" {
			r.t.Errorf("the first gate lets the other client in at port %s: %q", port, got)
		}
		r.client.answers("http://"+r.vip+":"+port+"/", r.client.address)
	}
	back := r.group("back", []string{"ACCEPT tcp 8080 198.51.100.100/32", "ACCEPT tcp 8080 " + r.vip + "/32"}, nil)
	bind := strings.NewReplacer("INSTANCE", r.instances[r.web1], "GROUP", back).Replace(only(r.t, r.steps, "server", "AssociateSecurityGroups"))
	r.server.sh(bind)
	r.bindInstance(r.web1, back)
	r.bindInstance(r.web2, back)
	if out := r.server.sh("sallyport node ls"); strings.Contains(out, "observes") {
		r.t.Errorf("after the first binding node ls says\n%s", out)
	}
	r.client.answers("http://"+r.vip+"/", r.client.address)
	for _, url := range []string{"http://198.51.100.11:8080/", "http://198.51.100.13:8080/"} {
		if got := r.other.fetch(url); got != "" {
			r.t.Errorf("the second gate lets the other client in at %s: %q", url, got)
		}
		if got := r.client.fetch(url); got != r.client.address {
			r.t.Errorf("the second gate keeps the client out at %s: %q", url, got)
		}
	}
}

// A group that refuses everything, both ways, silences a machine for all but
// its agent: the change that opens it again arrives.
func (r *region) darkAndBack() {
	back := r.instance(r.web1).SecurityGroupIds
	everything := []string{"DROP ALL ALL 0.0.0.0/0"}
	shut := r.group("shut", everything, everything)
	r.bindInstance(r.web1, shut)
	if got := r.client.fetch("http://198.51.100.11:8080/"); got != "" {
		r.t.Errorf("a machine that refuses everything answers %q", got)
	}
	if _, _, code := r.web1.try("curl -s -m 2 -o /dev/null http://198.51.100.12:8080/"); code == 0 {
		r.t.Error("a machine that may not speak speaks")
	}
	// The agent comes back by itself through the closed gate, also as a new
	// process with a new connection.
	r.agents[r.web1].end(syscall.SIGKILL)
	r.agents[r.web1] = r.web1.begin(underUnit(r.t) + "sallyport-node run")
	r.inForce(3)
	if got := r.client.fetch("http://198.51.100.11:8080/"); got != "" {
		r.t.Errorf("after a new start it answers %q", got)
	}
	r.bindInstance(r.web1, back...)
	r.client.answers("http://198.51.100.11:8080/", r.client.address)
}

// Without the gateway's process and without the server, both gates and address
// resolution go on.
func (r *region) processesAway() {
	r.agents[r.gateway].end(syscall.SIGKILL)
	r.serving.end(syscall.SIGKILL)
	r.client.sh("ip neigh flush all")
	if got := r.client.fetch("http://" + r.vip + "/"); got != r.client.address {
		r.t.Errorf("with agent and server away: %q", got)
	}
	if got := r.other.fetch("http://" + r.vip + "/"); got != "" {
		r.t.Errorf("the first gate lets the other client in: %q", got)
	}
	r.serving = r.server.begin(only(r.t, r.steps, "server", "^sallyport server"))
	r.serving.waitFor("serving")
	r.agents[r.gateway] = r.gateway.begin(underUnit(r.t) + "sallyport-node run")
	r.inForce(3)
}

// A gateway whose tunnels end over IPv6 first and over IPv4 as well reaches one
// host over each, and its flows of IPv4 go on.
func (r *region) bothFamilies() {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return // this kernel has no IPv6
	}
	r.web2.sh("ip addr add 2001:db8::12/64 dev eth0 nodad")
	agent := r.agents[r.web2]
	select {
	case <-agent.done:
	case <-time.After(siteLimit):
		r.t.Fatalf("the agent goes on without the new address: %s", agent.text())
	}
	r.agents[r.web2] = r.web2.begin(underUnit(r.t) + "sallyport-node run")
	r.agents[r.gateway].end(syscall.SIGTERM)
	r.gateway.sh("ip addr add 2001:db8::2/64 dev eth0 nodad")
	r.gateway.sh(`sed -i '0,/{/s//{"address":"2001:db8::2",/' /var/lib/sallyport-node/node.json`)
	r.agents[r.gateway] = r.gateway.begin(underUnit(r.t) + "sallyport-node run")
	r.inForce(3)
	if out := r.gateway.sh("sallyport-node doctor --device eth0"); !strings.Contains(out, "to nodes of either family") {
		r.t.Errorf("doctor says\n%s", out)
	}
	// Nothing but the tunnel asks for these neighbours.
	for from, to := range map[*machine]string{r.gateway: "2001:db8::12", r.web2: "2001:db8::2"} {
		r.eventually(from.name+" sends its tunnel to "+to, func() string {
			if out := from.sh("ip -6 neigh show " + to); !strings.Contains(out, "lladdr") {
				return "neighbours: " + out
			}
			return ""
		})
	}
	for range 8 { // both hosts get some
		r.client.answers("http://"+r.vip+"/", r.client.address)
		r.client.answers("http://"+r.vip+":81/", r.client.address)
	}
	r.eventually("all is well", func() string {
		if out := r.server.sh("sallyport status"); strings.Contains(out, "no tunnel to") || strings.Contains(out, "Dead") {
			return out
		}
		return ""
	})
}

// A machine whose address changes starts again with the new one, and the
// region follows.
func (r *region) otherAddresses() {
	agent := r.agents[r.web2]
	r.web2.sh("ip addr flush dev eth0; ip addr add 198.51.100.22/24 dev eth0")
	select {
	case <-agent.done:
	case <-time.After(siteLimit):
		r.t.Fatalf("the agent goes on with addresses that are gone: %s", agent.text())
	}
	if code := agent.cmd.ProcessState.ExitCode(); code != exitError || !strings.Contains(agent.text(), "198.51.100.22, formerly 198.51.100.12") {
		r.t.Errorf("it ended with %d and %s", code, agent.text())
	}
	r.agents[r.web2] = r.web2.begin(underUnit(r.t) + "sallyport-node run") // as Restart=always does
	r.eventually("DescribeInstances follows", func() string {
		if got := r.instance(r.web2).PrivateIpAddresses; !slices.Equal(got, []string{"198.51.100.22"}) {
			return fmt.Sprint(got)
		}
		return ""
	})
	r.inForce(3)
	r.client.answers("http://198.51.100.22:8080/", r.client.address)
	if got := r.other.fetch("http://198.51.100.22:8080/"); got != "" {
		r.t.Errorf("at its new address the gate lets the other client in: %q", got)
	}
	r.agents[r.web1].end(syscall.SIGTERM) // so that only web2 can answer
	r.web1.sh("ip link set eth0 down")
	r.client.answers("http://"+r.vip+"/", r.client.address)
}

// Who is forgotten is refused for good; what the machine had in force stays.
func (r *region) forgotten() {
	r.server.sh(only(r.t, r.steps, "server", "^sallyport node forget"))
	r.agents[r.gateway].waitFor("knows this node no longer")
	r.server.sh("sallyport node forget " + r.instances[r.web2])
	r.agents[r.web2].waitFor("no longer")
	for range 2 { // also by a server that starts anew
		if out := r.server.sh("sallyport node ls"); strings.Contains(out, "gateway-1") || strings.Contains(out, r.instances[r.web2]) {
			r.t.Errorf("node ls says\n%s", out)
		}
		r.serving.end(syscall.SIGTERM)
		r.serving = r.server.begin(only(r.t, r.steps, "server", "^sallyport server"))
		r.serving.waitFor("serving")
		r.serving.waitFor("level")
	}
	if i := r.instance(r.web2); i.InstanceId != "" {
		r.t.Errorf("a forgotten machine is listed: %+v", i)
	}
	if got := r.other.fetch("http://198.51.100.22:8080/"); got != "" {
		r.t.Errorf("a forgotten machine's gate has opened: %q", got)
	}
	r.agents[r.web2].end(syscall.SIGTERM)
	if said := r.web2.sh("sallyport-node leave"); !strings.Contains(said, "Nothing is judged here any more") {
		r.t.Errorf("leave says %q", said)
	}
	r.other.answers("http://198.51.100.22:8080/", r.other.address)
	if _, errs, code := r.web2.try("sallyport-node run"); code != exitError || !strings.Contains(errs, "has not joined") {
		r.t.Errorf("run after leave: %d, %s", code, errs)
	}
}
