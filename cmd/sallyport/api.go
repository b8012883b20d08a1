// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// newAPICommand calls an action by its name alone. Fields are flags: they begin
// with a capital, our own flags do not, so the two never meet.
func newAPICommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "api [ACTION [--FIELD VALUE]... | ACTION --json FILE]",
		Short: "Call an action by its fields, or describe it with --help",
		Long: "Api signs one request and prints the answer as JSON. Without ACTION it lists the actions.\n" +
			"`sallyport api ACTION --help` lists an action's fields, error codes and an example.\n\n" +
			"--FIELD VALUE gives a field by its name; give a list's field once per item, a field inside a\n" +
			"structure by its path (--Filters.0.Name), or a structure or list as one JSON text.\n" +
			"--json FILE reads all fields as a JSON object; - is standard input.",
		Example: "  sallyport api DescribeLoadBalancers --Limit 5\n" +
			"  sallyport api CreateVpc --VpcName office --CidrBlock 10.0.0.0/16\n  sallyport api CreateListener --help",
		DisableFlagParsing: true,
	}
	conn := connects(cmd)
	file := cmd.Flags().String("json", "", "file with the fields as a JSON object; - is standard input")
	wait := cmd.Flags().Bool("wait", false, "wait until every node has the change in force")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		fields, rest, err := splitFields(args)
		if err != nil {
			return usageError{err}
		}
		names, help, err := ownFlags(cmd, rest)
		switch {
		case err != nil:
			return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
		case len(names) == 0 && help:
			return cmd.Help()
		case len(names) == 0:
			return listActions(cmd.OutOrStdout())
		case len(names) > 1:
			return usageError{fmt.Errorf("%q is one word too many; a field is given as --FIELD VALUE", names[1])}
		}
		action, ok := cloudapi.Find(names[0])
		if !ok {
			return usageError{fmt.Errorf("there is no action %s; `%s` lists them", names[0], cmd.CommandPath())}
		}
		if help {
			_, err := io.WriteString(cmd.OutOrStdout(), action.Help())
			return err
		}
		params, err := actionParams(cmd.InOrStdin(), &action, fields, *file)
		if err != nil {
			return usageError{err}
		}
		return callAction(cmd, conn, action.Service.Name, action.Version, action.Name, params, *wait)
	}
	return cmd
}

// splitFields takes "--Field value" and "--Field=value" out of a command line.
func splitFields(args []string) (fields map[string][]string, rest []string, err error) {
	fields = map[string][]string{}
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "--")
		if !isFlag || name == "" || name[0] < 'A' || name[0] > 'Z' {
			rest = append(rest, args[i])
			continue
		}
		name, text, inline := strings.Cut(name, "=")
		if !inline {
			if i++; i == len(args) {
				return nil, nil, fmt.Errorf("--%s has no value; write --%s VALUE", name, name)
			}
			text = args[i]
		}
		fields[name] = append(fields[name], text)
	}
	return fields, rest, nil
}

// ownFlags parses the flags that are ours and returns the words beside them.
func ownFlags(cmd *cobra.Command, args []string) (words []string, help bool, err error) {
	cmd.InitDefaultHelpFlag()
	cmd.DisableFlagParsing = false // it keeps ParseFlags from parsing
	if err := cmd.ParseFlags(args); err != nil {
		return nil, false, err
	}
	help, err = cmd.Flags().GetBool("help")
	return cmd.Flags().Args(), help, err
}

// actionParams makes the request body: of a file, or of fields.
func actionParams(in io.Reader, action *cloudapi.Action, fields map[string][]string, file string) (json.RawMessage, error) {
	if file == "" {
		return action.Params(fields)
	}
	if len(fields) > 0 {
		return nil, errors.New("--json gives all fields; leave the others out")
	}
	if file == "-" {
		return parameters(in, []string{"-"})
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parameters(in, []string{string(text)})
}

// listActions prints every action by service.
func listActions(w io.Writer) error {
	service := ""
	for _, a := range cloudapi.Actions() {
		if a.Service.Name != service {
			service = a.Service.Name
			if _, err := fmt.Fprintf(w, "%s %s\n", service, a.Version); err != nil {
				return err
			}
		}
		if _, err := fmt.Fprintf(w, "  %s\n", a.Name); err != nil {
			return err
		}
	}
	return nil
}
