// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"
)

func TestDatagrams(t *testing.T) {
	free, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(free.LocalAddr().(*net.UDPAddr).Port)
	free.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var log bytes.Buffer
	web := &Web{Instance: "ins-1", Log: &log, Now: time.Now}
	ended := make(chan error, 1)
	go func() { ended <- web.ServeDatagrams(ctx, []uint16{port}) }()
	conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 9), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ask := func(text string) []byte {
		for range 100 { // the server may not be there yet
			conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
			answer := make([]byte, 2048)
			if _, err := conn.Write([]byte(text)); err == nil {
				if n, err := conn.Read(answer); err == nil {
					return answer[:n]
				}
			}
			time.Sleep(10 * time.Millisecond) // a port that is closed says so at once
		}
		t.Fatalf("no answer to %q", text)
		return nil
	}
	var sight Sight
	if err := json.Unmarshal(ask("hello"), &sight); err != nil || sight.Instance != "ins-1" || sight.Port != port || sight.Local.String() != "127.0.0.9" || sight.Bytes != 5 {
		t.Errorf("%+v, %v", sight, err)
	}
	if got := string(ask("ruok")); got != "imok" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), " datagram peer=127.0.0.1:") {
		t.Error(log.String())
	}
}
