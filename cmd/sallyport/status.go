// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// statusAnswer is what DescribeStatus says.
type statusAnswer struct {
	Revision uint64
	Nodes    []statusNode
	Targets  []statusTarget
}

type statusNode struct {
	Name, Role, InstanceId, Address string
	Connected                       bool
	Revision                        uint64 // in force
	LagMs                           float64
	Error                           string
	Drained                         bool
	Addresses, Alarms               []string
	Gate                            string // host: enforce, or observe until a group is bound
}

type statusTarget struct {
	LoadBalancerId, ListenerId, LocationId, InstanceId string
	Port                                               uint16
	Health                                             string
	HealthReason                                       *healthReason
}

type healthReason struct{ Kind, Text string }

func describeStatus(ctx context.Context, client *cloudapi.Client) (statusAnswer, error) {
	var s statusAnswer
	err := client.Do(ctx, ownService, ownVersion, "DescribeStatus", nil, &s)
	return s, err
}

func newStatusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show nodes, the revision in force on each, and targets with the reason why one is unhealthy",
		Args:  cobra.NoArgs,
	}
	conn := connects(cmd)
	asJSON := cmd.Flags().Bool("json", false, "print the API's answer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		if *asJSON {
			var raw json.RawMessage
			if err := client.Do(cmd.Context(), ownService, ownVersion, "DescribeStatus", nil, &raw); err != nil {
				return err
			}
			return printJSON(cmd, raw)
		}
		s, err := describeStatus(cmd.Context(), client)
		if err != nil {
			return err
		}
		return s.print(cmd.OutOrStdout())
	}
	return cmd
}

// state is a node's health in words.
func (n statusNode) state() string {
	state := "connected"
	if !n.Connected {
		state = "not connected"
	}
	if n.Gate == "observe" {
		state += ", only observes until a group is bound"
	}
	if n.Drained {
		state += ", drained"
	}
	if len(n.Alarms) > 0 {
		state += ", ALARM: " + strings.Join(n.Alarms, "; ")
	}
	if n.Error != "" {
		state += ": " + n.Error
	}
	return state
}

// print writes the headline first: what is wrong, or that nothing is.
func (s statusAnswer) print(out io.Writer) error {
	inForce, sick := 0, 0
	for _, n := range s.Nodes {
		if n.Connected && n.Revision >= s.Revision {
			inForce++
		}
	}
	for _, t := range s.Targets {
		if t.Health == "Dead" {
			sick++
		}
	}
	fmt.Fprintf(out, "revision %d is in force on %d of %s", s.Revision, inForce, count(len(s.Nodes), "node"))
	if len(s.Targets) > 0 {
		fmt.Fprintf(out, "; %d of %s unhealthy", sick, count(len(s.Targets), "target"))
	}
	fmt.Fprintln(out)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if len(s.Nodes) > 0 {
		fmt.Fprintln(table, "\nNODE\tROLE\tADDRESS\tREVISION\tLAG\tSTATE")
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%.0f ms\t%s\n", n.Name, n.Role, n.Address, n.Revision, n.LagMs, n.state())
	}
	if len(s.Targets) > 0 {
		fmt.Fprintln(table, "\nTARGET\tPORT\tLOAD BALANCER\tLISTENER\tHEALTH\tWHY")
	}
	for _, t := range s.Targets {
		why := ""
		if t.HealthReason != nil {
			why = cmp.Or(t.HealthReason.Text, t.HealthReason.Kind)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%s\t%s\t%s\n", t.InstanceId, t.Port, t.LoadBalancerId, cmp.Or(t.LocationId, t.ListenerId), t.Health, why)
	}
	return table.Flush()
}
