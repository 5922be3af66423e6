// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/selector"
)

// Reporting is what the store shall be told about this host, and how often.
type Reporting struct {
	// Endpoints: the state of endpoints and of the agent is written at all.
	Endpoints bool
	// EndpointDelay is how long changes of endpoints are gathered.
	EndpointDelay time.Duration
	// Interval is the time between reports of the agent; 0: none.
	Interval time.Duration
	// TTL is how long such a report is valid.
	TTL time.Duration
}

// Default is the configuration of a host that no one has configured: Calico's
// defaults, but that log lines say which rule wrote them.
func Default(host string) Config {
	both := []uint16{179, 2379, 2380, 5473, 6443, 6666, 6667}
	tcp := func(ports ...uint16) (list []intent.Failsafe) {
		for _, p := range ports {
			list = append(list, intent.Failsafe{Protocol: protoTCP, Port: p})
		}
		return list
	}
	udp := func(p uint16) intent.Failsafe { return intent.Failsafe{Protocol: protoUDP, Port: p} }
	return Config{
		Host: host,
		Settings: intent.Settings{
			FailsafeInbound:  append(append(tcp(22), udp(68)), tcp(both...)...),
			FailsafeOutbound: append([]intent.Failsafe{udp(53), udp(67)}, tcp(both...)...),
			InterfaceExclude: []string{"kube-ipvs0"},
			WorkloadPrefixes: []string{"cali"},
			LogPrefix:        "calico-packet %t %k/%p %r",
			LogBurst:         5,
			MaxSetSize:       1 << 20,

			EndpointToHost:       intent.ToHostDrop,
			VXLANPort:            4789,
			RemoveExternalRoutes: true,
		},
		Reporting: Reporting{EndpointDelay: time.Second, Interval: 30 * time.Second, TTL: 90 * time.Second},
	}
}

// settings works out what FelixConfiguration says for this host: the object
// "default", over it the oldest of those whose nodeSelector matches the host's
// Node, over that the object "node.<host>"; field by field.
type settings struct {
	config  Config
	objects map[string]*api.FelixConfiguration
	nodes   map[string]map[string]string // the labels of every host's Node
	dirty   bool
	// changes counts what may make a difference to any host.
	changes int

	said      *intent.Settings
	reporting Reporting
	noEffect  []string
	faults    []api.Fault
}

func newSettings(c Config) *settings {
	return &settings{config: c, objects: map[string]*api.FelixConfiguration{}, nodes: map[string]map[string]string{}, dirty: true, reporting: c.Reporting}
}

func (s *settings) note(ev api.Event) {
	switch ev.Key.Kind {
	case api.KindFelixConfiguration:
		if o, ok := ev.Object.(*api.FelixConfiguration); ok {
			s.objects[ev.Key.Name] = o
		} else {
			delete(s.objects, ev.Key.Name)
		}
		s.dirty = true
		s.changes++
	case api.KindNode:
		if o, ok := ev.Object.(*api.Node); ok {
			s.nodes[ev.Key.Name] = maps.Clone(o.Labels)
		} else {
			delete(s.nodes, ev.Key.Name)
		}
		s.dirty = s.dirty || ev.Key.Name == s.config.Host
		s.changes++
	}
}

func (s *settings) flush(emit func(intent.Change)) {
	if !s.dirty {
		return
	}
	s.dirty, s.faults, s.noEffect = false, nil, nil
	r := newReader(s.config)
	for _, o := range s.layers(s.config.Host, s.fault) {
		r.read(o)
		s.noteNoEffect(o)
	}
	s.faults = append(s.faults, r.allFaults()...)
	slices.SortFunc(s.faults, func(a, b api.Fault) int { return strings.Compare(a.Message, b.Message) })
	s.noEffect = append(s.noEffect, r.noEffect()...)
	slices.Sort(s.noEffect)
	s.noEffect = slices.Compact(s.noEffect)
	s.reporting = r.reporting
	if s.said == nil || !reflect.DeepEqual(*s.said, r.settings) {
		s.said = &r.settings
		emit(intent.Change{Key: intent.Key{Kind: intent.KindSettings}, Value: s.said})
	}
}

// sweep has nothing to take back: there are always settings.
func (s *settings) sweep(func(intent.Change)) {}

