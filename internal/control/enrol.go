// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
	"github.com/sallyport/sallyport/internal/wire"
)

// A TokenRequest says what a join token entitles its bearer to be.
type TokenRequest struct {
	Role     lb.NodeRole
	Name     lb.NodeID     // "": a gateway gets the next free gateway-N, a host its instance's id
	Instance lb.InstanceID // host: the existing instance that it runs; "": the machine becomes a new one
	Title    string        // the new instance's name
	Life     time.Duration // 0: ten minutes; at most a day
}

// A JoinToken is a token as people carry it, and what it is for.
type JoinToken struct {
	Text    string
	Node    lb.NodeID
	Server  string // the address in it; "": whoever joins has to say it
	Expires time.Time
}

// CreateToken makes a join token for one node, which can be used once. A
// host's names the instance that it runs, which must exist by the time it
// joins, or none: then the machine becomes an instance by joining.
func (c *Control) CreateToken(_ context.Context, r TokenRequest) (JoinToken, error) {
	if r.Life == 0 {
		r.Life = tokenLife
	}
	if r.Life < 0 || r.Life > tokenLimit {
		return JoinToken{}, fmt.Errorf("a token lives at most %v", tokenLimit)
	}
	invited := invitation{identity: identity{Name: r.Name, Role: r.Role, Instance: r.Instance}, Expires: c.now().Add(r.Life)}
	switch {
	case r.Role == lb.RoleHost && r.Instance == "":
		invited.Joins, invited.Title = true, r.Title
		invited.Instance = newInstanceID()
		invited.Name = lb.NodeID(invited.Instance)
	case r.Role == lb.RoleGateway && r.Name == "":
		invited.Name = c.freeGatewayName()
	}
	if err := invited.validate(); err != nil {
		return JoinToken{}, err
	}
	token, err := c.tokens.create(invited, c.authority.cert.Raw, c.address)
	return JoinToken{Text: token.String(), Node: invited.Name, Server: c.address, Expires: invited.Expires}, err
}

// freeGatewayName is the first of gateway-1, gateway-2, … that no node has and
// no open token promises.
func (c *Control) freeGatewayName() lb.NodeID {
	state, promised := c.store.State(), c.tokens.names()
	for n := 1; ; n++ {
		name := lb.NodeID(fmt.Sprintf("gateway-%d", n))
		if state.Nodes.Get(name) == nil && !promised[name] {
			return name
		}
	}
}

// Enroll trades a join token for a certificate. The node's record is written
// first, so that a node never has a certificate for a place that is refused.
// A machine that is refused may use its token again once that is mended.
func (sv *service) Enroll(ctx context.Context, r *wire.EnrollRequest) (*wire.EnrollReply, error) {
	address, err := netip.ParseAddr(r.Address)
	if err != nil {
		return nil, status.Errorf(codes.InvalidArgument, "address: %v", err)
	}
	others, err := parseAddresses(r.Others)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	invited, err := sv.c.tokens.redeem(r.Token)
	if err != nil {
		return nil, status.Error(codes.PermissionDenied, err.Error())
	}
	cert, err := sv.c.authority.issueNode(r.Request, invited.identity)
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if err := sv.c.enrol(ctx, invited, fingerprintOf(cert), address, others); err != nil {
		sv.c.tokens.giveBack(r.Token, invited)
		return nil, refusal(err)
	}
	sv.c.log.Info("node enrolled", "node", invited.Name, "role", invited.Role, "address", address)
	return &wire.EnrollReply{Certificate: cert, Authority: sv.c.authority.cert.Raw}, nil
}

// A refused is why a machine may not have the place that it asks for.
type refused struct{ error }

// enrol makes the store's record of a node, or gives an existing one to the
// machine that has joined under its name: from now on only this certificate
// attaches, whatever becomes of the store.
func (c *Control) enrol(ctx context.Context, invited invitation, fingerprint string, address netip.Addr, others []netip.Addr) error {
	former := ""
	_, err := c.store.Update(ctx, func(tx *store.Tx) error {
		if err := c.place(tx, invited, ends{address: address}, others); err != nil {
			return err
		}
		if old := tx.State().Nodes.Get(invited.Name); old != nil {
			former = old.Certificate
		}
		c.record(tx, invited.identity, fingerprint, ends{address: address}) // the other comes with the Hello
		return nil
	})
	if err != nil || former == "" {
		return err
	}
	return c.revoked.add(former)
}

