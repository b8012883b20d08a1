// SPDX-License-Identifier: Apache-2.0

package cloudapi

import (
	"cmp"

	"github.com/sallyport/sallyport/internal/lb"
)

// choiceFields are the fields of a document that say how targets are chosen.
// What a document leaves out has its default.
func choiceFields() []string {
	return []string{"Scheduler", "SessionExpireTime", "CookieName", "WhenAllUnhealthy", "SlowStart"}
}

func (d *listenerDoc) choice() choiceIn {
	return choiceIn{Scheduler: cmp.Or(d.Scheduler, lb.SchedulerWRR), SessionExpireTime: &d.SessionExpireTime}
}

func (d *listenerDoc) ours() choiceDoc {
	return choiceDoc{WhenAllUnhealthy: cmp.Or(d.WhenAllUnhealthy, unhealthyAll), SlowStart: &d.SlowStart}
}

// newChoice names the fields in which a layer-4 listener differs from its
// document.
func (d *listenerDoc) newChoice(l *lb.Listener) []string {
	want := lb.Choice{Session: int(d.SessionExpireTime), HealthyOnly: d.WhenAllUnhealthy == unhealthyNone, SlowStart: int(d.SlowStart)}
	return otherChoice(l.Scheduler, d.Scheduler, l.Choice, want)
}

func (d *ruleDoc) choice() choiceIn {
	return choiceIn{Scheduler: cmp.Or(d.Scheduler, lb.SchedulerWRR), SessionExpireTime: &d.SessionExpireTime}
}

func (d *ruleDoc) ours() choiceDoc {
	return choiceDoc{WhenAllUnhealthy: cmp.Or(d.WhenAllUnhealthy, unhealthyAll), SlowStart: &d.SlowStart}
}

// newChoice names the fields in which a rule differs from its document.
func (d *ruleDoc) newChoice(r *lb.Rule) []string {
	want := lb.Choice{Session: int(d.SessionExpireTime), Cookie: d.CookieName, HealthyOnly: d.WhenAllUnhealthy == unhealthyNone, SlowStart: int(d.SlowStart)}
	return otherChoice(r.Scheduler, d.Scheduler, r.Choice, want)
}

func otherChoice(scheduler, wanted string, have, want lb.Choice) []string {
	var fields []string
	for _, f := range []struct {
		name  string
		other bool
	}{
		{"Scheduler", cmp.Or(scheduler, lb.SchedulerWRR) != cmp.Or(wanted, lb.SchedulerWRR)},
		{"SessionExpireTime", have.Session != want.Session},
		{"CookieName", have.Cookie != want.Cookie},
		{"WhenAllUnhealthy", have.HealthyOnly != want.HealthyOnly},
		{"SlowStart", have.SlowStart != want.SlowStart},
	} {
		if f.other {
			fields = append(fields, f.name)
		}
	}
	return fields
}
