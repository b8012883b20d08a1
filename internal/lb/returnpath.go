// SPDX-License-Identifier: Apache-2.0

package lb

// A ReturnPath is the way that answers take to clients of layer-4 listeners.
// At layer 7 the gateway's proxy answers, whatever the load balancer says.
type ReturnPath string

// The two ways. The zero ReturnPath is direct.
const (
	ReturnDirect  ReturnPath = ""        // from the instance's host straight to the client
	ReturnGateway ReturnPath = "gateway" // through the gateway, where a network lets no host send from a VIP
)

// directWord is how clients write the zero ReturnPath.
const directWord = "direct"

// Name is the word that clients read and write: direct or gateway.
func (p ReturnPath) Name() string {
	if p == ReturnDirect {
		return directWord
	}
	return string(p)
}

// ReturnPathNamed is the return path of a client's word; direct for one that
// it does not know.
func ReturnPathNamed(word string) ReturnPath {
	if word == string(ReturnGateway) {
		return ReturnGateway
	}
	return ReturnDirect
}
