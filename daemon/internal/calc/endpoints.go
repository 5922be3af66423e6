// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"reflect"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// endpoints keeps the host endpoints of this host, with who judges them.
type endpoints struct {
	host     string
	policies *policies
	profiles *profiles
	byName   map[string]*endpoint
	dirty    map[string]struct{}
	// workloads are the interfaces of this host's workload endpoints, which
	// nobody enforces yet.
	workloads map[api.Key]string
}

// endpoint is a host endpoint of this host.
type endpoint struct {
	spec *api.HostEndpointSpec // nil: it shall go
	said *intent.HostEndpoint
	// judged are the policies that judge it, as "tier/Kind(name)".
	judged []string
	faults []api.Fault
}

func newEndpoints(host string, pol *policies, pro *profiles) *endpoints {
	return &endpoints{
		host: host, policies: pol, profiles: pro,
		byName: map[string]*endpoint{}, dirty: map[string]struct{}{}, workloads: map[api.Key]string{},
	}
}

func (e *endpoints) note(ev api.Event) {
	if ev.Key.Kind == api.KindWorkloadEndpoint {
		e.noteWorkload(ev)
	}
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
		ep = &endpoint{}
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

// noteWorkload keeps account of the workload endpoints of this host.
func (e *endpoints) noteWorkload(ev api.Event) {
	if o, ok := ev.Object.(*api.WorkloadEndpoint); ok && o.Spec.Node == e.host {
		e.workloads[ev.Key] = o.Spec.InterfaceName
		return
	}
	delete(e.workloads, ev.Key)
}

// workloadFaults says of each workload endpoint of this host that it is not
// enforced.
func (e *endpoints) workloadFaults() (all []api.Fault) {
	for k, iface := range e.workloads {
		all = append(all, api.Fault{
			Object: k.String(), Message: "workload endpoints are not supported yet",
			Effect: "no policy filters interface " + iface + "; its labels and addresses count in selectors",
		})
	}
	return all
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
		if ep.spec == nil {
			continue // for sweep
		}
		delete(e.dirty, name)
		now := e.value(name, ep)
		if ep.said != nil && reflect.DeepEqual(ep.said, now) {
			continue
		}
		ep.said = now
		emit(intent.Change{Key: endpointKey(name), Value: now})
	}
}

func (e *endpoints) sweep(emit func(intent.Change)) {
	for name := range e.dirty {
		if e.byName[name].said != nil {
			emit(intent.Change{Key: endpointKey(name)})
		}
		delete(e.byName, name)
		delete(e.dirty, name)
	}
}

func endpointKey(name string) intent.Key {
	return intent.Key{Kind: intent.KindHostEndpoint, Name: name}
}

// value works out what is to be said of an endpoint, and on the way what
// judges it and what is wrong with it.
func (e *endpoints) value(name string, ep *endpoint) *intent.HostEndpoint {
	v := &intent.HostEndpoint{Interface: ep.spec.InterfaceName, Profiles: ep.spec.Profiles}
	ep.judged, ep.faults = nil, nil
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
	for _, j := range e.policies.judgesOf(name) {
		v.Tiers = append(v.Tiers, j.intent(false))
		if j.forwards() {
			v.ForwardTiers = append(v.ForwardTiers, j.intent(true))
		}
		for _, p := range j.policies {
			if !p.staged {
				ep.judged = append(ep.judged, j.name+"/"+p.key.String())
			}
		}
	}
	return v
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
