// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc/index"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/selector"
)

// policies knows all policies and tiers and which policies select which
// endpoint of this host, and has those that select one translated. Of all it
// keeps the selector and, packed, the rules.
type policies struct {
	host  string
	rules *rules
	byKey map[api.Key]*policy
	tiers map[string]tier
	// matcher matches the policies' selectors with the local endpoints.
	matcher *index.Index[*policy, string]
	// of has the policies that select each local endpoint, by its name (of a
	// workload endpoint "namespace/name"), and local what sort of endpoint
	// it is.
	of    map[string]map[*policy]struct{}
	local map[string]local
	// dirty are policies whose translation may be out of date.
	dirty map[*policy]struct{}
	// loose are policies whose rules are not packed.
	loose map[*policy]struct{}
	// touched are endpoints whose list of policies may be out of date. They
	// wait for step endpoints.
	touched map[string]struct{}
}

// policy is a policy of any of the four kinds.
type policy struct {
	key api.Key
	tie string // decides between policies of one order
	// The rules are in rules or packed; in neither: the policy is gone.
	rules  *bothRules
	packed []byte
	// flows is the annotation about established flows.
	flows string
	place
	// endpoints are the local endpoints that it selects.
	endpoints map[string]struct{}
}

// bothRules are what a policy says.
type bothRules struct {
	Ingress []api.Rule `json:"i,omitempty"`
	Egress  []api.Rule `json:"e,omitempty"`
}

func (pol *policy) gone() bool { return pol.rules == nil && pol.packed == nil }

// place is what decides where among an endpoint's policies one stands.
type place struct {
	tier            string
	order           float64
	ingress, egress bool
	forward         bool
	staged          bool
	sort            sort
	kept            bool // said even if it judges nothing here
	// torn: it asks for doNotTrack and preDNAT, which exclude each other.
	torn bool
}

// sort is at which stage a policy judges.
type sort uint8

const (
	sortNormal sort = iota
	sortUntracked
	sortPreDNAT
)

// local is what sort of endpoint of this host one is.
type local uint8

const (
	localNamed local = iota + 1 // host endpoint
	localWildcard
	localWorkload
)

// judges reports whether policies of a sort have a say about an endpoint.
func (s sort) judges(l local) bool {
	switch s {
	case sortUntracked:
		return l == localNamed
	case sortPreDNAT:
		return l != localWorkload
	case sortNormal:
	}
	return true
}

// tier is what matters of a Tier.
type tier struct {
	order       float64
	defaultPass bool
}

func newPolicies(host string, r *rules) *policies {
	p := &policies{
		host:    host,
		rules:   r,
		byKey:   map[api.Key]*policy{},
		tiers:   map[string]tier{},
		of:      map[string]map[*policy]struct{}{},
		local:   map[string]local{},
		dirty:   map[*policy]struct{}{},
		loose:   map[*policy]struct{}{},
		touched: map[string]struct{}{},
	}
	p.matcher = index.New(p.matched)
	return p
}

func (p *policies) note(ev api.Event) {
	switch ev.Key.Kind {
	case api.KindTier:
		p.noteTier(ev)
	case api.KindProfile:
		inherit(p.matcher, ev)
	case api.KindHostEndpoint:
		p.noteEndpoint(ev)
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy,
		api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy:
		p.notePolicy(ev)
	}
}

func (p *policies) noteTier(ev api.Event) {
	old, had := p.tiers[ev.Key.Name]
	if o, ok := ev.Object.(*api.Tier); ok {
		t := tier{order: orderOf(o.Spec.Order), defaultPass: o.Spec.DefaultAction == api.Pass}
		if had && t == old {
			return
		}
		p.tiers[ev.Key.Name] = t
	} else {
		delete(p.tiers, ev.Key.Name)
	}
	for name, governing := range p.of {
		for g := range governing {
			if g.tier == ev.Key.Name {
				p.touched[name] = struct{}{}
				break
			}
		}
	}
}

func (p *policies) noteEndpoint(ev api.Event) {
	name := ev.Key.Name
	if o, ok := ev.Object.(*api.HostEndpoint); ok && o.Spec.Node == p.host {
		l := localNamed
		if o.Spec.InterfaceName == api.AllInterfaces {
			l = localWildcard
		}
		p.setLocal(name, l, ownLabels(o.Labels), o.Spec.Profiles)
		return
	}
	p.deleteLocal(name)
}

// setLocal takes an endpoint of this host that policies may select.
func (p *policies) setLocal(name string, l local, labels map[string]string, profiles []string) {
	if p.of[name] == nil {
		p.of[name] = map[*policy]struct{}{}
	}
	if p.local[name] != l {
		p.local[name] = l
		p.touched[name] = struct{}{}
		for pol := range p.of[name] {
			p.dirty[pol] = struct{}{}
		}
	}
	p.matcher.SetItem(name, labels, profiles)
}

