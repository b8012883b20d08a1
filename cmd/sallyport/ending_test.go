// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/cloudapi"
)

// Calls in flight when the server is asked to end come to their end: none is
// answered with an error that leaves open whether it was done, what was
// acknowledged is there in the next server, and who waits for news is let go.
func TestEndFinishesCalls(t *testing.T) {
	dir := t.TempDir()
	first, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0")
	const writers = 6
	var wg sync.WaitGroup
	var groups, names, tried [writers]string // the names that were acknowledged and asked for last
	for i := range writers {
		var made struct {
			SecurityGroup struct{ SecurityGroupId string }
		}
		if err := first.do(t.Context(), "vpc", "2017-03-12", "CreateSecurityGroup", map[string]string{"GroupName": "new", "GroupDescription": "d"}, &made); err != nil {
			t.Fatal(err)
		}
		groups[i], names[i] = made.SecurityGroup.SecurityGroupId, "new"
	}
	for i := range writers {
		wg.Go(func() {
			for n := 0; ; n++ {
				name := fmt.Sprint("name-", n)
				tried[i] = name
				err := first.do(t.Context(), "vpc", "2017-03-12", "ModifySecurityGroupAttribute", map[string]string{"SecurityGroupId": groups[i], "GroupName": name}, nil)
				if refusal := (*cloudapi.Error)(nil); errors.As(err, &refusal) {
					t.Errorf("a call in flight was answered with %v", refusal)
				}
				if err != nil {
					return // not answered: the server is gone
				}
				names[i] = name
			}
		})
	}
	wg.Go(func() {
		in := map[string]any{"AfterRevision": 1 << 40, "WaitSeconds": 60}
		err := first.do(t.Context(), "sallyport", "2026-11-23", "DescribeHosts", in, nil)
		if err != nil {
			t.Errorf("who waited for news was told %v", err)
		}
	})
	time.Sleep(200 * time.Millisecond) // of load, no condition
	began := time.Now()
	if code, said := stop(); code != 0 || time.Since(began) > stopLimit {
		t.Errorf("exit %d after %v: %s", code, time.Since(began), said)
	}
	wg.Wait()
	second, stop := startServer(t, "--data", dir, "--listen", "127.0.0.1:0")
	defer stop()
	for i, id := range groups {
		var out struct {
			SecurityGroupSet []struct{ SecurityGroupName string }
		}
		if err := second.do(t.Context(), "vpc", "2017-03-12", "DescribeSecurityGroups", map[string]any{"SecurityGroupIds": []string{id}}, &out); err != nil {
			t.Fatal(err)
		}
		if got := out.SecurityGroupSet[0].SecurityGroupName; got != names[i] && got != tried[i] {
			t.Errorf("group %d is called %s, after %s was acknowledged", i, got, names[i])
		}
	}
}

// do makes one signed request.
func (c connection) do(ctx context.Context, service, version, action string, in, out any) error {
	client := &cloudapi.Client{Endpoint: c.Endpoint, SecretID: c.SecretID, SecretKey: c.SecretKey, Region: c.Region}
	return client.Do(ctx, service, version, action, in, out)
}
