// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"fmt"
	"io"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// xdpPass is XDP_PASS of linux/bpf.h.
const xdpPass = 2

// PassAll puts a program that passes everything onto a device until the result
// is closed. The far end of a veth pair needs one for AttachXDP: without it
// the kernel never collects what XDP sends into the pair.
func PassAll(device string) (io.Closer, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", device, err)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "pass_all", Type: ebpf.XDP, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, xdpPass), asm.Return()}})
	if err != nil {
		return nil, fmt.Errorf("load the program that passes everything: %w", err)
	}
	defer prog.Close()
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", device, err)
	}
	return l, nil
}
