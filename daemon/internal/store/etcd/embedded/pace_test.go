// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"slices"
	"testing"
	"time"
)

func TestPace_Waits(t *testing.T) {
	const s = time.Second
	type end struct {
		answered bool
		ran      time.Duration
	}
	never := end{false, s / 10}
	for _, c := range []struct {
		name string
		ends []end
		want []time.Duration
	}{
		{"never answers", []end{never, never, never, never, never, never}, []time.Duration{4900 * time.Millisecond, 10 * s, 20 * s, 40 * s, 60 * s, 60 * s}},
		{"dies after a day, each day", []end{{true, 24 * time.Hour}, {true, 24 * time.Hour}}, []time.Duration{0, 0}},
		{"one crash soon after the start", []end{{true, s}, {true, time.Hour}, {true, s}}, []time.Duration{0, 0, 0}},
		{"answers and dies again and again", []end{{true, s}, {true, s}, {true, s}, {true, s}}, []time.Duration{0, 4 * s, 10 * s, 20 * s}},
		{"fails slowly", []end{{false, time.Minute}, {false, time.Minute}}, []time.Duration{0, 0}},
		{"gets well", []end{never, never, {true, time.Minute}, {true, s}}, []time.Duration{4900 * time.Millisecond, 10 * s, 0, 0}},
	} {
		p := pace{after: 5 * s, quick: true}
		var got []time.Duration
		for _, e := range c.ends {
			p.ended(e.answered, e.ran)
			got = append(got, p.wait)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("process that %s: waits %v, want %v", c.name, got, c.want)
		}
	}
}
