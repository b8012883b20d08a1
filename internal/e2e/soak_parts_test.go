// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lab"
)

// The soak's datagrams: a listener of its own before both instances.
const (
	datagramPort   = 5353
	datagramTarget = 8082
	datagramTries  = 3 // of a second each: a datagram may get lost, three in a row may not
)

// listenDatagrams makes the soak's UDP listener, and lets client-1 in at both
// gates. What it gives takes all of that away again.
func (k *soaking) listenDatagrams(ctx context.Context) (remove func(context.Context), err error) {
	rules := map[string]Rule{
		k.Edge: Accept("UDP", fmt.Sprint(datagramPort), client1),
		k.Web:  Accept("UDP", fmt.Sprint(datagramTarget), client1),
	}
	var made struct{ ListenerIds []string }
	remove = func(ctx context.Context) {
		if len(made.ListenerIds) == 1 {
			in := map[string]any{"LoadBalancerId": k.Balancer, "ListenerId": made.ListenerIds[0]}
			k.insist(ctx, func() error { return k.Do(ctx, "clb", "DeleteListener", in, nil) })
		}
		for group, rule := range rules {
			delete(rule, "PolicyIndex")
			k.insist(ctx, func() error { return k.Do(ctx, "vpc", "DeleteSecurityGroupPolicies", policies(group, rule), nil) })
		}
	}
	for group, rule := range rules {
		rule["PolicyIndex"] = 0
		if err := k.Do(ctx, "vpc", "CreateSecurityGroupPolicies", policies(group, rule), nil); err != nil {
			return remove, err
		}
	}
	in := map[string]any{"LoadBalancerId": k.Balancer, "Ports": []int{datagramPort}, "Protocol": "UDP", "ListenerNames": []string{"datagrams"},
		"HealthCheck": map[string]any{"HealthSwitch": 1, "TimeOut": 2, "IntervalTime": 2, "HealthNum": 2, "UnHealthNum": 2}}
	if err := k.Do(ctx, "clb", "CreateListener", in, &made); err != nil {
		return remove, err
	}
	var targets []any
	for _, id := range k.Instances {
		targets = append(targets, map[string]any{"InstanceId": id, "Port": datagramTarget})
	}
	in = map[string]any{"LoadBalancerId": k.Balancer, "ListenerId": made.ListenerIds[0], "Targets": targets}
	if err := k.Do(ctx, "clb", "RegisterTargets", in, nil); err != nil {
		return remove, err
	}
	return remove, k.Settle(ctx)
}

// datagrams echoes steadily: over one socket that lasts, and over new ones.
func (k *soaking) datagrams(ctx context.Context) {
	address := netip.AddrPortFrom(k.VIP, datagramPort).String()
	k.load.wg.Go(func() {
		c, err := lab.Dial("client-1", "udp4", address, limit)
		if err != nil {
			k.fault("datagrams: %v", err)
			return
		}
		defer c.Close()
		for n := 0; ctx.Err() == nil; n++ {
			k.echo("datagram of one flow", c, 10+n%1000)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	})
	k.every(ctx, 50*time.Millisecond, func() {
		c, err := lab.Dial("client-1", "udp4", address, limit)
		if err != nil {
			k.fault("datagrams: %v", err)
			return
		}
		defer c.Close()
		k.echo("datagram of a new flow", c, 100)
	})
	k.every(ctx, 100*time.Millisecond, func() { // gate 1 refuses client-2
		c, err := lab.Dial("client-2", "udp4", address, limit)
		if err != nil {
			k.fault("datagrams: %v", err)
			return
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(late))
		_, _ = c.Write([]byte("let me in"))
		if n, err := c.Read(make([]byte, 100)); err == nil {
			k.fault("ADMITTED: client-2 got %d bytes for a datagram", n)
		}
	})
}

// echo sends a datagram of a length and waits for the instance's answer, which
// tells it.
func (k *soaking) echo(kind string, c net.Conn, length int) {
	began := time.Now()
	answer := make([]byte, 1<<12)
	for range datagramTries {
		if _, err := c.Write(make([]byte, length)); err != nil {
			k.fault("%s: %v", kind, err)
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		for {
			n, err := c.Read(answer)
			if err != nil {
				break
			}
			var s struct {
				Peer  netip.Addr
				Bytes int
			}
			switch err := json.Unmarshal(answer[:n], &s); {
			case err != nil || s.Peer.String() != client1:
				k.fault("%s: answered %q", kind, answer[:n])
				return
			case s.Bytes == length: // else it answers an earlier one
				k.good(kind, time.Since(began))
				return
			}
		}
	}
	k.fault("%s, begun %v before: %d datagrams without an answer", kind, time.Since(began).Round(time.Millisecond), datagramTries)
}

// watch looks at the targets' health and at the nodes' alarms all the time: whatever
// floods come in, no target is ever taken for dead, and no flow is refused for want
// of room.
func (k *soaking) watch(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	dead, full := map[string]bool{}, map[string]bool{}
	for ctx.Err() == nil {
		var st Status
		if k.call(ctx, "sallyport", "DescribeStatus", nil, &st) == nil { // the server may be away
			k.looks++
			for _, n := range st.Nodes {
				refused := slices.ContainsFunc(n.Alarms, func(text string) bool { return strings.Contains(text, "(table_full)") })
				if refused && !full[n.Name] {
					k.fault("%s: %q", n.Name, n.Alarms)
				}
				full[n.Name] = refused
			}
			for _, target := range st.Targets {
				name := fmt.Sprintf("%s:%d", target.InstanceId, target.Port)
				if target.Health == "Dead" && !dead[name] {
					k.fault("the target %s is Dead", name)
				}
				dead[name] = target.Health == "Dead"
			}
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
