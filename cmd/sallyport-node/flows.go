// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// The sizes that a flow table may have.
const (
	minFlows = 1 << 10
	maxFlows = 1 << 24
)

// flowsHelp says what the flag costs.
const flowsHelp = "room in the flow table, a power of two from 1024 to 16777216; a flow takes 32 bytes of kernel memory on a gateway, " +
	"64 on a host (default 65536 on a gateway, 2 MiB, and 32768 on a host, 2 MiB); a start with another size keeps open flows"

// checkFlows says what is wrong with a size; 0 is the default.
func checkFlows(n uint32) error {
	if n != 0 && (n < minFlows || n > maxFlows || n&(n-1) != 0) {
		return fmt.Errorf("--flows %d is not a power of two from %d to %d", n, minFlows, maxFlows)
	}
	return nil
}
