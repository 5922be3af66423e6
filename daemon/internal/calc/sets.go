// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc/index"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// sets keeps the address sets that rules need. A set is shared by all rules
// with the same selector. Its members come from the endpoints of all hosts and
// from network sets; an address that several of them have stays until the
// last of them goes.
type sets struct {
	host  string
	byID  map[string]*set
	items api.KeyMap[*item]
	// bad are the network sets with nets that cannot be read.
	bad map[api.Key]api.Fault
	// matcher matches the sets' selectors with the items.
	matcher *index.Index[*set, *item]
	members *index.Members[*set, member]
	dirty   map[*set]struct{}
}

// set is a set that a rule needs, or needed until this flush.
type set struct {
	setDef
	holders int // rule lists
	said    bool
	// differs tells of each member that is not as it was said whether it is
	// there now; nil until the set has been said.
	differs map[member]bool
	gone    bool // from byID
}

// item is an endpoint or network set, as far as addresses go.
type item struct {
	nets  []netip.Prefix
	ports []port
}

// port is a named port of an endpoint.
type port struct {
	name     string
	protocol uint8
	number   uint16
}

func newSets(host string) *sets {
	s := &sets{
		host:  host,
		byID:  map[string]*set{},
		bad:   map[api.Key]api.Fault{},
		dirty: map[*set]struct{}{},
	}
	s.matcher = index.New(s.matched)
	s.members = index.NewMembers(s.changed)
	return s
}

// hold says that one more list of rules needs the set, release one less.
func (s *sets) hold(d setDef) {
	x := s.byID[d.id]
	if x == nil {
		x = &set{setDef: d}
		s.byID[d.id] = x
		s.dirty[x] = struct{}{}
		s.matcher.SetSelector(x, d.sel)
	}
	x.holders++
}

func (s *sets) release(d setDef) {
	x := s.byID[d.id]
	if x.holders--; x.holders == 0 {
		s.dirty[x] = struct{}{}
	}
}

func (s *sets) note(ev api.Event) {
	switch ev.Key.Kind {
	case api.KindProfile:
		inherit(s.matcher, ev)
	case api.KindWorkloadEndpoint:
		// Of some, step workloads tells whether they count.
		if o, ok := ev.Object.(*api.WorkloadEndpoint); !ok || !looksAt(o, s.host) {
			s.noteItem(ev)
		}
	case api.KindHostEndpoint, api.KindNetworkSet, api.KindGlobalNetworkSet:
		s.noteItem(ev)
	}
}

func (s *sets) noteItem(ev api.Event) {
	s.noteBad(ev)
	old, _ := s.items.Get(ev.Key)
	it, labels, parents := newItem(ev.Object)
	if it == nil || len(it.nets) == 0 {
		if old != nil {
			s.matcher.DeleteItem(old)
			s.items.Delete(ev.Key)
		}
		return
	}
	if old != nil && slices.Equal(old.nets, it.nets) && slices.Equal(old.ports, it.ports) {
		it = old
	} else if old != nil {
		s.matcher.DeleteItem(old)
	}
	s.items.Set(ev.Key, it)
	s.matcher.SetItem(it, labels, parents)
}

// noteBad looks for nets that cannot be read.
func (s *sets) noteBad(ev api.Event) {
	delete(s.bad, ev.Key)
	var list []string
	switch o := ev.Object.(type) {
	case *api.NetworkSet:
		list = o.Spec.Nets
	case *api.GlobalNetworkSet:
		list = o.Spec.Nets
	}
	for i, text := range list {
		if _, ok := parseNet(text); !ok {
			s.bad[ev.Key] = api.Fault{
				Object:  ev.Key.String(),
				Message: fmt.Sprintf("spec.nets[%d]: %q is not a network", i, text),
				Effect:  "the set does without it",
			}
			return
		}
	}
}

func (s *sets) faults() []api.Fault { return slices.Collect(maps.Values(s.bad)) }

// newItem is what an object contributes to sets, under which labels, and from
// which profiles it inherits more; nil if it is no such object.
func newItem(o api.Object) (it *item, labels map[string]string, parents []string) {
	switch o := o.(type) {
	case *api.HostEndpoint:
		it = &item{nets: readNets(o.Spec.ExpectedIPs)}
		for _, p := range o.Spec.Ports {
			it.addPort(p.Name, p.Protocol, p.Port)
		}
		return it, ownLabels(o.Labels), o.Spec.Profiles
	case *api.WorkloadEndpoint:
		// What is more than one address, the endpoint does without.
		it = &item{nets: slices.DeleteFunc(readNets(o.Spec.IPNetworks), func(n netip.Prefix) bool { return !n.IsSingleIP() })}
		for _, p := range o.Spec.Ports {
			it.addPort(p.Name, p.Protocol, p.Port)
		}
		return it, workloadLabels(o), o.Spec.Profiles
	case *api.NetworkSet:
		return &item{nets: readNets(o.Spec.Nets)}, withLabel(ownLabels(o.Labels), labelNamespace, o.Namespace), []string{profileOfNamespace + o.Namespace}
	case *api.GlobalNetworkSet:
		return &item{nets: readNets(o.Spec.Nets)}, ownLabels(o.Labels), nil
	}
	return nil, nil, nil
}

