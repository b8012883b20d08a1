// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"encoding/json"
	"fmt"
)

// call runs one action of the API.
func (c *Console) call(ctx context.Context, version, action string, in, out any) error {
	params := json.RawMessage("{}")
	if in != nil {
		var err error
		if params, err = json.Marshal(in); err != nil {
			return fmt.Errorf("%s: %w", action, err)
		}
	}
	answer, err := c.API.Do(ctx, version, action, params)
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
