// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/console"
	"github.com/sallyport/sallyport/internal/control"
	"github.com/sallyport/sallyport/internal/lab"
	"github.com/sallyport/sallyport/internal/store"
)

// Limits of the API's HTTP server. The longest long poll must fit into the
// time to write.
const (
	headTimeout  = 10 * time.Second
	readTimeout  = time.Minute
	writeTimeout = 3 * time.Minute
	idleTimeout  = 2 * time.Minute
	maxHead      = 64 << 10                // bytes; a query of a GET is in it
	callLimit    = 1500 * time.Millisecond // for calls in flight when the signal comes
	stopLimit    = 2500 * time.Millisecond // from the signal to the end
)

// serverOptions are the flags of `sallyport server`.
type serverOptions struct {
	data       string
	listen     string
	listenFD   int
	nodeListen string
	nodeAddr   string
	region     string
	vips, eips []string
	six        []string
	etcd       []string
	history    time.Duration
	record     string
	transport  transport
	access     accessOptions
	kinds      kinds
	quotas     quotas
}

func newServerCommand() *cobra.Command {
	o := serverOptions{}
	cmd := &cobra.Command{
		Use: "server", Short: "Run the control plane: desired state, API, and the stream to the nodes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkRegion(o.region); err != nil {
				return usageError{err}
			}
			if o.data == "" {
				return usageError{errors.New("server needs --data, the folder where it keeps everything")}
			}
			if err := errors.Join(o.transport.check(), o.access.check(), o.kinds.check(), o.quotas.check()); err != nil {
				return usageError{err}
			}
			if err := checkNodeAddress(o.nodeAddr); err != nil {
				return usageError{err}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return serve(ctx, o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.data, "data", "", "folder for state, keys and certificates")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7780", "address of the API, /metrics and /healthz")
	f.IntVar(&o.listenFD, "listen-fd", -1, "number of an inherited file descriptor that listens for the API; --listen then only says its address")
	f.StringVar(&o.nodeListen, "node-listen", "0.0.0.0:7781", "address for nodes")
	f.StringVar(&o.nodeAddr, "node-address", "", "HOST:PORT by which machines reach --node-listen, for join tokens (default: its own, or this machine's address on the way out)")
	f.StringVar(&o.region, "region", "local", "name of the region; its zone is NAME-1")
	f.StringArrayVar(&o.vips, "vip-pool", []string{"192.0.2.0/26"}, "addresses for public load balancers, IPv4 and IPv6; may be repeated")
	f.StringArrayVar(&o.eips, "eip-pool", []string{"192.0.2.64/26"}, "public addresses for instances; may be repeated")
	f.StringArrayVar(&o.six, "ipv6-pool", []string{"2001:db8:200::/40"}, "IPv6 ranges that VPCs take a /56 of; may be repeated")
	f.StringSliceVar(&o.etcd, "etcd-endpoints", nil, "external etcd cluster (default: an embedded one in the data folder)")
	o.transport.flags(cmd)
	f.DurationVar(&o.history, "history", 72*time.Hour, "how long past states stay readable in the embedded database")
	o.access.flags(cmd)
	o.kinds.flags(cmd)
	o.quotas.flags(cmd)
	f.StringVar(&o.record, "record", lab.ServerRecord, "file to write endpoint and admin key to, for the other commands; empty: none")
	return cmd
}

// serve runs the control plane until ctx ends, and is gone soon after.
func serve(ctx context.Context, o serverOptions, logs io.Writer) error {
	log := slog.New(slog.NewTextHandler(logs, nil))
	s, err := openServer(ctx, o, log)
	if err != nil {
		return err
	}
	log.Info("serving", "api", s.endpoint, "nodes", s.nodes.Addr(), "revision", s.store.State().Revision)
	ended := make(chan error, 1)
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ended <- s.run(running) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopLimit):
		return errors.New("stopped without waiting any longer: something did not end in time")
	}
}

// A server is the control plane, opened and not yet serving.
type server struct {
	log      *slog.Logger
	store    *store.Store
	control  *control.Control
	handler  http.Handler
	console  *console.Console
	api      net.Listener
	nodes    net.Listener
	tls      *tls.Config // nil: plain HTTP
	endpoint string
	access   accessOptions
	admin    adminFile
	ending   chan struct{} // closed when run was asked to end
}

