// SPDX-License-Identifier: Apache-2.0

package control

import (
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

// passedProtocol is the first protocol with Passed.
const passedProtocol = 4

// pass has hosts told that no gateway stamps packets with less than r any more:
// each has it in force, has let the round wait in vain, or is out of reach.
func (c *Control) pass(r lb.Revision) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.passed = max(c.passed, r)
	for _, s := range c.listLocked(lb.RoleHost) {
		s.rouse()
	}
}

// takePassed hands a host's sender what it was not told yet, nil when that is
// nothing. A revision that the host has not been told to commit can wait.
// Control.mu is held.
func (c *Control) takePassed(s *session) *wire.ServerMessage {
	if s.Role != lb.RoleHost || s.protocol < passedProtocol || s.passed >= c.passed || s.released < c.passed {
		return nil
	}
	s.passed = c.passed
	return &wire.ServerMessage{Kind: &wire.ServerMessage_Passed{Passed: &wire.Passed{Revision: uint32(c.passed)}}}
}
