// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// Endpoint is what governs traffic of a host or of a workload, as a Query names
// it.
type Endpoint struct {
	Key api.Key
	// Place stands for it in a Query.
	Place Place
	// Node is the host that it is on.
	Node string
	// Addresses are all that a workload has. Of a host endpoint there are none:
	// its host may have more than any resource says.
	Addresses []netip.Addr
	// Ports are those with a name.
	Ports []api.EndpointPort
}

// Endpoints are the host endpoints and the workload endpoints that a selector
// selects, in the order of their keys. Workload endpoints that count as absent
// are not among them. With a namespace selector they are those in the
// namespaces that it selects, or with global() those in none. It fails if a
// selector cannot be read.
func (w *World) Endpoints(sel, namespaces string) ([]Endpoint, error) {
	// As a rule of a policy in no namespace has it.
	of, _, err := entitySelectors(api.EntityRule{Selector: sel, NamespaceSelector: namespaces}, api.Key{})
	if err != nil {
		return nil, err
	}
	return w.endpointsWhere(func(m *member) bool { return of == nil || of.Evaluate(m.labels) }), nil
}

// EndpointsAt are the endpoints at a place: of a host its host endpoints. There
// are none at a place that is not there, or that is an address.
func (w *World) EndpointsAt(at Place) []Endpoint {
	workload, _ := w.workloadNamed(at.Workload)
	hosts := map[api.Key]bool{}
	for _, h := range w.hosts {
		hosts[h.key] = at.Host != "" && h.spec.Node == at.Host || at.Endpoint != "" && h.key.Name == at.Endpoint
	}
	return w.endpointsWhere(func(m *member) bool {
		return hosts[m.key] || at.Workload != "" && workload != nil && m == workload.member
	})
}

// endpointsWhere are the endpoints that are so.
func (w *World) endpointsWhere(so func(*member) bool) []Endpoint {
	var list []Endpoint
	for _, h := range w.hosts {
		if so(h.member) {
			list = append(list, Endpoint{Key: h.key, Place: Place{Endpoint: h.key.Name}, Node: h.spec.Node, Ports: h.ports})
		}
	}
	for _, x := range w.workloads {
		if x.absent == "" && so(x.member) {
			list = append(list, Endpoint{
				Key: x.key, Place: Place{Workload: x.place()}, Node: x.spec.Node, Addresses: slices.Clone(x.sources), Ports: x.ports,
			})
		}
	}
	return list
}

// ParsePlace reads a place without options: an address, host/NAME, hep/NAME,
// workload/NAMESPACE/NAME or this-host, with :PORT behind it or without.
func ParsePlace(text string) (Place, error) {
	var at Place
	err := at.parse(text)
	return at, err
}
