// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	tokensFile = "tokens.json"
	tokenLife  = 10 * time.Minute // unless whoever makes it says otherwise
	tokenLimit = 24 * time.Hour
)

// errToken is all that a stranger learns: not whether the token never was,
// was used, or has expired.
var errToken = errors.New("the join token is unknown, used or expired: make a new one")

// tokens are the join tokens that may still be used: each once, for a while.
// Only hashes of their secrets are kept.
type tokens struct {
	path string
	now  func() time.Time

	mu   sync.Mutex
	open map[string]invitation // by SHA-256 of the secret, hex
}

// An invitation is what a token entitles its bearer to be.
type invitation struct {
	identity
	Expires time.Time
	Joins   bool   `json:",omitempty"` // the instance comes into being with the machine
	Title   string `json:",omitempty"` // and has this name
}

func openTokens(dir string, now func() time.Time) (*tokens, error) {
	t := &tokens{path: filepath.Join(dir, tokensFile), now: now, open: map[string]invitation{}}
	raw, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &t.open); err != nil {
		return nil, fmt.Errorf("%s: %w", t.path, err)
	}
	return t, nil
}

// create makes a token for what invited says. authority is the CA's
// certificate, DER; server is where the token says that the server is.
func (t *tokens) create(invited invitation, authority []byte, server string) (wire.Token, error) {
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return wire.Token{}, err
	}
	token := wire.Token{Secret: hex.EncodeToString(secret), Authority: wire.AuthorityHash(authority), Server: server}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	key := hashSecret(token.Secret)
	t.open[key] = invited
	if err := t.save(); err != nil {
		delete(t.open, key)
		return wire.Token{}, err
	}
	return token, nil
}

// names are those that open invitations hold.
func (t *tokens) names() map[lb.NodeID]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	all := map[lb.NodeID]bool{}
	for _, invited := range t.open {
		all[invited.Name] = true
	}
	return all
}

// redeem uses a token up. It is gone from disk before anything is issued, so
// a crash can lose a token but never serve it twice.
func (t *tokens) redeem(text string) (invitation, error) {
	token, err := wire.ParseToken(text)
	if err != nil {
		return invitation{}, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expire()
	key := hashSecret(token.Secret)
	invited, ok := t.open[key]
	if !ok {
		return invitation{}, errToken
	}
	delete(t.open, key)
	return invited, t.save()
}

// giveBack makes a token usable again that was redeemed for nothing: the
// machine was refused for a reason that can be mended.
func (t *tokens) giveBack(text string, invited invitation) {
	token, err := wire.ParseToken(text)
	if err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[hashSecret(token.Secret)] = invited
	_ = t.save() // if that fails, a restart forgets the token: another can be made
}

func (t *tokens) expire() {
	for key, invited := range t.open {
		if !t.now().Before(invited.Expires) {
			delete(t.open, key)
		}
	}
}

func (t *tokens) save() error {
	raw, err := json.Marshal(t.open)
	if err != nil {
		return err
	}
	return writeFile(t.path, raw)
}

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}
