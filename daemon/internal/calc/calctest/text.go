// SPDX-License-Identifier: Apache-2.0

package calctest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Text prints all facts, sorted, so that equal facts give equal text.
func (f *Facts) Text() string {
	var blocks []string
	members := map[string][]string{}
	for k := range f.Now {
		if k.Kind == intent.KindMember {
			members[k.Name] = append(members[k.Name], "  "+memberText(k.Member)+"\n")
		}
	}
	for k, v := range f.Now {
		switch v := v.(type) {
		case *intent.Settings:
			blocks = append(blocks, settingsText(v))
		case *intent.Set:
			list := members[k.Name]
			slices.Sort(list)
			blocks = append(blocks, fmt.Sprintf("%s %s\n%s", keyText(k), v.Selector, strings.Join(list, "")))
		case *intent.Policy:
			head := keyText(k) + " tier " + v.Tier
			for _, w := range []struct {
				word string
				is   bool
			}{{" forward", v.ApplyOnForward}, {" untracked", v.Untracked}, {" preDNAT", v.PreDNAT}, {" kept", v.Kept}} {
				if w.is {
					head += w.word
				}
			}
			if v.KeepFlows {
				head += " keep-flows"
			}
			blocks = append(blocks, head+"\n"+rulesText("ingress", v.Ingress)+rulesText("egress", v.Egress))
		case *intent.Profile:
			blocks = append(blocks, keyText(k)+"\n"+rulesText("ingress", v.Ingress)+rulesText("egress", v.Egress))
		case *intent.HostEndpoint:
			blocks = append(blocks, endpointText(k, v))
		case *intent.WorkloadEndpoint:
			blocks = append(blocks, workloadText(k, v))
		}
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "")
}

func keyText(k intent.Key) string {
	switch k.Kind {
	case intent.KindSettings:
		return "settings"
	case intent.KindSet:
		return "set " + k.Name
	case intent.KindMember:
		return "set " + k.Name + " member " + memberText(k.Member)
	case intent.KindPolicy:
		return "policy " + k.Policy.String()
	case intent.KindProfile:
		return "profile " + k.Name
	case intent.KindHostEndpoint:
		return "endpoint " + k.Name
	case intent.KindWorkloadEndpoint:
		return "workload " + k.Name
	case intent.KindInterface:
		return "interface " + k.Name
	case intent.KindPause:
		return "pause"
	}
	return fmt.Sprintf("%+v", k)
}

func memberText(m intent.Member) string {
	if m.Protocol == 0 {
		return m.Net.String()
	}
	return fmt.Sprintf("%s %d:%d", m.Net.Addr(), m.Protocol, m.Port)
}

func settingsText(s *intent.Settings) string {
	var b strings.Builder
	b.WriteString("settings\n")
	list := func(name string, fs []intent.Failsafe) {
		fmt.Fprintf(&b, "  %s", name)
		for _, f := range fs {
			fmt.Fprintf(&b, " %d:%d", f.Protocol, f.Port)
			if f.Net.IsValid() {
				fmt.Fprintf(&b, "@%s", f.Net)
			}
		}
		b.WriteString("\n")
	}
	list("failsafe in", s.FailsafeInbound)
	list("failsafe out", s.FailsafeOutbound)
	fmt.Fprintf(&b, "  reject %t, allow invalid %t, largest set %d\n", s.DenyReject, s.AllowInvalid, s.MaxSetSize)
	fmt.Fprintf(&b, "  exclude %q, workloads %q\n", s.InterfaceExclude, s.WorkloadPrefixes)
	fmt.Fprintf(&b, "  log %q %d/%s burst %d\n", s.LogPrefix, s.LogRate, s.LogRateUnit, s.LogBurst)
	fmt.Fprintf(&b, "  to host %s, vxlan %d allowed %t, ipip allowed %t, keep flows %t\n",
		[...]string{"drop", "return", "accept"}[s.EndpointToHost], s.VXLANPort, s.AllowVXLANFromWorkloads, s.AllowIPIPFromWorkloads, s.KeepFlows)
	fmt.Fprintf(&b, "  routes: remove others' %t, none %t, no forwarding %t, sources %v\n",
		s.RemoveExternalRoutes, s.NoRoutes, s.NoForwarding, s.DeviceRouteSourceAddrs)
	fmt.Fprintf(&b, "  yield filter %t, mangle %t\n", s.YieldFilter, s.YieldMangle)
	return b.String()
}

