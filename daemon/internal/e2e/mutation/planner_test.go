// SPDX-License-Identifier: Apache-2.0

package mutation

// plannerFaults are in package dataplane, which turns intents into chains.
var plannerFaults = []mutation{
	{file: "daemon/internal/dataplane/endpoints.go", old: `last := denies && !t.DefaultPass`, now: `last := denies && t.DefaultPass`, damage: "a tier's default action is read the wrong way round"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `		rules = append(rules, keeping(deny(v, "no policy or profile allows it"), p.keeps(said...)))`, now: `		rules = append(rules, yield(ruleset.Match{}))`,
		damage: "what nobody allows is accepted, one rule after the other"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `		Match:  ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated},`, now: `		Match:  ruleset.Match{CtState: ruleset.CtEstablished},`, damage: "related packets are judged as new ones"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `if !p.settings.AllowInvalid {`, now: `if p.settings.AllowInvalid {`, damage: "disableConntrackInvalidCheck is read the wrong way round"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `= chainEssentialOut, chainFailsafeOut, chainFailsafeRawOut`, now: `= chainEssentialOut, chainFailsafeIn, chainFailsafeRawOut`, damage: "failsafes in are those out"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `add(toEssential(essential), jump(rawFailsafe))`, now: `add(toEssential(essential), jump(map[bool]string{true: failsafe, false: rawFailsafe}[judges]))`,
		damage: "untracked policy stops the answers of failsafes"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `			add(toEssential(essential), jump(failsafe))
		case`, now: `			add(toEssential(essential))
		case`, damage: "there are no failsafes"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `if d == api.Egress || !s.judges(stageUntracked, d) && !s.judges(stagePreDNAT, d) {`, now: `if d == api.Egress || !s.judges(stagePreDNAT, d) {`,
		damage: "what untracked policy allows is judged again"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `		if p.passes[k][pl.direction] {`, now: `		if p.passes[k][pl.direction] && chained {`, damage: "Pass goes on to the next policy of the tier, one rule after the other"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `rules = append(one(clearMark(MarkPass)), rules...)`, now: `rules = append([]ruleset.Rule(nil), rules...)`, damage: "another program's mark is a Pass"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `		case pl.direction == api.Egress:
			add(p.encapsulated()...)`, now: `		case pl.direction == api.Ingress:
			add(p.encapsulated()...)`, damage: "tunnels are stopped on the way into a workload, not out of it"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `if pl.direction == api.Ingress && s.host.Interface != loopback {`, now: `if pl.direction == api.Egress && s.host.Interface != loopback {`,
		damage: "loopback addresses come in"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `	case st == stageUntracked && s.host.Interface == api.AllInterfaces:
		return nil // not for wildcard endpoints`, now: `	case st == stageUntracked && s.host.Interface == "":
		return nil`, damage: "a wildcard endpoint has doNotTrack policy"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `if have, ok := claims[iface]; !ok || endpoint < have {`, now: `if have, ok := claims[iface]; !ok || endpoint > have {`, damage: "of host endpoints the last by name governs"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `if wildcard == "" || name < wildcard {`, now: `if wildcard == "" || name > wildcard {`, damage: "of wildcard endpoints the last by name governs"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `if have, ok := taken[ep.Interface]; !ok || name < have {`, now: `if have, ok := taken[ep.Interface]; !ok || name > have {`,
		damage: "of workload endpoints of one interface the last governs"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `if iface != loopback && holdsOneOf(i, ep.ExpectedIPs) {`, now: `if holdsOneOf(i, ep.ExpectedIPs) {`, damage: "an address on lo claims lo"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `			entries[iface] = ruleset.Entry{Chain: chainToHost}`, now: `			entries[iface] = ruleset.Entry{}`, damage: "a workload reaches the host whatever defaultEndpointToHostAction says"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `			entries[iface] = ruleset.Entry{Chain: prefixSource + name}`, now: `			entries[iface] = ruleset.Entry{Chain: strings.Repeat(prefixSource+name, 0)}`, damage: "a workload may send as anybody"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `	if claims[loopback] == "" {
		exempt`, now: `	if claims[loopback] == "" && wildcard == "" {
		exempt`, damage: "a wildcard endpoint governs the loopback interface"},
	{file: "daemon/internal/dataplane/dispatch.go", old: `		for iface := range p.claims { // named like a workload's, and is the host's
			if p.isWorkload(iface) {`, now: `		for iface := range p.claims {
			if !p.isWorkload(iface) {`, damage: "a host endpoint that names an interface with a workload's prefix does not govern it"},
	{file: "daemon/internal/dataplane/base.go", old: `fromUnknown, toEssential(chainEssentialWorkload), in(mapFromWorkload)))`, now: `fromUnknown, in(mapFromWorkload)))`, damage: "no ICMPv6 of a workload is essential"},
	{file: "daemon/internal/dataplane/base.go", old: `p.prefixed(chainThroughTo, toUnknown, out(mapToWorkload)))`, now: `one(out(mapToWorkload)))`, damage: "what is forwarded to an unknown workload passes"},
	{file: "daemon/internal/dataplane/base.go", old: `one(in(mapRawIn)), p.unknown(fromUnknown), p.toWildcard("hui-"))`, now: `one(in(mapRawIn)), p.toWildcard("hui-"))`,
		damage: "what an unknown workload sends is not stopped before connection tracking"},
	{file: "daemon/internal/dataplane/base.go", old: `p.untrackedOut(), one(out(mapOut)), p.ownWorkloads(), p.toWildcard("ho-"))`, now: `p.untrackedOut(), one(out(mapOut)), p.toWildcard("ho-"))`,
		damage: "a wildcard endpoint judges what the host sends to unknown workloads"},
	{file: "daemon/internal/dataplane/base.go", old: `p.ifAsked(in(mapForwardIn), p.toWildcard("hfi-")))`, now: `p.ifAsked(in(mapForwardIn), nil))`, damage: "a wildcard endpoint does not judge what is forwarded, as it comes in"},
	{file: "daemon/internal/dataplane/base.go", old: `p.ifAsked(in(mapPreDNAT), p.toWildcard("hpi-")))`, now: `p.ifAsked(in(mapPreDNAT), nil))`, damage: "a wildcard endpoint has no preDNAT policy"},
	{file: "daemon/internal/dataplane/base.go", old: `part[i].Match.FromHost, part[i].Match.DNATed = true, true`, now: `part[i].Match.DNATed = true`, damage: "what is forwarded and rewritten is judged as if the host sent it"},
	{file: "daemon/internal/dataplane/base.go", old: `one(yield(ruleset.Match{DNATed: true})), p.untrackedOut()`, now: `p.untrackedOut()`, damage: "what the host sends and is rewritten is judged by the interface that was dialled"},
	{file: "daemon/internal/dataplane/base.go", old: `		one(clearMark(MarkAccept)), // a stranger's means nothing
`, now: ``, damage: "another program's mark accepts"},
	{file: "daemon/internal/dataplane/fixed.go", old: `essentialIn       = []uint8{130, 131, 132, 143, 134, 135, 136}`, now: `essentialIn       = []uint8{130, 131, 132, 143, 133, 134, 135, 136}`,
		damage: "router solicitations come in without policy"},
	{file: "daemon/internal/dataplane/fixed.go", old: `essentialOut      = []uint8{131, 132, 143, 133, 135, 136}`, now: `essentialOut      = []uint8{131, 132, 143, 133, 136}`, damage: "neighbours cannot be asked for"},
	{file: "daemon/internal/dataplane/fixed.go", old: `m.Src = append(m.Src, f.Net)`, now: `m.Dst = append(m.Dst, f.Net)`, damage: "the net of an inbound failsafe is compared with the destination"},
	{file: "daemon/internal/dataplane/fixed.go", old: `answersIn := failsafeRules(s.FailsafeOutbound, peerIsSource, portIsSource)`, now: `answersIn := failsafeRules(s.FailsafeOutbound, peerIsSource, portIsDestination)`,
		damage: "answers of failsafes are known by their destination port"},
	{file: "daemon/internal/dataplane/fixed.go", old: `Rules: []ruleset.Rule{jump(chainNoPorts), noTrack, setAccept, accept}`, now: `Rules: []ruleset.Rule{jump(chainNoPorts), noTrack, accept, setAccept}`, damage: "what untracked policy allows has no mark"},
	{file: "daemon/internal/dataplane/fixed.go", old: `p.wantChain(chainPassDone, &ruleset.Chain{Rules: one(clearMark(MarkPass))})`, now: `p.wantChain(chainPassDone, &ruleset.Chain{})`, damage: "the mark of a Pass stays"},
	{file: "daemon/internal/dataplane/fixed.go", old: `&ruleset.Chain{Rules: []ruleset.Rule{clearMark(MarkAccept), accept}}`, now: `&ruleset.Chain{Rules: []ruleset.Rule{accept}}`, damage: "the mark of an early Allow stays"},
	{file: "daemon/internal/dataplane/workloads.go", old: `ofRouters       = []uint8{134, 137}`, now: `ofRouters       = []uint8{134}`, damage: "a workload may send redirects"},
	{file: "daemon/internal/dataplane/workloads.go", old: `beforeAddresses = []uint8{131, 132, 135, 143}`, now: `beforeAddresses = []uint8{131, 132, 135, 136, 143}`, damage: "a workload may advertise neighbours from the address ::"},
	{file: "daemon/internal/dataplane/workloads.go", old: `netip.MustParsePrefix("fe80::/10")`, now: `netip.MustParsePrefix("fe00::/8")`, damage: "a workload may send from all of fe00::/8"},
	{file: "daemon/internal/dataplane/workloads.go", old: `netip.MustParsePrefix("127.0.0.0/8")`, now: `netip.MustParsePrefix("127.0.0.0/16")`, damage: "only part of 127.0.0.0/8 is the loopback's"},
	{file: "daemon/internal/dataplane/workloads.go", old: `refuse(ruleset.Match{Family: f, Dst: list}, "loopback address"))`, now: `refuse(ruleset.Match{Family: f, Src: list}, "loopback address"))`,
		damage: "what is for a loopback address comes in"},
	{file: "daemon/internal/dataplane/workloads.go", old: `return append(rules, refuse(ruleset.Match{}, spoofed))`, now: `return append(rules, yield(ruleset.Match{}))`, damage: "a workload may send from any address"},
	{file: "daemon/internal/dataplane/workloads.go", old: `if !p.settings.AllowIPIPFromWorkloads {`, now: `if p.settings.AllowIPIPFromWorkloads {`, damage: "allowIPIPPacketsFromWorkloads is read the wrong way round"},
	{file: "daemon/internal/dataplane/workloads.go", old: `	case intent.ToHostReturn:
		return append(rules, yield(ruleset.Match{}))`, now: `	case intent.ToHostReturn:`, damage: "defaultEndpointToHostAction Return drops"},
	{file: "daemon/internal/dataplane/rules.go", old: `	case r.Protocol != 0 && r.Protocol == r.NotProtocol: // no packet is both
		return nil`, now: `	case r.Protocol != 0 && r.Protocol == r.NotProtocol && r.ICMP != nil:
		return nil`, damage: "a rule for a protocol and not for it matches"},
	{file: "daemon/internal/dataplane/rules.go", old: `return len(e.Nets) == 0 || len(*nets) > 0`, now: `return true`, damage: "a rule with nets of one family matches all of the other"},
	{file: "daemon/internal/dataplane/rules.go", old: `	if len(e.NamedPorts) > 0 {
		out`, now: `	if len(e.NamedPorts) > 0 && out == nil {
		out`, damage: "beside ports by number, named ports do not count"},
	{file: "daemon/internal/dataplane/rules.go", old: `= portRanges(r.Source.NotPorts), portSets(r.Source.NotNamedPorts, f)`, now: `= portRanges(r.Source.NotPorts), []string(nil)`, damage: "named ports in notPorts of the source do not count"},
	{file: "daemon/internal/dataplane/rules.go", old: `Family: f, Protocol: r.Protocol, NotProtocol: notProtocol,`, now: `Family: f, Protocol: r.Protocol, NotProtocol: notProtocol * 0,`, damage: "notProtocol does not count"},
	{file: "daemon/internal/dataplane/rules.go", old: `ICMP: icmp(r.ICMP), NotICMP: icmp(r.NotICMP),`, now: `ICMP: icmp(r.ICMP),`, damage: "notICMP does not count"},
	{file: "daemon/internal/dataplane/rules.go", old: `			*notSets = []string{setName(e.NotSet, f)}`, now: `			*sets = []string{setName(e.NotSet, f)}`, damage: "notSelector is read as selector"},
	{file: "daemon/internal/dataplane/rules.go", old: `		return ruleset.Action{Verb: v.deny}
	case api.Pass:`, now: `		return ruleset.Action{Verb: ruleset.Return}
	case api.Pass:`, damage: "Deny goes on"},
	{file: "daemon/internal/dataplane/compiler.go", old: `if last && !passes {`, now: `if last {`, damage: "behind a tier that denies, a Pass leads nowhere"},
	{file: "daemon/internal/dataplane/compiler.go", old: `last := u.pl.stage.denies() && !t.DefaultPass`, now: `last := u.pl.stage.denies() && t.DefaultPass`, damage: "a tier's default action is read the wrong way round, compiled"},
	{file: "daemon/internal/dataplane/compiler.go", old: `f.Ends, f.Next = false, goOn`, now: `f.Ends, f.Next = true, goOn`, damage: "Log ends the way"},
	{file: "daemon/internal/dataplane/compiler.go", old: `again := old == nil || old.key != key || slices.ContainsFunc(chains, func(chain string) bool { return c.dirty[chain] })`, now: `again := old == nil || old.key != key`,
		damage: "a rule that changes stays compiled as it was"},
	{file: "daemon/internal/dataplane/compiler.go", old: `	if u.pl.stage != stageNormal {
		end("accept"`, now: `	if u.pl.stage != stageNormal && len(u.s.profiles()) == 0 {
		end("accept"`, damage: "profiles judge what is forwarded"},
	{file: "daemon/internal/dataplane/compiler.go", old: `slices.ContainsFunc(u.s.profiles(), func(name string) bool { return p.dirtyProfiles[name] }) {`, now: `slices.ContainsFunc(u.s.profiles(), func(name string) bool { return p.dirtyProfiles[name] && name == "" }) {`,
		damage: "a profile that changes stays compiled as it was"},
	{file: "daemon/internal/dataplane/policies.go", old: `		return sortUntracked
	case p.PreDNAT:`, now: `		return sortPreDNAT
	case p.PreDNAT:`, damage: "a doNotTrack policy is planned as a preDNAT one"},
	{file: "daemon/internal/dataplane/fixed.go", old: `Rules: []ruleset.Rule{jump(chainNoPorts), noTrack, setAccept, accept}`, now: `Rules: []ruleset.Rule{noTrack, setAccept, accept}`, damage: "untracked policy allows what hides its ports"},
	{file: "daemon/internal/dataplane/fixed.go", old: `ruleset.Match{Family: ruleset.IPv6, Fragment: true}`, now: `ruleset.Match{Family: ruleset.IPv6, Fragment: true, Protocol: 253}`, damage: "what is still a fragment is taken for a whole packet"},
	{file: "daemon/internal/dataplane/endpoints.go", old: `		add(ruleset.Rule{Match: match, Action: ruleset.Action{Verb: ruleset.Jump, Target: chainNoPorts}})`, now: `		_ = match`, damage: "invalid packets that hide their ports are left to policy"},
}
