// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
)

// nonces remembers which calls with the old signature were made, for as long
// as their time would be accepted again. Two generations bound what is kept:
// each lasts as long as any call may be repeated.
type nonces struct {
	now         func() time.Time
	mu          sync.Mutex
	since       time.Time
	recent, old map[nonce]bool
}

type nonce struct {
	key  lb.KeyID
	text string
	at   int64
}

// longestNonce is more than any client sends.
const longestNonce = 64

func newNonces(now func() time.Time) *nonces {
	return &nonces{now: now, recent: map[nonce]bool{}}
}

// use refuses a nonce that its key used before with the same time.
func (n *nonces) use(key lb.KeyID, text string, at time.Time) error {
	if text == "" || len(text) > longestNonce {
		return errorf("AuthFailure.SignatureFailure", "Nonce must be a number that differs from call to call")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if now := n.now(); now.Sub(n.since) > 2*maxSkew*time.Second {
		n.old, n.recent, n.since = n.recent, map[nonce]bool{}, now
	}
	this := nonce{key, text, at.Unix()}
	if n.recent[this] || n.old[this] {
		return errorf("AuthFailure.SignatureFailure", "this Nonce and Timestamp were used before; sign every call anew")
	}
	n.recent[this] = true
	return nil
}
