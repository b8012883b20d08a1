// SPDX-License-Identifier: Apache-2.0

package cloudapi

import "slices"

// Actions lists every action that is served. A service's file adds its own
// list here.
func Actions() []Action {
	all := slices.Concat(
		sallyportActions(),
		importActions(),
		returnPathActions(),
		flowKeepingActions(),
		clbActions(),
		clbBatchActions(),
		clbListActions(),
		clbSlaActions(),
		choiceActions(),
		targetGroupActions(),
		rewriteActions(),
		cloneActions(),
		vpcActions(),
		eipActions(),
		cvmActions(),
		tagActions(),
		sslActions(),
		declareActions(),
		keyActions(),
		auditActions(),
	)
	needs := accesses()
	for i := range all {
		all[i].access = needs[all[i].Name]
	}
	return all
}
