// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/lb"
	"github.com/sallyport/sallyport/internal/store"
)

type describeTaskStatusIn struct {
	TaskId string   `tc:""`
	_      struct{} `unserved:"DealName"`
}

// describeTaskStatusOut has Status 0 for success, 1 for failure and 2 for a
// task that has not ended.
type describeTaskStatusOut struct {
	Status          int
	LoadBalancerIds []string
	Message         string
}

// describeTaskStatus tells how a write of clb ended. It has ended when every
// gateway that is connected to this server has its revision in force.
func describeTaskStatus(c *Call, in *describeTaskStatusIn) (*describeTaskStatusOut, error) {
	if in.TaskId == "" {
		return nil, refuse(lb.Missing, "TaskId", "no task is named", "give the RequestId of the call that made it")
	}
	t, ok, err := c.Store.Task(c.Context(), in.TaskId)
	if err != nil {
		return nil, err
	}
	if !ok || !c.sees(t) {
		return nil, refuse(lb.NotFound, "TaskId", "there is no task of this RequestId", "tasks are kept for 24 hours")
	}
	out := &describeTaskStatusOut{Status: t.Status, LoadBalancerIds: t.LoadBalancerIDs, Message: t.Message}
	if t.Status == taskDone && c.Facts != nil {
		out.Status, out.Message = c.progress(t)
	}
	return out, nil
}

// task is the record of how this call's write ended.
func (c *Call) task(tx *store.Tx) store.Task {
	t := store.Task{ID: c.RequestID, LoadBalancerIDs: c.made, Created: c.Now().UTC()}
	if c.Key != nil {
		t.Key = c.Key.ID
	}
	for _, touched := range tx.Touched() {
		for _, st := range []*lb.State{tx.Before(), tx.State()} {
			object := stored(st, touched.Kind, touched.ID)
			if object == nil {
				continue
			}
			if project, ok := projectOfObject(st, object); ok {
				t.Projects = append(t.Projects, project)
			}
		}
	}
	slices.Sort(t.Projects)
	t.Projects = slices.Compact(t.Projects)
	return t
}

// sees reports whether the caller may know of a task: it is the caller's own,
// or all that it changed is in the key's projects.
func (c *Call) sees(t store.Task) bool {
	if !c.narrow() || t.Key == c.Key.ID {
		return true
	}
	return len(t.Projects) > 0 && !slices.ContainsFunc(t.Projects, func(p string) bool { return !c.Key.InScope(p) })
}

// The published states of a task.
const (
	taskDone    = 0
	taskFailed  = 1
	taskRunning = 2
)

// taskPatience is how long a gateway may be unable to take a revision before
// the tasks that wait for it have failed. Rounds are repeated meanwhile.
const taskPatience = 5 * time.Second

// progress looks where a task's revision is in force. Gateways that are away
// hold nobody back: they take the newest revision when they come. Nor does it
// wait when there is none at all, as on a server that is used for its API.
func (c *Call) progress(t store.Task) (status int, message string) {
	var waiting, failed []string
	connected := 0
	for _, n := range c.Facts.Nodes() {
		if n.Role != lb.RoleGateway || !n.Connected {
			continue
		}
		connected++
		if n.Committed >= t.Revision {
			continue
		}
		waiting = append(waiting, string(n.ID))
		if n.Failure != "" && c.Now().Sub(t.Created) > taskPatience {
			failed = append(failed, fmt.Sprintf("%s: %s", n.ID, n.Failure))
		}
	}
	switch {
	case len(failed) > 0:
		return taskFailed, fmt.Sprintf("revision %d is stored and cannot be put in force: %s", t.Revision, strings.Join(failed, "; "))
	case len(waiting) > 0:
		return taskRunning, fmt.Sprintf("revision %d is not in force yet on %s", t.Revision, strings.Join(waiting, ", "))
	case connected == 0:
		return taskDone, fmt.Sprintf("revision %d is stored; no gateway is connected", t.Revision)
	}
	return taskDone, ""
}
