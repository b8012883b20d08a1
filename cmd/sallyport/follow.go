// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// How long the parts of a lab may take before up gives in. They take a second
// or two on a small machine.
const (
	serverLimit = 30 * time.Second
	nodeLimit   = 30 * time.Second
	demoLimit   = 60 * time.Second
	retryPause  = 20 * time.Millisecond
)

// connect waits until the server answers and takes its admin key.
func (u *upper) connect(ctx context.Context, api string) error {
	ctx, cancel := context.WithTimeout(ctx, serverLimit)
	defer cancel()
	for !healthy(ctx, api) {
		if pauseFor(ctx, retryPause) != nil || u.lab.Failing(lab.DefaultServer) {
			return fmt.Errorf("the server does not answer at %s%s", api, u.logHint())
		}
	}
	for {
		client, err := (&connection{Endpoint: api}).client()
		if err == nil {
			u.client = client
			return nil
		}
		if pauseFor(ctx, retryPause) != nil {
			return fmt.Errorf("the server wrote down no key: %w%s", err, u.logHint())
		}
	}
}

// healthy asks once. A request waits in the listener's queue while there is no
// server, so it must not wait for long.
func healthy(ctx context.Context, api string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, api+"/healthz", nil)
	if err != nil {
		return false
	}
	// No connection is kept: the server behind the address may be another next time.
	req.Close = true
	client := &cloudapi.Client{Endpoint: api, HTTP: http.DefaultClient}
	if trust(client) != nil {
		return false
	}
	res, err := client.HTTP.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// token asks for a join token.
func (u *upper) token(ctx context.Context, host, role, instance string) (string, error) {
	in := map[string]any{"Role": role, "Name": host}
	if instance != "" {
		in["InstanceId"] = instance
	}
	var answer struct{ Token string }
	if err := u.client.Do(ctx, ownService, ownVersion, "CreateNodeToken", in, &answer); err != nil {
		return "", fmt.Errorf("enrol %s: %w", host, err)
	}
	return answer.Token, nil
}

// mindNodes gives agents that do not come up another join token: theirs may
// have been used by a life that ended before it could keep the certificate.
func (u *upper) mindNodes(ctx context.Context) {
	for pauseFor(ctx, time.Second) == nil {
		for _, host := range u.lab.FailingNodes() {
			role, instance := "host", host
			if host == lab.DefaultGateway {
				role, instance = "gateway", ""
			}
			token, err := u.token(ctx, host, role, instance)
			if err == nil {
				err = u.lab.GiveToken(host, token)
			}
			if err != nil && ctx.Err() == nil {
				u.say("%v", err)
			}
		}
	}
}

// startNode enrols and starts the agent of a host.
func (u *upper) startNode(ctx context.Context, host, role, instance string) error {
	token, err := u.token(ctx, host, role, instance)
	if err != nil {
		return err
	}
	return u.lab.StartNode(host, token)
}

// hostsAnswer is what DescribeHosts says.
type hostsAnswer struct {
	Revision  uint64
	Instances []hostInstance
}

type hostInstance struct {
	InstanceId, InstanceName      string
	PrivateAddress, PublicAddress string
	IPv6Address                   string
	State                         string
	Joined                        bool
}

// gone reports whether the lab has nothing to do with the instance any more:
// it goes, or it is a machine of somebody's own.
func (i hostInstance) gone() bool { return i.State == "TERMINATING" || i.Joined }

// off reports whether the instance's host is to be switched off, which a
// reboot begins with too.
func (i hostInstance) off() bool {
	return i.State == "STOPPING" || i.State == "STOPPED" || i.State == "REBOOTING"
}

func (h hostsAnswer) has(id string) bool {
	return slices.ContainsFunc(h.Instances, func(i hostInstance) bool { return i.InstanceId == id && !i.gone() })
}

func (h hostsAnswer) off(id string) bool {
	return slices.ContainsFunc(h.Instances, func(i hostInstance) bool { return i.InstanceId == id && i.off() })
}

// ipv6 is the IPv6 address of an instance; zero: it has none.
func (h hostsAnswer) ipv6(id string) netip.Addr {
	at := slices.IndexFunc(h.Instances, func(i hostInstance) bool { return i.InstanceId == id })
	if at < 0 {
		return netip.Addr{}
	}
	a, _ := netip.ParseAddr(h.Instances[at].IPv6Address)
	return a
}

