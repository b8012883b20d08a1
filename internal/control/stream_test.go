// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/store"
	"github.com/sallyport/sallyport/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests; none sleeps in place of one.
const patience = 20 * time.Second

// A region is a store and a server for it on a loopback port.
type region struct {
	t     *testing.T
	dir   string
	store *store.Store
	addr  string
	stall time.Duration // of servers started from now on; 0: as it is
	*Control
	stop func() // ends the server, as a kill would for its nodes
}

func newRegion(t *testing.T) *region {
	t.Helper()
	r := &region{t: t, dir: t.TempDir(), store: store.NewMemory(), stop: func() {}}
	t.Cleanup(func() { r.stop(); r.store.Close() })
	r.start("127.0.0.1:0")
	return r
}

// start runs a server on the region's store and directory.
func (r *region) start(addr string) {
	r.t.Helper()
	c, err := New(Options{Store: r.store, DataDir: r.dir})
	if err != nil {
		r.t.Fatal(err)
	}
	if r.stall != 0 {
		c.stall = r.stall
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, l) }()
	r.Control, r.addr = c, l.Addr().String()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Errorf("Serve: %v", err)
		}
	})
}

// update is one transaction that must succeed.
func (r *region) update(fn func(tx *store.Tx)) lb.Revision {
	r.t.Helper()
	rev, err := r.store.Update(context.Background(), func(tx *store.Tx) error { fn(tx); return nil })
	if err != nil {
		r.t.Fatal(err)
	}
	return rev
}

// instance adds a Pending instance with its group.
func (r *region) instance(id lb.InstanceID, private string) lb.Revision {
	return r.update(func(tx *store.Tx) {
		tx.PutGroup(group("sg-aaaaaaaa", 1))
		tx.PutInstance(&lb.Instance{ID: id, VPC: "vpc-aaaaaaaa", Private: netip.MustParseAddr(private),
			Groups: []lb.GroupID{"sg-aaaaaaaa"}, State: lb.Pending})
	})
}

// group is a security group whose one rule differs by n.
func group(id lb.GroupID, n int) *lb.SecurityGroup {
	return &lb.SecurityGroup{ID: id, Name: "web", Ingress: []lb.PolicyRule{{ID: "pol-aaaaaaaa", Action: lb.Accept, Proto: lb.TCP,
		Ports: []lb.PortRange{{First: uint16(n), Last: uint16(n)}}, Peer: netip.MustParsePrefix("203.0.113.0/24")}}}
}

func (r *region) token(role lb.NodeRole, name lb.NodeID, instance lb.InstanceID) string {
	r.t.Helper()
	token, err := r.CreateToken(context.Background(), TokenRequest{Role: role, Name: name, Instance: instance})
	if err != nil {
		r.t.Fatal(err)
	}
	return token.Text
}

// An agent is a real node with a fake data plane.
type agent struct {
	t       *testing.T
	dir     string
	options node.Options
	stop    func() error // ends it and gives Run's result
	*applier
}

// join starts an agent with a new token.
func (r *region) join(role lb.NodeRole, name lb.NodeID, instance lb.InstanceID, address string) *agent {
	r.t.Helper()
	a := r.agent(role, name, address, r.token(role, name, instance))
	a.start()
	return a
}

func (r *region) agent(role lb.NodeRole, name lb.NodeID, address, token string) *agent {
	r.t.Helper()
	dir := r.t.TempDir()
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		r.t.Fatal(err)
	}
	fake := newApplier()
	return &agent{t: r.t, dir: filepath.Join(dir, "data"), applier: fake, options: node.Options{
		Name: name, Role: role, Server: r.addr, DataDir: filepath.Join(dir, "data"), Address: netip.MustParseAddr(address),
		TokenFile: file, Appliers: []node.Applier{fake}, Kernel: fake, Health: fake.health, Version: "test"}}
}

