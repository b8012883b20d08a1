// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	memberName     = "sallyport"
	memberPeerURL  = "http://localhost:2380" // a name in the member list; nothing listens there
	defaultHistory = 72 * time.Hour
	// maxTxnOps bounds the objects of one transaction.
	maxTxnOps = 16384
	// maxDatabase is where etcd stops taking writes, in bytes.
	maxDatabase = 8 << 30
)

// A server is the embedded database: one member that no network reaches.
type server struct {
	etcd     *embed.Etcd
	dir      *os.File // held open: the socket's path goes through it; it also carries the lock
	endpoint string
	reserve  *reserve
}

// startServer runs the database in dir/etcd. The socket is dir/etcd/client.sock,
// addressed through the directory's descriptor because a socket's path may
// have at most 107 bytes, whatever the operator calls the directory.
func startServer(ctx context.Context, dir string, history time.Duration) (_ *server, err error) {
	if dir == "" {
		return nil, errors.New("a data directory is needed for the embedded database")
	}
	home := filepath.Join(dir, "etcd")
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	s := &server{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.Open(home); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(s.dir.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s is in use by another process (%w)", dir, err)
	}
	s.reserve = openReserve(home)
	socket := "/proc/self/fd/" + strconv.Itoa(int(s.dir.Fd())) + "/client.sock"
	s.endpoint = "unix://" + socket
	cfg := serverConfig(filepath.Join(home, "data"), socket, history)
	if s.etcd, err = embed.StartEtcd(cfg); err != nil {
		return nil, fmt.Errorf("start the embedded database in %s: %w", home, err)
	}
	select {
	case <-s.etcd.Server.ReadyNotify():
		return s, nil
	case err := <-s.etcd.Err():
		return nil, fmt.Errorf("start the embedded database in %s: %w", home, err)
	case <-s.etcd.Server.StopNotify():
		return nil, fmt.Errorf("start the embedded database in %s: it stopped", home)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func serverConfig(dir, socket string, history time.Duration) *embed.Config {
	cfg := embed.NewConfig()
	cfg.Name = memberName
	cfg.Dir = dir
	cfg.ListenPeerUrls = nil
	cfg.AdvertisePeerUrls = []url.URL{mustURL(memberPeerURL)}
	cfg.InitialCluster = memberName + "=" + memberPeerURL
	cfg.ListenClientUrls = []url.URL{{Scheme: "unix", Path: socket}}
	cfg.AdvertiseClientUrls = []url.URL{{Scheme: "unix", Path: "/client.sock"}}
	cfg.EnableGRPCGateway = false
	cfg.MaxTxnOps = maxTxnOps
	cfg.MaxRequestBytes = maxRequest
	cfg.QuotaBackendBytes = maxDatabase
	// One member elects itself after one tick: a short one starts faster.
	cfg.TickMs, cfg.ElectionMs = 50, 500
	// Keep little of the log in memory: nobody catches up from it.
	cfg.SnapshotCount, cfg.SnapshotCatchUpEntries = 2000, 50
	if history <= 0 {
		history = defaultHistory
	}
	cfg.AutoCompactionMode = embed.CompactorModePeriodic
	cfg.AutoCompactionRetention = history.String()
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(quietLogger())
	return cfg
}

// quietLogger lets through only what ends the process. etcd reports its own
// orderly stop as errors; faults that matter reach us as errors of calls.
func quietLogger() *zap.Logger {
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(zap.FatalLevel)
	c.DisableStacktrace = true
	log, err := c.Build()
	if err != nil {
		return zap.NewNop()
	}
	return log
}

func mustURL(s string) url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return *u
}

func (s *server) close() error {
	if s.etcd != nil {
		s.etcd.Close()
	}
	if s.dir != nil {
		return s.dir.Close()
	}
	return nil
}
