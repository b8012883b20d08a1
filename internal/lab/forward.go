// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// dialLimit is how long a forwarded connection may take to be accepted. A gate
// that refuses is silent, so there always is a limit.
const dialLimit = 5 * time.Second

// Forward accepts connections on l and carries each to the address to, opened
// from host, so that it arrives with that host's address. It ends with ctx and
// closes l. say is told about connections that could not be carried.
func Forward(ctx context.Context, l net.Listener, host, to string, say func(format string, args ...any)) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var open sync.WaitGroup
	defer open.Wait()
	for {
		near, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		open.Go(func() {
			defer func() { _ = near.Close() }()
			far, err := Dial(host, "tcp", to, dialLimit)
			if err != nil {
				say("%s cannot reach %s: %v", host, to, err)
				return
			}
			defer func() { _ = far.Close() }()
			defer context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })()
			pipe(near, far)
		})
	}
}

// pipe copies both ways and passes each half's end on.
func pipe(a, b net.Conn) {
	var wg sync.WaitGroup
	for _, way := range []struct{ to, from net.Conn }{{a, b}, {b, a}} {
		wg.Go(func() {
			_, _ = io.Copy(way.to, way.from)
			if half, ok := way.to.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	wg.Wait()
}
