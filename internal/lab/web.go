// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"time"
)

// WebPorts are the ports on which an instance answers HTTP.
func WebPorts() []uint16 {
	ports := []uint16{22, 80, 3389}
	for p := uint16(8080); p <= 8089; p++ {
		ports = append(ports, p)
	}
	return ports
}

// A Web answers every request with what it saw, and writes a line for each
// connection and each request into Log before it answers.
type Web struct {
	Instance string
	Log      io.Writer
	Now      func() time.Time

	mu sync.Mutex // one line at a time
}

// A Sight is the answer: the request as the instance saw it.
type Sight struct {
	Instance string      `json:"instance"`
	Peer     netip.Addr  `json:"peer"` // the other end of the TCP connection
	PeerPort uint16      `json:"peerPort"`
	Local    netip.Addr  `json:"local"`
	Port     uint16      `json:"port"` // the instance's own
	Method   string      `json:"method"`
	Host     string      `json:"host"`
	URL      string      `json:"url"`
	Headers  http.Header `json:"headers"`
	Bytes    int64       `json:"bytes,omitempty"` // of the body
}

// Serve answers on the given ports of all addresses until ctx ends. It fails
// if one of them is taken.
func (w *Web) Serve(ctx context.Context, ports []uint16) error {
	server := &http.Server{Handler: w, ReadHeaderTimeout: 30 * time.Second, ConnState: w.connected}
	defer func() { _ = server.Close() }()
	failed := make(chan error, len(ports))
	for _, port := range ports {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
		if err != nil {
			return err
		}
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// ServeHTTP answers with a Sight; GET /download?bytes=N with N bytes instead.
func (w *Web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	peer, local := ends(r)
	w.line("request", peer, local, fmt.Sprintf(" method=%s url=%q host=%q", r.Method, r.URL.RequestURI(), r.Host))
	if r.URL.Path == "/download" {
		w.download(rw, r)
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(rw, "the body broke off: "+err.Error(), http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Sallyport-Instance", w.Instance)
	_ = json.NewEncoder(rw).Encode(Sight{
		Instance: w.Instance, Peer: peer.Addr(), PeerPort: peer.Port(), Local: local.Addr(), Port: local.Port(),
		Method: r.Method, Host: r.Host, URL: r.URL.RequestURI(), Headers: r.Header, Bytes: n,
	})
}

func (w *Web) download(rw http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil || n < 0 {
		http.Error(rw, "bytes must be a number, such as /download?bytes=1000000", http.StatusBadRequest)
		return
	}
	rw.Header().Set("Content-Type", "application/octet-stream")
	rw.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	rw.Header().Set("Sallyport-Instance", w.Instance)
	if r.Method == http.MethodHead {
		return
	}
	_, _ = io.CopyN(rw, zeros{}, n)
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (w *Web) connected(c net.Conn, state http.ConnState) {
	if state == http.StateNew {
		w.line("accept", addrPort(c.RemoteAddr()), addrPort(c.LocalAddr()), "")
	}
}

func (w *Web) line(event string, peer, local netip.AddrPort, more string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = fmt.Fprintf(w.Log, "%s %s peer=%v local=%v%s\n", w.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), event, peer, local, more)
}

func ends(r *http.Request) (peer, local netip.AddrPort) {
	peer, _ = netip.ParseAddrPort(r.RemoteAddr)
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		local = addrPort(a)
	}
	return peer, local
}

func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Stand is the process that stands for a lab host until ctx ends: the web
// server of an instance; on others it only keeps a pid in the namespace.
func Stand(ctx context.Context, role Role, name, log string) error {
	if role != RoleInstance {
		<-ctx.Done()
		return nil
	}
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	web := &Web{Instance: name, Log: f, Now: time.Now}
	both, stop := context.WithCancel(ctx)
	defer stop()
	echo := make(chan error, 1)
	go func() { defer stop(); echo <- web.ServeDatagrams(both, DatagramPorts()) }()
	err = web.Serve(both, WebPorts())
	stop()
	return errors.Join(err, <-echo, f.Close())
}
