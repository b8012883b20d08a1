// SPDX-License-Identifier: Apache-2.0

// Command sallyport is the control plane, the one-machine lab and the command
// line. Exit codes: 0 yes, 1 error, 2 usage, 3 a clean "no".
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes besides 0.
const (
	exitError = 1
	exitUsage = 2
	exitNo    = 3
)

// errNo ends a command whose answer is a clean "no" that it already printed.
var errNo = errors.New("no")

// A usageError is a mistake in the command line, not in what it asked for.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func main() { os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) }

// run is the program without the process around it.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errNo):
		return exitNo
	case errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command"):
		fmt.Fprintf(errs, "sallyport: %s\n", strings.ReplaceAll(err.Error(), "\n", " "))
		return exitUsage
	}
	fmt.Fprintf(errs, "sallyport: %s\n", strings.TrimSpace(err.Error()))
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A load balancer behind two security-group gates",
		Long: "Sallyport is a cloud load balancer whose traffic passes two security-group gates.\n" +
			"`sallyport up --demo` runs a complete example on this machine.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newUpCommand(), newServerCommand(), newLabCommand(), newLabHostCommand(),
		newStatusCommand(), newNodeCommand(), newVerdictsCommand(), newFlowsCommand(), newAPICommand(), newCallCommand(), newKeyCommand(), newAuditCommand(), newExportCommand(), newApplyCommand(),
		newCACommand(), newVersionCommand(),
	)
	mindUsage(root)
	return root
}

// mindUsage marks every command's flag and argument faults as usage errors.
func mindUsage(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		mindUsage(sub)
	}
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "sallyport", version())
			return err
		},
	}
}

// version is the module's version, or the commit it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (text == "" || text == "(devel)") {
			text = s.Value
		}
	}
	if text == "" {
		text = "(devel)"
	}
	return text + " " + info.GoVersion
}
