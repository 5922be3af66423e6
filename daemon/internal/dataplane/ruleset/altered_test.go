// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"strings"
	"testing"
)

func TestAltered_SaysWhereAndHowMany(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{"", "", ""},
		{"a b c", "a b c", ""},
		{"a b c", "a x c", "1 rules altered from number 2"},
		{"a b c", "x y c", "2 rules altered from number 1"},
		{"a b c", "a c", "1 rules deleted and 0 added at number 2"},
		{"a b c", "a b x c", "0 rules deleted and 1 added at number 3"},
		{"a a", "a", "1 rules deleted and 0 added at number 2"},
		{"", "a b", "0 rules deleted and 2 added at number 1"},
	} {
		if got := Altered(strings.Fields(c.a), strings.Fields(c.b), func(x, y string) bool { return x == y }); got != c.want {
			t.Errorf("Altered(%q, %q) = %q, want %q", c.a, c.b, got, c.want)
		}
	}
}
