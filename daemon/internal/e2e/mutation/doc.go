// SPDX-License-Identifier: Apache-2.0

// Package mutation is a test room: it measures how much damage the tests of
// what policy means would notice.
//
// A table lists small faults that somebody could make in the evaluator, in the
// calculation, in the planner and in the two packet filters: a piece of text
// in a file, and what stands there in the damaged program. Each is tried in a
// copy that only the compiler sees (go test -overlay); the source is not
// touched. The tests whose business the place is are run until one fails, and
// a fault that none of them notices has survived.
//
//	go test ./daemon/internal/e2e/mutation -v -timeout 2h -args -mutations -1
//
// runs the whole table and prints the score. Without the flag a few are run,
// others each day. It is not about faults that do not compile: one such in the
// table is a mistake of the table, and so is one whose text is gone. Who
// changes a line that the table names changes the table with it.
package mutation
