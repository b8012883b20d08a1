// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "github.com/sallyport/sallyport/internal/lb"

type describeCallerIn struct{}

// describeCallerOut is the access key that signed the call. KeyId is "" for
// the server itself, in process. Projects is empty for a key that is for all.
type describeCallerOut struct {
	KeyId, Name, Role string
	Projects          []string
}

// describeCaller says who asks: every key may know its own role.
func describeCaller(c *Call, _ *describeCallerIn) (*describeCallerOut, error) {
	if c.Key == nil {
		return &describeCallerOut{Role: string(lb.KeyAdmin)}, nil
	}
	return &describeCallerOut{KeyId: string(c.Key.ID), Name: c.Key.Name, Role: string(c.Key.Role), Projects: c.Key.Projects}, nil
}