func (it *item) addPort(name string, protocol api.Protocol, number uint16) {
	p := port{name: name, protocol: protocol.Number(), number: number}
	if p.name != "" && p.protocol != 0 && !slices.Contains(it.ports, p) {
		p.name = strings.Clone(name) // not the document that it is part of
		it.ports = append(it.ports, p)
	}
}

// readNets reads prefixes and addresses, each once; what is neither is left
// out.
func readNets(texts []string) []netip.Prefix {
	var nets []netip.Prefix
	for _, t := range texts {
		if n, ok := parseNet(t); ok && !slices.Contains(nets, n) {
			nets = append(nets, n)
		}
	}
	return nets
}

func workloadLabels(o *api.WorkloadEndpoint) map[string]string {
	labels := withLabel(ownLabels(o.Labels), labelNamespace, o.Namespace)
	if o.Spec.Orchestrator != "" {
		labels[labelOrchestrator] = o.Spec.Orchestrator
	}
	if o.Spec.ServiceAccountName != "" {
		labels[labelServiceAccount] = o.Spec.ServiceAccountName
	}
	return labels
}

// withLabel is a copy of labels with one more.
func withLabel(labels map[string]string, key, value string) map[string]string {
	m := make(map[string]string, len(labels)+3)
	for k, v := range labels {
		m[k] = v
	}
	m[key] = value
	return m
}

// member is an intent.Member without pointers: there may be millions.
type member struct {
	addr     [16]byte
	bits     uint8
	is4      bool
	protocol uint8
	port     uint16
}

func memberOf(n netip.Prefix) member {
	a := n.Addr()
	return member{addr: a.As16(), bits: uint8(n.Bits()), is4: a.Is4()}
}

func (m member) intent() intent.Member {
	a := netip.AddrFrom16(m.addr)
	if m.is4 {
		a = a.Unmap()
	}
	return intent.Member{Net: netip.PrefixFrom(a, int(m.bits)), Protocol: m.protocol, Port: m.port}
}

// matched hears that a selector has begun or ceased to stand for an item.
func (s *sets) matched(x *set, it *item, selects bool) {
	for _, n := range it.nets {
		m := memberOf(n)
		if x.port == "" {
			s.count(x, m, selects)
			continue
		}
		if !n.IsSingleIP() {
			continue
		}
		for _, p := range it.ports {
			if p.name == x.port && (x.protocol == 0 || x.protocol == p.protocol) {
				m.protocol, m.port = p.protocol, p.number
				s.count(x, m, selects)
			}
		}
	}
}

func (s *sets) count(x *set, m member, more bool) {
	if more {
		s.members.Add(x, m)
	} else if !s.members.Remove(x, m) {
		panic("calc: a set loses a member that it does not have")
	}
}

// changed hears that a member has come or gone.
func (s *sets) changed(x *set, m member, present bool) {
	if !x.said || x.gone {
		return // all of it will be said, or has been taken back
	}
	s.dirty[x] = struct{}{}
	if _, ok := x.differs[m]; ok {
		delete(x.differs, m) // back to what was said
		return
	}
	if x.differs == nil {
		x.differs = map[member]bool{}
	}
	x.differs[m] = present
}

func (s *sets) flush(emit func(intent.Change)) {
	for x := range s.dirty {
		if x.holders == 0 {
			continue // for sweep
		}
		delete(s.dirty, x)
		if !x.said {
			x.said = true
			emit(intent.Change{Key: x.key(), Value: x.value()})
			for m := range s.members.All(x) {
				emit(intent.Change{Key: x.memberKey(m), Value: intent.IsMember{}})
			}
			continue
		}
		for m, present := range x.differs {
			c := intent.Change{Key: x.memberKey(m)}
			if present {
				c.Value = intent.IsMember{}
			}
			emit(c)
		}
		x.differs = nil
	}
}

func (s *sets) sweep(emit func(intent.Change)) {
	for x := range s.dirty {
		if x.said {
			for m := range s.members.All(x) {
				if !x.differs[m] { // else it has not been said
					emit(intent.Change{Key: x.memberKey(m)})
				}
			}
			for m, present := range x.differs {
				if !present {
					emit(intent.Change{Key: x.memberKey(m)})
				}
			}
			emit(intent.Change{Key: x.key()})
		}
		x.gone = true
		s.matcher.DeleteSelector(x)
		delete(s.byID, x.id)
		delete(s.dirty, x)
	}
}

func (x *set) key() intent.Key { return intent.Key{Kind: intent.KindSet, Name: x.id} }

func (x *set) memberKey(m member) intent.Key {
	return intent.Key{Kind: intent.KindMember, Name: x.id, Member: m.intent()}
}
