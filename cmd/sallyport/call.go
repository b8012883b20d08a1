// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// apiVersions are the versions of the services, by name.
func apiVersions() map[string]string {
	return map[string]string{
		"clb": "2018-03-17", "vpc": "2017-03-12", "cvm": "2017-03-12", "tag": "2018-08-13", "ssl": "2019-12-05", ownService: ownVersion,
	}
}

func newCallCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "call SERVICE ACTION [JSON]",
		Short: "Call one action of the API and print its answer",
		Long: "Call signs one request and prints the answer as JSON. SERVICE is clb, vpc, cvm, tag, ssl or sallyport.\n" +
			"JSON holds the parameters; - reads them from standard input.",
		Example: "  sallyport call clb DescribeLoadBalancers\n  sallyport call vpc DescribeSecurityGroups '{\"Limit\":\"10\"}'",
		Args:    cobra.RangeArgs(2, 3),
	}
	conn := connects(cmd)
	version := cmd.Flags().String("api-version", "", "version of the service (default: the one served)")
	wait := cmd.Flags().Bool("wait", false, "wait until every node has the change in force")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ver := cmp.Or(*version, apiVersions()[args[0]])
		if ver == "" {
			return usageError{fmt.Errorf("unknown service %q; it is one of clb, vpc, cvm, tag, ssl, sallyport", args[0])}
		}
		params, err := parameters(cmd.InOrStdin(), args[2:])
		if err != nil {
			return err
		}
		return callAction(cmd, conn, args[0], ver, args[1], params, *wait)
	}
	return cmd
}

// callAction sends one request, prints its answer, and waits until it is in
// force where that is asked for.
func callAction(cmd *cobra.Command, conn *connection, service, version, action string, params json.RawMessage, wait bool) error {
	client, err := conn.client()
	if err != nil {
		return err
	}
	began := time.Now()
	var answer json.RawMessage
	if err := client.Do(cmd.Context(), service, version, action, params, &answer); err != nil {
		return err
	}
	if err := printJSON(cmd, answer); err != nil || !wait {
		return err
	}
	nodes, err := waitInForce(cmd.Context(), client)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "in force on %s after %d ms\n", count(nodes, "node"), time.Since(began).Milliseconds())
	return err
}

func parameters(in io.Reader, args []string) (json.RawMessage, error) {
	if len(args) == 0 {
		return json.RawMessage("{}"), nil
	}
	text := []byte(args[0])
	if args[0] == "-" {
		var err error
		if text, err = io.ReadAll(in); err != nil {
			return nil, err
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, usageError{fmt.Errorf("the parameters are not a JSON object: %w", err)}
	}
	return text, nil
}

// inForceLimit bounds the wait for nodes; a change takes milliseconds.
const inForceLimit = 15 * time.Second

// waitInForce waits until every node that is connected has the newest state in
// force, and says how many there are.
func waitInForce(ctx context.Context, client *cloudapi.Client) (int, error) {
	var goal uint64
	behind := ""
	for deadline := time.Now().Add(inForceLimit); time.Now().Before(deadline); {
		s, err := describeStatus(ctx, client)
		if err != nil {
			return 0, err
		}
		goal = cmp.Or(goal, s.Revision)
		nodes := 0
		behind = ""
		for _, n := range s.Nodes {
			switch {
			case !n.Connected:
			case n.Revision < goal:
				behind = n.Name
			default:
				nodes++
			}
		}
		if behind == "" {
			return nodes, nil
		}
		if err := pauseFor(ctx, 5*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return 0, fmt.Errorf("%s has not put revision %d in force within %v; see `sallyport status`", behind, goal, inForceLimit)
}

// pauseFor waits unless ctx ends first.
func pauseFor(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count is a number with its noun: "1 node", "2 nodes".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