func (a *agent) start() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	options := a.options
	go func() { done <- node.Run(ctx, options) }()
	var once sync.Once
	var err error
	a.stop = func() error {
		once.Do(func() { cancel(); err = <-done })
		return err
	}
	a.t.Cleanup(func() { a.stop() })
}

// An applier is a data plane that remembers what it was told.
type applier struct {
	health chan flow.Health
	facts  chan flow.Event

	mu        sync.Mutex
	changed   chan struct{}
	log       []string // "stage N", "commit N"
	staged    lb.Revision
	committed lb.Revision
	snapshot  *snapshot.Snapshot // newest staged
	refuse    error              // what Stage returns
	hold      chan struct{}      // Stage waits for it to be closed
	told      []flow.Counter
	at        time.Time // of the last commit
}

func newApplier() *applier {
	return &applier{health: make(chan flow.Health), facts: make(chan flow.Event), changed: make(chan struct{})}
}

func (f *applier) edit(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *applier) Stage(ctx context.Context, s *snapshot.Snapshot) error {
	f.mu.Lock()
	hold, refuse := f.hold, f.refuse
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	if refuse != nil {
		return refuse
	}
	f.edit(func() { f.log, f.staged, f.snapshot = append(f.log, fmt.Sprint("stage ", s.Revision)), s.Revision, s })
	return nil
}

func (f *applier) Commit(_ context.Context, r lb.Revision) error {
	f.mu.Lock()
	staged := f.staged
	f.mu.Unlock()
	if staged != r {
		return fmt.Errorf("revision %d is not staged", r)
	}
	f.edit(func() { f.log, f.committed, f.at = append(f.log, fmt.Sprint("commit ", r)), r, time.Now() })
	return nil
}

func (f *applier) Counters() ([]flow.Counter, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told), nil
}

func (f *applier) Reasons() (flow.Reasons, error) {
	return flow.Reasons{Packets: map[policy.Reason]uint64{policy.NoMatch: 7}}, nil
}

func (f *applier) Events(ctx context.Context, tell func(flow.Event)) error {
	for {
		select {
		case e := <-f.facts:
			tell(e)
		case <-ctx.Done():
			return nil
		}
	}
}

func (f *applier) Revision() lb.Revision {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.committed
}

// reach waits until ok holds for the applier.
func (f *applier) reach(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		f.mu.Lock()
		done, changed, log := ok(), f.changed, slices.Clone(f.log)
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("never: %s; so far %v", what, log)
		}
	}
}

func (f *applier) inForce(t *testing.T, r lb.Revision) {
	t.Helper()
	f.reach(t, fmt.Sprint("revision ", r, " in force"), func() bool { return f.committed >= r })
}

// eventually polls facts, which have no bell.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(patience); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

func (r *region) status(id lb.NodeID) NodeStatus {
	for _, n := range r.Facts().Nodes() {
		if n.ID == id {
			return n
		}
	}
	return NodeStatus{}
}

// A gateway and a host enrol, get every change, and the instance becomes
// Running once its own host has it in force.
func TestJoinAndFollow(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	eventually(t, "running", func() bool { return r.store.State().Instances.Get("ins-aaaaaaaa").State == lb.Running })
	rev := r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 2)) })
	gw.inForce(t, rev)
	host.inForce(t, rev)
	n := r.store.State().Nodes.Get("gateway-1")
	if n == nil || n.Num == 0 || n.Address != netip.MustParseAddr("192.0.2.129") {
		t.Errorf("the store's record of gateway-1: %+v", n)
	}
	for _, id := range []lb.NodeID{"gateway-1", "ins-aaaaaaaa"} {
		eventually(t, "status of "+string(id), func() bool {
			s := r.status(id)
			return s.Connected && s.Committed == rev && s.Err == "" && s.RSS > 0 && s.Reasons.Packets[policy.NoMatch] == 7
		})
		if s := r.status(id); s.Lag <= 0 || s.Lag > patience {
			t.Errorf("lag of %s: %v", id, s.Lag)
		}
	}
	// The keys of both ends of a tunnel agree.
	a, b := gw.snapshot.Peers, host.snapshot.Peers
	if len(a) != 1 || len(b) != 1 || a[0].Keys != b[0].Keys || a[0].Keys[0] == a[0].Keys[1] {
		t.Errorf("peers of the gateway %+v, of the host %+v", a, b)
	}
}

