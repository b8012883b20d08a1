// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/policy"
)

// A Kind says what a blob of the wire form holds.
type Kind string

// The kinds. There is exactly one blob of peers and one of VIPs, and one per
// element of the others.
const (
	KindPolicy   Kind = "policy"
	KindListener Kind = "listener"
	KindTarget   Kind = "target"
	KindInstance Kind = "instance"
	KindFront    Kind = "front"
	KindPeers    Kind = "peers"
	KindVIPs     Kind = "vips"

	KindCertificate Kind = "certificate"
)

// A Ref names one blob of a manifest by its content: 32 hex digits, the first
// 16 bytes of its SHA-256.
type Ref struct {
	Kind Kind        `json:"kind"`
	Hash policy.Hash `json:"hash"`
}

// A Manifest is a snapshot with every element replaced by its name.
type Manifest struct {
	Revision lb.Revision `json:"revision"`
	Node     lb.NodeID   `json:"node"`
	Role     lb.NodeRole `json:"role"`
	Drained  []lb.NodeID `json:"drained,omitempty"`
	Refs     []Ref       `json:"refs"`
}

// Hashes are the names of all blobs that the manifest needs, in its order.
func (m Manifest) Hashes() []policy.Hash {
	all := make([]policy.Hash, len(m.Refs))
	for i, r := range m.Refs {
		all[i] = r.Hash
	}
	return all
}

// BlobHash is the name of a blob.
func BlobHash(blob []byte) policy.Hash {
	sum := sha256.Sum256(blob)
	return policy.Hash(hex.EncodeToString(sum[:16]))
}

// Encode gives the wire form: a manifest and the blobs that it names, one JSON
// value each. Equal snapshots give equal bytes, so that an element that did
// not change is a blob that the node already has.
func Encode(s *Snapshot) (Manifest, map[policy.Hash][]byte, error) {
	e := &encoding{blobs: make(map[policy.Hash][]byte)}
	e.manifest = Manifest{Revision: s.Revision, Node: s.Node, Role: s.Role, Drained: s.Drained}
	for _, hash := range s.policyHashes() {
		e.add(KindPolicy, s.Policies[hash])
	}
	for _, l := range s.Listeners {
		e.add(KindListener, l)
	}
	for _, t := range s.Targets {
		e.add(KindTarget, t)
	}
	for _, i := range s.Instances {
		e.add(KindInstance, i)
	}
	for _, f := range s.Fronts {
		e.add(KindFront, f)
	}
	for _, c := range s.Certificates {
		e.add(KindCertificate, c)
	}
	e.add(KindPeers, s.Peers)
	e.add(KindVIPs, s.VIPs)
	return e.manifest, e.blobs, e.err
}

type encoding struct {
	manifest Manifest
	blobs    map[policy.Hash][]byte
	err      error
}

func (e *encoding) add(kind Kind, element any) {
	blob, err := json.Marshal(element)
	if err != nil {
		e.err = fmt.Errorf("%s: %w", kind, err)
		return
	}
	hash := BlobHash(blob)
	e.manifest.Refs = append(e.manifest.Refs, Ref{kind, hash})
	e.blobs[hash] = blob
}

// Decode is the reverse of Encode. It trusts nothing: an unknown kind or
// field, a blob that is missing, not what its name says or not written as
// Encode writes it, a name of what is not there, an order or a table that the
// kernel could not use, each is an error, and then nothing is returned.
func Decode(m Manifest, blobs map[policy.Hash][]byte) (*Snapshot, error) {
	s := &Snapshot{Revision: m.Revision, Node: m.Node, Role: m.Role, Drained: m.Drained, Policies: make(map[policy.Hash]*policy.Compiled)}
	count := make(map[Kind]int)
	for i, ref := range m.Refs {
		blob, ok := blobs[ref.Hash]
		if !ok {
			return nil, fmt.Errorf("blob %d (%s %s) is missing", i, ref.Kind, ref.Hash)
		}
		if got := BlobHash(blob); got != ref.Hash {
			return nil, fmt.Errorf("blob %d (%s) is named %s but is %s", i, ref.Kind, ref.Hash, got)
		}
		if err := s.take(ref.Kind, blob); err != nil {
			return nil, fmt.Errorf("blob %d (%s %s): %w", i, ref.Kind, ref.Hash, err)
		}
		count[ref.Kind]++
	}
	if count[KindPeers] != 1 || count[KindVIPs] != 1 {
		return nil, fmt.Errorf("%d lists of peers and %d of VIPs, want one each", count[KindPeers], count[KindVIPs])
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return s, nil
}

// take adds the element that a blob holds.
func (s *Snapshot) take(kind Kind, blob []byte) (err error) {
	switch kind {
	case KindPolicy:
		var c *policy.Compiled
		if c, err = decode[*policy.Compiled](blob); err != nil {
			return err
		}
		if c == nil {
			return fmt.Errorf("null")
		}
		if s.Policies[c.Hash] != nil {
			return fmt.Errorf("policy %s stands twice", c.Hash)
		}
		s.Policies[c.Hash] = c
	case KindListener:
		s.Listeners, err = decodeInto(s.Listeners, blob)
	case KindTarget:
		s.Targets, err = decodeInto(s.Targets, blob)
	case KindInstance:
		s.Instances, err = decodeInto(s.Instances, blob)
	case KindFront:
		s.Fronts, err = decodeInto(s.Fronts, blob)
	case KindCertificate:
		s.Certificates, err = decodeInto(s.Certificates, blob)
	case KindPeers:
		s.Peers, err = decode[[]Peer](blob)
	case KindVIPs:
		s.VIPs, err = decode[[]netip.Addr](blob)
	default:
		return fmt.Errorf("unknown kind")
	}
	return err
}

func decodeInto[T any](all []T, blob []byte) ([]T, error) {
	one, err := decode[T](blob)
	return append(all, one), err
}

// decode refuses whatever would not be written again byte for byte: unknown
// and repeated fields, other spellings of names, spaces, trailing data.
func decode[T any](blob []byte) (T, error) {
	var value, none T
	d := json.NewDecoder(bytes.NewReader(blob))
	d.DisallowUnknownFields()
	if err := d.Decode(&value); err != nil {
		return none, err
	}
	again, err := json.Marshal(value)
	if err != nil {
		return none, err
	}
	if !bytes.Equal(again, blob) {
		return none, fmt.Errorf("is not in the one form that Encode writes")
	}
	return value, nil
}