func (p *policies) deleteLocal(name string) {
	if p.of[name] != nil {
		p.matcher.DeleteItem(name)
		delete(p.of, name)
		delete(p.local, name)
	}
}

func (p *policies) notePolicy(ev api.Event) {
	pol := p.byKey[ev.Key]
	var spec *api.PolicySpec
	var sel *selector.Selector
	if ev.Object != nil {
		spec = policySpec(ev.Object)
	}
	staged := ev.Key.Kind == api.KindStagedGlobalNetworkPolicy || ev.Key.Kind == api.KindStagedNetworkPolicy
	if spec != nil && staged && spec.StagedAction == stagedDelete {
		spec = nil // it announces that something goes, and is nothing itself
	}
	if spec != nil {
		var err error
		if sel, err = policySelector(ev.Key.Namespace, spec); err != nil {
			panic("calc: intake let a policy through that selects nothing that can be named: " + ev.Key.String())
		}
	}
	if spec == nil {
		if pol != nil {
			pol.rules, pol.packed = nil, nil
			delete(p.loose, pol)
			p.matcher.DeleteSelector(pol)
			p.dirty[pol] = struct{}{} // for flush to forget, unless it comes back
		}
		return
	}
	if pol == nil {
		pol = &policy{key: ev.Key, tie: ev.Key.Name + "/" + ev.Key.Namespace + "/" + string(ev.Key.Kind)}
		p.byKey[ev.Key] = pol
	}
	pol.rules, pol.packed = &bothRules{Ingress: spec.Ingress, Egress: spec.Egress}, nil
	p.loose[pol] = struct{}{}
	pol.flows = strings.Clone(ev.Object.Metadata().Annotations[api.AnnotationEstablishedFlows])
	p.dirty[pol] = struct{}{}
	if at := placeOf(spec, staged); at != pol.place {
		pol.place = at
		for name := range pol.endpoints {
			p.touched[name] = struct{}{}
		}
	}
	p.matcher.SetSelector(pol, sel)
}

const stagedDelete = "Delete"

func placeOf(s *api.PolicySpec, staged bool) place {
	at := place{
		tier:  strings.Clone(cmp.Or(s.Tier, api.DefaultTier)), // not the document that it is part of
		order: orderOf(s.Order),
		// No types at all: written before types existed, speaks for both.
		ingress: len(s.Types) == 0 || slices.Contains(s.Types, api.Ingress),
		egress:  len(s.Types) == 0 || slices.Contains(s.Types, api.Egress),
		staged:  staged,
		kept:    slices.Contains(s.PerformanceHints, api.AssumeNeededOnEveryNode),
		torn:    s.DoNotTrack && s.PreDNAT,
	}
	switch {
	case s.DoNotTrack:
		at.sort = sortUntracked
	case s.PreDNAT:
		at.sort, at.egress = sortPreDNAT, false
	default:
		at.forward = s.ApplyOnForward
	}
	return at
}

// orderOf is an order as a number; what has none comes last.
func orderOf(o *float64) float64 {
	if o == nil {
		return math.Inf(1)
	}
	return *o
}

// matched hears that a policy has begun or ceased to select an endpoint.
func (p *policies) matched(pol *policy, endpoint string, selects bool) {
	p.touched[endpoint] = struct{}{}
	if selects {
		if pol.endpoints == nil {
			pol.endpoints = map[string]struct{}{}
		}
		pol.endpoints[endpoint] = struct{}{}
		p.of[endpoint][pol] = struct{}{}
		if len(pol.endpoints) == 1 || pol.sort != sortNormal {
			p.dirty[pol] = struct{}{}
		}
		return
	}
	delete(pol.endpoints, endpoint)
	delete(p.of[endpoint], pol)
	if len(pol.endpoints) == 0 || pol.sort != sortNormal {
		p.dirty[pol] = struct{}{}
	}
	if len(pol.endpoints) == 0 {
		pol.endpoints = nil
	}
}

func (p *policies) flush(func(intent.Change)) {
	for pol := range p.dirty {
		if pol.gone() {
			delete(p.byKey, pol.key)
		}
		k := intent.Key{Kind: intent.KindPolicy, Policy: pol.key}
		if !p.enforced(pol) {
			p.rules.unwant(k)
			continue
		}
		t := &translator{object: pol.key, namespace: pol.key.Namespace}
		p.rules.want(k, pol.translate(t), t)
	}
	clear(p.dirty)
}

// sweep has nothing to take back: rules does it.
func (p *policies) sweep(func(intent.Change)) {}

// enforced reports whether the policy is to be said: it has a say about an
// endpoint here, or is to be there in any case.
func (p *policies) enforced(pol *policy) bool {
	return !pol.gone() && !pol.staged && (pol.kept || p.hasSay(pol))
}

