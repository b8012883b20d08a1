// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newNodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Take machines of your own in as gateways and hosts, list, drain and forget them",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newNodeTokenCommand(), newNodeLsCommand(), newNodeForgetCommand(), newNodeDrainCommand(), newNodeUndrainCommand(), newGuestCommand())
	return cmd
}

func newNodeTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Print a join token for one machine: it can be used once, and not for long",
		Long: "Token prints a join token on standard output and what to do with it on standard error. It carries the hash of\n" +
			"this server's CA, by which the machine knows the server before it trusts it, and the server's address.\n" +
			"A host becomes an instance by joining, and its gate only observes until a security group is bound to it.",
		Example: "  sallyport node token --role gateway\n  sallyport node token --role host --name web-1",
		Args:    cobra.NoArgs,
	}
	conn := connects(cmd)
	role := cmd.Flags().String("role", "", "gateway or host")
	name := cmd.Flags().String("name", "", "a gateway's name (default: the next free gateway-N), or the name of the instance that a host becomes")
	instance := cmd.Flags().String("instance", "", "host: the id of the existing instance that the machine runs, to join it again")
	life := cmd.Flags().Duration("valid", 10*time.Minute, "how long it can be used, at most 24h")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("instance") && *instance == "" { // an unset variable would make a new instance
			return usageError{errors.New("--instance is empty; give an instance's id, or leave it out for a new one")}
		}
		in, err := tokenRequest(*role, *name, *instance, *life)
		if err != nil {
			return usageError{err}
		}
		client, err := conn.client()
		if err != nil {
			return err
		}
		var answer struct{ Token, Node, Server, Expires string }
		if err := client.Do(cmd.Context(), ownService, ownVersion, "CreateNodeToken", in, &answer); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), answer.Token); err != nil {
			return err
		}
		where := ""
		if answer.Server == "" {
			where = " --server ADDRESS:PORT"
		}
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "It makes one machine %s %s, until %s. As root there: sallyport-node join TOKEN%s, then sallyport-node run\n",
			*role, answer.Node, answer.Expires, where)
		return err
	}
	return cmd
}

func tokenRequest(role, name, instance string, life time.Duration) (map[string]any, error) {
	in := map[string]any{"Role": role, "LifeSeconds": int64(life / time.Second)}
	switch {
	case role != "gateway" && role != "host":
		return nil, fmt.Errorf("--role %q is neither gateway nor host", role)
	case life < time.Second || life > 24*time.Hour:
		return nil, fmt.Errorf("--valid %v is outside 1s-24h", life)
	case role == "gateway" && instance != "":
		return nil, errors.New("--instance goes with --role host: a gateway runs no instance")
	case role == "gateway" && name != "":
		in["Name"] = name
	case instance != "" && name != "":
		return nil, errors.New("--name names a new instance, --instance an existing one: use one of the two")
	case instance != "":
		in["InstanceId"] = instance
	case name != "":
		in["InstanceName"] = name
	}
	return in, nil
}

func newNodeLsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List gateways and hosts: where they are, whether they are connected, what their gate does", Args: cobra.NoArgs}
	conn := connects(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		s, err := describeStatus(cmd.Context(), client)
		if err != nil {
			return err
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "NODE\tROLE\tADDRESS\tREVISION\tSTATE")
		for _, n := range s.Nodes {
			fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\n", n.Name, n.Role, n.Address, n.Revision, n.state())
		}
		return table.Flush()
	}
	return cmd
}

func newNodeForgetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "forget NAME",
		Short: "Shut a node out for good; a host's instance goes too",
		Long: "Forget revokes the node's certificate and removes it, with its instance and that instance's targets if it is a host.\n" +
			"What the machine has in force stays in force there until `sallyport-node leave` on it.",
		Args: cobra.ExactArgs(1),
	}
	conn := connects(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		return client.Do(cmd.Context(), ownService, ownVersion, "ForgetNode", map[string]any{"Name": args[0]}, nil)
	}
	return cmd
}

// checkNodeAddress says what is wrong with --node-address.
func checkNodeAddress(text string) error {
	if text == "" {
		return nil
	}
	if host, port, err := net.SplitHostPort(text); err != nil || host == "" || port == "" {
		return fmt.Errorf("--node-address %q is not HOST:PORT", text)
	}
	return nil
}

// nodeAddress is what join tokens say about where the node listener is: what
// the operator says, else the listener's own address, else the address from
// which this machine would reach another; "" when it has none.
func nodeAddress(said string, listener net.Addr) string {
	if said != "" {
		return said
	}
	at, err := netip.ParseAddrPort(listener.String())
	if err != nil {
		return ""
	}
	if own := at.Addr().Unmap(); !own.IsUnspecified() {
		return netip.AddrPortFrom(own, at.Port()).String()
	}
	own := ownAddress()
	if !own.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(own, at.Port()).String()
}

// ownAddress is this machine's IPv4 address on its way to others, else the
// only one it has; zero when there is no telling. Nothing is sent.
func ownAddress() netip.Addr {
	if conn, err := net.Dial("udp4", "192.0.2.1:9"); err == nil {
		defer conn.Close()
		if at, err := netip.ParseAddrPort(conn.LocalAddr().String()); err == nil {
			return at.Addr().Unmap()
		}
	}
	var found netip.Addr
	all, err := net.InterfaceAddrs()
	if err != nil {
		return found
	}
	for _, a := range all {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || !p.Addr().Is4() || !p.Addr().IsGlobalUnicast() {
			continue
		}
		if found.IsValid() {
			return netip.Addr{}
		}
		found = p.Addr()
	}
	return found
}