// Where a node's tunnels end over the other family reaches the store and goes
// again; without it, both sides of a pair that shares none say so.
func TestOtherFamily(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	gw.inForce(t, 1)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "2001:db8::2")
	told := func(want string) func() bool {
		return func() bool {
			for _, n := range r.Control.Facts().Nodes() {
				if n.ID == "gateway-1" {
					return want == "" && n.Err == "" || want != "" && strings.Contains(n.Err, want)
				}
			}
			return false
		}
	}
	eventually(t, "said that no tunnel runs", told("no tunnel to ins-aaaaaaaa: this node has an IPv4 address only"))
	for _, other := range []string{"2001:db8::1", ""} {
		gw.stop()
		gw.options.Other = netip.Addr{}
		if other != "" {
			gw.options.Other = netip.MustParseAddr(other)
		}
		gw.start()
		eventually(t, "other address", func() bool { return r.store.State().Nodes.Get("gateway-1").Other == gw.options.Other })
		if other != "" {
			eventually(t, "all is well", told(""))
		} else {
			eventually(t, "said again", told("no tunnel to ins-aaaaaaaa"))
		}
	}
}

func TestParseOther(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		text    string
		address netip.Addr
		want    netip.Addr
		refused bool
	}{
		{"", four, netip.Addr{}, false},
		{"2001:db8::1", four, six, false},
		{"192.0.2.1", six, four, false},
		{"192.0.2.2", four, netip.Addr{}, true},
		{"2001:db8::2", six, netip.Addr{}, true},
		{"::ffff:192.0.2.1", four, netip.Addr{}, true},
		{"fe80::1%eth0", four, netip.Addr{}, true},
		{"here", four, netip.Addr{}, true},
	} {
		if got, err := parseOther(c.text, c.address); got != c.want || (err != nil) != c.refused {
			t.Errorf("%q beside %v: %v, %v", c.text, c.address, got, err)
		}
	}
}

// A node's new address reaches the store.
func TestAddressChange(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	gw.inForce(t, 1)
	num := r.store.State().Nodes.Get("gateway-1").Num
	gw.stop()
	gw.options.Address = netip.MustParseAddr("192.0.2.140")
	gw.start()
	eventually(t, "new address", func() bool {
		n := r.store.State().Nodes.Get("gateway-1")
		return n.Address == netip.MustParseAddr("192.0.2.140") && n.Num == num
	})
}

// A token serves once, only the server that made it, and only what it says.
func TestTokensRefused(t *testing.T) {
	r := newRegion(t)
	good := r.token(lb.RoleGateway, "gateway-1", "")
	parsed, err := wire.ParseToken(good)
	if err != nil {
		t.Fatal(err)
	}
	unknown := wire.Token{Secret: strings.Repeat("0", 32), Authority: parsed.Authority}.String()
	stranger := wire.Token{Secret: parsed.Secret, Authority: strings.Repeat("0", 64)}.String()
	for _, c := range []struct{ name, token, want string }{
		{"unknown secret", unknown, "unknown, used or expired"},
		{"other CA", stranger, "not the one that made the join token"},
		{"not a token", "hello", "not a join token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", c.token)
			if err := node.Run(t.Context(), a.options); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Run: %v, want %q", err, c.want)
			}
		})
	}
	gw := r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", good)
	gw.start()
	gw.inForce(t, 1)
	gw.stop()
	t.Run("replayed", func(t *testing.T) {
		a := r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", good)
		if err := node.Run(t.Context(), a.options); err == nil || !strings.Contains(err.Error(), "unknown, used or expired") {
			t.Errorf("Run: %v", err)
		}
	})
	t.Run("for another name", func(t *testing.T) {
		a := r.agent(lb.RoleGateway, "gateway-9", "192.0.2.129", r.token(lb.RoleGateway, "gateway-2", ""))
		if err := node.Run(t.Context(), a.options); err == nil || !strings.Contains(err.Error(), `is for node "gateway-2"`) {
			t.Errorf("Run: %v", err)
		}
	})
	raw, err := os.ReadFile(filepath.Join(r.dir, tokensFile))
	if err != nil || strings.Contains(string(raw), parsed.Secret) {
		t.Errorf("the file of tokens holds a secret, or is not there: %v", err)
	}
}

