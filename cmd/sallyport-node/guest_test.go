// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"strings"
)

// guests puts a container behind a port of web1: an instance of its own by the
// documents' command, served through the load balancer, judged at its port.
func (r *region) guests() {
	const address, mac = "198.51.100.77", "52:54:00:12:34:56"
	guest := &machine{site: r.site, name: "guest", address: address, pid: r.namespaces("--net", "--mount", "--uts", "--propagation", "private")}
	r.machines["guest"] = guest
	r.web1.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.eth0.proxy_arp=1")
	r.web1.sh("ip link add vm1 type veth peer name eth0 netns " + guest.pid)
	r.web1.sh("ip link set vm1 up; ip route add " + address + " dev vm1; sysctl -qw net.ipv4.conf.vm1.proxy_arp=1")
	guest.sh("ip link set lo up; ip link set eth0 address " + mac + "; ip addr add " + address + "/32 dev eth0; ip link set eth0 up; " +
		"ip route add default dev eth0; ethtool -K eth0 tx off")
	guest.begin("env " + serveVariable + "=0.0.0.0:8080 /proc/" + fmt.Sprint(os.Getpid()) + "/exe")
	group := r.group("guest", []string{"ACCEPT tcp 8080 198.51.100.100/32"}, []string{"DROP ALL ALL 0.0.0.0/0"})
	id := strings.TrimSpace(r.server.sh(fmt.Sprintf("sallyport node guest add %s --device vm1 --mac %s --address %s --name guest-1 --group %s", r.instances[r.web1], mac, address, group)))
	r.eventually("the guest is RUNNING", func() string {
		if out := r.server.sh("sallyport node guest ls"); !strings.Contains(out, id) || !strings.Contains(out, "RUNNING") || !strings.Contains(out, "vm1") {
			return out
		}
		return ""
	})
	r.client.answers("http://"+address+":8080/", r.client.address)
	if got := r.other.fetch("http://" + address + ":8080/"); got != "" {
		r.t.Errorf("the guest's gate lets the other client in: %q", got)
	}
	if _, _, code := guest.try("curl -s -m 2 -o /dev/null http://" + r.web2.address + ":8080/"); code == 0 {
		r.t.Error("a guest that may not speak speaks")
	}
	var listeners struct{ ListenerIds []string }
	r.call("clb", "CreateListener", map[string]any{"LoadBalancerId": r.balancer, "Protocol": "TCP", "Ports": []int{8077}, "HealthCheck": map[string]any{"HealthSwitch": 0}}, &listeners)
	r.call("clb", "RegisterTargets", map[string]any{"LoadBalancerId": r.balancer, "ListenerId": listeners.ListenerIds[0], "Targets": []map[string]any{{"InstanceId": id, "Port": 8080}}}, nil)
	front := r.group("front-guest", []string{"ACCEPT tcp 80,81,8077 0.0.0.0/0"}, nil)
	var groups struct {
		LoadBalancerSet []struct{ SecureGroups []string }
	}
	r.call("clb", "DescribeLoadBalancers", map[string]any{"LoadBalancerIds": []string{r.balancer}}, &groups)
	r.call("clb", "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": r.balancer, "SecurityGroups": []string{front}}, nil)
	r.client.answers("http://"+r.vip+":8077/", r.client.address)
	if got := r.other.fetch("http://" + r.vip + ":8077/"); got != "" {
		r.t.Errorf("the guest's gate lets the other client in through the load balancer: %q", got)
	}
	r.call("clb", "SetLoadBalancerSecurityGroups", map[string]any{"LoadBalancerId": r.balancer, "SecurityGroups": groups.LoadBalancerSet[0].SecureGroups}, nil)
	r.call("clb", "DeleteListener", map[string]any{"LoadBalancerId": r.balancer, "ListenerId": listeners.ListenerIds[0]}, nil)
	r.server.sh("sallyport node guest rm " + id)
	if out := r.server.sh("sallyport node guest ls"); strings.Contains(out, id) {
		r.t.Errorf("a removed guest is listed:\n%s", out)
	}
}