// openServer opens everything; on an error nothing stays open.
func openServer(ctx context.Context, o serverOptions, log *slog.Logger) (_ *server, err error) {
	vips, err := parsePool("--vip-pool", o.vips)
	if err != nil {
		return nil, usageError{err}
	}
	eips, err := parsePool("--eip-pool", o.eips)
	if err != nil {
		return nil, usageError{err}
	}
	six, err := parsePool("--ipv6-pool", o.six)
	if err == nil {
		err = checkIPv6Pool(six)
	}
	if err != nil {
		return nil, usageError{err}
	}
	s := &server{log: log, access: o.access, ending: make(chan struct{})}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.api, err = listenAPI(o); err != nil {
		return nil, err
	}
	files, err := o.transport.files(log)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.data, 0o700); err != nil {
		return nil, fmt.Errorf("the data folder: %w", err)
	}
	key, err := adminKey(o.data)
	if err != nil {
		return nil, fmt.Errorf("the admin key: %w", err)
	}
	if s.nodes, err = net.Listen("tcp", o.nodeListen); err != nil {
		return nil, fmt.Errorf("--node-listen: %w", err)
	}
	if s.store, err = store.Open(ctx, store.Options{DataDir: o.data, Endpoints: o.etcd, History: o.history, Log: log}); err != nil {
		return nil, fmt.Errorf("the store: %w", err)
	}
	vault, err := o.access.vault(o.data, s.store.State())
	if err != nil {
		return nil, err
	}
	var api *cloudapi.Server
	if s.control, err = control.New(control.Options{Store: s.store, DataDir: controlDir(o.data), Logger: log, Address: nodeAddress(o.nodeAddr, s.nodes.Addr()),
		Admit: func(tx *store.Tx, m control.Machine) error { return api.Admit(tx, m) }, OpenKey: vault.OpenKey}); err != nil {
		return nil, err
	}
	api = cloudapi.New(cloudapi.Options{
		Store: s.store, Facts: s.control.Facts(), History: s.control.Facts(), Tokens: s.control, FlowSource: s.control, Compile: s.control.Compile, Region: o.region,
		VIPPool: vips, EIPPool: eips, IPv6Pool: six, Logger: log, Vault: vault, Rates: o.access.rates,
		Quotas: o.quotas.set, SeedMode: o.kinds.seedMode, SourceIPType: o.kinds.sourceIPType, Ending: s.ending,
	})
	if key, err = adoptAdmin(ctx, api, o.data, key); err != nil {
		return nil, fmt.Errorf("the admin key: %w", err)
	}
	if err = s.openConsole(api, o.region); err != nil {
		return nil, err
	}
	s.handler = s.routes(api)
	address := o.listen
	if o.listenFD < 0 {
		address = s.api.Addr().String()
	}
	if s.tls, err = o.transport.config(files, s.control, address); err != nil {
		return nil, fmt.Errorf("--tls: %w", err)
	}
	ca := s.control.CACertificate()
	s.endpoint = o.transport.endpoint(address)
	if files != nil {
		s.endpoint, ca = files.endpoint(s.endpoint), nil
	}
	key.Endpoint, key.Region = s.endpoint, o.region
	writeRecord(o.record, key, ca, log)
	s.admin = adminFile{api: api, path: filepath.Join(o.data, "admin.json"), record: o.record, ca: ca, key: key}
	return s, nil
}

// writeRecord tells the other commands on this machine how to reach us and
// which CA to trust, if it is ours. They have flags for it too, so a failure
// is only told.
func writeRecord(path string, c connection, ca []byte, log *slog.Logger) {
	if path == "" {
		return
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		if ca == nil {
			err = os.RemoveAll(caBeside(path))
		} else {
			err = writeWhole(caBeside(path), ca, 0o644)
		}
	}
	if err == nil {
		err = writeSecret(path, c)
	}
	if err != nil {
		log.Warn("commands on this machine will need --endpoint, --secret-id and --secret-key", "error", err)
	}
}

