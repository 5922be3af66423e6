// SPDX-License-Identifier: Apache-2.0

package api

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// RuleCounts is what the packet filter of one host has counted since its rules
// were made. It is asked for on the agent's socket, and never stored.
type RuleCounts struct {
	// Host is the host's name.
	Host string `json:"host"`
	// Rules are those that have a counter, by name.
	Rules []RuleCount `json:"rules"`
}

// RuleCount is what one rule has decided, logged or passed on.
type RuleCount struct {
	// Rule is "gnp/web ingress 0" (kind, policy, direction, place in the list),
	// "np/prod/db egress 2", "pro/NAME ingress 0" of a profile, or "tier NAME
	// default" of the end of a tier; at most 100 bytes of it.
	Rule string `json:"rule"`
	// Packets and Bytes matched it. Of a connection only the packets are
	// counted that policy judges: in general the first.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// shortKinds are what rules call the kinds that have some.
var shortKinds = map[Kind]string{KindGlobalNetworkPolicy: "gnp", KindNetworkPolicy: "np", KindProfile: "pro"}

// Counted reports whether objects of a kind have rules that are counted.
func Counted(kind Kind) bool { return shortKinds[kind] != "" }

// ByObject sorts the counts by the policy or profile that the rules are of, see
// ObjectName: ingress before egress, in order, each Rule as "ingress 0".
func (c *RuleCounts) ByObject() map[string][]RuleCount {
	all := map[string][]RuleCount{}
	for _, r := range c.Rules {
		words := strings.Split(r.Rule, " ")
		if len(words) != 3 || !strings.Contains(words[0], "/") {
			continue // the end of a tier, or cut off
		}
		r.Rule = words[1] + " " + words[2]
		all[words[0]] = append(all[words[0]], r)
	}
	for _, list := range all {
		slices.SortFunc(list, func(a, b RuleCount) int {
			da, na, _ := strings.Cut(a.Rule, " ")
			db, nb, _ := strings.Cut(b.Rule, " ")
			ia, _ := strconv.Atoi(na)
			ib, _ := strconv.Atoi(nb)
			return cmp.Or(-strings.Compare(da, db), cmp.Compare(ia, ib))
		})
	}
	return all
}

// KeyOfCounts is the key of what counts call by an ObjectName.
func KeyOfCounts(name string) (Key, bool) {
	words := strings.Split(name, "/")
	for kind, short := range shortKinds {
		d, _ := DescriptorOf(kind)
		switch {
		case words[0] != short:
		case d.Namespaced && len(words) == 3:
			return Key{Kind: kind, Namespace: words[1], Name: words[2]}, true
		case !d.Namespaced && len(words) == 2:
			return Key{Kind: kind, Name: words[1]}, true
		}
	}
	return Key{}, false
}

// ObjectName is what counts call a policy or profile: "gnp/web",
// "np/prod/db", "pro/NAME".
func ObjectName(k Key) string {
	name := k.Name
	if k.Namespace != "" {
		name = k.Namespace + "/" + name
	}
	return shortKinds[k.Kind] + "/" + name
}
