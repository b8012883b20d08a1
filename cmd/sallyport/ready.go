// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"

	"github.com/sallyport/sallyport/internal/cloudapi"
	"github.com/sallyport/sallyport/internal/lab"
)

// A ready is what the ready file and `lab ls --json` hold. Scripts read it: the
// names are a promise.
type ready struct {
	API           string           `json:"api"`
	Region        string           `json:"region"`
	SecretID      string           `json:"secretId"`
	SecretKey     string           `json:"secretKey"`
	Hosts         []lab.HostRecord `json:"hosts"`
	LoadBalancers []readyBalancer  `json:"loadBalancers"`
}

type readyBalancer struct {
	ID   string   `json:"id"`
	Name string   `json:"name"`
	VIPs []string `json:"vips"` // IPv4 first
}

// newReady puts the shape together. Lists are never null.
func newReady(r *lab.Record, client *cloudapi.Client, balancers []readyBalancer) ready {
	return ready{
		API: r.API, Region: r.Region, SecretID: client.SecretID, SecretKey: client.SecretKey,
		Hosts: append([]lab.HostRecord{}, r.Hosts...), LoadBalancers: append([]readyBalancer{}, balancers...),
	}
}

// write puts the ready file in place by rename: whoever finds it finds it whole.
func (r ready) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return lab.WriteFile(path, append(data, '\n'))
}

// listBalancers reads all load balancers of the region.
func listBalancers(ctx context.Context, client *cloudapi.Client) ([]readyBalancer, error) {
	const page = 100
	var all []readyBalancer
	for {
		var answer struct {
			TotalCount      int
			LoadBalancerSet []struct {
				LoadBalancerId, LoadBalancerName string
				LoadBalancerVips                 []string
			}
		}
		in := map[string]any{"Offset": len(all), "Limit": page}
		if err := client.Do(ctx, "clb", apiVersions()["clb"], "DescribeLoadBalancers", in, &answer); err != nil {
			return nil, err
		}
		for _, b := range answer.LoadBalancerSet {
			all = append(all, readyBalancer{ID: b.LoadBalancerId, Name: b.LoadBalancerName, VIPs: append([]string{}, b.LoadBalancerVips...)})
		}
		if len(answer.LoadBalancerSet) == 0 || len(all) >= answer.TotalCount {
			return all, nil
		}
	}
}
