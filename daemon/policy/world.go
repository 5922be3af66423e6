// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// namespaceProfile begins the name of the profile that hands a namespace's
// labels on to what is in the namespace.
const namespaceProfile = "kns."

// World is an immutable picture of all resources. It is safe for concurrent
// use.
type World struct {
	options  Options
	tiers    []*tier // in order of evaluation
	profiles map[string]*profile
	members  []*member // everything a selector can stand for
	hosts    []*hostEndpoint
	// workloads are all workload endpoints, those that count as absent too.
	workloads []*workloadEndpoint
	nodes     map[string]*api.Node
	felix     []*api.FelixConfiguration // in order of age
}

// tier is a tier with its policies, both in order of evaluation.
type tier struct {
	name        string
	missing     bool // there is no such Tier
	order       float64
	defaultPass bool
	policies    []*policy
}

// policy is a policy of one of the four kinds.
type policy struct {
	key            api.Key
	order          float64
	staged         bool
	applyOnForward bool
	untracked      bool // doNotTrack
	preDNAT        bool
	selector       *selector.Selector
	ingress        bool
	egress         bool
	rules          map[api.PolicyType][]*rule
}

// profile is a profile's rules.
type profile struct {
	rules map[api.PolicyType][]*rule
}

// member is an endpoint or a network set: labels that stand for addresses.
type member struct {
	key    api.Key
	labels selector.Map
	nets   []netip.Prefix
	ports  []api.EndpointPort
}

// hostEndpoint is a member that governs interfaces.
type hostEndpoint struct {
	*member
	spec api.HostEndpointSpec
}

// NewWorld makes a picture of the resources. Their order does not matter. Of
// an Unreadable object the salvaged part counts, or nothing. Kinds that have
// no say in policy are ignored. Objects must not be changed afterwards.
func NewWorld(objs []api.Object, o Options) *World {
	w := &World{options: o, profiles: map[string]*profile{}, nodes: map[string]*api.Node{}}
	inherited := map[string]map[string]string{}
	for _, obj := range objs {
		if p, ok := readable(obj).(*api.Profile); ok && p.Name != api.DefaultAllowProfile {
			inherited[p.Name] = p.Spec.LabelsToApply
		}
	}
	tiers := map[string]*tier{}
	for _, obj := range objs {
		switch x := readable(obj).(type) {
		case *api.Tier:
			t := tierNamed(tiers, x.Name)
			t.missing = false
			t.order = orderOf(x.Spec.Order)
			t.defaultPass = x.Spec.DefaultAction == api.Pass
		case *api.GlobalNetworkPolicy:
			w.addPolicy(tiers, x.Key(), x.Spec, false)
		case *api.NetworkPolicy:
			w.addPolicy(tiers, x.Key(), x.Spec, false)
		case *api.StagedGlobalNetworkPolicy:
			w.addPolicy(tiers, x.Key(), x.Spec, true)
		case *api.StagedNetworkPolicy:
			w.addPolicy(tiers, x.Key(), x.Spec, true)
		case *api.Profile:
			w.profiles[x.Name] = &profile{rules: bothDirections(x.Spec.Ingress, x.Spec.Egress, x.Key())}
		case *api.GlobalNetworkSet:
			w.members = append(w.members, &member{key: x.Key(), labels: ownLabels(x.Labels), nets: lenientNets(x.Spec.Nets)})
		case *api.NetworkSet:
			m := &member{key: x.Key(), labels: ownLabels(x.Labels), nets: lenientNets(x.Spec.Nets)}
			m.labels[api.LabelNamespace] = x.Namespace
			inherit(m.labels, inherited, []string{namespaceProfile + x.Namespace})
			w.members = append(w.members, m)
		case *api.WorkloadEndpoint:
			w.workloads = append(w.workloads, newWorkload(x, inherited))
		case *api.HostEndpoint:
			m := &member{key: x.Key(), labels: ownLabels(x.Labels), nets: lenientNets(x.Spec.ExpectedIPs), ports: x.Spec.Ports}
			inherit(m.labels, inherited, x.Spec.Profiles)
			w.members = append(w.members, m)
			w.hosts = append(w.hosts, &hostEndpoint{member: m, spec: x.Spec})
		case *api.Node:
			w.nodes[x.Name] = x
		case *api.FelixConfiguration:
			w.felix = append(w.felix, x)
		}
	}
	everything := bothDirections([]api.Rule{{Action: api.Allow}}, []api.Rule{{Action: api.Allow}}, api.Key{})
	w.profiles[api.DefaultAllowProfile] = &profile{rules: everything}
	w.sort(tiers)
	return w
}

// sort puts everything in the order in which it is evaluated.
func (w *World) sort(tiers map[string]*tier) {
	for _, t := range tiers {
		slices.SortFunc(t.policies, func(a, b *policy) int {
			return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.tieBreak(), b.tieBreak()))
		})
		w.tiers = append(w.tiers, t)
	}
	slices.SortFunc(w.tiers, func(a, b *tier) int {
		if a.missing != b.missing {
			return map[bool]int{false: -1, true: 1}[a.missing]
		}
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.name, b.name))
	})
	slices.SortFunc(w.felix, func(a, b *api.FelixConfiguration) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	slices.SortFunc(w.hosts, func(a, b *hostEndpoint) int { return a.key.Compare(b.key) })
	slices.SortFunc(w.workloads, func(a, b *workloadEndpoint) int { return a.key.Compare(b.key) })
	w.refuse()
	slices.SortFunc(w.members, func(a, b *member) int { return a.key.Compare(b.key) })
}