func (u *upper) describeHosts(ctx context.Context, after uint64, wait int) (hostsAnswer, error) {
	var h hostsAnswer
	in := map[string]any{"AfterRevision": after, "WaitSeconds": wait}
	err := u.client.Do(ctx, ownService, ownVersion, "DescribeHosts", in, &h)
	// People look for web-1 before web-2, whatever their ids are.
	slices.SortStableFunc(h.Instances, func(a, b hostInstance) int { return strings.Compare(a.InstanceName, b.InstanceName) })
	return h, err
}

// followHosts makes and removes instance hosts as instances come and go.
func (u *upper) followHosts(ctx context.Context, after uint64) {
	for ctx.Err() == nil {
		hosts, err := u.describeHosts(ctx, after, 20)
		if err != nil { // the server is restarting; it comes back
			_ = pauseFor(ctx, 10*retryPause)
			continue
		}
		u.reconcile(ctx, hosts)
		if hosts.Revision == after { // nothing new within the wait
			_ = pauseFor(ctx, retryPause)
		}
		after = hosts.Revision
	}
}

// reconcile makes the lab's instance hosts those that are asked for. A host
// that fails is said and tried again at the next change.
func (u *upper) reconcile(ctx context.Context, want hostsAnswer) {
	have := map[string]bool{}
	for _, h := range u.lab.Record().Hosts {
		if h.Role != lab.RoleInstance {
			continue
		}
		have[h.InstanceID] = true
		if want.off(h.InstanceID) {
			if err := u.lab.PowerOff(h.InstanceID); err != nil {
				u.say("switch %s off: %v", h.InstanceID, err)
			}
			continue
		}
		if want.has(h.InstanceID) {
			if err := u.lab.SetIPv6(h.InstanceID, want.ipv6(h.InstanceID)); err != nil {
				u.say("the IPv6 address of %s: %v", h.InstanceID, err)
			}
			continue
		}
		if err := u.lab.RemoveInstance(h.InstanceID); err != nil {
			u.say("remove %s: %v", h.InstanceID, err)
		}
	}
	for _, i := range want.Instances {
		if have[i.InstanceId] || i.gone() || i.off() || ctx.Err() != nil {
			continue
		}
		if err := u.addInstance(ctx, i); err != nil {
			u.say("make %s: %v", i.InstanceId, errors.Join(err, u.lab.RemoveInstance(i.InstanceId)))
		}
	}
}

func (u *upper) addInstance(ctx context.Context, i hostInstance) error {
	private, err := netip.ParseAddr(i.PrivateAddress)
	if err != nil {
		return err
	}
	var public netip.Addr
	if i.PublicAddress != "" {
		if public, err = netip.ParseAddr(i.PublicAddress); err != nil {
			return err
		}
	}
	six, _ := netip.ParseAddr(i.IPv6Address) // "": none
	if err := u.lab.AddInstance(i.InstanceId, i.InstanceName, private, public, six); err != nil {
		return err
	}
	return u.startNode(ctx, i.InstanceId, "host", i.InstanceId)
}

// awaitNodes waits until every node the lab runs is connected with the newest
// state in force, and says how many there are.
func (u *upper) awaitNodes(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeLimit)
	defer cancel()
	for {
		missing, nodes := "the server", 0
		if s, err := describeStatus(ctx, u.client); err == nil {
			missing, nodes = u.behind(s)
		}
		if missing == "" {
			return nodes, nil
		}
		if pauseFor(ctx, retryPause) != nil {
			return 0, fmt.Errorf("%s is not ready after %v", missing, nodeLimit)
		}
	}
}

// behind names a node that is not up to date, and counts those that are.
func (u *upper) behind(s statusAnswer) (string, int) {
	up := map[string]bool{}
	for _, n := range s.Nodes {
		up[n.Name] = n.Connected && n.Revision >= s.Revision
	}
	nodes := 0
	for _, h := range u.lab.Record().Hosts {
		if h.Role != lab.RoleInstance && h.Role != lab.RoleGateway {
			continue
		}
		if !up[h.Name] {
			return h.Name, nodes
		}
		nodes++
	}
	return "", nodes
}
