// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"
	"testing"
)

// The preview names every line that would be refused, by its row and column,
// and offers to import only what can be.
func TestImportPreviewNamesFaults(t *testing.T) {
	d := newDesk(t)
	d.login()
	w := d.build()
	base := "sg/" + w.edge + "/rules/import"
	before := d.inbound(w.edge)
	var file strings.Builder
	for i := range 40 {
		fmt.Fprintf(&file, "10.0.%d.0/24,TCP:80,Allow,row\n", i)
	}
	for _, mode := range []string{"overwrite", "append"} {
		d.open(base+"?dir=in", 200)
		d.fill(base, 422, "csv", file.String()+"nonsense,TCP:80,Maybe,\n10.9.0.0/16,TCP:80-,Allow,\n", "mode", mode)
		d.says("Row 41, ")
		d.says("Row 42, Protocol port: ")
		d.says("nonsense")
		d.says("Preview again")
		d.saysNot(`value="import"`)
		if n := strings.Count(d.page, `<tr class="marked">`); n != 2 {
			t.Errorf("%s: %d rows are marked, want 2", mode, n)
		}
		d.fill(base, 200, "csv", file.String(), "mode", mode)
		d.says(`value="import"`)
	}
	d.wants(w.edge, before)
	d.open(base+"?dir=in", 200)
	d.fill(base, 422, "csv", file.String()+"10.9.0.0/16,TCP:80,Maybe,\n", "mode", "overwrite", "step", "import")
	d.says("Row 41, Policy: ")
	d.wants(w.edge, before)
}
