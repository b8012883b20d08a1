// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ownNames matches the namespaces a lab makes, so that clearing away never
// touches another's that happens to begin alike.
const ownNames = `^sp-(fabric|server|(gateway|client)-[0-9]+|ins-[a-z0-9]{8})$`

// threadNS is the network namespace of the calling OS thread.
const threadNS = "/proc/thread-self/ns/net"

// inside runs fn on an OS thread whose network namespace is the one at path.
// Sockets, links and processes that fn makes belong to it for good. The thread
// goes back afterwards; one that cannot is kept out of use for ever, because a
// thread that ends would take the processes it started with it (Pdeathsig).
func inside(path string, fn func() error) error {
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return onOwnThread(func() error {
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter %s: %w", path, err)
		}
		return fn()
	})
}

// onOwnThread runs fn on a locked thread and restores the thread's network
// namespace, whatever fn did to it.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open(threadNS)
		if err != nil {
			runtime.UnlockOSThread()
			done <- err
			return
		}
		err = fn()
		back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET)
		_ = home.Close()
		if back != nil {
			done <- errors.Join(err, fmt.Errorf("leave the namespace: %w", back))
			select {}
		}
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// newNamespace makes the namespace of host, names it below /run/netns, and
// runs setup inside it before anyone else can.
func newNamespace(host string, setup func() error) error {
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return err
	}
	path := Namespace(host)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	_ = f.Close()
	err = onOwnThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("new network namespace: %w", err)
		}
		if err := unix.Mount(threadNS, path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("name the namespace %s: %w", path, err)
		}
		return setup()
	})
	if err != nil {
		_ = dropNamespace(path)
	}
	return err
}

// dropNamespace takes the name away; the namespace ends with its last process.
func dropNamespace(path string) error {
	for unix.Unmount(path, unix.MNT_DETACH) == nil {
		// A name can be mounted over more than once; go on until it is bare.
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ownNamespaces lists the paths of all namespaces that a lab made.
func ownNamespaces() ([]string, error) {
	own, err := regexp.Compile(ownNames)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(netnsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var paths []string
	for _, e := range entries {
		if own.MatchString(e.Name()) {
			paths = append(paths, filepath.Join(netnsDir, e.Name()))
		}
	}
	return paths, err
}

// inode identifies the namespace at path, as readlink of /proc/PID/ns/net
// shows it. 0 if there is none.
func inode(path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	return st.Ino
}

// Exec replaces this process by argv inside the host's network namespace, so
// that terminal, signals and exit code are argv's own. It only returns on error.
func Exec(host string, argv []string) error {
	if err := Enter(host); err != nil {
		return err
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return unix.Exec(path, argv, os.Environ())
}

// Enter moves the calling goroutine into the host's network namespace and
// binds it to its thread for good: sockets made by it from now on are the host's.
func Enter(host string) error {
	runtime.LockOSThread()
	ns, err := os.Open(Namespace(host))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the lab has no host %q", host)
	}
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w (root is needed)", host, err)
	}
	return nil
}

// Dial connects from a host of the lab. The address must be literal: names
// would be looked up outside.
func Dial(host, network, address string, timeout time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := inside(Namespace(host), func() error {
		var err error
		conn, err = net.DialTimeout(network, address, timeout)
		return err
	})
	return conn, err
}

// Listen opens a TCP listener on a host of the lab.
func Listen(host, address string) (net.Listener, error) {
	var l net.Listener
	err := inside(Namespace(host), func() error {
		var err error
		l, err = net.Listen("tcp", address)
		return err
	})
	return l, err
}

// sysctl writes a setting of the calling thread's network namespace, such as
// net.ipv4.ip_forward.
func sysctl(name, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	return os.WriteFile(path, []byte(value), 0o644)
}
