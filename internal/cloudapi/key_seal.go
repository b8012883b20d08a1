// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/internal/lb"
)

// VaultKeySize is the length of a Vault's key, in bytes.
const VaultKeySize = 32

// A Vault seals the secrets of access keys and the private keys of certificates, so that whoever reads the database
// or its backup cannot use them. A sealed secret opens only under the id of its
// own key.
type Vault struct{ aead cipher.AEAD }

// NewVault makes a Vault of a key of VaultKeySize bytes (AES-256-GCM).
func NewVault(key []byte) (*Vault, error) {
	if len(key) != VaultKeySize {
		return nil, fmt.Errorf("the key has %d bytes; want %d", len(key), VaultKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Vault{aead}, nil
}

// randomVault is for a server whose keys need not outlive it.
func randomVault() *Vault {
	key := make([]byte, VaultKeySize)
	_, _ = rand.Read(key) // never fails: it ends the program instead
	v, err := NewVault(key)
	if err != nil {
		panic(err) // a key of the right size always does
	}
	return v
}

func (v *Vault) seal(id lb.KeyID, secret string) []byte {
	return v.aead.Seal(nil, nil, []byte(secret), []byte(id))
}

func (v *Vault) open(id lb.KeyID, sealed []byte) (string, error) {
	secret, err := v.aead.Open(nil, nil, sealed, []byte(id))
	return string(secret), err
}

// sealKey is seal for the private key of a certificate.
func (v *Vault) sealKey(id lb.CertificateID, key string) []byte {
	return v.aead.Seal(nil, nil, []byte(key), []byte("certificate "+id))
}

// OpenKey is the private key of a certificate, in PEM.
func (v *Vault) OpenKey(c *lb.Certificate) (string, error) {
	key, err := v.aead.Open(nil, nil, c.Sealed, []byte("certificate "+c.ID))
	if err != nil {
		return "", fmt.Errorf("%w: %s, for one", ErrVault, c.ID)
	}
	return string(key), nil
}

// ErrVault is returned by Check for a state that was sealed with another key.
var ErrVault = errors.New("the key file does not open the access keys and certificates in the store")

// Check reports whether v opens every secret and private key of a state; the error wraps
// ErrVault.
func (v *Vault) Check(st *lb.State) error {
	for _, id := range st.Keys.Sorted() {
		for _, s := range st.Keys.Get(id).Secrets {
			if _, err := v.open(id, s.Sealed); err != nil {
				return fmt.Errorf("%w: %s, for one", ErrVault, id)
			}
		}
	}
	for _, id := range st.Certificates.Sorted() {
		if _, err := v.OpenKey(st.Certificates.Get(id)); err != nil {
			return err
		}
	}
	return nil
}
