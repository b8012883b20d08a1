// SPDX-License-Identifier: Apache-2.0

// Package lab is the one-machine playground: clients, a gateway, the server
// and instances as network namespaces around a fabric that only routes. It
// adds no link, route or rule to the machine's own namespace, starts each
// process inside its host's namespace, and takes away all it made, also what
// a killed lab left behind.
//
//	client-1 ─┐                ┌─ gateway-1   (what no other host has is routed to it)
//	client-2 ─┼─── fabric ─────┼─ server
//	client-3 ─┘  192.0.2.254   └─ ins-xxxxxxxx … (one per instance)
package lab

import (
	"net/netip"
	"path/filepath"

	"github.com/sallyport/sallyport/internal/lb"
)

// A Role says what a lab host is for.
type Role string

// The roles as the ready file and `lab ls` write them.
const (
	RoleClient   Role = "client"
	RoleInstance Role = "instance"
	RoleGateway  Role = "gateway"
	RoleServer   Role = "server"
)

// A Host is one machine of the lab.
type Host struct {
	Name      string       // also its namespace, sp-NAME; an instance's host is named by the instance's id
	Role      Role         //
	Instance  string       // the instance's id; "" on other hosts
	Title     string       // the name the instance's owner gave it; "" on other hosts
	Underlay  netip.Addr   // where tunnel and control stream end; zero on clients
	Addresses []netip.Addr // what others reach it by in IPv4, preferred source first; the underlay address is not among an instance's
	IPv6      netip.Addr   // the same in IPv6; zero: it has none
}

// Where the lab keeps what others find it by. All of it is gone with the lab.
const (
	RunDir       = "/run/sallyport"
	ServerRecord = RunDir + "/server.json" // written by the server: address and admin key
	ServerCA     = RunDir + "/ca.pem"      // written by the server: the certificate of its CA
	labRecord    = RunDir + "/lab.json"
	lockFile     = RunDir + "/up.lock"
	bpfDir       = RunDir + "/bpf"
	netnsDir     = "/run/netns"
	netnsPrefix  = "sp-"
)

// fabricName names the namespace in the middle. It is no Host: nothing runs there.
const fabricName = "fabric"

// passSuffix stands in the name of the process that serves a gateway's link.
const passSuffix = ".pass."

// DefaultServer and DefaultGateway name the two hosts that every lab has once.
const (
	DefaultServer  = "server"
	DefaultGateway = "gateway-1"
)

// mtu is what clients and real networks commonly have.
const mtu = 1500

// FabricAddress is the router that every host has as its default gateway.
func FabricAddress() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 254}) }

// privateNetworks are where VPCs can be, and the basic network.
func privateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"), lb.BasicNetwork(),
	}
}

// PublicPool holds the public addresses of instances.
func PublicPool() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, 64}), 26)
}

// serverAddress is the server's in the lab's own network.
func serverAddress() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 253}) }

// FixedHosts are the hosts every lab starts with: the server, the gateway and
// three clients in two networks.
func FixedHosts() []Host {
	server := serverAddress()
	gateway := netip.AddrFrom4([4]byte{192, 0, 2, 129})
	client := func(name string, a [4]byte) Host {
		return Host{Name: name, Role: RoleClient, Addresses: []netip.Addr{netip.AddrFrom4(a)}, IPv6: clientIPv6(name)}
	}
	return []Host{
		{Name: DefaultServer, Role: RoleServer, Underlay: server, Addresses: []netip.Addr{server}, IPv6: underlayIPv6(server)},
		{Name: DefaultGateway, Role: RoleGateway, Underlay: gateway, Addresses: []netip.Addr{gateway}, IPv6: underlayIPv6(gateway)},
		client("client-1", [4]byte{203, 0, 113, 10}),
		client("client-2", [4]byte{198, 51, 100, 20}),
		client("client-3", [4]byte{203, 0, 113, 30}),
	}
}

// firstInstance and lastInstance bound the underlay addresses of instances.
func firstInstance() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 130}) }
func lastInstance() netip.Addr  { return netip.AddrFrom4([4]byte{192, 0, 2, 252}) }

// PinDir is where the node of a host pins its programs, maps and links.
func PinDir(host string) string { return filepath.Join(bpfDir, host) }

// Namespace is the path of a host's network namespace, as setns and nsenter take it.
func Namespace(host string) string { return filepath.Join(netnsDir, netnsPrefix+host) }
