// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"errors"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/e2e"
)

// Requests, connections and datagrams are small, so what makes them must be
// small too and cost the same each time: one thread for the clients and one for
// the servers, each with its own epoll, all on one CPU. Many blocking threads on
// two CPUs made the cost of waking each other, which is greater than what is
// measured and depends on who happens to sleep.

// alone puts this process, and what it starts, on one CPU and before others.
func alone(b *testing.B) {
	b.Helper()
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		b.Fatal(err)
	}
	for cpu := range 1024 {
		if all.IsSet(cpu) {
			one.Zero()
			one.Set(cpu)
		}
	}
	place := func(set *unix.CPUSet, nice int) {
		tasks, _ := os.ReadDir("/proc/self/task")
		for _, task := range tasks {
			tid, _ := strconv.Atoi(task.Name())
			_ = unix.SchedSetaffinity(tid, set) // threads come and go
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
		}
	}
	place(&one, -20)
	b.Cleanup(func() { place(&all, 0) })
}

// A poller waits for sockets on one thread.
type poller struct {
	fd     int
	events [64]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return &poller{fd: fd}, err
}

func (p *poller) set(op, fd int, events uint32) error {
	return unix.EpollCtl(p.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// wait gives what is ready; nothing after a tenth of a second.
func (p *poller) wait() []unix.EpollEvent {
	n, err := unix.EpollWait(p.fd, p.events[:], 100)
	if err != nil {
		n = 0
	}
	return p.events[:n]
}

// answer is the echo of one thread: on connections of a listening socket, and of
// datagrams, until the listening socket is shut down.
func answer(listening, datagrams int) {
	p, err := newPoller()
	if err != nil || p.set(unix.EPOLL_CTL_ADD, listening, unix.EPOLLIN) != nil || p.set(unix.EPOLL_CTL_ADD, datagrams, unix.EPOLLIN) != nil {
		return
	}
	defer unix.Close(p.fd)
	open := map[int]bool{}
	defer func() {
		for fd := range open {
			unix.Close(fd)
		}
	}()
	for buf := make([]byte, message); ; {
		for _, e := range p.wait() {
			fd := int(e.Fd)
			switch fd {
			case listening:
				c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
				if err == unix.EINVAL { // shut down
					return
				}
				if err == nil && p.set(unix.EPOLL_CTL_ADD, c, unix.EPOLLIN) == nil {
					_ = unix.SetsockoptInt(c, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
					open[c] = true
				}
			case datagrams:
				if n, from, err := unix.Recvfrom(fd, buf, unix.MSG_DONTWAIT); err == nil && n > 0 {
					_ = unix.Sendto(fd, buf[:n], 0, from)
				}
			default:
				n, err := read(fd, buf)
				if err == nil && n > 0 {
					_, err = send(fd, buf[:n])
				}
				if n == 0 || (err != nil && err != unix.EAGAIN) {
					delete(open, fd)
					unix.Close(fd)
				}
			}
		}
	}
}

// A spell is what a stretch of traffic did and cost.
type spell struct {
	units, failed int
	used, took    time.Duration
}

// exchanges keeps a request under way on each of its connections, which are made
// before anything is measured. Each counts as units: of datagrams, both ways do.
func exchanges(kind, each int) func(to netip.AddrPort, last time.Duration, cpu func() time.Duration) (spell, error) {
	return func(to netip.AddrPort, last time.Duration, cpu func() time.Duration) (m spell, err error) {
		p, err := newPoller()
		if err != nil {
			return m, err
		}
		defer unix.Close(p.fd)
		buf := make([]byte, message)
		for range connections {
			fd, err := connected(to, kind)
			if err != nil {
				return m, err
			}
			defer unix.Close(fd)
			if err := errors.Join(exchange(fd, buf), p.set(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN)); err != nil {
				return m, err
			}
			if _, err := send(fd, buf); err != nil {
				return m, err
			}
		}
		before, began := cpu(), time.Now()
		for ; m.took < last; m.took = time.Since(began) {
			for _, e := range p.wait() {
				n, err := read(int(e.Fd), buf)
				if err == nil && n > 0 {
					_, err = send(int(e.Fd), buf)
				}
				if err != nil || n == 0 {
					return m, errors.Join(err, errors.New("closed"))
				}
				m.units += each
			}
		}
		m.used = cpu() - before
		return m, nil
	}
}

// dial begins a connection whose end p will tell.
func (p *poller) dial(to netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return err
	}
	return p.set(unix.EPOLL_CTL_ADD, fd, unix.EPOLLOUT)
}

// handshakes makes connections, each for one request: as many at once as there
// are of requests.
func handshakes(to netip.AddrPort, last time.Duration, cpu func() time.Duration) (m spell, err error) {
	p, err := newPoller()
	if err != nil {
		return m, err
	}
	defer unix.Close(p.fd)
	buf := make([]byte, message)
	before, began := cpu(), time.Now()
	for range connections {
		if err := p.dial(to); err != nil {
			return m, err
		}
	}
	for under := connections; under > 0 && m.took < last+2*time.Second; m.took = time.Since(began) {
		for _, e := range p.wait() {
			fd := int(e.Fd)
			if e.Events&unix.EPOLLIN == 0 && e.Events&unix.EPOLLERR == 0 {
				if _, err := send(fd, buf); err == nil && p.set(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN) == nil {
					continue
				}
			}
			if n, err := read(fd, buf); err == nil && n > 0 {
				m.units++
			} else {
				m.failed++
			}
			unix.Close(fd)
			if m.took >= last {
				under--
			} else if err := p.dial(to); err != nil {
				return m, err
			}
		}
	}
	m.used = cpu() - before
	return m, nil
}

// paced is the CPU time of a job's unit in µs over a short stretch.
func (j job) paced(b *testing.B, meter *meter, host string, to netip.Addr) float64 {
	b.Helper()
	var m spell
	err := e2e.Inside(host, func() (err error) {
		m, err = j.poll(netip.AddrPortFrom(to, j.port), slice, func() time.Duration { return meter.read(b) })
		return err
	})
	if err != nil || m.units == 0 || m.failed > m.units/100 {
		b.Errorf("%s to %v: %d done, %d failed: %v", j.name, to, m.units, m.failed, err)
		return 0
	}
	return float64(m.used.Nanoseconds()) / 1000 / float64(m.units)
}
