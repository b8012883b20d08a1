// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// An Engine is what a script runs on. Changes go through Call on every
// engine; they differ in who judges.
type Engine interface {
	// Call runs one action of the product's API. out may be nil.
	Call(ctx context.Context, api API, action string, in, out any) error
	// Instance gives the instance of that name, made when there is none yet,
	// with or without a public address.
	Instance(ctx context.Context, name string, public bool) (Instance, error)
	// Addressed waits until the instance's machine has the address in IPv6.
	Addressed(ctx context.Context, i Instance) error
	// Settle waits until what was called so far is in force everywhere.
	Settle(ctx context.Context) error
	// Send tries all the sends, which do not depend on each other.
	Send(ctx context.Context, sends []Send) ([]Result, error)
	// Open opens a connection to a listener of layer 4 and keeps it under a name.
	Open(ctx context.Context, name string, s Send) (Result, error)
	// Still sends more on an open connection; served says what is expected.
	Still(ctx context.Context, name string, served bool) (Result, error)
	// Health waits until the target has the state wanted, and says what it is.
	Health(ctx context.Context, h Health) (Health, error)
	// Logged reports whether the instance logged a request on port from that address.
	Logged(ctx context.Context, i Instance, port uint16, from netip.Addr) (bool, error)
}

// An API is a service and version of the product's API.
type API struct{ Service, Version string }

// The services that scenarios use.
const (
	versionCLB       = "2018-03-17"
	versionVPC       = "2017-03-12"
	versionSallyport = "2026-11-23"
)

func apiCLB() API       { return API{"clb", versionCLB} }
func apiVPC() API       { return API{"vpc", versionVPC} }
func apiCVM() API       { return API{"cvm", versionVPC} }
func apiSallyport() API { return API{"sallyport", versionSallyport} }

// An Instance is a backend server of the story.
type Instance struct {
	Name, ID        string
	Private, Public netip.Addr
	IPv6            netip.Addr // zero: it has none yet
}

// Address is where others reach the instance, and what it sends from.
func (i Instance) Address() netip.Addr {
	if i.Public.IsValid() {
		return i.Public
	}
	return i.Private
}

// A Send is one attempt to reach something.
type Send struct {
	Line     Line
	From     Host
	To       netip.Addr
	Port     uint16 // 0 for ICMP
	ICMP     bool
	UDP      bool
	Cut      bool   // the datagram is too long for its link and goes in fragments
	Balancer string // the load balancer's id when To is its VIP or EIP, else ""
	Listener string // the listener's id, when there is one on Port
	Target   Host   // whom To belongs to when it is an instance
	Layer7   bool   // an HTTP listener takes it, so the gateway opens the flow that gate 2 judges
	Warm     bool   // the same client was served by this listener before: the flow may exist already
	Wanted   []string
}

// A Host is a client or an instance.
type Host struct {
	Name     string
	Address  netip.Addr
	Instance string // the instance's id; "" for clients
}

// A Result is what became of a Send.
type Result struct {
	Served     bool
	By         string   // the id of the instance that served; "": not known
	Lost       bool     // an open flow was reset, or has another target now
	Redirected bool     // an HTTP redirect by the gateway itself
	Detail     string   // how it ended, for people
	Fault      string   // what is neither served nor a refusal: an error page, a reset; "" otherwise
	Verdicts   []string // as verdict lines have them, group ids not yet named
}

// A Health is a target's state: "alive" or "dead", and for a dead one why.
type Health struct {
	Balancer string
	Instance Instance
	Port     uint16
	State    string
	Kind     string
}

// until asks again every 20 ms until done says so or fails. What takes longer
// than half a minute does not come.
func until(ctx context.Context, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited half a minute: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// clients are the lab's client hosts, whose addresses are fixed.
func clients() map[string]netip.Addr {
	return map[string]netip.Addr{
		"client-1": netip.AddrFrom4([4]byte{203, 0, 113, 10}),
		"client-2": netip.AddrFrom4([4]byte{198, 51, 100, 20}),
		"client-3": netip.AddrFrom4([4]byte{203, 0, 113, 30}),
	}
}
