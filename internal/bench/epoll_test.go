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
// small too and cost the same each time: one thread is clients and servers, by
// one epoll, on one CPU. Threads made the cost of waking each other, which is
// greater than what is measured and depends on who happens to sleep: with one of
// clients and one of servers, a request by our way came with 0.83 switches, and
// one to the instance itself with 0.48.

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

// A poller waits for the sockets of one thread: clients', and the server's that
// it serves between them.
type poller struct {
	fd     int
	events [64]unix.EpollEvent
	server *echo
}

func newPoller(server *echo) (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	p := &poller{fd: fd, server: server}
	if err == nil {
		server.open = map[int]bool{}
		err = errors.Join(p.set(unix.EPOLL_CTL_ADD, server.listening, unix.EPOLLIN), p.set(unix.EPOLL_CTL_ADD, server.datagrams, unix.EPOLLIN))
	}
	return p, err
}

// close ends what the server still has open, too.
func (p *poller) close() {
	for fd := range p.server.open {
		unix.Close(fd)
	}
	for { // nobody has accepted it yet
		fd, err := rawAccept(p.server.listening)
		if err != nil {
			break
		}
		unix.Close(fd)
	}
	unix.Close(p.fd)
}

func (p *poller) set(op, fd int, events uint32) error {
	return rawEpollSet(p.fd, op, fd, events)
}

// wait serves what is asked, and gives what is ready of the clients' sockets;
// nothing after a tenth of a second.
func (p *poller) wait() []unix.EpollEvent {
	n := rawEpollWait(p.fd, p.events[:], 100)
	clients := p.events[:0]
	for _, e := range p.events[:n] {
		if !p.server.answer(p, int(e.Fd)) {
			clients = append(clients, e)
		}
	}
	return clients
}

// An echo answers on connections of a listening socket, and datagrams.
type echo struct {
	listening, datagrams int
	open                 map[int]bool
	buf                  [message]byte
}

// answer does what is to be done for a socket; false if it is not the server's.
func (s *echo) answer(p *poller, fd int) bool {
	switch {
	case fd == s.listening:
		c, err := rawAccept(fd)
		if err == nil && p.set(unix.EPOLL_CTL_ADD, c, unix.EPOLLIN) == nil {
			rawNoDelay(c)
			s.open[c] = true
		}
	case fd == s.datagrams:
		rawEcho(fd, s.buf[:])
	case s.open[fd]:
		n, err := rawRead(fd, s.buf[:])
		if err == nil && n > 0 {
			_, err = rawSend(fd, s.buf[:n])
		}
		if (n == 0 || err != nil) && err != unix.EAGAIN && err != unix.EINTR {
			delete(s.open, fd)
			rawClose(fd)
		}
	default:
		return false
	}
	return true
}

// A spell is what a stretch of traffic did and cost.
type spell struct {
	units, failed int
	used, took    time.Duration
}

// gathered is how long it takes at most until verdicts that were told are read.
const gathered = 60 * time.Millisecond

// exchanges keeps a request under way on each of its connections, which are made
// and have had an answer before anything is measured. Each counts as units: of
// datagrams, both ways do.
func exchanges(kind, each int) func(p *poller, to netip.AddrPort, last time.Duration, cpu func() time.Duration) (spell, error) {
	return func(p *poller, to netip.AddrPort, last time.Duration, cpu func() time.Duration) (m spell, err error) {
		buf := make([]byte, message)
		for range connections {
			fd, err := connected(to, kind)
			if err != nil {
				return m, err
			}
			defer unix.Close(fd)
			if err := p.set(unix.EPOLL_CTL_ADD, fd, unix.EPOLLIN); err != nil {
				return m, err
			}
			if _, err := send(fd, buf); err != nil {
				return m, err
			}
		}
		turn := func() error {
			for _, e := range p.wait() {
				n, err := rawRead(int(e.Fd), buf)
				if err == unix.EINTR {
					continue
				}
				if err == nil && n > 0 {
					_, err = rawSend(int(e.Fd), buf)
				}
				if err != nil || n == 0 {
					return errors.Join(err, errors.New("closed"))
				}
				m.units += each
			}
			return nil
		}
		for began := time.Now(); m.units < 2*connections*each; {
			if err := turn(); err != nil {
				return m, err
			}
			if time.Since(began) > 2*time.Second {
				return m, errors.New("no answers")
			}
		}
		m.units = 0
		time.Sleep(gathered) // opening them is no unit's cost
		before, began := cpu(), time.Now()
		for ; m.took < last; m.took = time.Since(began) {
			if err := turn(); err != nil {
				return m, err
			}
		}
		m.used = cpu() - before
		return m, nil
	}
}

// dial begins a connection whose end p will tell.
func (p *poller) dial(to *unix.RawSockaddrInet4) error {
	fd, err := rawSocket(unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	rawNoDelay(fd)
	if err := rawConnect(fd, to); err != nil {
		rawClose(fd)
		return err
	}
	return p.set(unix.EPOLL_CTL_ADD, fd, unix.EPOLLOUT)
}

// handshakes makes connections, each for one request: as many at once as there
// are of requests.
func handshakes(p *poller, to netip.AddrPort, last time.Duration, cpu func() time.Duration) (m spell, err error) {
	buf := make([]byte, message)
	at := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4(), Port: to.Port()<<8 | to.Port()>>8}
	before, began := cpu(), time.Now()
	for range connections {
		if err := p.dial(&at); err != nil {
			return m, err
		}
	}
	for under := connections; under > 0 && m.took < last+2*time.Second; m.took = time.Since(began) {
		for _, e := range p.wait() {
			fd := int(e.Fd)
			if e.Events&unix.EPOLLIN == 0 && e.Events&unix.EPOLLERR == 0 {
				if _, err := rawSend(fd, buf); err == nil && p.set(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN) == nil {
					continue
				}
			}
			if n, err := rawRead(fd, buf); err == nil && n > 0 {
				m.units++
			} else {
				m.failed++
			}
			rawClose(fd)
			if m.took >= last {
				under--
			} else if err := p.dial(&at); err != nil {
				return m, err
			}
		}
	}
	m.used = cpu() - before
	return m, nil
}

// cost is the CPU time of one unit in µs.
func (s spell) cost() float64 {
	if s.units == 0 {
		return 0
	}
	return float64(s.used.Nanoseconds()) / 1000 / float64(s.units)
}

// paced makes a job's units from client-1 over a short stretch.
func (j job) paced(b *testing.B, meter *meter, server *echo, to netip.Addr) spell {
	b.Helper()
	m, err := j.stretched(server, to, slice, func() time.Duration { return meter.read(b) })
	if err != nil || m.units == 0 || m.failed > m.units/100 {
		b.Errorf("%s to %v: %d done, %d failed: %v", j.name, to, m.units, m.failed, err)
	}
	return m
}

func (j job) stretched(server *echo, to netip.Addr, last time.Duration, cpu func() time.Duration) (m spell, err error) {
	err = e2e.Inside("client-1", func() error {
		p, err := newPoller(server)
		if err != nil {
			return err
		}
		defer p.close()
		m, err = j.poll(p, netip.AddrPortFrom(to, j.port), last, cpu)
		return err
	})
	return m, err
}
