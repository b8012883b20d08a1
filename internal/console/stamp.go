// SPDX-License-Identifier: Apache-2.0

package console

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// stamp tells one set of values from another. A form that edits what has no
// version of its own carries the stamp of what it showed, and is refused when
// that has changed. The comparison comes right before the write, not in its
// transaction: these actions have no field for it. Rules have a version, which
// is compared in the transaction.
func stamp(values ...any) string {
	var text strings.Builder
	for _, v := range values {
		fmt.Fprintf(&text, "%+v\x00", v)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:8])
}

// changed refuses a form whose author saw something else; now says how it is.
// The page that follows carries the stamp of now, so that sending it again
// replaces that.
func (f form) changed(now string) form {
	return f.fault("", "Somebody changed this while you were looking: "+now+". Nothing of yours was written; send again to replace it.")
}

// said is a health check in words.
func (c check) said() string {
	if c.HealthSwitch == 0 {
		return "off"
	}
	text := fmt.Sprintf("%s every %d s with a limit of %d s, healthy after %d, abnormal after %d", c.CheckType, c.IntervalTime, c.TimeOut, c.HealthNum, c.UnHealthNum)
	if c.HttpCheckPath != "" {
		text += fmt.Sprintf(", %s %s", c.HttpCheckMethod, c.HttpCheckPath)
	}
	return text
}

// values are a check's, for its stamp: no pointer is among them.
func (c check) values() []any { return []any{c.fields(), c.HttpCode} }
