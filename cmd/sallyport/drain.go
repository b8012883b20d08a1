// SPDX-License-Identifier: Apache-2.0

package main

import "github.com/spf13/cobra"

func newNodeDrainCommand() *cobra.Command {
	return nodeAction("drain NAME", "DrainNode", "Send new flows to other gateways, before a gateway is taken away",
		"Drain makes a gateway stop answering for VIPs, lets those that stand by for it (`sallyport-node join --standby`)\n"+
			"answer instead, and makes its /healthz say 503, by which routers and routing daemons move VIPs that are routed.\n"+
			"What still arrives is served. Open layer-4 flows live on wherever they arrive: all gateways choose alike, and\n"+
			"hosts know them. HTTP connections end with the gateway that holds them.")
}

func newNodeUndrainCommand() *cobra.Command {
	return nodeAction("undrain NAME", "UndrainNode", "Take a drained gateway back in", "")
}

// nodeAction is a command that calls an action with one node's name.
func nodeAction(use, action, short, long string) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: cobra.ExactArgs(1)}
	conn := connects(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		return client.Do(cmd.Context(), ownService, ownVersion, action, map[string]any{"Name": args[0]}, nil)
	}
	return cmd
}