func (w *World) addPolicy(tiers map[string]*tier, key api.Key, spec api.PolicySpec, staged bool) {
	sel, err := policySelector(key, spec)
	if err != nil {
		return // a policy that selects nothing that could be named
	}
	p := &policy{
		key: key, order: orderOf(spec.Order), staged: staged, selector: sel,
		applyOnForward: spec.ApplyOnForward, untracked: spec.DoNotTrack, preDNAT: spec.PreDNAT,
		// No types at all: written before types existed, speaks for both.
		ingress: len(spec.Types) == 0 || slices.Contains(spec.Types, api.Ingress),
		egress:  len(spec.Types) == 0 || slices.Contains(spec.Types, api.Egress),
		rules:   bothDirections(spec.Ingress, spec.Egress, key),
	}
	t := tierNamed(tiers, cmp.Or(spec.Tier, api.DefaultTier))
	t.policies = append(t.policies, p)
}

// policySelector is what a policy selects, as one selector on the labels that
// endpoints have with those inherited from namespace and service account.
func policySelector(of api.Key, spec api.PolicySpec) (*selector.Selector, error) {
	own, err := selector.Parse(spec.Selector)
	if err != nil {
		return nil, err
	}
	parts := []*selector.Selector{own}
	if namespaced(of) {
		parts = append(parts, selector.Equal(api.LabelNamespace, of.Namespace))
	} else if spec.NamespaceSelector != "" {
		of, err := namespaceSelector(spec.NamespaceSelector)
		if err != nil {
			return nil, err
		}
		// An endpoint outside of any namespace, such as every host
		// endpoint, has no namespace whose labels could match.
		parts = append(parts, selector.Has(api.LabelNamespace), of)
	}
	if spec.ServiceAccountSelector != "" {
		account, err := serviceAccountSelector(spec.ServiceAccountSelector)
		if err != nil {
			return nil, err
		}
		parts = append(parts, account)
		if !namespaced(of) && spec.Selector != "" {
			// Beside it, all() in a global policy's selector means all that
			// have a service account, as in Calico.
			parts[0] = own.Replace(selector.Has(api.LabelServiceAccount), nil)
		}
	}
	return selector.And(parts...), nil
}

// namespaceSelector reads a selector on the labels of namespaces.
func namespaceSelector(text string) (*selector.Selector, error) {
	s, err := selector.Parse(text)
	if err != nil {
		return nil, err
	}
	in := selector.Has(api.LabelNamespace)
	return s.PrefixLabels(api.PrefixNamespaceLabel).Replace(in, selector.Not(in)), nil
}

// serviceAccountSelector reads a selector on the labels of service accounts.
func serviceAccountSelector(text string) (*selector.Selector, error) {
	s, err := selector.Parse(text)
	if err != nil {
		return nil, err
	}
	return s.PrefixLabels(api.PrefixServiceAccountLabel).Replace(selector.Has(api.LabelServiceAccount), nil), nil
}

// namespaced tells whether a policy's rules and selector stay inside its
// namespace.
func namespaced(k api.Key) bool {
	return k.Kind == api.KindNetworkPolicy || k.Kind == api.KindStagedNetworkPolicy
}

func (p *policy) tieBreak() string {
	return p.key.Name + "/" + p.key.Namespace + "/" + string(p.key.Kind)
}

func (p *policy) speaksFor(t api.PolicyType) bool {
	if t == api.Ingress {
		return p.ingress
	}
	return p.egress
}

func tierNamed(tiers map[string]*tier, name string) *tier {
	t := tiers[name]
	if t == nil {
		t = &tier{name: name, missing: true, order: math.Inf(1)}
		tiers[name] = t
	}
	return t
}

func orderOf(o *float64) float64 {
	if o == nil {
		return math.Inf(1)
	}
	return *o
}

func readable(o api.Object) api.Object {
	if u, ok := o.(*api.Unreadable); ok {
		return u.Salvaged
	}
	return o
}

// ownLabels is what a user may say with an object's labels: all but who it
// is. That comes from the object's own fields and from its profiles.
func ownLabels(labels map[string]string) selector.Map {
	own := selector.Map{}
	for k, v := range labels {
		if !api.IsReservedLabel(k) {
			own[k] = v
		}
	}
	return own
}

// inherit adds the labels of profiles, in the order they are listed, where
// labels has none of that name yet.
func inherit(labels selector.Map, inherited map[string]map[string]string, profiles []string) {
	for _, p := range profiles {
		for k, v := range inherited[p] {
			if _, ok := labels[k]; !ok {
				labels[k] = v
			}
		}
	}
}

// lenientNets reads prefixes and addresses, masks them, and leaves out what
// is neither.
func lenientNets(texts []string) []netip.Prefix {
	var nets []netip.Prefix
	for _, t := range texts {
		if n, ok := parseNet(t); ok {
			nets = append(nets, n)
		}
	}
	return nets
}

// parseNet reads a prefix, whose host bits are masked, or an address.
func parseNet(text string) (netip.Prefix, bool) {
	if n, err := netip.ParsePrefix(text); err == nil {
		return n.Masked(), true
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}

// inAny tells whether one of the nets covers the address.
func inAny(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(n netip.Prefix) bool { return n.Contains(a) })
}
