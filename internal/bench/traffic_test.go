// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/e2e"
)

const (
	echoPort    = 5001
	streamPort  = 5002
	sinkPort    = 5003
	connections = 32
	message     = 64 // bytes
)

var tcpPorts = []uint16{echoPort, streamPort, sinkPort}

// threads runs fn on n threads in a host's namespace, each its own for good:
// blocking system calls cost less than a poller, and the same for everyone.
func threads(host string, n int, fn func()) (wait func()) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_ = e2e.Inside(host, func() error {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				fn()
				return nil
			})
		})
	}
	return wg.Wait
}

// serve listens in the instance's namespace until the test ends: streamPort sends
// without end and sinkPort takes what comes; what comes in on echoPort goes back
// once somebody waits for it by a poller.
func serve(b *testing.B, host string) *echo {
	b.Helper()
	listen := func(port, flags int) int {
		var fd int
		err := e2e.Inside(host, func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|flags, 0); err != nil {
				return err
			}
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, 1024))
		})
		if err != nil {
			b.Fatal(err)
		}
		return fd
	}
	handlers := map[int]func(int){listen(streamPort, 0): stream, listen(sinkPort, 0): sink}
	var waits []func()
	for fd, handle := range handlers {
		waits = append(waits, threads(host, 4, func() {
			for {
				c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
				if err == unix.EINTR {
					continue
				}
				if err != nil {
					return
				}
				patient(c)
				handle(c)
				unix.Close(c)
			}
		}))
	}
	e := &echo{listening: listen(echoPort, unix.SOCK_NONBLOCK), datagrams: serveDatagrams(b, host)}
	handlers[e.listening], handlers[e.datagrams] = nil, nil
	b.Cleanup(func() {
		for fd := range handlers {
			unix.Shutdown(fd, unix.SHUT_RDWR)
		}
		for _, wait := range waits {
			wait()
		}
		for fd := range handlers {
			unix.Close(fd)
		}
	})
	return e
}

// serveDatagrams is a UDP socket on echoPort in the host's namespace.
func serveDatagrams(b *testing.B, host string) (fd int) {
	b.Helper()
	err := e2e.Inside(host, func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: echoPort})
	})
	if err != nil {
		b.Fatal(err)
	}
	return fd
}

func patient(fd int) {
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2})
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2})
}

// again repeats a call that one of the runtime's own signals broke off.
func again(call func() (int, error)) (n int, err error) {
	for {
		if n, err = call(); err != unix.EINTR {
			return n, err
		}
	}
}

func read(fd int, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.Read(fd, buf) })
}

func send(fd int, buf []byte) (int, error) {
	return again(func() (int, error) { return unix.SendmsgN(fd, buf, nil, nil, unix.MSG_NOSIGNAL) })
}

func stream(c int) {
	buf := make([]byte, 128<<10)
	for {
		if _, err := send(c, buf); err != nil {
			return
		}
	}
}

func sink(c int) {
	for buf := make([]byte, 256<<10); ; {
		if n, err := read(c, buf); n <= 0 || err != nil {
			return
		}
	}
}

// connect opens a connection from the calling thread's namespace.
func connect(to netip.AddrPort) (int, error) { return connected(to, unix.SOCK_STREAM) }

// connected is a socket of that type that is connected from the calling thread's namespace.
func connected(to netip.AddrPort, kind int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	patient(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		unix.Close(fd)
		return 0, err
	}
	return fd, nil
}

// A job is a kind of traffic: small units one thread makes and serves by poll, and run
// counts the bytes of threads until stop.
type job struct {
	name    string
	port    uint16
	poll    func(p *poller, to netip.AddrPort, last time.Duration, cpu func() time.Duration) (spell, error)
	threads int
	run     func(to netip.AddrPort, stop *atomic.Bool, units, failed *atomic.Int64)
}

func jobs() []job {
	return []job{
		{name: "request", port: echoPort, poll: exchanges(unix.SOCK_STREAM, 1)},
		{name: "connection", port: echoPort, poll: handshakes},
		{name: "packet", port: echoPort, poll: exchanges(unix.SOCK_DGRAM, 2)}, // there and back
		{name: "download", port: streamPort, threads: 2, run: bulk(read)},
		{name: "upload", port: sinkPort, threads: 2, run: bulk(send)},
	}
}

// bulk moves bytes one way as fast as it goes.
func bulk(move func(fd int, buf []byte) (int, error)) func(netip.AddrPort, *atomic.Bool, *atomic.Int64, *atomic.Int64) {
	return func(to netip.AddrPort, stop *atomic.Bool, units, failed *atomic.Int64) {
		fd, err := connect(to)
		for err == unix.EINTR {
			fd, err = connect(to)
		}
		if err != nil {
			failed.Add(1)
			return
		}
		defer unix.Close(fd)
		for buf := make([]byte, 256<<10); !stop.Load(); {
			n, err := move(fd, buf)
			if n <= 0 || err != nil {
				failed.Add(1)
				return
			}
			units.Add(int64(n))
		}
	}
}

// cost is the CPU time of one MB in µs and how many there were a second.
func (j job) cost(b *testing.B, meter *meter, host string, to netip.Addr, last time.Duration) (µs, rate float64) {
	b.Helper()
	var stop atomic.Bool
	var units, failed atomic.Int64
	before, began := meter.read(b), time.Now()
	wait := threads(host, j.threads, func() { j.run(netip.AddrPortFrom(to, j.port), &stop, &units, &failed) })
	time.Sleep(last)
	stop.Store(true)
	wait()
	used, took := meter.read(b)-before, time.Since(began)
	n := float64(units.Load()) / 1e6
	if n == 0 || float64(failed.Load()) > n/100 {
		b.Errorf("%s to %v: %.0f done, %d failed", j.name, to, n, failed.Load())
		return 0, 0
	}
	return float64(used.Microseconds()) / n, n / took.Seconds()
}
