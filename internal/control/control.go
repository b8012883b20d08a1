// SPDX-License-Identifier: Apache-2.0

// Package control takes the desired state to the nodes and their facts back:
// it enrols nodes, watches the store, assembles each node's snapshot, stages
// and commits it in rounds, and keeps what nodes report. Facts never change
// what it pushes, with one exception: an instance becomes Running when its
// own node has it in force.
//
// A round has two phases. First every host stages the newest revision; hosts
// that have not answered after 250 ms are waited for no longer. Then gateways
// stage and commit, and hosts commit. So a gateway stamps a revision into the
// tunnel only after the hosts had their chance to know it. The next round
// takes whatever is newest then.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
	"github.com/sallyport/sallyport/internal/store"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	keepaliveEvery = 5 * time.Second // with the timeout: a dead node is noticed within 10 s
	keepaliveLimit = 5 * time.Second
	maxNodeMessage = 16 << 20
)

// Options say what a Control works on.
type Options struct {
	Store   *store.Store     // required
	DataDir string           // required; keeps the CA, open join tokens and the tunnel secret, mode 0600
	Logger  *slog.Logger     // nil: silent
	Now     func() time.Time // nil: time.Now
	Address string           // HOST:PORT that join tokens carry, by which machines reach the node listener; "": none
	// Admit makes or follows the instance of a machine of somebody's own, in
	// the transaction that enrols or attaches it, and refuses a gateway an address
	// that is something else's; nil: no such machine joins, no gateway is refused.
	Admit func(tx *store.Tx, m Machine) error
	// OpenKey gives the private key of a certificate, in PEM, for gateways; nil:
	// no state with HTTPS listeners can be sent.
	OpenKey func(c *lb.Certificate) (string, error)
}

// A Machine is what a host of somebody's own, or a gateway, says of itself.
type Machine struct {
	Instance lb.InstanceID // "": a gateway
	Name     string        // the instance's, when it is new; the gateway's
	Address  netip.Addr    // where the tunnel ends, and its first address
	Others   []netip.Addr  // its further ones
}

// A Control is the server's side of the node stream. Make it with New.
type Control struct {
	store     *store.Store
	log       *slog.Logger
	now       func() time.Time
	authority *authority
	tokens    *tokens
	secret    []byte
	revoked   *revocations
	encoder   *encoder
	address   string
	admit     func(tx *store.Tx, m Machine) error
	facts     *Facts
	stall     time.Duration  // stallLimit; tests have less patience
	wg        sync.WaitGroup // everything that works for a session or Serve
	rising    rise
	began     time.Time // when New made it

	mu       sync.Mutex
	closing  bool // no more sessions
	sessions map[lb.NodeID]*session
	staging  *lb.State                 // what the round under way has given to hosts only; nil between rounds
	released *lb.State                 // the newest that gateways may have; nil before the first round
	arrived  map[lb.Revision]time.Time // when a revision was first seen
	passed   lb.Revision               // every gateway in reach has it in force or a later one
	progress chan struct{}             // closed and replaced with every acknowledgement and departure
}

// New opens or makes the CA, the tunnel secret and the list of join tokens in
// o.DataDir.
func New(o Options) (*Control, error) {
	c := &Control{store: o.Store, log: o.Logger, now: o.Now, address: o.Address, admit: o.Admit, stall: stallLimit, sessions: map[lb.NodeID]*session{},
		rising: rise{left: store.MaxRaise}, arrived: map[lb.Revision]time.Time{}, progress: make(chan struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	if err := os.MkdirAll(o.DataDir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if c.authority, err = openAuthority(o.DataDir, c.now); err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	if c.tokens, err = openTokens(o.DataDir, c.now); err != nil {
		return nil, fmt.Errorf("join tokens: %w", err)
	}
	if c.revoked, err = openRevocations(o.DataDir); err != nil {
		return nil, fmt.Errorf("revoked certificates: %w", err)
	}
	if c.secret, err = openSecret(o.DataDir); err != nil {
		return nil, fmt.Errorf("tunnel secret: %w", err)
	}
	c.encoder = newEncoder(c.secret, o.OpenKey)
	c.began = c.now()
	c.facts = newFacts(c.now)
	c.facts.follow(o.Store.State())
	return c, nil
}

// Facts are what nodes have told.
func (c *Control) Facts() *Facts { return c.facts }

// Compile is policy.Compile with the memory from which snapshots are made: what
// the API compiled before it stored it is not compiled again for the nodes.
func (c *Control) Compile(groups []policy.Group) (*policy.Compiled, error) {
	return c.encoder.compiler.Compile(groups)
}

func (id identity) validate() error {
	switch {
	case id.Name == "":
		return errors.New("a node needs a name")
	case id.Role != lb.RoleGateway && id.Role != lb.RoleHost:
		return fmt.Errorf("role %q is neither gateway nor host", id.Role)
	case id.Role == lb.RoleHost && id.Instance == "":
		return errors.New("a host needs the id of its instance")
	case id.Role == lb.RoleGateway && id.Instance != "":
		return errors.New("a gateway runs no instance")
	}
	return nil
}

// Serve speaks with nodes on l until ctx ends, then closes every stream and l
// and returns nil. It may be called once.
func (c *Control) Serve(ctx context.Context, l net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(c.authority.tlsConfig())),
		grpc.MaxRecvMsgSize(maxNodeMessage),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveEvery, Timeout: keepaliveLimit}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveEvery, PermitWithoutStream: true}),
	)
	wire.RegisterControlServer(server, &service{c: c})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, work := range []func(context.Context){c.arrivals, c.rounds, c.upkeep} {
		c.wg.Go(func() { work(ctx) })
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
	}
	cancel()
	c.stopSessions()
	server.Stop()
	c.wg.Wait()
	return err
}

func (c *Control) stopSessions() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	for _, s := range c.sessions {
		s.stop(errClosing)
	}
}