// raw is a connection without a node around it.
func (r *region) raw(t *testing.T, certificates ...tls.Certificate) wire.ControlClient {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(r.authority.cert)
	conn, err := grpc.NewClient("passthrough:///"+r.addr, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool, ServerName: wire.ServerName, Certificates: certificates})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return wire.NewControlClient(conn)
}

// certificate is one that the region's CA issued to id.
func (r *region) certificate(t *testing.T, id identity) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := r.authority.issueNode(request, id)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// attach opens a stream and says hello.
func attach(t *testing.T, client wire.ControlClient, hello *wire.Hello) wire.Control_AttachClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	stream, err := client.Attach(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&wire.NodeMessage{Kind: &wire.NodeMessage_Hello{Hello: hello}}); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return stream
}

// Who may attach, and who may not.
func TestAttachRefused(t *testing.T) {
	r := newRegion(t)
	gw := r.certificate(t, identity{Name: "gateway-1", Role: lb.RoleGateway})
	orphan := r.certificate(t, identity{Name: "ins-gone", Role: lb.RoleHost, Instance: "ins-gone"})
	hello := &wire.Hello{Protocol: 1, Name: "gateway-1", Address: "192.0.2.129"}
	for _, c := range []struct {
		name  string
		certs []tls.Certificate
		hello *wire.Hello
		want  codes.Code
	}{
		{"no certificate", nil, hello, codes.Unauthenticated},
		{"another's name", []tls.Certificate{gw}, &wire.Hello{Protocol: 1, Name: "gateway-2", Address: "192.0.2.129"}, codes.InvalidArgument},
		{"no version", []tls.Certificate{gw}, &wire.Hello{Name: "gateway-1", Address: "192.0.2.129"}, codes.InvalidArgument},
		{"no address", []tls.Certificate{gw}, &wire.Hello{Protocol: 1, Name: "gateway-1"}, codes.InvalidArgument},
		{"instance gone", []tls.Certificate{orphan}, &wire.Hello{Protocol: 1, Name: "ins-gone", Address: "192.0.2.130"}, codes.PermissionDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := attach(t, r.raw(t, c.certs...), c.hello).Recv(); status.Code(err) != c.want {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// say answers a message on a raw stream.
func say(t *testing.T, stream wire.Control_AttachClient, r uint32, phase wire.Phase, fault string) {
	t.Helper()
	if err := stream.Send(&wire.NodeMessage{Kind: &wire.NodeMessage_Ack{Ack: &wire.Ack{Revision: r, Phase: phase, Error: fault}}}); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, stream wire.Control_AttachClient) *wire.ServerMessage {
	t.Helper()
	m, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// A node gets a blob once, and everything again after it refused something.
func TestBlobsSentOnce(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	id := identity{Name: "ins-aaaaaaaa", Role: lb.RoleHost, Instance: "ins-aaaaaaaa"}
	stream := attach(t, r.raw(t, r.certificate(t, id)), &wire.Hello{Protocol: 1, Name: "ins-aaaaaaaa", Address: "192.0.2.130"})
	stage := func() *wire.Stage {
		t.Helper()
		for {
			if s := receive(t, stream).GetStage(); s != nil {
				return s
			}
		}
	}
	first := stage()
	if len(first.Blobs) == 0 {
		t.Fatalf("the first Stage brings nothing: %v", first)
	}
	say(t, stream, first.Revision, wire.Phase_PHASE_STAGED, "")
	if c := receive(t, stream).GetCommit(); c == nil || c.Revision != first.Revision {
		t.Fatalf("after the Stage came %v", c)
	}
	// Staged only: so the instance stays Pending and no revision comes between.
	rev := r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-bbbbbbbb"}) })
	same := stage()
	if lb.Revision(same.Revision) != rev || len(same.Blobs) != 0 {
		t.Fatalf("a change that is none for the node brings %d blobs at %d", len(same.Blobs), same.Revision)
	}
	say(t, stream, same.Revision, wire.Phase_PHASE_STAGED, "")
	r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 3)) })
	small := stage()
	if len(small.Blobs) == 0 || len(small.Blobs) >= len(first.Blobs) {
		t.Fatalf("one changed group brings %d of %d blobs", len(small.Blobs), len(first.Blobs))
	}
	say(t, stream, small.Revision, wire.Phase_PHASE_STAGED, "no room")
	again := stage() // upkeep offers it again
	if again.Revision != small.Revision || len(again.Blobs) != len(first.Blobs) {
		t.Fatalf("after a refusal %d of %d blobs at %d", len(again.Blobs), len(first.Blobs), again.Revision)
	}
	if s := r.status("ins-aaaaaaaa"); s.Err != "no room" {
		t.Errorf("status says %q", s.Err)
	}
}

// Gateways hear of a revision only after the hosts have staged it.
func TestHostsStageFirst(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	eventually(t, "running", func() bool { return r.store.State().Instances.Get("ins-aaaaaaaa").State == lb.Running })
	rev := r.store.State().Revision
	gw.inForce(t, rev)
	host.inForce(t, rev)
	for i := range 5 {
		release := make(chan struct{})
		host.edit(func() { host.hold = release })
		rev := r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 10+i)) })
		go func() { close(release) }()
		gw.reach(t, "staged at the gateway", func() bool { return gw.staged >= rev })
		host.mu.Lock()
		staged := host.staged
		host.mu.Unlock()
		if staged < rev {
			t.Errorf("the gateway has staged %d, the host only %d", rev, staged)
		}
		gw.inForce(t, rev)
		host.inForce(t, rev)
	}
}

