// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"sync"
	"time"

	"google.golang.org/grpc"
	gbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/wire"
)

const (
	connectLimit   = 3 * time.Second
	keepaliveEvery = 10 * time.Second // gRPC's least for clients; facts flow each second anyway
	keepaliveLimit = 5 * time.Second
	maxServerMsg   = 256 << 20
)

// dial makes a connection that connects with its first call. It is made anew
// for every attempt, so that gRPC's own waits never add to ours.
func dial(server string, config *tls.Config) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+server,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: gbackoff.DefaultConfig, MinConnectTimeout: connectLimit}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveLimit}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxServerMsg)),
	)
}

// A voice sends on a stream from several goroutines.
type voice struct {
	mu     sync.Mutex
	stream wire.Control_AttachClient
}

func (v *voice) say(m *wire.NodeMessage) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stream.Send(m)
}

// attach serves one stream until it breaks. The error says why.
func (n *Node) attach(ctx context.Context, id *identity) error {
	conn, err := dial(n.o.Server, id.tlsConfig())
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := wire.NewControlClient(conn).Attach(ctx)
	if err != nil {
		return err
	}
	v := &voice{stream: stream}
	if err := v.say(&wire.NodeMessage{Kind: &wire.NodeMessage_Hello{Hello: n.hello()}}); err != nil {
		return n.received(stream) // the reason comes from reading
	}
	n.attached.Store(true)
	defer n.attached.Store(false)
	wg.Go(func() {
		defer cancel()
		n.reporter.report(ctx, func(f *wire.Facts) error {
			return v.say(&wire.NodeMessage{Kind: &wire.NodeMessage_Facts{Facts: f}})
		})
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if ask := m.GetAsk(); ask != nil {
			// Beside the rest: a great table takes its time, and rules do not wait.
			wg.Go(func() { _ = v.say(&wire.NodeMessage{Kind: &wire.NodeMessage_Answer{Answer: n.answer(ask)}}) })
			continue
		}
		if ack := n.obey(ctx, m); ack != nil {
			if err := v.say(&wire.NodeMessage{Kind: &wire.NodeMessage_Ack{Ack: ack}}); err != nil {
				return n.received(stream)
			}
		}
	}
}

// received reads a broken stream to its end: its status says what a failed
// Send does not.
func (n *Node) received(stream wire.Control_AttachClient) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

func (n *Node) hello() *wire.Hello {
	h := &wire.Hello{Protocol: wire.Protocol, Name: string(n.o.Name), Address: n.o.Address.String(),
		Others: texts(n.o.Others), Version: n.o.Version, Revision: uint32(n.engine.revision()), Kernel: uint32(n.kernelRevision())}
	if n.o.Other.IsValid() {
		h.Other = n.o.Other.String()
	}
	for hash := range n.engine.blobs() {
		h.Have = append(h.Have, hash)
	}
	return h
}

// obey does what the server says and answers; nil for what this version does
// not know.
func (n *Node) obey(ctx context.Context, m *wire.ServerMessage) *wire.Ack {
	var ack *wire.Ack
	var warning, err error
	switch kind := m.Kind.(type) {
	case *wire.ServerMessage_Stage:
		ack = &wire.Ack{Revision: kind.Stage.Revision, Phase: wire.Phase_PHASE_STAGED}
		warning, err = n.engine.stage(ctx, kind.Stage)
	case *wire.ServerMessage_Commit:
		ack = &wire.Ack{Revision: kind.Commit.Revision, Phase: wire.Phase_PHASE_COMMITTED}
		warning, err = n.engine.commit(ctx, lb.Revision(kind.Commit.Revision))
		if err == nil && warning == nil {
			n.reporter.warn("")
		}
	case *wire.ServerMessage_Loads:
		n.obeyLoads(kind.Loads)
		return nil
	case *wire.ServerMessage_Passed:
		if n.o.Passed != nil {
			n.o.Passed(lb.Revision(kind.Passed.Revision))
		}
		return nil
	default:
		return nil
	}
	if warning != nil {
		n.log.Error("snapshot", "error", warning)
		n.reporter.warn(warning.Error())
	}
	if err != nil {
		n.log.Error("snapshot refused", "revision", ack.Revision, "phase", ack.Phase, "error", err)
		ack.Error = err.Error()
	} else if ack.Phase == wire.Phase_PHASE_COMMITTED {
		n.reporter.keepTargets(n.engine.current().snapshot.Targets)
	}
	return ack
}
