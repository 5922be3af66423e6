// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// workloads decides which workload endpoints of this host are in force, and
// hands those to policies, profiles and endpoints. One is not if it has no
// address or names no interface, if it asks for what the configuration does
// not allow, or if another one with a lower key has its interface. What such
// an interface then sends is dropped, if its name is a workload's. Of those
// of other hosts it only looks at what they ask for: what its host refuses,
// no selector stands for.
type workloads struct {
	host      string
	settings  *settings
	sets      *sets
	policies  *policies
	profiles  *profiles
	endpoints *endpoints

	byKey map[api.Key]*workload
	// claims are the sound endpoints of each interface.
	claims map[string]map[api.Key]struct{}
	dirty  map[api.Key]struct{}
	seen   int // settings.changes when all were read
}

// workload is a workload endpoint that workloads looks at.
type workload struct {
	object *api.WorkloadEndpoint // nil: it shall go
	// spoofing: its host lets it have allowSpoofedSourcePrefixes.
	spoofing bool
	// sound is what can be said of it, without tiers; nil: it cannot be in
	// force, or is another host's.
	sound *intent.WorkloadEndpoint
	// force is what is in force; nil: it is not.
	force  *intent.WorkloadEndpoint
	listed []string // profiles
	// refused: selectors do not stand for it.
	refused bool
	faults  []api.Fault
}

// looksAt reports whether a workload endpoint is one that workloads looks at.
func looksAt(o *api.WorkloadEndpoint, host string) bool {
	return o.Spec.Node == host || len(o.Spec.AllowSpoofedSourcePrefixes) > 0
}

func newWorkloads(c Config, g *Graph) *workloads {
	return &workloads{
		host: c.Host, settings: g.settings, sets: g.sets, policies: g.policies, profiles: g.profiles, endpoints: g.endpoints,
		byKey: map[api.Key]*workload{}, claims: map[string]map[api.Key]struct{}{}, dirty: map[api.Key]struct{}{},
	}
}

func (w *workloads) note(ev api.Event) {
	if ev.Key.Kind != api.KindWorkloadEndpoint {
		return
	}
	o, ok := ev.Object.(*api.WorkloadEndpoint)
	if ok = ok && looksAt(o, w.host); !ok && w.byKey[ev.Key] == nil {
		return
	}
	ep := w.byKey[ev.Key]
	if ep == nil {
		ep = &workload{}
		w.byKey[ev.Key] = ep
	}
	ep.object = nil
	if ok {
		ep.object = o
	}
	w.dirty[ev.Key] = struct{}{}
}

func (w *workloads) flush(func(intent.Change)) {
	if w.seen != w.settings.changes {
		w.seen = w.settings.changes
		for k, ep := range w.byKey {
			if o := ep.object; o != nil && len(o.Spec.AllowSpoofedSourcePrefixes) > 0 && ep.spoofing != w.settings.spoofing(o.Spec.Node) {
				w.dirty[k] = struct{}{}
			}
		}
	}
	contested := map[string]struct{}{}
	for k := range w.dirty {
		ep := w.byKey[k]
		if ep.sound != nil {
			contested[ep.sound.Interface] = struct{}{}
			delete(w.claims[ep.sound.Interface], k)
		}
		ep.sound, ep.refused, ep.faults = nil, false, nil
		if o := ep.object; o != nil && len(o.Spec.AllowSpoofedSourcePrefixes) > 0 {
			ep.spoofing = w.settings.spoofing(o.Spec.Node)
			ep.refused = !ep.spoofing
		}
		if ep.object != nil && ep.object.Spec.Node == w.host {
			ep.read(k)
		}
		if ep.sound != nil {
			iface := ep.sound.Interface
			contested[iface] = struct{}{}
			if w.claims[iface] == nil {
				w.claims[iface] = map[api.Key]struct{}{}
			}
			w.claims[iface][k] = struct{}{}
		}
	}
	for iface := range contested {
		for k := range w.claims[iface] {
			w.dirty[k] = struct{}{}
		}
		if len(w.claims[iface]) == 0 {
			delete(w.claims, iface)
		}
	}
	for k := range w.dirty {
		w.settle(k, w.byKey[k])
	}
	clear(w.dirty)
}

