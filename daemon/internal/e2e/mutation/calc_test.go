// SPDX-License-Identifier: Apache-2.0

package mutation

// calcFaults are in package calc, which works out what holds for this host.
var calcFaults = []mutation{
	{file: "daemon/internal/calc/translate.go", old: `effect, c.never = effectNever, true`, now: `effect = effectNever`,
		damage: "an Allow with a restriction that cannot be enforced does without it"},
	{file: "daemon/internal/calc/translate.go", old: `c.deny, out.Action = true, api.Deny`, now: `c.deny, out.Action = true, api.Allow`,
		damage: "an unknown action allows"},
	{file: "daemon/internal/calc/translate.go", old: `case len(out.NamedPorts) > 0 && len(out.Ports) == 0:`, now: `case len(out.NamedPorts) > 0:`,
		damage: "beside named ports, ports by number are of anybody"},
	{file: "daemon/internal/calc/translate.go", old: `if len(e.NotNets) > 0 && !c.deny {`, now: `if len(e.NotNets) > 0 {`,
		damage: "a Deny with excepted nets of one family does not exist for the other"},
	{file: "daemon/internal/calc/translate.go", old: `if n.Bits() == 0 { // nothing is outside of it`, now: `if n.Bits() < 0 {`,
		damage: "to except everything excepts nothing"},
	{file: "daemon/internal/calc/translate.go", old: `	return all == f
}`, now: `	return all != 0
}`, damage: "a list with everything of one family is everything of both"},
	{file: "daemon/internal/calc/translate.go", old: `	if n, err := netip.ParsePrefix(text); err == nil {
		return n.Masked(), true`, now: `	if n, err := netip.ParsePrefix(text); err == nil {
		return n, true`, damage: "host bits of a net stay set"},
	{file: "daemon/internal/calc/translate.go", old: `	if spoilt {
		return nil
	}`, now: `	if spoilt && len(out) == 0 {
		return nil
	}`, damage: "a Deny with one net that cannot be read denies only the others"},
	{file: "daemon/internal/calc/translate.go", old: `		filter = sel
`, now: `		_ = sel
`, damage: "named ports are those of all endpoints, whatever the rule selects"},
	{file: "daemon/internal/calc/translate.go", old: `out.Code, out.HasCode = uint8(*f.Code), true`, now: `out.Code = uint8(*f.Code)`, damage: "the ICMP code does not count"},
	{file: "daemon/internal/calc/translate.go", old: `out.NotSet = c.need(netsOf(sel))`, now: `out.Set = c.need(netsOf(sel))`, damage: "notSelector is read as selector"},
	{file: "daemon/internal/calc/translate.go", old: `out.NotProtocol = c.protocol(".notProtocol", in.NotProtocol)`, now: `_ = in.NotProtocol`, damage: "notProtocol does not count"},
	{file: "daemon/internal/calc/endpoints.go", old: `if p.staged || forward && !p.forward {`, now: `if forward && !p.forward {`,
		damage: "the tier of a staged policy ends"},
	{file: "daemon/internal/calc/endpoints.go", old: `if p.staged || forward && !p.forward {`, now: `if p.staged {`,
		damage: "policies without applyOnForward judge what is forwarded"},
	{file: "daemon/internal/calc/policies.go", old: `return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.tie, b.tie))`, now: `return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(b.tie, a.tie))`,
		damage: "of policies of one order the last by name comes first"},
	{file: "daemon/internal/calc/policies.go", old: `return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))`, now: `return cmp.Or(cmp.Compare(b.order, a.order), strings.Compare(a.name, b.name))`,
		damage: "tiers are asked in reverse"},
	{file: "daemon/internal/calc/policies.go", old: `			if a.missing {
				return 1`, now: `			if b.missing {
				return 1`, damage: "a tier that does not exist comes first"},
	{file: "daemon/internal/calc/policies.go", old: `ingress: len(s.Types) == 0 || slices.Contains(s.Types, api.Ingress),`, now: `ingress: slices.Contains(s.Types, api.Ingress),`,
		damage: "a policy without types does not speak for ingress"},
	{file: "daemon/internal/calc/policies.go", old: `	for name := range pol.endpoints {
		if pol.sort.judges(p.local[name]) {
			return true`, now: `	for name := range pol.endpoints {
		if pol.sort.judges(p.local[name]) && len(pol.endpoints) > 1 {
			return true`, damage: "a policy that selects one endpoint is not said"},
	{file: "daemon/internal/calc/policies.go", old: `	if !s.judges(p.local[endpoint]) {
		return nil`, now: `	if !s.judges(p.local[endpoint]) && s != sortUntracked {
		return nil`, damage: "a wildcard endpoint has doNotTrack policies"},
	{file: "daemon/internal/calc/policies.go", old: `		if pol.sort != s {
			continue`, now: `		if pol.sort != s && s != sortNormal {
			continue`, damage: "early policies make a tier of normal ones end"},
	{file: "daemon/internal/calc/sets.go", old: `if p.name == x.port && (x.protocol == 0 || x.protocol == p.protocol) {`, now: `if p.name == x.port {`,
		damage: "a named port is of every protocol"},
	{file: "daemon/internal/calc/sets.go", old: `		labels[labelServiceAccount] = o.Spec.ServiceAccountName`, now: `		_ = o.Spec.ServiceAccountName`,
		damage: "selectors do not see service accounts"},
	{file: "daemon/internal/calc/sets.go", old: `	case api.KindHostEndpoint, api.KindNetworkSet, api.KindGlobalNetworkSet:
		s.noteItem(ev)`, now: `	case api.KindHostEndpoint, api.KindNetworkSet:
		s.noteItem(ev)
	case api.KindGlobalNetworkSet:
		if _, known := s.items.Get(ev.Key); !known {
			s.noteItem(ev)
		}`, damage: "a network set stays as it was first"},
	{file: "daemon/internal/calc/sets.go", old: `			if present {
				c.Value = intent.IsMember{}
			}`, now: `			c.Value = map[bool]intent.Value{true: intent.IsMember{}, false: intent.IsMember{}}[present]`, damage: "members that go stay"},
	{file: "daemon/internal/calc/workloads.go", old: `if low.Name == "" || k.Compare(low) < 0 {`, now: `if low.Name == "" || k.Compare(low) > 0 {`,
		damage: "of workload endpoints of one interface the last governs"},
	{file: "daemon/internal/calc/workloads.go", old: `	case ep.refused:
		fault(effectUnguarded`, now: `	case ep.refused && len(v.Addrs) > 1:
		fault(effectUnguarded`, damage: "allowSpoofedSourcePrefixes needs no leave"},
}
