// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// once makes what a call asks for, unless the same call was made with the same
// client token within the last 24 hours: then it returns what that one made.
// Another call with that token is refused. An empty token is none.
func (c *Call) once(tx *store.Tx, token string, in any, make func() ([]string, error)) ([]string, error) {
	if token == "" {
		return make()
	}
	text, err := json.Marshal([]any{in, c.Echo})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	asked := hex.EncodeToString(sum[:])
	key := c.Action.Service.Name + "/" + c.Action.Name + "/" + token
	if c.narrow() {
		key += "/" + strings.Join(c.Key.Projects, ",") // nobody is answered with objects of other projects
	}
	if earlier, ok := tx.Token(key); ok {
		before, made, ok := strings.Cut(earlier, " ")
		if !ok || before != asked {
			return nil, refuse(lb.Invalid, "ClientToken", "it was used within the last 24 hours for a call with other parameters", "repeat that call exactly, or give a new token")
		}
		return strings.Split(made, ","), nil
	}
	made, err := make()
	if err == nil {
		tx.PutToken(key, asked+" "+strings.Join(made, ","))
	}
	return made, err
}
