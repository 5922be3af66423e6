// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/ripstop/ripstop/daemon/api"

// Kinds are the kinds that have a say in a verdict.
func Kinds() []api.Kind {
	return []api.Kind{
		api.KindTier, api.KindGlobalNetworkPolicy, api.KindNetworkPolicy,
		api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy, api.KindProfile,
		api.KindGlobalNetworkSet, api.KindNetworkSet, api.KindHostEndpoint,
		api.KindWorkloadEndpoint, api.KindNode, api.KindFelixConfiguration, api.KindHostStatus,
	}
}

// OptionsOf are the failsafes to judge by: those that hosts report, for others
// Ripstop's defaults. The datastore's own, which differ from host to host, are
// known only where a host reports.
func OptionsOf(objs []api.Object) Options {
	o := Options{
		FailsafeInbound:  []Failsafe{{Protocol: protoTCP, Port: 22}, {Protocol: protoUDP, Port: 68}, {Protocol: protoUDP, Port: 546}},
		FailsafeOutbound: []Failsafe{{Protocol: protoUDP, Port: 53}, {Protocol: protoTCP, Port: 53}, {Protocol: protoUDP, Port: 67}, {Protocol: protoUDP, Port: 547}},
		Reported:         map[string]Failsafes{},
	}
	parse := func(texts []string) []Failsafe {
		out := []Failsafe{}
		for _, t := range texts {
			if f, err := ParseFailsafe(t); err == nil {
				out = append(out, f)
			}
		}
		return out
	}
	for _, obj := range objs {
		// A host that has applied nothing yet does not know its failsafes.
		if h, ok := obj.(*api.HostStatus); ok && h.Status.Dataplane.AppliedRevision > 0 {
			o.Reported[h.Name] = Failsafes{Inbound: parse(h.Status.FailsafesInbound), Outbound: parse(h.Status.FailsafesOutbound)}
		}
	}
	return o
}
