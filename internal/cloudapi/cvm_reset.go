// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type resetInstanceIn struct {
	InstanceId      string      `tc:"required"`
	ImageId         *string     `tc:"echo"`
	SystemDisk      *diskIn     `tc:"echo"`
	LoginSettings   loginIn     `tc:""`
	EnhancedService *enhancedIn `tc:"echo"`
	HostName        *string     `tc:"echo"`
	UserData        *string     `tc:"echo"`
}

// resetInstance switches an instance off and on, as a reboot does: there is no
// disk to install anew. What is given is stored for clients to read, any image
// as when the instance is made.
func resetInstance(c *Call, in *resetInstanceIn) (*done, error) {
	if in.HostName != nil {
		if err := checkHostName(*in.HostName); err != nil {
			return nil, err
		}
	}
	if in.UserData != nil {
		if err := checkUserData(*in.UserData); err != nil {
			return nil, err
		}
	}
	return &done{}, c.Update(func(tx *store.Tx) error {
		old, err := findInstance(tx.State(), "InstanceId", in.InstanceId)
		if err != nil {
			return err
		}
		i := *old
		for _, name := range sortedKeys(c.Echo) {
			i.Echo = withEcho(i.Echo, name, c.Echo[name])
		}
		return c.powerOne(tx, &i, "InstanceId", lb.Running, lb.Rebooting)
	})
}
