// SPDX-License-Identifier: Apache-2.0

// Command sallyport-node is the agent of a gateway or a host: it holds a gate
// in the kernel and does what its server says. Exit codes: 0 done, 1 error,
// 2 usage, 3 the server says no.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/datapath"
	"github.com/sallyport/sallyport/internal/node"
)

// Exit codes besides 0.
const (
	exitError = 1
	exitUsage = 2
	exitNo    = 3
)

// A usageError is a mistake in the command line, not in what it asked for.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(errs, "sallyport-node: %s\n", strings.TrimSpace(err.Error()))
	var usage usageError
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	if errors.Is(err, node.ErrRefused) {
		return exitNo
	}
	return exitError
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "sallyport-node", Short: "The agent of a gateway or a host",
		SilenceUsage: true, SilenceErrors: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(newJoinCommand(), newRunCommand(), newLeaveCommand(), newDoctorCommand(), newDetachCommand(), newVersionCommand(), newPassAllCommand())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w (see %s --help)", err, cmd.CommandPath())}
	})
	for _, cmd := range root.Commands() {
		if cmd.Args == nil {
			cmd.Args = noArgs
		}
	}
	return root
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{fmt.Errorf("%w; usage: %s", err, cmd.UseLine())}
	}
	return nil
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "sallyport-node", version())
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

func newDetachCommand() *cobra.Command {
	var pin string
	cmd := &cobra.Command{
		Use: "detach", Short: "Take the gate off this machine: traffic is judged no longer",
		RunE: func(*cobra.Command, []string) error {
			if pin == "" {
				return usageError{errors.New("detach needs --pin, the folder that `run` was given")}
			}
			return datapath.Detach(pin)
		},
	}
	cmd.Flags().StringVar(&pin, "pin", "", "folder in a bpffs where the programs are pinned")
	return cmd
}