// A host that hangs holds nobody back, and catches up when it wakes.
func TestSlowHostHoldsNobodyBack(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	eventually(t, "running", func() bool { return r.store.State().Instances.Get("ins-aaaaaaaa").State == lb.Running })
	host.inForce(t, r.store.State().Revision)
	release := make(chan struct{})
	host.edit(func() { host.hold = release })
	began := time.Now()
	rev := r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 2)) })
	gw.inForce(t, rev)
	if took := time.Since(began); took < hostsLimit {
		t.Errorf("the gateway did not wait for the host: %v", took)
	} else {
		t.Logf("in force on the gateway after %v", took)
	}
	began = time.Now()
	for i := range 20 { // more than the host's queue holds
		rev = r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 100+i)) })
		gw.inForce(t, rev)
	}
	if took := time.Since(began); took > 20*hostsLimit/2 {
		t.Errorf("the host was waited for again and again: 20 rounds took %v", took)
	}
	if host.Revision() >= rev {
		t.Fatal("the host was not held")
	}
	close(release)
	host.inForce(t, rev)
}

// A refusing data plane keeps the former snapshot in force, says so, and is
// offered the newest again.
func TestRefusedSnapshot(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	gw.inForce(t, 1)
	before := gw.Revision()
	gw.edit(func() { gw.refuse = errors.New("the map is full") })
	rev := r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-bbbbbbbb"}) })
	eventually(t, "told", func() bool { return strings.Contains(r.status("gateway-1").Err, "the map is full") })
	if got := gw.Revision(); got != before {
		t.Errorf("%d in force, was %d", got, before)
	}
	gw.edit(func() { gw.refuse = nil })
	gw.inForce(t, rev)
	eventually(t, "no fault any more", func() bool { s := r.status("gateway-1"); return s.Err == "" && s.Committed == rev })
}

