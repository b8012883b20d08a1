// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// upOptions are the flags of `sallyport up`.
type upOptions struct {
	demo      bool
	data      string // "": a temporary directory, removed at the end
	listen    string
	region    string
	attach    string // "": the agent decides
	flows     uint32 // 0: the agents decide
	underlay  string // ipv4 or ipv6
	readyFile string
	transport transport
	kinds     kinds
	quotas    quotas
}

func newUpCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run the one-machine lab: server, gateway, clients, and an instance for each that is asked for",
		Long: "Up runs everything on this machine, in network namespaces, until Ctrl-C. It needs root and Linux 6.6.\n" +
			"Nothing is added to the machine's own network, and nothing is left afterwards.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(o.transport.check(), o.kinds.check(), o.quotas.check()); err != nil {
				return usageError{err}
			}
			if err := checkRegion(o.region); err != nil {
				return usageError{err}
			}
			if o.attach != "" && o.attach != "tc" && o.attach != "xdp" {
				return usageError{fmt.Errorf("--attach %q is neither tc nor xdp", o.attach)}
			}
			if n := o.flows; n != 0 && (n < 1<<10 || n > 1<<24 || n&(n-1) != 0) {
				return usageError{fmt.Errorf("--flows %d is not a power of two from 1024 to 16777216", n)}
			}
			if o.underlay != "ipv4" && o.underlay != "ipv6" {
				return usageError{fmt.Errorf("--underlay %q is neither ipv4 nor ipv6", o.underlay)}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			// A reader of our output that goes away must not take the lab with it.
			signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
			return up(ctx, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&o.demo, "demo", false, "also build the document's example: two instances behind two gates")
	cmd.Flags().StringVar(&o.data, "data", "", "directory that brings the same lab back next time (default: a temporary one)")
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:7780", "address of API and console")
	cmd.Flags().StringVar(&o.region, "region", "local", "name of the region; its zone is NAME-1")
	cmd.Flags().StringVar(&o.attach, "attach", "", "hooks that the gateway uses, tc or xdp (default: what its device is best at)")
	cmd.Flags().Uint32Var(&o.flows, "flows", 0, "room in each node's flow table, a power of two from 1024 to 16777216 (default 65536 on the gateway, 32768 on a host)")
	cmd.Flags().StringVar(&o.underlay, "underlay", "ipv4", "family of the network that tunnels and control streams use, ipv4 or ipv6")
	o.transport.ownFlags(cmd)
	o.kinds.flags(cmd)
	o.quotas.flags(cmd)
	cmd.Flags().StringVar(&o.readyFile, "ready-file", "", "file to write, last of all, when everything is ready")
	return cmd
}

// regionName is what names of regions and zones look like.
var regionName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// checkRegion says what is wrong with a region's name.
func checkRegion(name string) error {
	if !regionName.MatchString(name) {
		return fmt.Errorf("--region %q: a name has 1 to 32 of a-z, 0-9 and -, and begins and ends with one of the first two", name)
	}
	return nil
}

