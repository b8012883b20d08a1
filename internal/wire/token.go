// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"strings"
)

// tokenForm opens every join token, so that a wrong paste is told apart from
// a token that has expired.
const tokenForm = "sp1"

// A Token is a join token: a secret that the server knows, the hash of the
// CA's certificate by which a node knows the server before it trusts it, and
// where the server is. The zero Token is invalid.
type Token struct {
	Secret    string // 32 hex digits
	Authority string // AuthorityHash of the CA's certificate
	Server    string // HOST:PORT of the server's node listener; "": whoever joins has to say it
}

// String is the token as people carry it: sp1.SECRET.AUTHORITY, and the
// server's address behind another dot if it has one.
func (t Token) String() string {
	text := tokenForm + "." + t.Secret + "." + t.Authority
	if t.Server != "" {
		text += "." + t.Server
	}
	return text
}

// ParseToken reads what String wrote; space around it is ignored. The error
// never repeats the text, which may be a real secret.
func ParseToken(text string) (Token, error) {
	parts := strings.SplitN(strings.TrimSpace(text), ".", 4)
	if len(parts) < 3 || parts[0] != tokenForm || !isHex(parts[1], 32) || !isHex(parts[2], 64) {
		return Token{}, errors.New("not a join token: it reads sp1.SECRET.AUTHORITY, maybe with the server's address behind")
	}
	t := Token{Secret: parts[1], Authority: parts[2]}
	if len(parts) == 4 {
		host, port, err := net.SplitHostPort(parts[3])
		if err != nil || host == "" || port == "" {
			return Token{}, errors.New("not a join token: what stands behind the third dot is no ADDRESS:PORT")
		}
		t.Server = parts[3]
	}
	return t, nil
}

// AuthorityHash names a CA's certificate (DER): 64 hex digits of SHA-256.
func AuthorityHash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func isHex(s string, n int) bool {
	raw, err := hex.DecodeString(s)
	return err == nil && len(raw) == n/2
}
