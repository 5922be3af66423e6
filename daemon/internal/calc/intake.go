// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// intake keeps what cannot be understood out of the graph. Of such an object
// the last version that could be read stays in force; if there never was one,
// what could be salvaged counts; else it is as if the object were not there.
// So a damaged value never takes a restriction away.
type intake struct {
	// known are the objects that the graph has a version of.
	known api.KeyMap[version]
	// unreadable are the objects whose newest version is not in force.
	unreadable map[api.Key]api.Fault
	kinds      map[api.Kind]api.Kind
}

// version is which version of an object is in the graph.
type version uint8

const (
	none version = iota
	salvaged
	good
)

func newIntake() intake {
	return intake{
		unreadable: map[api.Key]api.Fault{},
		kinds:      map[api.Kind]api.Kind{},
	}
}

// own is a key that shares no memory with the document it came from: keys are
// kept of everything there is, documents only of what matters to this host.
func (in *intake) own(k api.Key) api.Key {
	kind, ok := in.kinds[k.Kind]
	if !ok {
		kind = api.Kind(strings.Clone(string(k.Kind)))
		in.kinds[kind] = kind
	}
	return api.Key{Kind: kind, Namespace: strings.Clone(k.Namespace), Name: strings.Clone(k.Name)}
}

// take decides what the graph gets to see of an event; false: nothing.
func (in *intake) take(ev api.Event) (api.Event, bool) {
	if ev.Object == nil {
		in.known.Delete(ev.Key)
		delete(in.unreadable, ev.Key)
		return ev, true
	}
	var part api.Object
	var err error
	if u, ok := ev.Object.(*api.Unreadable); ok {
		part, err = u.Salvaged, u.Err
		if err == nil {
			err = fmt.Errorf("the value cannot be understood")
		}
		if part != nil && check(part) != nil {
			part = nil
		}
	} else {
		err = check(ev.Object)
	}
	if err == nil {
		in.known.Set(ev.Key, good)
		delete(in.unreadable, ev.Key)
		return ev, true
	}
	effect := "it is as if the object were not there"
	have, _ := in.known.Get(ev.Key)
	switch {
	case have == good:
		effect = "the last version that could be read stays in force"
	case part != nil:
		in.known.Set(ev.Key, salvaged)
		effect = salvagedEffect(ev.Key.Kind)
	case have == salvaged:
		effect = salvagedEffect(ev.Key.Kind)
	}
	in.unreadable[ev.Key] = api.Fault{Object: ev.Key.String(), Message: err.Error(), Effect: effect}
	if have == good || part == nil {
		return api.Event{}, false
	}
	return api.Event{Key: ev.Key, Object: part, Revision: ev.Revision}, true
}

func salvagedEffect(k api.Kind) string {
	if isPolicy(k) {
		return "what it selects is denied in the directions it is for"
	}
	return "what could be read of it is in force"
}

// check finds what makes an object useless as a whole, although it can be
// read: a policy of which it is not known what it selects.
func check(o api.Object) error {
	if spec := policySpec(o); spec != nil {
		_, err := policySelector(o.Key().Namespace, spec)
		return err
	}
	return nil
}

func isPolicy(k api.Kind) bool {
	switch k {
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy,
		api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy:
		return true
	}
	return false
}

// policySpec is the spec of a policy of any of the four kinds, else nil.
func policySpec(o api.Object) *api.PolicySpec {
	switch p := o.(type) {
	case *api.GlobalNetworkPolicy:
		return &p.Spec
	case *api.NetworkPolicy:
		return &p.Spec
	case *api.StagedGlobalNetworkPolicy:
		return &p.Spec
	case *api.StagedNetworkPolicy:
		return &p.Spec
	}
	return nil
}
