// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestParseFailsafe_ReadsWhatStringWrites(t *testing.T) {
	for _, f := range []Failsafe{
		{Protocol: 6, Port: 22},
		{Protocol: 17, Port: 65535, Net: netip.MustParsePrefix("10.0.0.0/8")},
		{Protocol: 6, Port: 1, Net: netip.MustParsePrefix("fd00::/8")},
	} {
		if got, err := ParseFailsafe(f.String()); err != nil || got != f {
			t.Errorf("ParseFailsafe(%q) = %v, %v; want %v", f.String(), got, err, f)
		}
	}
	for _, bad := range []string{"", "tcp", "tcp:", "tcp:0", "tcp:65536", "icmp:1", "tcp:10.0.0.0:22", "tcp:[x]:1"} {
		if f, err := ParseFailsafe(bad); err == nil {
			t.Errorf("ParseFailsafe(%q) = %v, want an error", bad, f)
		}
	}
}

func TestSettings_AFelixConfigurationGoesBeforeWhatAHostReports(t *testing.T) {
	stale := Failsafe{Protocol: 6, Port: 2200}
	c := &api.FelixConfiguration{Meta: api.Meta{Name: api.DefaultName}, Spec: api.FelixConfigurationSpec{FailsafeInboundHostPorts: &[]api.ProtoPort{}}}
	w := NewWorld([]api.Object{c}, Options{Reported: map[string]Failsafes{"h1": {Inbound: []Failsafe{stale}, Outbound: []Failsafe{stale}}}})
	s := w.Settings("h1")
	if len(s.FailsafeInbound) != 0 {
		t.Errorf("inbound failsafes %v, want none: the configuration says so", s.FailsafeInbound)
	}
	if len(s.FailsafeOutbound) != 1 || s.FailsafeOutbound[0] != stale {
		t.Errorf("outbound failsafes %v, want what h1 reports: no configuration says anything", s.FailsafeOutbound)
	}
}

func TestSettings_WhatAHostReportsGoesBeforeDefaults(t *testing.T) {
	want := Failsafe{Protocol: 6, Port: 2200}
	w := NewWorld(nil, Options{Reported: map[string]Failsafes{"h1": {Inbound: []Failsafe{want}}}})
	if got := w.Settings("h1").FailsafeInbound; len(got) != 1 || got[0] != want {
		t.Errorf("Settings(h1).FailsafeInbound = %v, want what h1 reports: %v", got, want)
	}
	if got := w.Settings("h2").FailsafeInbound; len(got) != len(controlPorts())+2 {
		t.Errorf("Settings(h2).FailsafeInbound = %v, want the defaults", got)
	}
}

// What cannot be read of a configuration is what the agent does without too:
// failsafe ports that are misprinted leave the defaults in force beside the
// rest, lists of interfaces are the default's as a whole.
func TestSettings_MisprintsLeaveTheDefaults(t *testing.T) {
	c := &api.FelixConfiguration{Meta: api.Meta{Name: api.DefaultName}}
	c.Spec.FailsafeInboundHostPorts = &[]api.ProtoPort{{Port: 443}, {Protocol: "SCTP", Port: 80}}
	c.Spec.FailsafeOutboundHostPorts = &[]api.ProtoPort{{Port: 443, Net: "10.0.0.0/33"}}
	port := 1 << 16
	c.Spec.DefaultEndpointToHostAction, c.Spec.WorkloadSourceSpoofing, c.Spec.VXLANPort = "Maybe", "Some", &port
	ssh, dns := Failsafe{Protocol: 6, Port: 22}, Failsafe{Protocol: 17, Port: 53}
	for _, lists := range [][2]string{{"eth1,a b", "none"}, {"/(/", "eth1,"}, {"//", "a/b"}} {
		c.Spec.InterfaceExclude, c.Spec.InterfacePrefix = lists[0], lists[1]
		s := NewWorld([]api.Object{c}, Options{FailsafeInbound: []Failsafe{ssh}, FailsafeOutbound: []Failsafe{dns},
			EndpointToHost: ToHostReturn, SourceSpoofing: true, VXLANPort: 8472}).Settings("h1")
		if want := []Failsafe{{Protocol: 6, Port: 443}, ssh}; !slices.Equal(s.FailsafeInbound, want) {
			t.Errorf("inbound failsafes %v, want %v", s.FailsafeInbound, want)
		}
		if want := []Failsafe{dns}; !slices.Equal(s.FailsafeOutbound, want) {
			t.Errorf("outbound failsafes %v, want %v", s.FailsafeOutbound, want)
		}
		if s.EndpointToHost != ToHostReturn || !s.SourceSpoofing || s.VXLANPort != 8472 {
			t.Errorf("to host %s, spoofing %v, VXLAN port %d, want what the options say", s.EndpointToHost, s.SourceSpoofing, s.VXLANPort)
		}
		if !slices.Equal(s.InterfaceExclude, []string{"kube-ipvs0"}) || !slices.Equal(s.WorkloadPrefixes, []string{"cali"}) {
			t.Errorf("with %q: excluded %q, prefixes %q, want the defaults", lists, s.InterfaceExclude, s.WorkloadPrefixes)
		}
	}
}

func TestSettings_OfWorkloadsAreWhatTheConfigurationSays(t *testing.T) {
	yes, port := true, 8472
	c := &api.FelixConfiguration{Meta: api.Meta{Name: api.DefaultName}, Spec: api.FelixConfigurationSpec{
		DefaultEndpointToHostAction: "RETURN", WorkloadSourceSpoofing: "any", VXLANPort: &port,
		AllowVXLANPacketsFromWorkloads: &yes, AllowIPIPPacketsFromWorkloads: &yes}}
	s := NewWorld([]api.Object{c}, Options{}).Settings("h1")
	if s.EndpointToHost != ToHostReturn || !s.SourceSpoofing || s.VXLANPort != 8472 || !s.VXLANFromWorkloads || !s.IPIPFromWorkloads {
		t.Errorf("Settings = %+v, want what the configuration says", s)
	}
	c.Spec.WorkloadSourceSpoofing = "Disabled"
	if NewWorld([]api.Object{c}, Options{SourceSpoofing: true}).Settings("h1").SourceSpoofing {
		t.Error("workloadSourceSpoofing Disabled leaves the option's Any in force")
	}
	s = NewWorld(nil, Options{}).Settings("h1")
	if s.EndpointToHost != ToHostDrop || s.SourceSpoofing || s.VXLANPort != 4789 || s.VXLANFromWorkloads || s.IPIPFromWorkloads {
		t.Errorf("Settings = %+v, want Calico's defaults", s)
	}
}
