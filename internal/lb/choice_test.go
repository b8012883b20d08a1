// SPDX-License-Identifier: Apache-2.0

package lb

import (
	"errors"
	"strings"
	"testing"
)

func TestChoiceValidate(t *testing.T) {
	for _, tc := range []struct {
		choice    Choice
		scheduler string
		layer7    bool
		want      Kind // 0: it is right
		field     string
	}{
		{Choice{}, "", false, 0, ""},
		{Choice{Session: 30}, "WRR", false, 0, ""},
		{Choice{Session: 3600}, "", false, 0, ""},
		{Choice{Session: 29}, "WRR", false, Range, "SessionExpireTime"},
		{Choice{Session: -1}, "WRR", false, Range, "SessionExpireTime"},
		{Choice{Session: 3601}, "WRR", false, Range, "SessionExpireTime"},
		{Choice{Session: 86400}, "WRR", true, 0, ""},
		{Choice{Session: 86401}, "WRR", true, Range, "SessionExpireTime"},
		{Choice{Session: 60}, "LEAST_CONN", false, Coexist, "SessionExpireTime"},
		{Choice{Session: 60}, "IP_HASH", true, Coexist, "SessionExpireTime"},
		{Choice{}, "IP_HASH", false, 0, ""},
		{Choice{Cookie: "a"}, "WRR", true, Coexist, "CookieName"},
		{Choice{Cookie: "a", Session: 60}, "WRR", false, Invalid, "CookieName"},
		{Choice{Cookie: "a=b", Session: 60}, "WRR", true, Invalid, "CookieName"},
		{Choice{Cookie: strings.Repeat("a", 81), Session: 60}, "WRR", true, TooLong, "CookieName"},
		{Choice{Cookie: "Route-1.x_y", Session: 60}, "WRR", true, 0, ""},
	} {
		err := tc.choice.Validate("F.", tc.scheduler, tc.layer7)
		var fault *Error
		switch {
		case tc.want == 0 && err != nil:
			t.Errorf("%+v %s: %v", tc.choice, tc.scheduler, err)
		case tc.want != 0 && (!errors.As(err, &fault) || fault.Kind != tc.want || fault.Field != "F."+tc.field):
			t.Errorf("%+v %s: %v, want %v of %s", tc.choice, tc.scheduler, err, tc.want, tc.field)
		}
	}
}

func TestSticky(t *testing.T) {
	for _, tc := range []struct {
		scheduler string
		session   int
		want      bool
	}{{"", 0, false}, {"WRR", 0, false}, {"WRR", 30, true}, {"IP_HASH", 0, true}, {"LEAST_CONN", 0, false}} {
		if got := Sticky(tc.scheduler, Choice{Session: tc.session}); got != tc.want {
			t.Errorf("%s %d: %v", tc.scheduler, tc.session, got)
		}
	}
}
