// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"bufio"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/flow"
	"github.com/sallyport/sallyport/internal/policy"
)

// The lives that Go counts by are the programs'.
func TestLivesAreTheProgramsOwn(t *testing.T) {
	var text string
	for _, name := range []string{"bpf/host.h", "bpf/layout.h", "bpf/slot.h"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	for name, want := range map[string]int{"HALF_LIFE": halfLife, "CLOSING_LIFE": closingLife, "UDP_LIFE": udpLife, "ICMP_LIFE": icmpLife, "OTHER_LIFE": otherLife} {
		m := regexp.MustCompile(name + ` = (\d+)`).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("the programs have no %s", name)
			continue
		}
		if got, _ := strconv.Atoi(m[1]); got != want {
			t.Errorf("%s is %s in C and %d in Go", name, m[1], want)
		}
	}
	if !strings.Contains(text, "TCP_LIFE = 3 * 3600") || tcpLife != 3*3600 {
		t.Error("TCP_LIFE differs")
	}
	if !strings.Contains(text, "#define UNIT_SHIFT "+strconv.Itoa(unitShift)) {
		t.Error("UNIT_SHIFT differs")
	}
}

// Both nodes tell of an open connection in clients' words, and how full their
// tables are.
func TestFlowsAreTold(t *testing.T) {
	w := newWorld(t)
	gw, host := w.pairOpen()
	w.serve("dp-host", service+":8080")
	s1, s2 := pair(t, 1, compiled(t, "sg-1", accept("0.0.0.0/0", 80)), compiled(t, "sg-2", accept("0.0.0.0/0", 8080)))
	put(t, gw, host, s1, s2)
	c, err := w.dial("dp-a", vip+":80", 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	from := c.LocalAddr().String()
	for _, d := range []*Datapath{gw, host} {
		got, err := d.Flows(flow.Query{})
		if err != nil || got.Total != 1 || len(got.Flows) != 1 {
			t.Fatalf("%s tells of %+v, %v", d.opts.Node, got, err)
		}
		f := got.Flows[0]
		if f.Peer.String() != from || f.Dialled.String() != vip+":80" || f.State != flow.Open || f.Balancer != "lb-1" ||
			f.Instance != "ins-1" || f.Rule != "pol-1" || f.Opener != policy.In || f.Gate != d.gate || f.Revision != 1 {
			t.Errorf("%s: %+v", d.opts.Node, f)
		}
		none, err := d.Flows(flow.Query{Client: netip.MustParsePrefix(clientB + "/32")})
		if err != nil || none.Total != 0 {
			t.Errorf("%s: a filter that fits none gives %+v, %v", d.opts.Node, none, err)
		}
		use, err := d.Tables()
		if err != nil || len(use.Tables) == 0 || use.Tables[0].Live != 1 || use.Tables[0].Slots < 1000 || use.Tables[0].Bytes < 32*use.Tables[0].Slots ||
			len(use.Tables[0].Shares) != 1 || use.Tables[0].Shares[0].Balancer != "lb-1" {
			t.Errorf("%s: tables %+v, %v", d.opts.Node, use, err)
		}
	}
	if f, _ := host.Flows(flow.Query{}); f.Flows[0].Service.String() != service+":8080" {
		t.Errorf("the host says the service is %v", f.Flows[0].Service)
	}
	gw.Close()
	if _, err := gw.Flows(flow.Query{}); err != errClosed {
		t.Errorf("after Close: %v", err)
	}
}