// The server may end at any time: nodes come back to the next one and get
// what they missed; one that starts meanwhile works from its disk.
func TestServerRestart(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	idle := r.join(lb.RoleGateway, "gateway-2", "", "192.0.2.128")
	rev := r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-aaaaaaaa"}) })
	gw.inForce(t, rev)
	idle.inForce(t, rev)
	eventually(t, "kept on disk", func() bool { return r.status("gateway-2").Committed >= 2 })
	r.stop()
	idle.stop()
	idle.applier = newApplier()
	idle.options.Appliers, idle.options.Kernel = []node.Applier{idle.applier}, idle.applier
	idle.start()
	idle.inForce(t, 2)
	rev = r.update(func(tx *store.Tx) { tx.PutVPC(&lb.VPC{ID: "vpc-cccccccc"}) })
	began := time.Now()
	r.start(r.addr)
	gw.inForce(t, rev)
	idle.inForce(t, rev)
	t.Logf("in force %v after the server's return", time.Since(began))
}

// A damaged kept snapshot is set aside, reported and never applied.
func TestDamagedSnapshot(t *testing.T) {
	r := newRegion(t)
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	gw.inForce(t, 1)
	eventually(t, "committed", func() bool { return r.status("gateway-1").Committed >= 1 })
	gw.stop()
	r.stop()
	path := filepath.Join(gw.dir, "snapshot")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(gw.dir, "snapshot.previous")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	gw.applier = newApplier()
	gw.options.Appliers, gw.options.Kernel = []node.Applier{gw.applier}, gw.applier
	gw.start()
	eventually(t, "set aside", func() bool {
		_, err := os.Stat(filepath.Join(gw.dir, "snapshot.corrupt"))
		return err == nil
	})
	if got := gw.Revision(); got != 0 {
		t.Errorf("revision %d in force from a damaged file", got)
	}
	r.start(r.addr)
	gw.inForce(t, 1)
}

// A node that stops reading its stream delays nobody for longer than one
// round, and is cut off.
func TestStalledStream(t *testing.T) {
	r := newRegion(t)
	r.stop()
	r.stall = 200 * time.Millisecond
	r.start(r.addr)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	id := identity{Name: "ins-aaaaaaaa", Role: lb.RoleHost, Instance: "ins-aaaaaaaa"}
	attach(t, r.raw(t, r.certificate(t, id)), &wire.Hello{Protocol: 1, Name: "ins-aaaaaaaa", Address: "192.0.2.130"}) // and never reads
	eventually(t, "attached", func() bool { return r.status("ins-aaaaaaaa").Connected })
	began := time.Now()
	for n := 1; r.status("ins-aaaaaaaa").Connected; n++ {
		big := group("sg-aaaaaaaa", n)
		for i := range 90 { // fills the stream's window sooner
			rule := big.Ingress[0]
			rule.ID = lb.RuleID(fmt.Sprintf("pol-%08d", i))
			rule.Ports = []lb.PortRange{{First: uint16(n + 3*i), Last: uint16(n + 3*i)}}
			rule.Peer = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), 32)
			big.Ingress = append(big.Ingress, rule)
		}
		gw.inForce(t, r.update(func(tx *store.Tx) { tx.PutGroup(big) }))
		if time.Since(began) > patience {
			t.Fatalf("still attached after %d rounds", n)
		}
	}
	t.Logf("cut off after %v", time.Since(began))
}

