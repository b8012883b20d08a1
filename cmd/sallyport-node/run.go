// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
)

const (
	pinRoot      = "/sys/fs/bpf/sallyport"
	drainLimit   = 5 * time.Second // for requests in flight when the node is stopped
	healthBuffer = 1024            // changes of health on their way to the reporter
)

// runFlags are what the command line of `run` says.
type runFlags struct {
	name, role, server, data, device, address, tokenFile, pin, metrics, attach, standby string

	except      []string // interfaces that are not judged
	metricsSaid bool
	flows       uint32 // 0: not said
	arp         bool
	joined      bool // what is not said comes from the config that `join` wrote
}

func newRunCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use: "run", Short: "Hold a gate until stopped; what is in force in the kernel stays after that",
		Long: "Run holds the gate of a machine that has joined. Flags stand above what `join` wrote down; without --name the\n" +
			"machine must have joined.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.metricsSaid = cmd.Flags().Changed("metrics")
			if f.name == "" {
				c, err := readConfig(f.data)
				if err != nil {
					return err
				}
				f.fill(c)
			}
			s, err := f.settings(cmd.Context())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), s, cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.name, "name", "", "the node's name; a host's is its instance's id")
	flags.StringVar(&f.role, "role", "", "gateway or host")
	flags.StringVar(&f.server, "server", "", "the server's address for nodes, ADDRESS:PORT")
	flags.StringVar(&f.data, "data", dataDir, "folder for the certificate and the last good snapshot, and for what `join` wrote down")
	flags.StringVar(&f.device, "device", "", "interface that faces the network")
	flags.StringVar(&f.address, "address", "", "this machine's address where the tunnel ends")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the join token; needed on the first start only")
	flags.StringVar(&f.pin, "pin", "", "folder in a bpffs to pin programs and maps in (default "+pinRoot+"/NAME)")
	flags.StringVar(&f.metrics, "metrics", "127.0.0.1:7782", "address for /metrics and /healthz; empty: none")
	flags.StringVar(&f.attach, "attach", "auto", "hooks that a gateway uses: tc, xdp, or auto for what `doctor` says")
	flags.Uint32Var(&f.flows, "flows", 0, flowsHelp)
	return cmd
}

// settings are checked flags.
type settings struct {
	node    node.Options
	device  string
	pin     string
	control netip.AddrPort
	metrics string
	attach  datapath.Attach
	flows   uint32 // room in the flow table; 0: the role's default
	arp     bool
	standby lb.NodeID // answers for VIPs only while this gateway is drained; "": always
	except  []string  // interfaces of a joined host that are not judged
	observe bool      // refuse nothing until the first snapshot is in force
	joined  bool      // a machine of somebody's own
	place   *place    // to be watched; nil: the address was said
}

func (f *runFlags) settings(ctx context.Context) (settings, error) {
	s, err := f.checked()
	if err != nil {
		return settings{}, usageError{err}
	}
	if !f.joined {
		return s, nil
	}
	p, err := find(ctx, f.device, f.address, f.data, lb.NodeRole(f.role) == lb.RoleHost, f.except)
	if err != nil {
		return settings{}, err
	}
	s.node.Address, s.node.Other, s.node.Others = p.address, p.second(), p.others
	if f.address == "" {
		s.place = &p
	}
	s.arp, s.standby, s.joined = f.arp, lb.NodeID(f.standby), true
	s.except = f.except
	s.observe = s.node.Role == lb.RoleHost && node.Observes(f.data)
	return s, nil
}

// checked are the settings that the flags alone say.
func (f *runFlags) checked() (settings, error) {
	for _, need := range []struct{ flag, value string }{
		{"name", f.name}, {"role", f.role}, {"server", f.server}, {"data", f.data}, {"device", f.device}, {"address", f.address},
	} {
		if need.value == "" && !(f.joined && need.flag == "address") {
			return settings{}, fmt.Errorf("run needs --%s", need.flag)
		}
	}
	role := lb.NodeRole(f.role)
	if role != lb.RoleGateway && role != lb.RoleHost {
		return settings{}, fmt.Errorf("--role %q is neither gateway nor host", f.role)
	}
	address, err := netip.ParseAddr(f.address)
	if (err != nil || address.Zone() != "") && !(f.joined && f.address == "") {
		return settings{}, fmt.Errorf("--address %q is not an address", f.address)
	}
	server, err := netip.ParseAddrPort(f.server)
	if err != nil || server.Addr().Zone() != "" {
		// A name would have to be resolved through the very gate that the
		// control stream's system rule opens.
		return settings{}, fmt.Errorf("--server %q is not an address with a port", f.server)
	}
	s := settings{device: f.device, pin: f.pin, control: server, metrics: f.metrics,
		node: node.Options{Name: lb.NodeID(f.name), Role: role, Server: f.server, DataDir: f.data, Address: address,
			TokenFile: f.tokenFile, Version: version()}}
	if s.attach, err = chooseAttach(f.attach, role, f.device); err != nil {
		return settings{}, err
	}
	s.pin, s.flows = pinOf(f.pin, f.name), f.flows
	return s, checkFlows(f.flows)
}

// chooseAttach turns the flag into hooks. Hosts have no choice.
func chooseAttach(flag string, role lb.NodeRole, device string) (datapath.Attach, error) {
	switch {
	case flag != "auto" && flag != string(datapath.AttachTC) && flag != string(datapath.AttachXDP):
		return "", fmt.Errorf("--attach %q is none of auto, tc and xdp", flag)
	case role == lb.RoleHost && flag == string(datapath.AttachXDP):
		return "", errors.New("--attach xdp is for gateways: gate 2 stands at TC")
	case role == lb.RoleHost:
		return datapath.AttachTC, nil
	case flag == "auto":
		chosen, _ := datapath.ChooseAttach(device)
		return chosen, nil
	}
	return datapath.Attach(flag), nil
}

// serve runs the node until ctx ends.
func serve(ctx context.Context, s settings, logs io.Writer) error {
	log := slog.New(slog.NewTextHandler(logs, nil)).With("node", string(s.node.Name))
	s.node.Logger = log
	rooms, err := open(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() {
		if err := rooms.close(); err != nil {
			log.Error("stopping", "error", err)
		}
	}()
	s.node.Appliers, s.node.Kernel, s.node.Health = rooms.appliers, rooms.kernel, rooms.health
	s.node.Requests, s.node.Flows = rooms.requests, rooms.flows
	s.node.Loads, s.node.SetLoads = rooms.loads, rooms.setLoads
	s.node.Passed = rooms.passed
	n, err := node.New(s.node)
	if err != nil {
		return err
	}
	stopMetrics, err := serveMetrics(s.metrics, n.Handler())
	if err != nil {
		return err
	}
	defer stopMetrics()
	if _, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil { // no systemd: nothing happens
		log.Warn("the service manager was not told that the gate stands", "error", err)
	}
	return runUntilMoved(ctx, n, s.place)
}

// runUntilMoved runs the node until ctx ends or the machine has other
// addresses, which is errMoved.
func runUntilMoved(ctx context.Context, n *node.Node, p *place) error {
	if p == nil {
		return n.Run(ctx)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if err := p.watch(ctx); err != nil {
			cancel(err)
		}
	}()
	err := n.Run(ctx)
	cancel(nil)
	<-watched
	if cause := context.Cause(ctx); err == nil && errors.Is(cause, errMoved) {
		return cause
	}
	return err
}

// serveMetrics serves h on address until stop is called.
func serveMetrics(address string, h http.Handler) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--metrics: %w", err)
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("metrics", "error", err)
		}
	}()
	return func() { server.Close(); <-done }, nil
}
