// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// sharing are the endpoints of each interface that has several, in either
// picture.
func (s *study) sharing() map[[2]string][]api.Key {
	out := map[[2]string][]api.Key{}
	for _, p := range []*picture{s.before, s.after} {
		for k := range p.members {
			at, there := p.placeOf(k)
			seat := [2]string{at.host, at.iface}
			if there && at.iface != "" && !slices.Contains(out[seat], k) {
				out[seat] = append(out[seat], k)
			}
		}
	}
	for seat, keys := range out {
		if len(keys) == 1 {
			delete(out, seat)
		}
		slices.SortFunc(keys, api.Key.Compare)
	}
	return out
}

// wildcard is a host's endpoint for all interfaces, as others beside it see it.
type wildcard struct {
	class
	key  api.Key
	text string
	// forward: a policy of it judges what others get and send, too; changed:
	// one that may judge otherwise.
	forward, changed bool
}

// wildcards are those of all hosts that have other endpoints, too, or had.
func (r *roll) wildcards() map[string]*wildcard {
	crowded := map[string]bool{}
	first := map[string]api.Key{}
	for _, p := range []*picture{r.before, r.after} {
		for k := range p.members {
			if at, there := p.placeOf(k); there {
				if one, seen := first[at.host]; seen && one != k {
					crowded[at.host] = true
				}
				first[at.host] = k
			}
		}
	}
	out := map[string]*wildcard{}
	for _, p := range []*picture{r.before, r.after} {
		for _, k := range slices.SortedFunc(maps.Keys(p.members), api.Key.Compare) {
			at, there := p.placeOf(k)
			if !there || k.Kind != api.KindHostEndpoint || at.iface != api.AllInterfaces || !crowded[at.host] {
				continue
			}
			w := out[at.host]
			if w == nil {
				w = &wildcard{key: k}
				out[at.host] = w
			}
			text := &strings.Builder{}
			w.and(r.selecting(k, text))
			w.profiles = append(w.profiles, at.profiles...)
			for _, k := range w.policies {
				if x := p.policies[k]; x != nil && (x.spec.ApplyOnForward || x.spec.PreDNAT) {
					w.forward, w.changed = true, w.changed || r.study.policies[k]
				}
			}
			w.text += text.String() + fmt.Sprint(at.profiles)
		}
	}
	return out
}