func endpointText(k intent.Key, e *intent.HostEndpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s interface %q", keyText(k), e.Interface)
	for _, a := range e.ExpectedIPs {
		fmt.Fprintf(&b, " %s", a)
	}
	b.WriteString("\n")
	b.WriteString(profilesText(e.Profiles) + tiersText("tier", e.Tiers) + tiersText("forward tier", e.ForwardTiers) +
		tiersText("untracked tier", e.UntrackedTiers) + tiersText("preDNAT tier", e.PreDNATTiers))
	return b.String()
}

func workloadText(k intent.Key, e *intent.WorkloadEndpoint) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s interface %q", keyText(k), e.Interface)
	for _, a := range e.Addrs {
		fmt.Fprintf(&b, " %s", a)
	}
	if e.MAC != [6]byte{} {
		fmt.Fprintf(&b, " mac %x", e.MAC)
	}
	if len(e.AllowedSources) > 0 {
		fmt.Fprintf(&b, " may send from %v", e.AllowedSources)
	}
	b.WriteString("\n" + profilesText(e.Profiles) + tiersText("tier", e.Tiers))
	return b.String()
}

func profilesText(list []string) string {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintf(&b, "  profile %s\n", p)
	}
	return b.String()
}

func tiersText(word string, list []intent.Tier) string {
	var b strings.Builder
	keys := func(word string, list []api.Key) {
		for _, k := range list {
			fmt.Fprintf(&b, "    %s %s\n", word, k)
		}
	}
	for _, t := range list {
		fmt.Fprintf(&b, "  %s %s", word, t.Name)
		if t.DefaultPass {
			b.WriteString(" pass")
		}
		b.WriteString("\n")
		keys("ingress", t.Ingress)
		keys("egress", t.Egress)
	}
	return b.String()
}

func rulesText(direction string, list []intent.Rule) string {
	var b strings.Builder
	for i := range list {
		fmt.Fprintf(&b, "  %s %s\n", direction, RuleText(&list[i]))
	}
	return b.String()
}

// RuleText is a rule in one line.
func RuleText(r *intent.Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %s", r.Index, r.Action)
	if r.Never {
		b.WriteString(" never")
	}
	if r.Family != intent.AnyFamily {
		fmt.Fprintf(&b, " ipv%d", r.Family)
	}
	if r.Protocol != 0 {
		fmt.Fprintf(&b, " protocol %d", r.Protocol)
	}
	if r.NotProtocol != 0 {
		fmt.Fprintf(&b, " not protocol %d", r.NotProtocol)
	}
	icmp := func(word string, i *intent.ICMP) {
		if i == nil {
			return
		}
		fmt.Fprintf(&b, " %s %d", word, i.Type)
		if i.HasCode {
			fmt.Fprintf(&b, "/%d", i.Code)
		}
	}
	icmp("icmp", r.ICMP)
	icmp("not icmp", r.NotICMP)
	b.WriteString(entityText("from", &r.Source))
	b.WriteString(entityText("to", &r.Destination))
	return b.String()
}

func entityText(word string, e *intent.Entity) string {
	var parts []string
	add := func(word string, list []string) {
		if len(list) > 0 {
			parts = append(parts, word+" "+strings.Join(list, ","))
		}
	}
	one := func(word, s string) {
		if s != "" {
			add(word, []string{s})
		}
	}
	add("nets", texts(e.Nets, netip.Prefix.String))
	add("not nets", texts(e.NotNets, netip.Prefix.String))
	one("set", e.Set)
	one("not set", e.NotSet)
	add("ports", texts(e.Ports, portText))
	add("named ports", e.NamedPorts)
	add("not ports", texts(e.NotPorts, portText))
	add("not named ports", e.NotNamedPorts)
	if parts == nil {
		return ""
	}
	return " " + word + " {" + strings.Join(parts, "; ") + "}"
}

func portText(p intent.PortRange) string {
	if p.Min == p.Max {
		return fmt.Sprint(p.Min)
	}
	return fmt.Sprintf("%d:%d", p.Min, p.Max)
}

func texts[T any](list []T, f func(T) string) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = f(v)
	}
	return out
}
