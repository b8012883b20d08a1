// SPDX-License-Identifier: Apache-2.0

package flow

// A Load is how many connections a target has, as its own host counts them: it
// sees both directions, and those of every gateway.
type Load struct {
	Target      uint32
	Connections uint32 // open and opening ones; those that end are not counted
}
