// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// System calls of the thread that is clients and servers. The runtime is not told
// of them: a packet's whole way lies in the call that sends it, and from one that
// takes 20 µs the runtime takes its processor away, with two switches of threads,
// the more often the longer the way is.

func result(n uintptr, err unix.Errno) (int, error) {
	if err != 0 {
		return 0, err
	}
	return int(n), nil
}

func rawRead(fd int, buf []byte) (int, error) {
	n, _, err := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)))
	return result(n, err)
}

func rawSend(fd int, buf []byte) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, err)
}

// rawEcho sends what came in on a socket of datagrams back to where it came from.
func rawEcho(fd int, buf []byte) {
	var from unix.RawSockaddrInet4
	size := uint32(unix.SizeofSockaddrInet4)
	n, _, err := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), uintptr(len(buf)),
		unix.MSG_DONTWAIT, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	if err == 0 && n > 0 {
		_, _, _ = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(buf))), n, 0, uintptr(unsafe.Pointer(&from)), uintptr(size))
	}
}

func rawAccept(fd int) (int, error) {
	n, _, err := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
	return result(n, err)
}

func rawConnect(fd int, to *unix.RawSockaddrInet4) error {
	_, _, err := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(to)), unix.SizeofSockaddrInet4)
	if err != 0 && err != unix.EINPROGRESS {
		return err
	}
	return nil
}

func rawSocket(kind int) (int, error) {
	n, _, err := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, uintptr(kind), 0)
	return result(n, err)
}

func rawNoDelay(fd int) {
	one := int32(1)
	_, _, _ = unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&one)), 4, 0)
}

func rawClose(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func rawEpollSet(epoll, op, fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_, _, err := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if err != 0 {
		return err
	}
	return nil
}

// rawEpollWait gives what is ready, and waits only when nothing is.
func rawEpollWait(epoll int, events []unix.EpollEvent, ms int) int {
	n, _, err := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	if err == 0 && n > 0 {
		return int(n)
	}
	some, failed := unix.EpollWait(epoll, events, ms)
	if failed != nil {
		return 0
	}
	return some
}
