// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"slices"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

// returnPathActions are about the way of answers, which the vendor does not let
// clients choose.
func returnPathActions() []Action {
	return []Action{
		action(serviceSallyport, "ModifyReturnPath", modifyReturnPath).fails("InvalidParameter.LBIdNotFound"),
		action(serviceSallyport, "DescribeReturnPaths", describeReturnPaths).fails("InvalidParameter.LBIdNotFound"),
	}
}

type modifyReturnPathIn struct {
	LoadBalancerId string `tc:"required"`
	ReturnPath     string `tc:"required,enum=direct|gateway"`
}

// modifyReturnPath says which way answers of layer-4 listeners take to clients.
// It is in force at once, for open connections too.
func modifyReturnPath(c *Call, in *modifyReturnPathIn) (*done, error) {
	return nil, c.Update(func(tx *store.Tx) error {
		b, err := changeBalancer(tx.State(), in.LoadBalancerId)
		if err != nil {
			return err
		}
		b.ReturnPath = lb.ReturnPathNamed(in.ReturnPath)
		tx.PutBalancer(b)
		return nil
	})
}

type describeReturnPathsIn struct {
	LoadBalancerIds []string `tc:""`
}

type describeReturnPathsOut struct{ ReturnPathSet []returnPathOut }

type returnPathOut struct{ LoadBalancerId, ReturnPath string }

// describeReturnPaths lists the return path of the load balancers named, of
// all without names, by id.
func describeReturnPaths(c *Call, in *describeReturnPathsIn) (*describeReturnPathsOut, error) {
	st := c.State()
	for i, id := range in.LoadBalancerIds {
		if _, err := findBalancer(st, id); err != nil {
			return nil, inList(err, "LoadBalancerIds", i)
		}
	}
	out := &describeReturnPathsOut{}
	for _, id := range st.Balancers.Sorted() {
		if len(in.LoadBalancerIds) == 0 || slices.Contains(in.LoadBalancerIds, string(id)) {
			out.ReturnPathSet = append(out.ReturnPathSet, returnPathOut{string(id), st.Balancers.Get(id).ReturnPath.Name()})
		}
	}
	return out, nil
}
