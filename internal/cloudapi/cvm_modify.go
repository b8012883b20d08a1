// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"encoding/base64"
	"fmt"
	"regexp"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type modifyInstancesIn struct {
	InstanceIds           []string `tc:"required,count=1-100"`
	InstanceName          *string  `tc:"len=128,code=InvalidInstanceName.TooLong"`
	SecurityGroups        []string `tc:""`
	UserData              *string  `tc:"echo"`
	HostName              *string  `tc:"echo"`
	DisableApiTermination *bool    `tc:""`
	_                     struct{} `unserved:"CamRoleName CamRoleType AutoReboot EnableJumboFrame"`
}

// modifyInstancesAttribute changes one attribute of instances: the name, the
// whole ordered list of groups, the protection, or what is stored for clients.
func modifyInstancesAttribute(c *Call, in *modifyInstancesIn) (*done, error) {
	given := ""
	for _, f := range []struct {
		name  string
		given bool
	}{
		{"InstanceName", in.InstanceName != nil && *in.InstanceName != ""}, {"SecurityGroups", len(in.SecurityGroups) > 0}, {"UserData", in.UserData != nil},
		{"HostName", in.HostName != nil}, {"DisableApiTermination", in.DisableApiTermination != nil},
	} {
		if f.given && given != "" {
			return nil, refuse(lb.Coexist, f.name, given+" is given too", "one call changes one attribute")
		}
		if f.given {
			given = f.name
		}
	}
	if given == "" {
		return nil, refuse(lb.Missing, "InstanceName", "nothing to change is given", "give InstanceName, SecurityGroups (at least one group), UserData, HostName or DisableApiTermination")
	}
	if err := in.check(); err != nil {
		return nil, err
	}
	return &done{}, editInstances(c, in.InstanceIds, func(tx *store.Tx, i *lb.Instance) error {
		switch given {
		case "InstanceName":
			i.Name = *in.InstanceName
		case "SecurityGroups":
			var err error
			if i.Groups, err = c.groupList(tx.State(), "SecurityGroups", in.SecurityGroups); err != nil {
				return err
			}
			i.Observe = false // the first binding of a machine that joined closes its gate
		case "DisableApiTermination":
			i.Echo = withEcho(i.Echo, given, fmt.Sprint(*in.DisableApiTermination))
		default:
			i.Echo = withEcho(i.Echo, given, c.Echo[given])
		}
		tx.PutInstance(i)
		if given != "SecurityGroups" {
			return nil
		}
		return renamed(c.checkMembers(tx, i.Groups), "SecurityGroupIds", "SecurityGroups")
	})
}

func (in *modifyInstancesIn) check() error {
	switch {
	case in.InstanceName != nil && *in.InstanceName != "":
		return instanceName("InstanceName", *in.InstanceName)
	case in.UserData != nil:
		return checkUserData(*in.UserData)
	case in.HostName != nil:
		return checkHostName(*in.HostName)
	}
	return nil
}

// maxUserData is how long user data may be before they are encoded.
const maxUserData = 16 << 10

func checkUserData(text string) error {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return errorf("InvalidParameterValue.InvalidUserDataFormat", "UserData: not base64; encode it")
	}
	if len(raw) > maxUserData {
		return refuse(lb.TooLong, "UserData", fmt.Sprintf("%d bytes before encoding, at most %d", len(raw), maxUserData), "shorten it")
	}
	return nil
}

// hostName is what cvm allows: letters, digits, dots and hyphens, neither two
// in a row nor at the ends, 2 to 60 in all.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]+([.-][A-Za-z0-9{}:]+)*$`)

func checkHostName(name string) error {
	if name != "" && (len(name) < 2 || len(name) > 60 || !hostName.MatchString(namePattern.ReplaceAllString(name, "0"))) {
		return errorf("InvalidParameterValue.IllegalHostName", "HostName: %q is none; use 2 to 60 letters and digits, with single dots or hyphens between", clip(name, 70))
	}
	return nil
}
