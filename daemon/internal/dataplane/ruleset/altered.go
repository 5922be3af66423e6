// SPDX-License-Identifier: Apache-2.0

package ruleset

import "fmt"

// Altered says in words how the rules of a chain, a, have become others, b, in
// whatever form a back end has them; empty if they are the same.
func Altered[R any](a, b []R, same func(x, y R) bool) string {
	first := 0
	for first < len(a) && first < len(b) && same(a[first], b[first]) {
		first++
	}
	last := 0
	for last < len(a)-first && last < len(b)-first && same(a[len(a)-1-last], b[len(b)-1-last]) {
		last++
	}
	gone, come := len(a)-first-last, len(b)-first-last
	switch {
	case gone == 0 && come == 0:
		return ""
	case gone == come:
		return fmt.Sprintf("%d rules altered from number %d", gone, first+1)
	}
	return fmt.Sprintf("%d rules deleted and %d added at number %d", gone, come, first+1)
}
