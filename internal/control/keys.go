// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

const (
	secretFile = "tunnel.key"
	secretSize = 32
	// keyPeriod is half the life of a tunnel key: one period it is known but
	// not sent, two it is sent, one more it is still accepted.
	keyPeriod = 12 * time.Hour
)

// openSecret reads the cluster's tunnel secret from dir, or makes one there.
func openSecret(dir string) ([]byte, error) {
	path := filepath.Join(dir, secretFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw = make([]byte, secretSize)
		if _, err := rand.Read(raw); err != nil {
			return nil, err
		}
		return raw, writeFile(path, raw)
	}
	if err == nil && len(raw) != secretSize {
		err = fmt.Errorf("%s: %d bytes, not %d", path, len(raw), secretSize)
	}
	return raw, err
}

// tunnelKeys are the two keys of a gateway's tunnel to a host at an epoch.
// The first is sent, both are accepted. Every step changes either the key
// that is only accepted or which of the two is sent, so that a host one step
// behind, or a packet under way, still meets a key that is known.
func tunnelKeys(secret []byte, gateway, host, epoch uint32) [2]uint64 {
	first := (epoch + 1) / 2
	second := epoch / 2
	if epoch%2 == 0 {
		second = first + 1
	}
	return [2]uint64{tunnelKey(secret, gateway, host, first), tunnelKey(secret, gateway, host, second)}
}

func tunnelKey(secret []byte, gateway, host, n uint32) uint64 {
	mac := hmac.New(sha256.New, secret)
	var in [12]byte
	binary.BigEndian.PutUint32(in[0:], gateway)
	binary.BigEndian.PutUint32(in[4:], host)
	binary.BigEndian.PutUint32(in[8:], n)
	mac.Write(in[:])
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// keyEpoch is the epoch that a gateway made at created should be in by now.
func keyEpoch(created, now time.Time) uint32 {
	if !now.After(created) {
		return 0
	}
	return uint32(now.Sub(created) / keyPeriod)
}

// keysAt is the key function for one state. A gateway's epoch is part of the
// state, so keys change with a revision and by the same rounds as all else.
func keysAt(secret []byte, state *lb.State) func(gateway, host uint32) [2]uint64 {
	epochs := map[uint32]uint32{}
	for _, n := range state.Nodes.All() {
		epochs[n.Num] = n.KeyEpoch
	}
	return func(gateway, host uint32) [2]uint64 {
		return tunnelKeys(secret, gateway, host, epochs[gateway])
	}
}
