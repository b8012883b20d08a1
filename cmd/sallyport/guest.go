// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newGuestCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "guest",
		Short: "Virtual machines and containers on a host: the host's agent guards their ports",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuestAddCommand(), newGuestLsCommand(), newGuestRmCommand())
	return cmd
}

func newGuestAddCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add HOST --device PORT --mac MAC --address IP",
		Short: "Make an instance of what is behind a port of a host, and guard that port; prints its id",
		Long: "Add makes an instance of a virtual machine or container that is behind a tap, a veth or a bridge's port of HOST. The\n" +
			"host's agent puts gate 2 on that port, where the guest cannot touch it: from then on the guest speaks with this MAC and\n" +
			"these addresses only, as the rules of its groups let it. A port that comes later is guarded as soon as it is there.",
		Example: "  sallyport node guest add ins-4k2m9qzx --device tap0 --mac 52:54:00:12:34:56 --address 10.0.7.5 --name db-1 --group sg-0a1b2c3d",
		Args:    cobra.ExactArgs(1),
	}
	conn := connects(cmd)
	device := cmd.Flags().String("device", "", "the interface on the host behind which the guest is")
	mac := cmd.Flags().String("mac", "", "the guest's MAC address")
	address := cmd.Flags().String("address", "", "the guest's IPv4 address")
	ipv6 := cmd.Flags().String("ipv6", "", "its IPv6 address, if it has one")
	name := cmd.Flags().String("name", "", "the instance's name")
	groups := cmd.Flags().StringSlice("group", nil, "its security groups, first has highest priority (default: the default group)")
	for _, need := range []string{"device", "mac", "address"} {
		_ = cmd.MarkFlagRequired(need) // exists
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		in := map[string]any{"Host": args[0], "Device": *device, "MacAddress": *mac, "PrivateIpAddress": *address}
		for field, text := range map[string]string{"Ipv6Address": *ipv6, "InstanceName": *name} {
			if text != "" {
				in[field] = text
			}
		}
		if len(*groups) > 0 {
			in["SecurityGroupIds"] = *groups
		}
		var answer struct{ InstanceId string }
		if err := client.Do(cmd.Context(), ownService, ownVersion, "AddGuest", in, &answer); err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), answer.InstanceId)
		return err
	}
	return cmd
}

func newGuestLsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ls", Short: "List guests: on which host, behind which port", Args: cobra.NoArgs}
	conn := connects(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		var answer struct{ Instances []guestOnHost }
		if err := client.Do(cmd.Context(), ownService, ownVersion, "DescribeHosts", map[string]any{}, &answer); err != nil {
			return err
		}
		table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "GUEST\tNAME\tADDRESS\tHOST\tDEVICE\tMAC\tSTATE")
		for _, h := range answer.Instances {
			if h.Host != "" {
				fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", h.InstanceId, h.InstanceName, h.PrivateAddress, h.Host, h.Device, h.MacAddress, h.State)
			}
		}
		return table.Flush()
	}
	return cmd
}

// guestOnHost is what DescribeHosts says of one instance.
type guestOnHost struct{ InstanceId, InstanceName, PrivateAddress, Host, Device, MacAddress, State string }

func newGuestRmCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rm GUEST",
		Short: "Remove a guest, also from behind listeners; its port is guarded no longer",
		Args:  cobra.ExactArgs(1),
	}
	conn := connects(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		return client.Do(cmd.Context(), ownService, ownVersion, "RemoveGuest", map[string]any{"InstanceId": args[0]}, nil)
	}
	return cmd
}
