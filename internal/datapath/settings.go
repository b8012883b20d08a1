// SPDX-License-Identifier: Apache-2.0

package datapath

import "net"

// flagOf is a setting that is on or off, as C has it.
func flagOf(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

// hardwareAddr is the device's MAC address; zero when it has none.
func hardwareAddr(dev *net.Interface) (mac [6]byte) {
	copy(mac[:], dev.HardwareAddr)
	return mac
}
