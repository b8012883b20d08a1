// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/node"
	"github.com/sallyport/sallyport/internal/wire"
)

// joinFlags are what the command line of `join` says.
type joinFlags struct {
	server, data, device, address, pin, metrics, attach, standby string
	noARP, force                                                 bool
	wait                                                         time.Duration
	flows                                                        uint32
	except                                                       []string
}

func newJoinCommand() *cobra.Command {
	f := &joinFlags{}
	cmd := &cobra.Command{
		Use:   "join TOKEN",
		Short: "Make this machine a gateway or a host of the server that made the token",
		Long: "Join checks the server by the hash in the token, gets this machine's certificate, and writes what `run` needs.\n" +
			"A host becomes an instance with this machine's addresses; its gate only observes until a security group is bound.",
		Example: "  sallyport-node join sp1.…\n  sallyport-node join sp1.… --server 198.51.100.1:7781 --device eth1",
		Args:    oneToken,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.join(cmd.Context(), args[0], cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.server, "server", "", "the server's address for nodes, HOST:PORT (default: the token's)")
	flags.StringVar(&f.data, "data", dataDir, "folder for identity, config and the last good snapshot")
	flags.StringVar(&f.device, "device", "", "interface that faces the network (default: the one that leads to the server)")
	flags.StringVar(&f.address, "address", "", "address where the tunnel ends (default: the interface's that leads to the server, followed when it changes)")
	flags.StringVar(&f.pin, "pin", "", "folder in a bpffs to pin programs and maps in (default "+pinRoot+"/NAME)")
	flags.StringVar(&f.metrics, "metrics", "127.0.0.1:7782", "address for /metrics and /healthz; empty: none")
	flags.StringVar(&f.attach, "attach", "", "hooks that a gateway uses: tc, xdp, or auto for what `doctor` says")
	flags.Uint32Var(&f.flows, "flows", 0, flowsHelp)
	flags.StringSliceVar(&f.except, "except", nil, "host: interfaces that are not judged; all others are, but for bridges of virtual machines and containers alone")
	flags.StringVar(&f.standby, "standby", "", "gateway: answer for VIPs only while the gateway of this name is drained")
	flags.BoolVar(&f.noARP, "no-arp", false, "gateway: do not answer address resolution for VIPs; they are routed to it")
	flags.BoolVar(&f.force, "force", false, "join although this machine has joined already; its former identity is given up")
	flags.DurationVar(&f.wait, "wait", 30*time.Second, "how long to wait for a server that does not answer")
	return cmd
}

func oneToken(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usageError{fmt.Errorf("join needs the token that `sallyport node token` printed; usage: %s", cmd.UseLine())}
	}
	return nil
}

// join does everything that can fail before it uses the token up.
func (f *joinFlags) join(ctx context.Context, text string, out io.Writer) error {
	token, err := wire.ParseToken(text)
	if err = errors.Join(err, checkFlows(f.flows)); err != nil {
		return usageError{err}
	}
	if f.server == "" {
		f.server = token.Server
	}
	if f.server == "" {
		return usageError{errors.New("the token does not say where the server is: give --server ADDRESS:PORT")}
	}
	if os.Geteuid() != 0 {
		return errors.New("join needs root: the identity and the gate belong to the machine")
	}
	if node.HasJoined(f.data) && !f.force {
		return fmt.Errorf("this machine has joined already (%s); `sallyport-node leave` ends that, or give --force", f.data)
	}
	server, err := resolve(ctx, f.server)
	if err != nil {
		return err
	}
	p, err := f.place(server.Addr())
	if err != nil {
		return err
	}
	for _, finding := range datapath.Doctor(lb.RoleHost, p.device, pinRoot) {
		if !finding.OK {
			return fmt.Errorf("this machine cannot be a node: %s: %s", finding.What, finding.Text)
		}
	}
	waiting, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	who, err := node.Join(waiting, f.data, server.String(), token, p.address, p.others)
	if err != nil {
		return err
	}
	if f.force { // what another identity had in force or kept is not ours
		for _, name := range []string{"snapshot", "snapshot.previous", "snapshot.next", "enforced"} {
			_ = os.Remove(filepath.Join(f.data, name))
		}
	}
	c := &config{Name: string(who.Name), Role: string(who.Role), Server: server.String(), Device: p.device, Address: f.address,
		Pin: f.pin, Metrics: f.metrics, Attach: f.attach, Flows: f.flows, Standby: f.standby, Except: f.except}
	if f.noARP {
		c.ARP = new(bool)
	}
	if err := c.write(f.data); err != nil {
		return fmt.Errorf("joined as %s, but not written down: %w; make another token and join with --force", who.Name, err)
	}
	return f.tell(out, c, p)
}

