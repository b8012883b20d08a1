// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sallyport/sallyport/internal/lb"
)

var clientPrefix = clientv3.WithPrefix()

// childDir names the data directory of a child that writes until it is killed.
const childDir = "SALLYPORT_STORE_CHILD"

// child writes one VPC per revision and reports each on its output after it
// was written. It never returns.
func child(dir string) {
	began := time.Now()
	s, err := Open(context.Background(), Options{DataDir: dir})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open", time.Since(began).Round(time.Millisecond), rss())
	for {
		rev, err := s.Update(context.Background(), func(tx *Tx) error {
			n := tx.NextNum()
			tx.PutVPC(&lb.VPC{ID: lb.VPCID(fmt.Sprint("vpc-", n))})
			tx.PutNode(&lb.Node{ID: "gateway-1", Num: n})
			return nil
		})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println("wrote", rev)
	}
}

func rss() string {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strings.Join(strings.Fields(rest), "")
		}
	}
	return "?"
}

// Whatever Update has returned is there after kill -9, whole and in order.
func TestKilledAtAnyTimeNothingIsLost(t *testing.T) {
	dir := t.TempDir()
	last := 0
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		until := last + 10*(round+1)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			word, rest, _ := strings.Cut(lines.Text(), " ")
			switch word {
			case "open":
				t.Logf("the embedded store was open after, and held: %s (revision %d)", rest, last)
			case "wrote":
				if last, err = strconv.Atoi(rest); err != nil {
					t.Fatal(err)
				}
			default:
				t.Fatal(lines.Text())
			}
			if last >= until {
				break
			}
		}
		cmd.Process.Kill()
		for lines.Scan() { // what it had still reported
			fmt.Sscanf(lines.Text(), "wrote %d", &last)
		}
		cmd.Wait()
	}
	s := open(t, dir)
	st := s.State()
	// One more may have been written without its report.
	if got := int(st.Revision); got != last && got != last+1 {
		t.Fatalf("revision %d; the last report was of %d", got, last)
	}
	if st.VPCs.Len() != int(st.Revision) || st.Nodes.Get("gateway-1").Num != uint32(st.Revision) {
		t.Fatalf("torn: %d VPCs, number %d at revision %d", st.VPCs.Len(), st.Nodes.Get("gateway-1").Num, st.Revision)
	}
	wantRevision(t, s, update(t, s, func(tx *Tx) {
		if n := tx.NextNum(); n != uint32(st.Revision)+1 {
			t.Errorf("number %d was given out again", n)
		}
		tx.DeleteVPC("vpc-1")
	}), st.Revision+1)
}
