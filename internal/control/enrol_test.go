// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/store"
	"github.com/sallyport/sallyport/internal/wire"
)

// Names that tokens give out, and what they cannot be made for.
func TestCreateToken(t *testing.T) {
	r := newRegion(t)
	r.address = "198.51.100.1:7781"
	r.update(func(tx *store.Tx) { tx.PutNode(&lb.Node{ID: "gateway-2", Num: tx.NextNum(), Role: lb.RoleGateway}) })
	ask := func(q TokenRequest) JoinToken {
		t.Helper()
		token, err := r.CreateToken(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	for _, want := range []lb.NodeID{"gateway-1", "gateway-3"} { // the first is promised, the second is taken
		if got := ask(TokenRequest{Role: lb.RoleGateway}); got.Node != want || got.Server != r.address || !strings.HasSuffix(got.Text, "."+r.address) {
			t.Errorf("a gateway's token: %+v, want %s", got, want)
		}
	}
	one, two := ask(TokenRequest{Role: lb.RoleHost, Title: "web"}), ask(TokenRequest{Role: lb.RoleHost, Life: time.Hour})
	if one.Node == two.Node || len(one.Node) != 12 || !strings.HasPrefix(string(one.Node), "ins-") || time.Until(two.Expires) < 59*time.Minute || time.Until(one.Expires) > 10*time.Minute {
		t.Errorf("hosts' tokens: %+v, %+v", one, two)
	}
	for _, bad := range []TokenRequest{{Role: "router"}, {Role: lb.RoleGateway, Instance: "ins-a"}, {Role: lb.RoleGateway, Life: 25 * time.Hour}, {Role: lb.RoleGateway, Life: -1}} {
		if token, err := r.CreateToken(t.Context(), bad); err == nil {
			t.Errorf("%+v gave %+v", bad, token)
		}
	}
}

// joinAs enrols a machine of its own and gives what it keeps.
func (r *region) joinAs(t *testing.T, text, address string, others ...string) (node.Joined, string, error) {
	t.Helper()
	token, err := wire.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	all, err := parseAddresses(others)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "node")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	who, err := node.Join(ctx, dir, r.addr, token, netip.MustParseAddr(address), all)
	return who, dir, err
}

// A machine of somebody's own becomes an instance by joining; one that is
// refused for its address may use its token again.
func TestMachineJoins(t *testing.T) {
	r := newRegion(t)
	taken := errors.New("address 198.51.100.11 belongs to ins-other; join with another --address")
	var seen []Machine
	r.admit = func(tx *store.Tx, m Machine) error {
		if m.Address == netip.MustParseAddr("198.51.100.11") {
			return taken
		}
		seen = append(seen, m)
		tx.PutInstance(&lb.Instance{ID: m.Instance, Name: m.Name, Private: m.Address, Others: m.Others, Joined: true, Groups: []lb.GroupID{"sg-a"}})
		return nil
	}
	token, err := r.CreateToken(t.Context(), TokenRequest{Role: lb.RoleHost, Title: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, dir, err := r.joinAs(t, token.Text, "198.51.100.11"); !errors.Is(err, node.ErrRefused) || !strings.Contains(err.Error(), taken.Error()) || node.HasJoined(dir) {
		t.Errorf("with a taken address: %v", err)
	}
	who, dir, err := r.joinAs(t, token.Text, "198.51.100.12", "198.51.100.14", "198.51.100.13", "198.51.100.13")
	if err != nil || who.Role != lb.RoleHost || who.Name != token.Node || string(who.Instance) != string(token.Node) || !node.HasJoined(dir) {
		t.Fatalf("joined as %+v, %v", who, err)
	}
	if m := seen[len(seen)-1]; m.Name != "web-1" || len(m.Others) != 2 || m.Others[0] != netip.MustParseAddr("198.51.100.13") {
		t.Errorf("admitted %+v", m)
	}
	if n := r.store.State().Nodes.Get(token.Node); n == nil || n.Certificate == "" || n.Instance != who.Instance {
		t.Errorf("the node's record is %+v", n)
	}
	if _, _, err := r.joinAs(t, token.Text, "198.51.100.15"); !errors.Is(err, node.ErrRefused) || !strings.Contains(err.Error(), "unknown, used or expired") {
		t.Errorf("a token twice: %v", err)
	}
}

// Who was forgotten, and whose name another machine has joined under, is
// refused for good: by a server that starts anew, and on a restored store.
func TestShutOut(t *testing.T) {
	r := newRegion(t)
	hello := &wire.Hello{Protocol: 1, Name: "gateway-1", Address: "192.0.2.129"}
	refusedAs := func(what string, client wire.ControlClient, text string) {
		t.Helper()
		if _, err := attach(t, client, hello).Recv(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want a refusal that says %q", what, err, text)
		}
	}
	first := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	first.inForce(t, 1)
	old := r.store.State().Nodes.Get("gateway-1").Certificate
	second := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.140")
	eventually(t, "the second has the name", func() bool {
		n := r.store.State().Nodes.Get("gateway-1")
		return n.Certificate != old && n.Address == netip.MustParseAddr("192.0.2.140") && r.status("gateway-1").Connected
	})
	if !r.revoked.has(old) {
		t.Error("the first machine's certificate is still valid")
	}
	first.stop()
	second.stop()
	cert := r.certificate(t, identity{Name: "gateway-1", Role: lb.RoleGateway})
	refusedAs("another certificate of that name", r.raw(t, cert), "another machine has joined")

	third := r.certificate(t, identity{Name: "gateway-3", Role: lb.RoleGateway})
	hello = &wire.Hello{Protocol: 1, Name: "gateway-3", Address: "192.0.2.131"}
	stream := attach(t, r.raw(t, third), hello)
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(t.Context(), fingerprintOf(third.Certificate[0])); err != nil {
		t.Fatal(err)
	}
	r.update(func(tx *store.Tx) { tx.DeleteNode("gateway-3") })
	for {
		if _, err := stream.Recv(); err != nil {
			if status.Code(err) != codes.PermissionDenied {
				t.Errorf("the stream of a forgotten node ends with %v", err)
			}
			break
		}
	}
	refusedAs("a forgotten node", r.raw(t, third), "knows this node no longer")
	r.stop()
	r.store = store.NewMemory() // as restored from before everything
	r.start("127.0.0.1:0")
	refusedAs("a forgotten node, on a restored store", r.raw(t, third), "knows this node no longer")
	if err := os.WriteFile(filepath.Join(r.dir, revokedFile), []byte("["), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRevocations(r.dir); err == nil {
		t.Error("a cut list was taken: everybody on it would be let in")
	}
}

// An instance's life moves on by its node's leaving and having it in force.
func TestInstanceLife(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	state := func() lb.InstanceState { return r.store.State().Instances.Get("ins-aaaaaaaa").State }
	become := func(s lb.InstanceState) {
		r.update(func(tx *store.Tx) {
			i := *tx.State().Instances.Get("ins-aaaaaaaa")
			i.State = s
			tx.PutInstance(&i)
		})
	}
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	eventually(t, "running", func() bool { return state() == lb.Running })
	become(lb.Stopping)
	host.stop()
	eventually(t, "stopped", func() bool { return state() == lb.Stopped })
	become(lb.Starting)
	host.start()
	eventually(t, "started", func() bool { return state() == lb.Running })
	become(lb.Rebooting)
	host.stop()
	eventually(t, "starting", func() bool { return state() == lb.Starting })
	host.start()
	eventually(t, "rebooted", func() bool { return state() == lb.Running })
	// A server that comes while the node is gone notices after a while.
	host.stop()
	r.stop()
	become(lb.Stopping)
	r.start("127.0.0.1:0")
	eventually(t, "noticed by the next server", func() bool { return state() == lb.Stopped })
}

// A gateway whose address belongs to something else is refused when it joins
// and when it moves; where it was, it stays welcome.
func TestGatewayIsAdmitted(t *testing.T) {
	r := newRegion(t)
	vip := netip.MustParseAddr("192.0.2.1")
	r.admit = func(_ *store.Tx, m Machine) error {
		if m.Instance != "" || m.Name != "gateway-1" {
			t.Errorf("asked about %+v", m)
		}
		if m.Address == vip || len(m.Others) == 1 && m.Others[0] == vip {
			return errors.New("address 192.0.2.1 is the VIP of lb-00000001")
		}
		return nil
	}
	token, err := r.CreateToken(t.Context(), TokenRequest{Role: lb.RoleGateway, Name: "gateway-1"})
	if err != nil {
		t.Fatal(err)
	}
	if _, dir, err := r.joinAs(t, token.Text, "192.0.2.1"); !errors.Is(err, node.ErrRefused) || !strings.Contains(err.Error(), "the VIP of lb-00000001") || node.HasJoined(dir) {
		t.Errorf("with a VIP: %v", err)
	}
	if _, _, err := r.joinAs(t, token.Text, "192.0.2.129"); err != nil {
		t.Fatal(err)
	}
	id := identity{Name: "gateway-1", Role: lb.RoleGateway}
	certificate := r.store.State().Nodes.Get("gateway-1").Certificate
	for _, c := range []struct {
		at   ends
		fine bool
	}{
		{ends{address: vip}, false}, {ends{address: netip.MustParseAddr("192.0.2.129"), other: vip}, false}, {ends{address: netip.MustParseAddr("192.0.2.140")}, true},
	} {
		if err := r.recognise(t.Context(), id, certificate, c.at, nil); (err == nil) != c.fine {
			t.Errorf("at %v: %v", c.at, err)
		}
	}
	vip = netip.MustParseAddr("192.0.2.140") // an earlier release let that happen
	if err := r.recognise(t.Context(), id, certificate, ends{address: vip}, nil); err != nil {
		t.Errorf("where it was: %v", err)
	}
}