// place is where the machine stands, as far as the command line does not say.
func (f *joinFlags) place(server netip.Addr) (place, error) {
	var p place
	var err error
	if f.device != "" {
		p, err = standing(f.device)
	} else {
		p, err = wayTo(server)
	}
	if err == nil {
		p, err = p.widened(f.except)
	}
	if err != nil || f.address == "" {
		return p, err
	}
	said, err := netip.ParseAddr(f.address)
	if err != nil || said.Zone() != "" {
		return p, usageError{fmt.Errorf("--address %q is not an address", f.address)}
	}
	if p.prefer(said); p.address != said {
		return p, fmt.Errorf("--address %v is not an address of %s", said, p.device)
	}
	return p, nil
}

// resolve turns the server's name into an address once and for all: looked up
// at every start, it would need a way through the very gate it opens.
func resolve(ctx context.Context, server string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		return netip.AddrPort{}, usageError{fmt.Errorf("--server %q is not HOST:PORT", server)}
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return netip.AddrPort{}, usageError{fmt.Errorf("--server %q is not HOST:PORT", server)}
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(found) == 0 {
		return netip.AddrPort{}, fmt.Errorf("the server %s has no address: %w", host, err)
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.Unmap().BitLen() - b.Unmap().BitLen() }) // IPv4 first
	return netip.AddrPortFrom(found[0].Unmap(), uint16(n)), nil
}

// tell says what was done, what is judged, and what comes next.
func (f *joinFlags) tell(out io.Writer, c *config, p place) error {
	var b strings.Builder
	fmt.Fprintf(&b, "This machine is %s %s of the server at %s.\n", c.Role, c.Name, c.Server)
	fmt.Fprintf(&b, "Its gate will stand on %s, the tunnel end at %v.\n", p.device, p.address)
	if c.Role == string(lb.RoleHost) && len(p.except) > 0 {
		fmt.Fprintf(&b, "Every other interface is judged too, but for %s.\n", strings.Join(p.except, ", "))
	} else if c.Role == string(lb.RoleHost) {
		b.WriteString("Every other interface is judged too.\n")
	}
	if c.Role == string(lb.RoleHost) {
		b.WriteString("It only observes until the first security group is bound to it.\n")
	}
	b.WriteString("Next: systemctl enable --now sallyport-node, or sallyport-node run\n")
	_, err := io.WriteString(out, b.String())
	return err
}

func newLeaveCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use: "leave", Short: "Take the gate off this machine and give its identity up; on the server, `sallyport node forget` ends the rest",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := readConfig(data)
			if err != nil {
				return err
			}
			if err := datapath.Detach(pinOf(c.Pin, c.Name)); err != nil {
				return fmt.Errorf("take the gate off: %w", err)
			}
			err = errors.Join(node.Leave(data), os.Remove(filepath.Join(data, configFile)))
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Nothing is judged here any more. On the server: sallyport node forget %s\n", c.Name)
			return err
		},
	}
	cmd.Flags().StringVar(&data, "data", dataDir, "folder that `join` was given")
	return cmd
}

// pinOf is the folder for pinned programs of a node.
func pinOf(said, name string) string {
	if said != "" {
		return said
	}
	return filepath.Join(pinRoot, name)
}
