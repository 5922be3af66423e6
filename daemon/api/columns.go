// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Column is one column of a table of objects. Names and order are those of
// calicoctl.
type Column struct {
	// Name is the heading.
	Name string
	// Wide columns are in wide tables only.
	Wide bool
	// Value is the cell of an object of the column's kind. Of another type,
	// such as *Unreadable, it is "".
	Value func(Object) string
}

// column makes a Column from a function on the concrete type.
func column[T Object](name string, value func(T) string) Column {
	return Column{Name: name, Value: func(o Object) string {
		if t, ok := o.(T); ok {
			return value(t)
		}
		return ""
	}}
}

// wide makes a Column of wide tables.
func wide[T Object](name string, value func(T) string) Column {
	c := column(name, value)
	c.Wide = true
	return c
}

// columnName is the column that every table has.
var columnName = Column{Name: "NAME", Value: func(o Object) string { return o.Key().Name }}

var nameColumns = []Column{columnName}

var namespaceColumns = []Column{
	columnName,
	column("STATUS", func(n *Namespace) string { return n.Status.Phase }),
}

var clusterInformationColumns = []Column{
	columnName,
	column("CLUSTERGUID", func(c *ClusterInformation) string { return c.Spec.ClusterGUID }),
	column("CLUSTERTYPE", func(c *ClusterInformation) string { return c.Spec.ClusterType }),
	column("CALICOVERSION", func(c *ClusterInformation) string { return c.Spec.CalicoVersion }),
	column("DATASTOREREADY", func(c *ClusterInformation) string { return orNil(c.Spec.DatastoreReady) }),
}

var nodeColumns = []Column{
	columnName,
	wide("ASN", func(n *Node) string {
		if n.Spec.BGP == nil || n.Spec.BGP.ASNumber == nil {
			return "(64512)"
		}
		return strconv.FormatUint(uint64(*n.Spec.BGP.ASNumber), 10)
	}),
	wide("IPV4", func(n *Node) string {
		if n.Spec.BGP == nil {
			return ""
		}
		return n.Spec.BGP.IPv4Address
	}),
	wide("IPV6", func(n *Node) string {
		if n.Spec.BGP == nil {
			return ""
		}
		return n.Spec.BGP.IPv6Address
	}),
}

var ipPoolColumns = []Column{
	columnName,
	column("CIDR", func(p *IPPool) string { return p.Spec.CIDR }),
	wide("NAT", func(p *IPPool) string { return strconv.FormatBool(p.Spec.NATOutgoing) }),
	wide("IPIPMODE", func(p *IPPool) string { return p.Spec.IPIPMode }),
	wide("VXLANMODE", func(p *IPPool) string { return p.Spec.VXLANMode }),
	wide("DISABLED", func(p *IPPool) string { return strconv.FormatBool(p.Spec.Disabled) }),
	wide("DISABLEBGPEXPORT", func(p *IPPool) string { return strconv.FormatBool(p.Spec.DisableBGPExport) }),
	column("SELECTOR", func(p *IPPool) string { return p.Spec.NodeSelector }),
	wide("ASSIGNMENTMODE", func(p *IPPool) string { return p.Spec.AssignmentMode }),
}

var tierColumns = []Column{
	columnName,
	column("ORDER", func(t *Tier) string { return orNil(t.Spec.Order) }),
}

var profileColumns = []Column{
	columnName,
	wide("LABELS", func(p *Profile) string {
		labels := make([]string, 0, len(p.Spec.LabelsToApply))
		for k, v := range p.Spec.LabelsToApply {
			labels = append(labels, k+"="+v)
		}
		slices.Sort(labels)
		return strings.Join(labels, ",")
	}),
}

var setColumns = []Column{
	columnName,
	wideOf("NETS", func(o Object) string {
		spec := netsOf(o)
		if spec == nil {
			return ""
		}
		s := strings.Join(spec.Nets, ",")
		if len(s) > 80 {
			s = s[:77] + "..."
		}
		return s
	}),
}

var policyColumns = []Column{
	columnName,
	{Name: "TIER", Value: ofPolicy(func(s *PolicySpec) string {
		if s.Tier == "" {
			return DefaultTier
		}
		return s.Tier
	})},
	wideOf("ORDER", ofPolicy(func(s *PolicySpec) string { return orNil(s.Order) })),
	wideOf("SELECTOR", ofPolicy(func(s *PolicySpec) string { return s.Selector })),
}

var hostEndpointColumns = []Column{
	columnName,
	column("NODE", func(h *HostEndpoint) string { return h.Spec.Node }),
	wide("INTERFACE", func(h *HostEndpoint) string { return h.Spec.InterfaceName }),
	wide("IPS", func(h *HostEndpoint) string { return strings.Join(h.Spec.ExpectedIPs, ",") }),
	wide("PROFILES", func(h *HostEndpoint) string { return strings.Join(h.Spec.Profiles, ",") }),
}

var workloadEndpointColumns = []Column{
	{Name: "NAME", Wide: true, Value: columnName.Value},
	column("WORKLOAD", func(w *WorkloadEndpoint) string { return w.workloadPart() }),
	column("NODE", func(w *WorkloadEndpoint) string { return w.Spec.Node }),
	column("NETWORKS", func(w *WorkloadEndpoint) string { return strings.Join(w.Spec.IPNetworks, ",") }),
	column("INTERFACE", func(w *WorkloadEndpoint) string { return w.Spec.InterfaceName }),
	wide("PROFILES", func(w *WorkloadEndpoint) string { return strings.Join(w.Spec.Profiles, ",") }),
	wide("NATS", func(w *WorkloadEndpoint) string {
		var nats []string
		for _, n := range w.Spec.IPNATs {
			nats = append(nats, n.InternalIP+":"+n.ExternalIP)
		}
		return strings.Join(nats, ",")
	}),
}

