// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"math"

	"github.com/sallyport/sallyport/internal/lb"
)

// What the programs count with, beside clientMTU.
const (
	leastMTU = 576     // no device is believed to have less
	headers4 = 20 + 20 // of a TCP segment over IPv4
)

// setMTU tells the programs how long a packet the device takes, which is less by
// the tunnel's headers for what goes into it. The caller holds the lock, or is Open.
func (d *Datapath) setMTU(mtu int) error {
	if mtu == d.mtu {
		return nil
	}
	room := min(max(mtu, leastMTU), math.MaxUint16) - d.opts.overhead()
	if d.opts.Role == lb.RoleGateway {
		cut := "gateway_uncut"
		if room >= clientMTU {
			cut = "gateway_cut"
		}
		if err := d.putBehind("cut", cut); err != nil {
			return err
		}
	}
	if err := d.vars["inner_mss"].Set(uint16(room - headers4)); err != nil {
		return fmt.Errorf("say what fits into the tunnel: %w", err)
	}
	if d.mtu != 0 {
		d.log.Info("the device's MTU is another one", "device", d.opts.Device, "was", d.mtu, "mtu", mtu)
	}
	d.mtu = mtu
	return nil
}

// noticeMTU takes over what the device's MTU is now. The caller holds the lock.
func (d *Datapath) noticeMTU() {
	dev, err := d.hops.h.LinkByName(d.opts.Device)
	if err != nil {
		return // asked again soon
	}
	if err := d.setMTU(dev.Attrs().MTU); err != nil {
		d.log.Error("the device's MTU changed, and the programs go on with the former one", "device", d.opts.Device, "error", err)
	}
}

// putBehind has a program go on with what `gateway` hands it by a map.
func (d *Datapath) putBehind(further, program string) error {
	p, err := d.loadProgram(program)
	if err != nil {
		return err
	}
	if err := d.maps[further].Put(uint32(0), p); err != nil {
		return fmt.Errorf("put %s behind gateway: %w", program, err)
	}
	return nil
}
