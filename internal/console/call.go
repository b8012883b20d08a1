// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// call runs one action of the API as the console itself, for what it watches
// for everybody.
func (c *Console) call(ctx context.Context, version, action string, in, out any) error {
	return runAction(action, in, out, func(params json.RawMessage) (json.RawMessage, error) {
		return c.API.Do(ctx, version, action, params)
	})
}

// as runs one action of the API with the role and projects of who is logged in.
func (v *visit) as(ctx context.Context, version, action string, in, out any) error {
	return runAction(action, in, out, func(params json.RawMessage) (json.RawMessage, error) {
		return v.API.DoAs(ctx, v.caller(), version, action, params)
	})
}

// caller is who is logged in, as the audit log tells it.
func (v *visit) caller() cloudapi.Caller {
	who := cloudapi.Caller{Address: v.r.RemoteAddr, Client: "console"}
	if host, _, err := net.SplitHostPort(v.r.RemoteAddr); err == nil {
		who.Address = host
	}
	if v.session != nil {
		who.KeyID = v.session.secretID
	}
	return who
}

func runAction(action string, in, out any, do func(json.RawMessage) (json.RawMessage, error)) error {
	params := json.RawMessage("{}")
	if in != nil {
		var err error
		if params, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
	}
	answer, err := do(params)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s: %w", action, err)
	}
	return nil
}

// m is an action's input.
type m = map[string]any