// A node that is given a token of another cluster leaves the old one; one
// whose token is merely used up keeps its certificate.
func TestMoveToAnotherCluster(t *testing.T) {
	first, second := newRegion(t), newRegion(t)
	gw := first.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	gw.inForce(t, 1)
	gw.stop()
	gw.start() // the same token, used up
	gw.inForce(t, 1)
	eventually(t, "attached again", func() bool { return first.status("gateway-1").Connected })
	gw.stop()
	if err := os.WriteFile(gw.options.TokenFile, []byte(second.token(lb.RoleGateway, "gateway-1", "")), 0o600); err != nil {
		t.Fatal(err)
	}
	gw.options.Server = second.addr
	gw.start()
	eventually(t, "attached to the second", func() bool { return second.status("gateway-1").Connected })
}

// Removing an instance ends its host's stream and forgets the node.
func TestOrphanRemoved(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	host.inForce(t, 2)
	r.update(func(tx *store.Tx) { tx.DeleteInstance("ins-aaaaaaaa") })
	eventually(t, "forgotten", func() bool { return r.store.State().Nodes.Get("ins-aaaaaaaa") == nil && len(r.Facts().Nodes()) == 0 })
}

// Facts reach the server: events in order with loss counted, changes of
// health at once, counters, and everything again after a restart.
func TestFactsTravelUp(t *testing.T) {
	r := newRegion(t)
	gw := r.agent(lb.RoleGateway, "gateway-1", "192.0.2.129", r.token(lb.RoleGateway, "gateway-1", ""))
	gw.told = []flow.Counter{{Gate: policy.GateCLB, Group: "sg-aaaaaaaa", Rule: "pol-aaaaaaaa", Packets: 5}}
	gw.start()
	gw.inForce(t, 1)
	after := r.Facts().Newest()
	sent := flow.Event{Time: time.Unix(1, 0).UTC(), Node: "a lie", Revision: 1, Proto: lb.TCP, Src: netip.MustParseAddrPort("203.0.113.10:4000")}
	gw.facts <- sent
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	events, next, lost := r.Facts().Events(ctx, after, 10)
	if len(events) != 1 || next != after+1 || lost != 0 || events[0].Node != "gateway-1" || events[0].Src != sent.Src {
		t.Fatalf("events %+v, next %d after %d, lost %d", events, next, after, lost)
	}
	began := time.Now()
	gw.health <- flow.Health{Target: 9, State: flow.HealthDead, Kind: "timeout"}
	known := func() bool {
		h := r.Facts().Health()[9]
		c := r.Facts().Counters()
		return len(h) == 1 && h[0].State == flow.HealthDead && h[0].Node == "gateway-1" && len(c) == 1 && c[0].Packets == 5
	}
	eventually(t, "health and counters", known)
	t.Logf("health known after %v", time.Since(began))
	gw.mu.Lock()
	gw.told = nil
	gw.mu.Unlock()
	eventually(t, "a vanished counter", func() bool { return len(r.Facts().Counters()) == 0 })
}

// Commit latency: from the store's commit to the data plane's, hosts staged
// in between.
func TestCommitLatency(t *testing.T) {
	r := newRegion(t)
	r.instance("ins-aaaaaaaa", "10.200.0.2")
	gw := r.join(lb.RoleGateway, "gateway-1", "", "192.0.2.129")
	host := r.join(lb.RoleHost, "ins-aaaaaaaa", "ins-aaaaaaaa", "192.0.2.130")
	eventually(t, "running", func() bool { return r.store.State().Instances.Get("ins-aaaaaaaa").State == lb.Running })
	rev := r.store.State().Revision
	gw.inForce(t, rev)
	host.inForce(t, rev)
	var took []time.Duration
	for i := range 100 {
		rev := r.update(func(tx *store.Tx) { tx.PutGroup(group("sg-aaaaaaaa", 1000+i)) })
		began := time.Now()
		gw.inForce(t, rev)
		host.inForce(t, rev)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("commit to in force on gateway and host: p50 %v, p99 %v, worst %v", took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
}
