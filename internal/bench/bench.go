// SPDX-License-Identifier: Apache-2.0

// Package bench measures the whole product in its lab, beside its peers where
// there are any. Its figures stand in the output of `make bench` and in
// bench.json. It is for tests only.
package bench
