// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "github.com/sallyport/sallyport/internal/lb"

type describeTaskStatusIn struct {
	TaskId string   `tc:""`
	_      struct{} `unserved:"DealName"`
}

type describeTaskStatusOut struct {
	Status          int
	LoadBalancerIds []string
	Message         string
}

// describeTaskStatus tells how a write of clb ended. Writes are applied before
// they are answered, so a task that is known has ended.
func describeTaskStatus(c *Call, in *describeTaskStatusIn) (*describeTaskStatusOut, error) {
	if in.TaskId == "" {
		return nil, refuse(lb.Missing, "TaskId", "no task is named", "give the RequestId of the call that made it")
	}
	t, ok, err := c.Store.Task(c.Context(), in.TaskId)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, refuse(lb.NotFound, "TaskId", "there is no task of this RequestId", "tasks are kept for 24 hours")
	}
	return &describeTaskStatusOut{Status: t.Status, LoadBalancerIds: t.LoadBalancerIDs, Message: t.Message}, nil
}
