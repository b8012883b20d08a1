// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/sha256"
	"fmt"
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
	recent, old map[nonce]time.Time // when it came first
}

type nonce struct {
	key  lb.KeyID
	call [sha256.Size]byte // of all that is signed: see digest
	at   int64
}

// longestNonce is more than any client sends.
const longestNonce = 64

// readAgain is for how long the same call may come again when it only reads. Clients
// draw nonces from 65,536 numbers, so who asks the same 20 times in a second is bound to
// send the very same call twice within minutes. Whoever overheard it learns nothing by
// repeating it so soon.
const readAgain = 5 * time.Second

func newNonces(now func() time.Time) *nonces {
	return &nonces{now: now, recent: map[nonce]time.Time{}}
}

// use refuses a call that its key made before: the same parameters, nonce and
// time. One that only reads is let pass for a while.
func (n *nonces) use(key lb.KeyID, p map[string]string, at time.Time, reads bool) error {
	text := p["Nonce"]
	if text == "" || len(text) > longestNonce {
		return errorf("AuthFailure.SignatureFailure", "Nonce must be a number that differs from call to call")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.now()
	if now.Sub(n.since) > 2*maxSkew*time.Second {
		n.old, n.recent, n.since = n.recent, map[nonce]time.Time{}, now
	}
	this := nonce{key, digest(p), at.Unix()}
	first, known := n.recent[this]
	if !known {
		first, known = n.old[this]
	}
	switch {
	case !known:
		n.recent[this] = now
	case !reads || now.Sub(first) > readAgain:
		return errorf("AuthFailure.SignatureFailure", "this call was made before, with the same Nonce and Timestamp; sign every call anew")
	}
	return nil
}

// digest is what a signed call says, apart from its signature.
func digest(p map[string]string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range sortedKeys(p) {
		if name != "Signature" {
			fmt.Fprintf(h, "%q=%q;", name, p[name])
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}