// settle puts an endpoint into force, or out of it.
func (w *workloads) settle(k api.Key, ep *workload) {
	name := k.Namespace + "/" + k.Name
	var now *intent.WorkloadEndpoint
	if ep.sound != nil && w.first(ep.sound.Interface) == k {
		now = ep.sound
	}
	var listed []string
	if now != nil {
		listed = now.Profiles
	}
	if !slices.Equal(listed, ep.listed) {
		for _, p := range listed {
			w.profiles.list(p)
		}
		for _, p := range ep.listed {
			w.profiles.unlist(p)
		}
		ep.listed = listed
	}
	switch {
	case now != nil:
		w.policies.setLocal(name, localWorkload, workloadLabels(ep.object), now.Profiles)
	case ep.force != nil:
		w.policies.deleteLocal(name)
	}
	if !reflect.DeepEqual(now, ep.force) {
		ep.force = now
		w.endpoints.setWorkload(name, now)
	}
	switch { // of one that has gone sets has heard
	case ep.object == nil:
		delete(w.byKey, k)
	case ep.refused:
		w.sets.noteItem(api.Event{Key: k})
	default:
		w.sets.noteItem(api.Event{Key: k, Object: ep.object})
	}
}

// first is the endpoint that an interface belongs to: of several the one with
// the lowest key.
func (w *workloads) first(iface string) (low api.Key) {
	for k := range w.claims[iface] {
		if low.Name == "" || k.Compare(low) < 0 {
			low = k
		}
	}
	return low
}

// sweep has nothing to take back: endpoints does it.
func (w *workloads) sweep(func(intent.Change)) {}

const (
	effectUnguarded = "it is as if the endpoint were not there: what its interface sends and gets is dropped if it has a workload's prefix"
	effectWithout   = "the endpoint does without it"
)

// read works out what can be said of the endpoint, and what is wrong with it.
func (ep *workload) read(k api.Key) {
	spec := &ep.object.Spec
	fault := func(effect, format string, args ...any) {
		ep.faults = append(ep.faults, api.Fault{Object: k.String(), Message: fmt.Sprintf(format, args...), Effect: effect})
	}
	v := &intent.WorkloadEndpoint{Interface: spec.InterfaceName, Profiles: spec.Profiles}
	for i, text := range spec.IPNetworks {
		switch n, ok := parseNet(text); {
		case !ok || !n.IsSingleIP():
			fault(effectWithout, "spec.ipNetworks[%d]: %q is not an address", i, text)
		case !slices.Contains(v.Addrs, n.Addr()):
			v.Addrs = append(v.Addrs, n.Addr())
		}
	}
	for i, text := range spec.AllowSpoofedSourcePrefixes {
		switch n, ok := parseNet(text); {
		case !ok:
			fault(effectWithout, "spec.allowSpoofedSourcePrefixes[%d]: %q is not a network", i, text)
		case !slices.Contains(v.AllowedSources, n):
			v.AllowedSources = append(v.AllowedSources, n)
		}
	}
	if spec.MAC != "" {
		text := strings.ReplaceAll(strings.ReplaceAll(spec.MAC, ":", ""), "-", "")
		if b, err := hex.DecodeString(text); err == nil && len(b) == len(v.MAC) {
			copy(v.MAC[:], b)
		} else {
			fault(effectWithout, "spec.mac: %q is not a link address", spec.MAC)
		}
	}
	if spec.QoSControls != nil {
		fault("nothing is limited or marked", "spec.qosControls: quality of service is not supported yet")
	}
	if len(spec.IPNATs) > 0 {
		fault("no address is rewritten", "spec.ipNATs: floating addresses are not supported yet")
	}
	switch {
	case v.Interface == "" || v.Interface == "lo" || v.Interface == api.AllInterfaces:
		fault(effectUnguarded, "spec.interfaceName: %q is no interface of a workload", v.Interface)
	case len(v.Addrs) == 0:
		fault(effectUnguarded, "spec.ipNetworks: there is no address")
	case ep.refused:
		fault(effectUnguarded, "spec.allowSpoofedSourcePrefixes: needs workloadSourceSpoofing Any in FelixConfiguration")
	default:
		ep.sound = v
	}
}

// faults are what is wrong with the workload endpoints of this host.
func (w *workloads) faults() (all []api.Fault) {
	for k, ep := range w.byKey {
		all = append(all, ep.faults...)
		if ep.sound != nil && ep.force == nil {
			all = append(all, api.Fault{
				Object:  k.String(),
				Message: "spec.interfaceName: " + w.first(ep.sound.Interface).String() + " has interface " + ep.sound.Interface + " already",
				Effect:  "the endpoint governs no interface",
			})
		}
	}
	return all
}