var hostStatusColumns = []Column{
	columnName,
	column("PHASE", func(h *HostStatus) string { return h.Status.Datastore.Phase }),
	column("APPLIED", func(h *HostStatus) string {
		return strconv.FormatInt(int64(h.Status.Dataplane.AppliedRevision), 10)
	}),
	column("ENDPOINTS", func(h *HostStatus) string { return strconv.Itoa(len(h.Status.Endpoints)) }),
	column("FAULTS", func(h *HostStatus) string { return strconv.Itoa(len(h.Status.Faults)) }),
	wide("ROLE", func(h *HostStatus) string { return h.Status.Role }),
	wide("VERSION", func(h *HostStatus) string { return h.Status.Version }),
	wide("BACKEND", func(h *HostStatus) string { return h.Status.Dataplane.Backend }),
	wide("SEEN", func(h *HostStatus) string {
		return strconv.FormatInt(int64(h.Status.Datastore.SeenRevision), 10)
	}),
	wide("REPORTED", func(h *HostStatus) string {
		if h.Status.ReportedAt.IsZero() {
			return ""
		}
		return h.Status.ReportedAt.UTC().Format("2006-01-02T15:04:05Z")
	}),
}

var roleColumns = []Column{
	columnName,
	column("RULES", func(r *Role) string { return strconv.Itoa(len(r.Spec.Rules)) }),
}

var roleBindingColumns = []Column{
	columnName,
	column("ROLE", func(b *RoleBinding) string { return b.Spec.Role }),
	column("SUBJECTS", func(b *RoleBinding) string {
		var names []string
		for _, s := range b.Spec.Subjects {
			names = append(names, strings.ToLower(string(s.Kind))+"/"+s.Name)
		}
		return strings.Join(names, ",")
	}),
}

var credentialColumns = []Column{
	columnName,
	column("USER", func(c *Credential) string { return c.Spec.User }),
	column("TYPE", func(c *Credential) string { return c.Type() }),
	column("EXPIRES", func(c *Credential) string { return c.Spec.Expires.UTC().Format("2006-01-02T15:04:05Z") }),
	wide("GROUPS", func(c *Credential) string { return strings.Join(c.Spec.Groups, ",") }),
}

var changeColumns = []Column{
	columnName,
	column("PHASE", func(c *Change) string { return string(c.Status.Phase) }),
	column("USER", func(c *Change) string { return c.Spec.User }),
	column("OBJECTS", func(c *Change) string { return strconv.Itoa(len(c.Spec.Objects)) }),
	column("UNTIL", func(c *Change) string {
		return c.Spec.At.Add(c.Spec.Timeout.Duration).UTC().Format("2006-01-02T15:04:05Z")
	}),
	wide("REASON", func(c *Change) string { return c.Status.Reason }),
}

var policyTestColumns = []Column{
	columnName,
	column("CASES", func(t *PolicyTest) string { return strconv.Itoa(len(t.Spec.Cases)) }),
}

var revisionColumns = []Column{
	columnName,
	column("WHEN", func(r *RevisionRecord) string { return r.Spec.At.UTC().Format("2006-01-02T15:04:05Z") }),
	column("WHO", func(r *RevisionRecord) string { return r.Spec.User }),
	column("OBJECTS", func(r *RevisionRecord) string { return strconv.Itoa(len(r.Spec.Objects)) }),
	column("OUTCOME", func(r *RevisionRecord) string { return r.Spec.Outcome }),
	wide("HOW", func(r *RevisionRecord) string { return r.Spec.How }),
	wide("FROM", func(r *RevisionRecord) string { return r.Spec.From }),
	wide("CHANGE", func(r *RevisionRecord) string { return r.Spec.Change }),
}

// wideOf makes a Column of wide tables from a function on any Object.
func wideOf(name string, value func(Object) string) Column {
	return Column{Name: name, Wide: true, Value: value}
}

// orNil prints what p points to, or "<nil>", as calicoctl does.
func orNil[T any](p *T) string {
	if p == nil {
		return "<nil>"
	}
	return fmt.Sprint(*p)
}

// ofPolicy makes a cell from a policy's spec.
func ofPolicy(value func(*PolicySpec) string) func(Object) string {
	return func(o Object) string {
		if s := PolicySpecOf(o); s != nil {
			return value(s)
		}
		return ""
	}
}

// PolicySpecOf is the spec of an object of the four kinds of policy, or nil.
// It is part of the object.
func PolicySpecOf(o Object) *PolicySpec {
	switch p := o.(type) {
	case *GlobalNetworkPolicy:
		return &p.Spec
	case *NetworkPolicy:
		return &p.Spec
	case *StagedGlobalNetworkPolicy:
		return &p.Spec
	case *StagedNetworkPolicy:
		return &p.Spec
	}
	return nil
}

// netsOf is the spec of an object of the two kinds of network set, or nil.
func netsOf(o Object) *NetworkSetSpec {
	switch s := o.(type) {
	case *GlobalNetworkSet:
		return &s.Spec
	case *NetworkSet:
		return &s.Spec
	}
	return nil
}
