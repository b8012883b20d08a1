// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/snapshot"
	"github.com/sallyport/sallyport/internal/wire"
)

// A parcel is one node's snapshot in wire form. It is immutable.
type parcel struct {
	revision  lb.Revision
	manifest  []byte
	blobs     map[string][]byte // everything the manifest names, by hash
	instances []lb.InstanceID   // that the snapshot contains
}

// contains reports whether the snapshot has instance i.
func (p *parcel) contains(i lb.InstanceID) bool { return slices.Contains(p.instances, i) }

// stage is the message for a node that has those blobs already.
func (p *parcel) stage(has map[string]bool) *wire.Stage {
	m := &wire.Stage{Revision: uint32(p.revision), Manifest: p.manifest}
	for hash, data := range p.blobs {
		if !has[hash] {
			m.Blobs = append(m.Blobs, &wire.Blob{Hash: hash, Data: data})
		}
	}
	return m
}

// hashes are the blobs that a node holds after receiving the parcel.
func (p *parcel) hashes() map[string]bool {
	all := make(map[string]bool, len(p.blobs))
	for hash := range p.blobs {
		all[hash] = true
	}
	return all
}

// An encoder assembles snapshots; policies compiled for one node or revision
// are used again for others.
type encoder struct {
	secret   []byte
	compiler *snapshot.Compiler
	open     func(c *lb.Certificate) (string, error)
}

func newEncoder(secret []byte, open func(c *lb.Certificate) (string, error)) *encoder {
	if open == nil {
		open = func(*lb.Certificate) (string, error) { return "", errors.New("this server opens no private keys") }
	}
	return &encoder{secret: secret, compiler: snapshot.NewCompiler(), open: open}
}

// encode assembles and encodes one node's part of state.
func (e *encoder) encode(state *lb.State, node lb.NodeID) (*parcel, error) {
	s, err := snapshot.Assemble(state, node, keysAt(e.secret, state), e.compiler.Compile)
	if err != nil {
		return nil, err
	}
	if err := s.Unseal(state, e.open); err != nil {
		return nil, err
	}
	manifest, blobs, err := snapshot.Encode(s)
	if err != nil {
		return nil, err
	}
	p := &parcel{revision: state.Revision, blobs: make(map[string][]byte, len(blobs))}
	if p.manifest, err = json.Marshal(manifest); err != nil {
		return nil, err
	}
	for hash, data := range blobs {
		p.blobs[string(hash)] = data
	}
	for _, i := range s.Instances {
		p.instances = append(p.instances, i.ID)
	}
	return p, nil
}
