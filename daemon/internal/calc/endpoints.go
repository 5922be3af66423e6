// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"reflect"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// endpoints keeps the endpoints of this host, with who judges them. Host
// endpoints go by their name, workload endpoints by "namespace/name".
type endpoints struct {
	host     string
	policies *policies
	profiles *profiles
	byName   map[string]*endpoint
	dirty    map[string]struct{}
}

// endpoint is an endpoint of this host: one of spec and workload is set.
// Neither: it shall go.
type endpoint struct {
	key      intent.Key
	spec     *api.HostEndpointSpec
	workload *intent.WorkloadEndpoint // without tiers
	said     intent.Value
	// judged are the policies that judge it, as "tier/Kind(name)".
	judged []string
	faults []api.Fault
}

func newEndpoints(host string, pol *policies, pro *profiles) *endpoints {
	return &endpoints{
		host: host, policies: pol, profiles: pro,
		byName: map[string]*endpoint{}, dirty: map[string]struct{}{},
	}
}

func (e *endpoints) note(ev api.Event) {
	if ev.Key.Kind != api.KindHostEndpoint {
		return
	}
	name := ev.Key.Name
	o, ok := ev.Object.(*api.HostEndpoint)
	if ok = ok && o.Spec.Node == e.host; !ok && e.byName[name] == nil {
		return
	}
	ep := e.byName[name]
	if ep == nil {
		ep = &endpoint{key: intent.Key{Kind: intent.KindHostEndpoint, Name: name}}
		e.byName[name] = ep
	}
	if ep.spec != nil {
		for _, p := range ep.spec.Profiles {
			e.profiles.unlist(p)
		}
	}
	ep.spec = nil
	if ok {
		ep.spec = &o.Spec
		for _, p := range o.Spec.Profiles {
			e.profiles.list(p)
		}
	}
	e.dirty[name] = struct{}{}
}

// setWorkload takes a workload endpoint that is in force; nil: it no longer is.
func (e *endpoints) setWorkload(name string, v *intent.WorkloadEndpoint) {
	ep := e.byName[name]
	if ep == nil {
		ep = &endpoint{key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: name}}
		e.byName[name] = ep
	}
	ep.workload = v
	e.dirty[name] = struct{}{}
}

func (e *endpoints) flush(emit func(intent.Change)) {
	for name := range e.policies.touched {
		if e.byName[name] != nil {
			e.dirty[name] = struct{}{}
		}
	}
	clear(e.policies.touched)
	for name := range e.dirty {
		ep := e.byName[name]
		if ep.spec == nil && ep.workload == nil {
			continue // for sweep
		}
		delete(e.dirty, name)
		now := e.value(name, ep)
		if reflect.DeepEqual(ep.said, now) {
			continue
		}
		ep.said = now
		emit(intent.Change{Key: ep.key, Value: now})
	}
}

func (e *endpoints) sweep(emit func(intent.Change)) {
	for name := range e.dirty {
		if ep := e.byName[name]; ep.said != nil {
			emit(intent.Change{Key: ep.key})
		}
		delete(e.byName, name)
		delete(e.dirty, name)
	}
}

// value works out what is to be said of an endpoint, and on the way what
// judges it and what is wrong with it.
func (e *endpoints) value(name string, ep *endpoint) intent.Value {
	ep.judged, ep.faults = nil, nil
	if ep.workload != nil {
		v := *ep.workload
		v.Tiers = e.tiers(name, ep, sortNormal)
		return &v
	}
	v := &intent.HostEndpoint{Interface: ep.spec.InterfaceName, Profiles: ep.spec.Profiles}
	fault := func(message, effect string) {
		object := api.Key{Kind: api.KindHostEndpoint, Name: name}.String()
		ep.faults = append(ep.faults, api.Fault{Object: object, Message: message, Effect: effect})
	}
	for i, text := range ep.spec.ExpectedIPs {
		n, ok := parseNet(text)
		if !ok || !n.IsSingleIP() {
			fault(fmt.Sprintf("spec.expectedIPs[%d]: %q is not an address", i, text), "the endpoint does without it")
			continue
		}
		v.ExpectedIPs = append(v.ExpectedIPs, n.Addr())
	}
	if v.Interface == "" && len(v.ExpectedIPs) == 0 {
		fault("spec: neither interfaceName nor expectedIPs says which interface it is", "it governs no interface")
	}
	v.UntrackedTiers = e.tiers(name, ep, sortUntracked)
	v.PreDNATTiers = e.tiers(name, ep, sortPreDNAT)
	v.Tiers = e.tiers(name, ep, sortNormal)
	for _, j := range e.policies.judgesOf(name, sortNormal) {
		if j.forwards() {
			v.ForwardTiers = append(v.ForwardTiers, j.intent(true))
		}
	}
	return v
}

// tiers are the tiers of one sort of policy, and notes who judges in them.
func (e *endpoints) tiers(name string, ep *endpoint, s sort) (tiers []intent.Tier) {
	for _, j := range e.policies.judgesOf(name, s) {
		tiers = append(tiers, j.intent(false))
		for _, p := range j.policies {
			if !p.staged {
				ep.judged = append(ep.judged, j.name+"/"+p.key.String())
			}
		}
	}
	return tiers
}

// forwards reports whether the tier has a policy on forwarded traffic.
func (j *judges) forwards() bool {
	for _, p := range j.policies {
		if p.forward {
			return true
		}
	}
	return false
}

// intent is the tier as it is said; forward keeps to policies on forwarded
// traffic.
func (j *judges) intent(forward bool) intent.Tier {
	t := intent.Tier{Name: j.name, DefaultPass: j.defaultPass}
	for _, p := range j.policies {
		if p.staged || forward && !p.forward {
			continue
		}
		if p.ingress {
			t.Ingress = append(t.Ingress, p.key)
		}
		if p.egress {
			t.Egress = append(t.Egress, p.key)
		}
	}
	return t
}