// ends are where a node's tunnels end: over one family, and over the other or
// nowhere.
type ends struct{ address, other netip.Addr }

// record writes a node's record, with a number of its own if it is new.
func (c *Control) record(tx *store.Tx, id identity, fingerprint string, at ends) {
	record := lb.Node{Created: c.now()}
	if old := tx.State().Nodes.Get(id.Name); old != nil {
		record = *old
	} else {
		record.Num = tx.NextNum()
	}
	record.ID, record.Role, record.Instance = id.Name, id.Role, id.Instance
	record.Address, record.Other, record.Certificate = at.address, at.other, fingerprint
	tx.PutNode(&record) // writes nothing when nothing differs
}

// place sees to a host's instance: that it is there, and that it has the
// addresses of the machine if it is one of somebody's own.
func (c *Control) place(tx *store.Tx, invited invitation, at ends, others []netip.Addr) error {
	if invited.Role != lb.RoleHost {
		return c.placeGateway(tx, invited.Name, at)
	}
	i := tx.State().Instances.Get(invited.Instance)
	switch {
	case i == nil && (!invited.Joins || c.admit == nil):
		return errRemoved
	case i != nil && (!i.Joined || c.admit == nil):
		return nil
	}
	if err := c.admit(tx, Machine{Instance: invited.Instance, Name: invited.Title, Address: at.address, Others: others}); err != nil {
		return refused{err}
	}
	return nil
}

// placeGateway refuses a gateway an address that is something else's. Where it
// is already it stays: to shut out a gateway that serves would help nobody.
func (c *Control) placeGateway(tx *store.Tx, name lb.NodeID, at ends) error {
	m := Machine{Name: string(name), Address: at.address}
	if at.other.IsValid() {
		m.Others = []netip.Addr{at.other}
	}
	old := tx.State().Nodes.Get(name)
	if c.admit == nil || old != nil && old.Address == at.address && old.Other == at.other {
		return nil
	}
	if err := c.admit(tx, m); err != nil {
		return refused{err}
	}
	return nil
}

// recognise holds a node that attaches against its record, and follows its
// addresses. One without a record gets it back: the store was restored from a
// backup that is older than the node.
func (c *Control) recognise(ctx context.Context, id identity, fingerprint string, at ends, others []netip.Addr) error {
	if c.revoked.has(fingerprint) {
		return errForgotten
	}
	_, err := c.store.Update(ctx, func(tx *store.Tx) error {
		old := tx.State().Nodes.Get(id.Name)
		if old != nil && old.Certificate != "" && old.Certificate != fingerprint {
			return errSuperseded
		}
		if err := c.place(tx, invitation{identity: id}, at, others); err != nil {
			return err
		}
		c.record(tx, id, fingerprint, at)
		return nil
	})
	return err
}

// newInstanceID is one that nobody has: 36^8 of them are enough for chance.
func newInstanceID() lb.InstanceID {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789"
	id := []byte("ins-")
	for len(id) < 12 {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(letters))))
		if err != nil {
			continue // crypto/rand never fails on Linux
		}
		id = append(id, letters[n.Int64()])
	}
	return lb.InstanceID(id)
}

// Revoke shuts a certificate out for good, by its fingerprint: what attached
// with it attaches no longer, also if the store is restored to when it could.
func (c *Control) Revoke(_ context.Context, fingerprint string) error {
	return c.revoked.add(fingerprint)
}

// fingerprintOf names a certificate (DER): SHA-256, hex.
func fingerprintOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// maxAddresses bounds what one machine may claim.
const maxAddresses = 64

func parseAddresses(texts []string) ([]netip.Addr, error) {
	if len(texts) > maxAddresses {
		return nil, fmt.Errorf("%d further addresses; at most %d are taken", len(texts), maxAddresses)
	}
	var all []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil || a.Zone() != "" {
			return nil, errors.New("a further address of the machine does not parse")
		}
		all = append(all, a)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	return slices.Compact(all), nil
}