// hasSay reports whether the policy selects an endpoint that it may judge.
func (p *policies) hasSay(pol *policy) bool {
	for name := range pol.endpoints {
		if pol.sort.judges(p.local[name]) {
			return true
		}
	}
	return false
}

// pack packs the rules that are not. They are asked for again only when an
// endpoint of this host comes or goes that the policy selects.
func (p *policies) pack() {
	for pol := range p.loose {
		b, err := json.Marshal(pol.rules)
		if err != nil {
			panic("calc: rules cannot be packed: " + err.Error()) // they came as JSON
		}
		pol.rules, pol.packed = nil, b
	}
	p.loose = map[*policy]struct{}{} // there may have been many
}

// unpacked are the policy's rules.
func (pol *policy) unpacked() *bothRules {
	if pol.rules != nil {
		return pol.rules
	}
	r := &bothRules{}
	if err := json.Unmarshal(pol.packed, r); err != nil {
		panic("calc: packed rules cannot be read: " + err.Error())
	}
	return r
}

func (pol *policy) translate(t *translator) *intent.Policy {
	rules := pol.unpacked()
	out := &intent.Policy{
		Tier: pol.tier, ApplyOnForward: pol.forward, Kept: pol.kept,
		Untracked: pol.sort == sortUntracked, PreDNAT: pol.sort == sortPreDNAT,
	}
	if pol.ingress {
		out.Ingress = t.rules("ingress", rules.Ingress)
	}
	if pol.egress {
		out.Egress = t.rules("egress", rules.Egress)
	}
	switch {
	case strings.EqualFold(pol.flows, api.FlowsKeep):
		out.KeepFlows = true
	case pol.flows != "" && !strings.EqualFold(pol.flows, api.FlowsCut):
		t.fault("metadata.annotations["+api.AnnotationEstablishedFlows+"]",
			fmt.Sprintf("%q is neither %s nor %s", pol.flows, api.FlowsCut, api.FlowsKeep), "flows that the policy denies are cut")
	}
	return out
}

// judges is a tier with the policies that have a say in it about one
// endpoint, in order; the staged ones too.
type judges struct {
	tier
	name     string
	missing  bool
	policies []*policy
}

// judgesOf is who of a sort has a say about a local endpoint, in order.
func (p *policies) judgesOf(endpoint string, s sort) []*judges {
	if !s.judges(p.local[endpoint]) {
		return nil
	}
	byTier := map[string]*judges{}
	var all []*judges
	for pol := range p.of[endpoint] {
		if pol.sort != s {
			continue
		}
		j := byTier[pol.tier]
		if j == nil {
			t, ok := p.tiers[pol.tier]
			j = &judges{name: pol.tier, tier: t, missing: !ok}
			byTier[pol.tier] = j
			all = append(all, j)
		}
		j.policies = append(j.policies, pol)
	}
	slices.SortFunc(all, func(a, b *judges) int {
		if a.missing != b.missing {
			if a.missing {
				return 1
			}
			return -1
		}
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	for _, j := range all {
		slices.SortFunc(j.policies, func(a, b *policy) int {
			return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.tie, b.tie))
		})
	}
	return all
}

func (p *policies) faults() []api.Fault {
	var all []api.Fault
	for _, pol := range p.byKey {
		if pol.staged {
			continue
		}
		fault := func(message, effect string) {
			all = append(all, api.Fault{Object: pol.key.String(), Message: message, Effect: effect})
		}
		if pol.sort == sortUntracked {
			for _, name := range slices.Sorted(maps.Keys(pol.endpoints)) {
				if p.local[name] == localWildcard {
					fault("spec.doNotTrack: it selects the wildcard host endpoint "+name, "the policy is ignored there")
				}
			}
		}
		if !p.hasSay(pol) {
			continue
		}
		if pol.torn {
			fault("spec.preDNAT: excludes doNotTrack", "the policy is enforced as one with doNotTrack alone")
		}
		if _, ok := p.tiers[pol.tier]; !ok {
			fault("spec.tier: tier "+pol.tier+" does not exist",
				"the policy is enforced after all tiers; what no policy decides there is denied")
		}
	}
	return all
}

// ownLabels is what an object's author says with its labels.
func ownLabels(labels map[string]string) map[string]string {
	for k := range labels {
		if reserved(k) {
			own := map[string]string{}
			for k, v := range labels {
				if !reserved(k) {
					own[k] = v
				}
			}
			return own
		}
	}
	return labels
}

// inherit tells an index what endpoints and sets get from a profile.
func inherit[S, I comparable](x *index.Index[S, I], ev api.Event) {
	o, ok := ev.Object.(*api.Profile)
	if !ok || o.Name == api.DefaultAllowProfile || len(o.Spec.LabelsToApply) == 0 {
		x.DeleteParent(ev.Key.Name)
		return
	}
	x.SetParent(ev.Key.Name, o.Spec.LabelsToApply)
}