// checkReadyFile tells before anything is made that the file could not be written.
func checkReadyFile(name string) error {
	if name == "" {
		return nil
	}
	probe, err := os.CreateTemp(filepath.Dir(name), ".ready-")
	if err != nil {
		return fmt.Errorf("--ready-file %s cannot be written: %w", name, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// An upper is a running `up`.
type upper struct {
	o      upOptions
	out    io.Writer
	say    func(format string, args ...any)
	began  time.Time
	lab    *lab.Lab
	client *cloudapi.Client
}

// up runs the lab until ctx ends. On error it leaves nothing.
func up(ctx context.Context, o upOptions, out, errs io.Writer) (err error) {
	u := &upper{o: o, out: out, began: time.Now()}
	var mu sync.Mutex
	u.say = func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(errs, "sallyport: "+format+"\n", args...)
	}
	programs, err := checkMachine()
	if err != nil {
		return err
	}
	if err := checkReadyFile(o.readyFile); err != nil {
		return err
	}
	lock, err := lab.Acquire(o.transport.endpoint(o.listen))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	listener, err := listen(o.listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	if err := o.transport.permits(listener.Addr()); err != nil {
		return err
	}
	options := lab.Options{
		DataDir: o.data, API: o.transport.endpoint(listener.Addr().String()), Region: o.region,
		Executable: programs.sallyport, Node: programs.node, ServerArgs: slices.Concat(o.transport.args(), o.kinds.args(), o.quotas.args()), Attach: o.attach, Flows: o.flows, IPv6Underlay: o.underlay == "ipv6", Say: u.say,
	}
	if options.DataDir == "" {
		options.Temporary = true
		if options.DataDir, err = os.MkdirTemp("", "sallyport-"); err != nil {
			return err
		}
	} else if options.DataDir, err = filepath.Abs(o.data); err != nil {
		return err
	}
	u.o.data = options.DataDir
	if u.lab, err = lab.Open(lock, options); err != nil {
		if options.Temporary {
			_ = os.RemoveAll(options.DataDir)
		}
		return err
	}
	running, stop := context.WithCancel(ctx)
	var followers sync.WaitGroup
	err = u.run(running, listener, &followers)
	stop()
	followers.Wait()
	if ctx.Err() != nil {
		fmt.Fprintln(out, "\nending the lab …")
		err = nil
	}
	if o.readyFile != "" {
		_ = os.Remove(o.readyFile)
	}
	err = errors.Join(err, u.lab.Close())
	if err == nil {
		fmt.Fprintln(out, "ended; nothing is left")
	}
	return err
}

// run brings everything up and returns when ctx ends or something is hopeless.
func (u *upper) run(ctx context.Context, listener *net.TCPListener, followers *sync.WaitGroup) error {
	inherited, err := listener.File()
	if err != nil {
		return err
	}
	defer func() { _ = inherited.Close() }()
	if err := u.lab.StartServer(inherited, listener.Addr().String()); err != nil {
		return err
	}
	if err := u.connect(ctx, u.lab.Record().API); err != nil {
		return err
	}
	if err := u.startNode(ctx, lab.DefaultGateway, "gateway", ""); err != nil {
		return err
	}
	hosts, err := u.describeHosts(ctx, 0, 0)
	if err != nil {
		return err
	}
	if err := u.lab.KeepOnly(hosts.has); err != nil {
		return err
	}
	u.reconcile(ctx, hosts)
	followers.Go(func() { u.followHosts(ctx, hosts.Revision) })
	followers.Go(func() { u.mindNodes(ctx) })
	var d *demo
	if u.o.demo {
		if d, err = u.buildDemo(ctx); err != nil {
			return fmt.Errorf("build the example: %w%s", err, u.logHint())
		}
		if err := u.awaitDemo(ctx, d); err != nil {
			return fmt.Errorf("%w%s", err, u.logHint())
		}
	}
	nodes, err := u.awaitNodes(ctx)
	if err != nil {
		return fmt.Errorf("%w%s", err, u.logHint())
	}
	if err := u.announce(ctx, d, nodes); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// programs are the two binaries, as absolute paths.
type programs struct{ sallyport, node string }

// checkMachine says in one sentence why no lab can run here, before anything
// is made.
func checkMachine() (programs, error) {
	if os.Geteuid() != 0 {
		return programs{}, errors.New("up needs root, for network namespaces and eBPF; run it with sudo")
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return programs{}, err
	}
	if fault := lab.KernelFault(unix.ByteSliceToString(uts.Release[:])); fault != "" {
		return programs{}, errors.New(fault)
	}
	exe, err := os.Executable()
	if err != nil {
		return programs{}, err
	}
	p := programs{sallyport: exe, node: filepath.Join(filepath.Dir(exe), "sallyport-node")}
	if _, err := os.Stat(p.node); err != nil {
		return programs{}, fmt.Errorf("%s is missing; `make build` puts both programs into bin/", p.node)
	}
	return p, nil
}

// listen opens the API's address. Servers come and go behind it; the queue of
// waiting requests stays.
func listen(address string) (*net.TCPListener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another program; choose another address with --listen", address)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return l.(*net.TCPListener), nil
}

// logHint quotes the ends of the logs when they are about to be removed, and
// else says where they are.
func (u *upper) logHint() string {
	dir := filepath.Join(u.o.data, "logs")
	var hint strings.Builder
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	for _, path := range logs {
		data, err := os.ReadFile(path)
		text := strings.TrimSpace(string(data))
		if err != nil || text == "" || strings.Contains(path, "/ins-") && !strings.HasSuffix(path, ".agent.log") {
			continue
		}
		lines := strings.Split(text, "\n")
		fmt.Fprintf(&hint, "\n  %s: %s", filepath.Base(path), lines[len(lines)-1])
	}
	return hint.String()
}
