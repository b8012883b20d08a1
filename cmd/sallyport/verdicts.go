// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// verdictsAnswer is what DescribeVerdicts says; Verdicts stay as they came.
type verdictsAnswer struct {
	Verdicts []json.RawMessage
	Next     uint64
	Lost     uint64
}

// verdictPage is how many verdicts are asked for at once.
const verdictPage = 100

func newVerdictsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verdicts",
		Short: "Show what the gates decided: one line for each new and each refused flow",
		Args:  cobra.NoArgs,
	}
	conn := connects(cmd)
	follow := cmd.Flags().Bool("follow", false, "go on with new verdicts as they come")
	asJSON := cmd.Flags().Bool("json", false, "one JSON object a line")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		client, err := conn.client()
		if err != nil {
			return err
		}
		return showVerdicts(cmd, client, *follow, *asJSON)
	}
	return cmd
}

func showVerdicts(cmd *cobra.Command, client *cloudapi.Client, follow, asJSON bool) error {
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	after := uint64(0)
	for {
		in := map[string]any{"After": after, "Limit": verdictPage}
		if follow {
			in["WaitSeconds"] = 20
		}
		var page verdictsAnswer
		err := client.Do(ctx, ownService, ownVersion, "DescribeVerdicts", in, &page)
		var refused *cloudapi.Error
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (!follow || errors.As(err, &refused)):
			return err
		case err != nil: // the server is being restarted; its nodes are not
			if pauseFor(ctx, 200*time.Millisecond) != nil {
				return nil
			}
			continue
		}
		if page.Lost > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "(%d verdicts were not kept: more came than the rate limit lets through)\n", page.Lost)
		}
		for _, raw := range page.Verdicts {
			if err := printVerdict(cmd, raw, asJSON); err != nil {
				return err
			}
		}
		if !follow && (len(page.Verdicts) == 0 || page.Next <= after) {
			return nil
		}
		after = page.Next
	}
}

func printVerdict(cmd *cobra.Command, raw json.RawMessage, asJSON bool) error {
	line := string(raw)
	if !asJSON {
		var v struct{ Text string }
		if err := json.Unmarshal(raw, &v); err != nil {
			return err
		}
		line = v.Text
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}