func parsePool(flag string, texts []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%s %q is not a CIDR block", flag, text)
		}
		if p != p.Masked() {
			return nil, fmt.Errorf("%s %q has host bits set; did you mean %v?", flag, text, p.Masked())
		}
		all = append(all, p)
	}
	return all, nil
}

// checkIPv6Pool refuses what no VPC could take its IPv6 range of.
func checkIPv6Pool(pool []netip.Prefix) error {
	for _, p := range pool {
		if !p.Addr().Is6() || p.Bits() > 56 {
			return fmt.Errorf("--ipv6-pool %v holds no /56 of IPv6; give a wider one, such as 2001:db8:200::/40", p)
		}
	}
	return nil
}

// listenAPI opens the API's address, or takes over the inherited listener. It
// refuses one that plain HTTP may not use.
func listenAPI(o serverOptions) (net.Listener, error) {
	l, err := inheritOrListen(o)
	if err != nil {
		return nil, err
	}
	if err := o.transport.permits(l.Addr()); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func inheritOrListen(o serverOptions) (net.Listener, error) {
	if o.listenFD < 0 {
		return listen(o.listen)
	}
	f := os.NewFile(uintptr(o.listenFD), "api")
	if f == nil {
		return nil, usageError{fmt.Errorf("--listen-fd %d is not a file descriptor", o.listenFD)}
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, usageError{fmt.Errorf("--listen-fd %d does not listen: %w", o.listenFD, err)}
	}
	return l, nil
}

// routes puts what is for operators beside the API, which answers everywhere
// else.
func (s *server) routes(api http.Handler) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(s.control.Collector(), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "revision %d\n", s.store.State().Revision)
	})
	s.serveConsole(mux, api)
	mux.Handle("/", api)
	return mux
}

// webServer bounds what a client may hold: a head in time and in size, a body,
// an answer, an idle connection.
func webServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: headTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHead}
}

// run serves until ctx ends or a part fails, then closes everything. Calls in
// flight then come to their end, so that each is told what became of it; those
// that wait are told to stop waiting.
func (s *server) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web := webServer(s.handler)
	web.TLSConfig, web.ErrorLog = s.tls, slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)
	var wg sync.WaitGroup
	var failed [2]error
	wg.Go(func() {
		defer cancel()
		serve := web.Serve
		if s.tls != nil {
			serve = func(l net.Listener) error { return web.ServeTLS(l, "", "") }
		}
		if err := serve(s.api); !errors.Is(err, http.ErrServerClosed) {
			failed[0] = fmt.Errorf("the API: %w", err)
		}
	})
	wg.Go(func() {
		defer cancel()
		failed[1] = s.control.Serve(ctx, s.nodes)
	})
	wg.Go(func() { s.console.Run(ctx) })
	wg.Go(func() { s.trimAudit(ctx) })
	wg.Go(func() { s.keepAdmin(ctx) })
	<-ctx.Done()
	close(s.ending)
	polite, done := context.WithTimeout(context.Background(), callLimit)
	defer done()
	if web.Shutdown(polite) != nil {
		web.Close()
	}
	wg.Wait()
	return errors.Join(failed[0], failed[1], s.close())
}

// close closes what is open. Closing a listener twice does no harm.
func (s *server) close() error {
	for _, l := range []net.Listener{s.api, s.nodes} {
		if l != nil {
			l.Close()
		}
	}
	if s.store != nil {
		return s.store.Close()
	}
	return nil
}

// adminKey reads the admin key of a data folder, or makes it. Only its id and
// key are set.
func adminKey(dir string) (connection, error) {
	path := filepath.Join(dir, "admin.json")
	var c connection
	raw, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c = connection{SecretID: "AKID" + rand.Text(), SecretKey: rand.Text()}
		return c, writeSecret(path, c)
	case err != nil:
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil || c.SecretID == "" || c.SecretKey == "" {
		return c, fmt.Errorf("%s holds no key", path)
	}
	return connection{SecretID: c.SecretID, SecretKey: c.SecretKey}, nil
}

// writeSecret puts v in place as JSON: 0600, whole or not at all.
func writeSecret(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(path, append(raw, '\n'), 0o600)
}

// writeWhole puts a file in place by rename, synced: whole or not at all.
func writeWhole(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
