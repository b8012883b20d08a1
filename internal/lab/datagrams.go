// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"golang.org/x/net/ipv4"
)

// DatagramPorts are the ports on which an instance answers datagrams.
func DatagramPorts() []uint16 {
	ports := []uint16{53}
	for p := uint16(8080); p <= 8089; p++ {
		ports = append(ports, p)
	}
	return ports
}

// ServeDatagrams answers every datagram to the given ports with a Sight, from
// the address that it was sent to, until ctx ends. "ruok" is answered with
// "imok", for checks that say what they expect. It fails if a port is taken.
func (w *Web) ServeDatagrams(ctx context.Context, ports []uint16) error {
	var conns []*net.UDPConn
	stop := func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	defer stop()
	for _, port := range ports {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
		if err != nil {
			return err
		}
		conns = append(conns, conn)
	}
	defer context.AfterFunc(ctx, stop)()
	failed := make([]error, len(conns))
	var wait sync.WaitGroup
	for i, conn := range conns {
		wait.Go(func() { failed[i] = w.answer(conn, ports[i]) })
	}
	wait.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("datagrams: %v", failed)
}

// answer answers one port's datagrams until its socket is closed.
func (w *Web) answer(conn *net.UDPConn, port uint16) error {
	p := ipv4.NewPacketConn(conn)
	if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
		return err
	}
	for buffer := make([]byte, 1<<16); ; {
		n, info, from, err := p.ReadFrom(buffer)
		if err != nil {
			return err
		}
		peer, err := netip.ParseAddrPort(from.String())
		if err != nil || info == nil {
			continue
		}
		dst, _ := netip.AddrFromSlice(info.Dst)
		local := netip.AddrPortFrom(dst.Unmap(), port)
		w.line("datagram", peer, local, " bytes="+strconv.Itoa(n))
		answer := []byte("imok")
		if string(buffer[:n]) != "ruok" {
			answer, _ = json.Marshal(Sight{Instance: w.Instance, Peer: peer.Addr(), PeerPort: peer.Port(), Local: local.Addr(), Port: port, Bytes: int64(n)})
		}
		// Else the kernel would choose the address that is nearest to the peer.
		_, _ = p.WriteTo(answer, &ipv4.ControlMessage{Src: info.Dst}, from)
	}
}
