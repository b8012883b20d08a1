// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// ErrRefused is a server that said no to a machine that wants to join: trying
// again cannot help before what the error says is mended.
var ErrRefused = errors.New("the server refuses this machine")

// A Joined is what a machine has become.
type Joined struct {
	Name     lb.NodeID
	Role     lb.NodeRole
	Instance lb.InstanceID // "" on a gateway
}

// Join enrols this machine with the server at server (ADDRESS:PORT) and keeps
// its identity in dir, which is made 0700 when missing. The name and role are
// those that the token was made for. It waits for a server that is away until
// ctx ends; a refusal is an ErrRefused that says why.
func Join(ctx context.Context, dir, server string, token wire.Token, address netip.Addr, others []netip.Addr) (Joined, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Joined{}, err
	}
	retry := newBackoff()
	for {
		id, raw, err := enrol(ctx, server, token, address, others)
		switch {
		case err == nil:
			if err := writeFile(filepath.Join(dir, identityFile), raw); err != nil {
				return Joined{}, err
			}
			return joined(id.certificate.Leaf)
		case final(err):
			return Joined{}, fmt.Errorf("%w: %w", ErrRefused, said(err))
		}
		if retry.wait(ctx); ctx.Err() != nil {
			return Joined{}, fmt.Errorf("no answer from the server at %s: %w", server, said(err))
		}
	}
}

// said is what a server's refusal says, without gRPC's words around it.
func said(err error) error {
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		return errors.New(s.Message())
	}
	return err
}

// HasJoined reports whether dir holds an identity.
func HasJoined(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, identityFile))
	return err == nil
}

// joined reads who a certificate says that its bearer is.
func joined(cert *x509.Certificate) (Joined, error) {
	for _, u := range cert.URIs {
		if u.Scheme == "sallyport" && len(u.Path) > 1 {
			return Joined{lb.NodeID(u.Path[1:]), lb.NodeRole(u.Host), lb.InstanceID(u.Query().Get("instance"))}, nil
		}
	}
	return Joined{}, errors.New("the server's certificate for this machine names no node")
}

// enforcedFile says that a revision was in force here once that refuses.
const enforcedFile = "enforced"

// Observes reports whether the gate of a machine that joined is to refuse
// nothing until the first snapshot says how to go on: nobody has ever bound a
// group to it. dir is its data directory.
func Observes(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, enforcedFile))
	return errors.Is(err, os.ErrNotExist)
}

// Leave removes from dir what made this machine a node: its identity, its kept
// snapshots and what it noted.
func Leave(dir string) error {
	var all error
	for _, name := range []string{identityFile, fileLast, filePrevious, fileNext, fileAside, enforcedFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}