const (
	globalName = "default"
	nodePrefix = "node."
)

// spoofing reports whether workloads of a host may have
// allowSpoofedSourcePrefixes.
func (s *settings) spoofing(host string) bool {
	r := newReader(s.config)
	for _, o := range s.layers(host, func(*api.FelixConfiguration, string, string) {}) {
		r.read(o)
	}
	return r.spoofing
}

// layers are the objects that hold for a host, weakest first.
func (s *settings) layers(host string, fault func(o *api.FelixConfiguration, message, effect string)) []*api.FelixConfiguration {
	var layers []*api.FelixConfiguration
	if o := s.objects[globalName]; o != nil {
		layers = append(layers, o)
	}
	if o := s.scoped(host, fault); o != nil {
		layers = append(layers, o)
	}
	if o := s.objects[nodePrefix+host]; o != nil {
		layers = append(layers, o)
	}
	return layers
}

// scoped is the oldest object that selects the host's Node, if any.
func (s *settings) scoped(host string, fault func(o *api.FelixConfiguration, message, effect string)) *api.FelixConfiguration {
	labels, known := s.nodes[host]
	var oldest *api.FelixConfiguration
	for name, o := range s.objects {
		if name == globalName || strings.HasPrefix(name, nodePrefix) {
			continue
		}
		sel, err := selector.Parse(o.Spec.NodeSelector)
		switch {
		case err != nil:
			fault(o, "spec.nodeSelector: "+err.Error(), "the object holds for no host")
			continue
		case o.Spec.NodeSelector == "":
			fault(o, "spec.nodeSelector: is missing", "the object holds for no host")
			continue
		case !known || !sel.Evaluate(selector.Map(labels)):
			continue
		}
		if oldest == nil || older(o, oldest) {
			oldest = o
		}
	}
	return oldest
}

func older(a, b *api.FelixConfiguration) bool {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c < 0
	}
	return a.Name < b.Name
}

func (s *settings) fault(o *api.FelixConfiguration, message, effect string) {
	s.faults = append(s.faults, api.Fault{Object: o.Key().String(), Message: message, Effect: effect})
}

// acted are the parameters that Ripstop acts on.
var acted = map[string]bool{
	"failsafeInboundHostPorts":     true,
	"failsafeOutboundHostPorts":    true,
	"nftablesFilterDenyAction":     true,
	"iptablesFilterDenyAction":     true, // where the other is not set
	"disableConntrackInvalidCheck": true,
	"interfaceExclude":             true,
	"interfacePrefix":              true,
	"logPrefix":                    true,
	"logActionRateLimit":           true,
	"logActionRateLimitBurst":      true,
	"maxIpsetSize":                 true,
	"chainInsertMode":              true, // with nftables there is nothing to insert into
	"endpointReportingEnabled":     true,
	"endpointReportingDelay":       true,
	"reportingInterval":            true,
	"reportingTTL":                 true,

	"defaultEndpointToHostAction":    true,
	"workloadSourceSpoofing":         true,
	"allowVXLANPacketsFromWorkloads": true,
	"allowIPIPPacketsFromWorkloads":  true,
	"vxlanPort":                      true,
	"removeExternalRoutes":           true,
	"routeSyncDisabled":              true,
	"ipForwarding":                   true,
	"deviceRouteSourceAddress":       true,
	"deviceRouteSourceAddressIPv6":   true,
	// Base chains of nftables never keep other programs' chains from judging,
	// so Accept and Return are the same there.
	"iptablesFilterAllowAction": true,
	"iptablesMangleAllowAction": true,
	"nftablesFilterAllowAction": true,
	"nftablesMangleAllowAction": true,
}

// noteNoEffect notes what an object changes and nobody acts on.
func (s *settings) noteNoEffect(o *api.FelixConfiguration) {
	for _, name := range o.Spec.ChangedFields() {
		if !acted[name] {
			s.noEffect = append(s.noEffect, name)
		}
	}
	for name := range o.Overrides() {
		k := api.AnnotationConfigPrefix + name
		s.noEffect = append(s.noEffect, k)
		s.fault(o, "metadata.annotations["+k+"]: parameters are not read from annotations",
			"the annotation is ignored; set the parameter in spec")
	}
}
