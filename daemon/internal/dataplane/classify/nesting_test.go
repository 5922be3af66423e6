// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestProgram_ANetInsideOfAnotherSaysOnlyWhatIsDifferent: of n nets with a rule
// each, inside of one that n rules leave alone, none says again what is said of
// that one.
func TestProgram_ANetInsideOfAnotherSaysOnlyWhatIsDifferent(t *testing.T) {
	const n = 100
	for _, c := range []struct {
		family  ruleset.Family
		outside []string // each around the next, the first left alone
		inside  string
	}{
		{ruleset.IPv4, []string{"10.0.0.0/8"}, "10.0.%d.0/24"},
		{ruleset.IPv4, []string{"10.0.0.0/8", "10.0.0.0/9", "10.0.0.0/10", "10.0.0.0/11", "10.0.0.0/12"}, "10.0.%d.0/24"},
		{ruleset.IPv6, []string{"fd00::/8", "fd00::/16"}, "fd00:%x::/32"},
	} {
		var rules []Rule
		add := func(m ruleset.Match, port int) {
			m.Family, m.Protocol, m.DstPorts = c.family, 17, []ruleset.PortRange{{Min: uint16(port), Max: uint16(port)}}
			rules = append(rules, Rule{Of: &exactly{m}, Family: c.family, Chain: fmt.Sprint("r", port), Ends: true})
		}
		for i, net := range c.outside {
			add(ruleset.Match{Src: prefixes(net)}, 100+i)
		}
		for i := range n {
			add(ruleset.Match{NotSrc: prefixes(c.outside[0])}, 1000+2*i)
			add(ruleset.Match{Src: []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf(c.inside, i))}}, 1000+2*i+1)
		}
		rules = append(rules, Rule{Of: &exactly{}, Chain: "last", Ends: true})
		p := New(Input{Base: "x"}, DefaultLimits, ruleset.NewState())
		p.Update(rules)
		flush(t, p)
		// n for the rest of the world, n for the net that is left alone, one for
		// each net inside, and one or two for each around those; nets that lie
		// deeper than nesting say what is said of those they lie beside.
		beside := max(0, len(c.outside)-nesting+1)
		if got, want := p.Stats().Entries, 3*n+2*len(c.outside)+beside*n; got > want {
			t.Errorf("%v: %d entries, want %d at most", c.outside, got, want)
		}
		for _, s := range p.spaces {
			for _, x := range s.classes {
				if x.depth > nesting+1 {
					t.Errorf("%v: a class inside of %d", c.outside, x.depth)
				}
			}
		}
	}
}
