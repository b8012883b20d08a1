// SPDX-License-Identifier: Apache-2.0

package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

const revokedFile = "revoked.json"

// Revocations are the list of node certificates that are valid no longer. It
// stands beside the CA that issued them, and not in the store, because a store
// may be restored to what it was before.
type revocations struct {
	path string

	mu  sync.Mutex
	all []string // fingerprints, in order of revocation
}

func openRevocations(dir string) (*revocations, error) {
	r := &revocations{path: filepath.Join(dir, revokedFile)}
	raw, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &r.all); err != nil {
		return nil, fmt.Errorf("%s: %w", r.path, err)
	}
	return r, nil
}

// add is durable when it returns nil. Doing it again changes nothing.
func (r *revocations) add(fingerprint string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.all, fingerprint) {
		return nil
	}
	next := append(slices.Clip(r.all), fingerprint)
	raw, err := json.Marshal(next)
	if err == nil {
		err = writeFile(r.path, raw)
	}
	if err != nil {
		return fmt.Errorf("revoke a certificate: %w", err)
	}
	r.all = next
	return nil
}

func (r *revocations) has(fingerprint string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.all, fingerprint)
}
