// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
)

// flowsAnswer is what DescribeFlows says; Flows stay as they came.
type flowsAnswer struct {
	Flows      []json.RawMessage
	TotalCount int
	Silent     []struct{ Node, Why string }
}

func newFlowsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "flows",
		Short: "Show the flows that gateways and hosts track: one line each, sorted by peer",
		Long: "Flows asks every connected node what is in its flow table. A flow through a load balancer has an entry at the\n" +
			"gateway (gate clb, a cache) and one at the instance's host (gate cvm).",
		Example: "  sallyport flows --client 203.0.113.0/24 --state open\n  sallyport flows --gate cvm --instance ins-aaaaaaaa --json",
		Args:    cobra.NoArgs,
	}
	conn := connects(cmd)
	asJSON := cmd.Flags().Bool("json", false, "one JSON object a line")
	limit := cmd.Flags().Int("limit", 100, "how many flows to show at most, 1 to 1000")
	port := cmd.Flags().Int("port", 0, "that was dialled, or of the service")
	texts := map[string]*string{}
	for _, f := range []struct{ flag, field, help string }{
		{"client", "Client", "address or CIDR block of the peer"},
		{"vip", "Vip", "address that was dialled: a VIP, or an instance's own"},
		{"listener", "ListenerId", "id of a listener"},
		{"lb", "LoadBalancerId", "id of a load balancer"},
		{"instance", "InstanceId", "id of an instance"},
		{"state", "State", "half-open, open, closing or refused"},
		{"gate", "Gate", "clb (gateways) or cvm (hosts)"},
		{"node", "Node", "name of a node"},
		{"protocol", "Protocol", "TCP, UDP, ICMP, …"},
	} {
		texts[f.field] = cmd.Flags().String(f.flag, "", f.help)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		in := map[string]any{"Limit": *limit}
		for field, text := range texts {
			if *text != "" {
				in[field] = *text
			}
		}
		if cmd.Flags().Changed("port") {
			in["Port"] = *port
		}
		client, err := conn.client()
		if err != nil {
			return err
		}
		var answer flowsAnswer
		if err := client.Do(cmd.Context(), ownService, ownVersion, "DescribeFlows", in, &answer); err != nil {
			return err
		}
		return answer.print(cmd, *asJSON)
	}
	return cmd
}

// print writes flows to standard output, and what is missing to standard error.
func (a flowsAnswer) print(cmd *cobra.Command, asJSON bool) error {
	for _, raw := range a.Flows {
		if err := printVerdict(cmd, raw, asJSON); err != nil {
			return err
		}
	}
	for _, s := range a.Silent {
		fmt.Fprintf(cmd.ErrOrStderr(), "(nothing of %s: %s)\n", s.Node, s.Why)
	}
	if hidden := a.TotalCount - len(a.Flows); hidden > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "(%d more match: narrow them down, or raise --limit)\n", hidden)
	}
	return nil
}
