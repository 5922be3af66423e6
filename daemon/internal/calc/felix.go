// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// reader reads the parameters of FelixConfiguration that Ripstop acts on, from
// one object after the other, the stronger one later. Of each parameter the
// strongest object that sets it counts, even if what it says is bad: then the
// default holds, and there is a fault.
type reader struct {
	defaults  Config
	settings  intent.Settings
	reporting Reporting
	spoofing  bool // workloadSourceSpoofing Any
	// source4 and source6 are the sources of routes to workloads; invalid:
	// none.
	source4, source6 netip.Addr
	// bad has the faults of parameters whose strongest value is bad.
	bad map[string]api.Fault
	// denySet: nftablesFilterDenyAction was set; iptablesSet: the other was.
	denySet, iptablesSet bool

	object string // that is being read
}

func newReader(c Config) *reader {
	r := &reader{defaults: c, settings: c.Settings, reporting: c.Reporting, bad: map[string]api.Fault{}}
	r.settings.FailsafeInbound = slices.Clone(c.Settings.FailsafeInbound)
	r.settings.FailsafeOutbound = slices.Clone(c.Settings.FailsafeOutbound)
	r.settings.InterfaceExclude = slices.Clone(c.Settings.InterfaceExclude)
	r.settings.WorkloadPrefixes = slices.Clone(c.Settings.WorkloadPrefixes)
	return r
}

func (r *reader) allFaults() []api.Fault { return slices.Collect(maps.Values(r.bad)) }

// noEffect is what would be acted on and is not, because of another one.
func (r *reader) noEffect() []string {
	if r.denySet && r.iptablesSet {
		return []string{"iptablesFilterDenyAction"}
	}
	return nil
}

func (r *reader) read(o *api.FelixConfiguration) {
	r.object = o.Key().String()
	spec, set, def := &o.Spec, &r.settings, &r.defaults.Settings
	r.failsafes("failsafeInboundHostPorts", spec.FailsafeInboundHostPorts, &set.FailsafeInbound, def.FailsafeInbound)
	r.failsafes("failsafeOutboundHostPorts", spec.FailsafeOutboundHostPorts, &set.FailsafeOutbound, def.FailsafeOutbound)
	r.iptablesSet = r.iptablesSet || spec.IptablesFilterDenyAction != ""
	if !r.denySet {
		word(r, "iptablesFilterDenyAction", spec.IptablesFilterDenyAction, &set.DenyReject, def.DenyReject, readDenyAction)
	}
	if spec.NftablesFilterDenyAction != "" {
		r.denySet = true
		delete(r.bad, "spec.iptablesFilterDenyAction")
		word(r, "nftablesFilterDenyAction", spec.NftablesFilterDenyAction, &set.DenyReject, def.DenyReject, readDenyAction)
	}
	if spec.DisableConntrackInvalidCheck != nil {
		set.AllowInvalid = *spec.DisableConntrackInvalidCheck
	}
	word(r, "interfaceExclude", spec.InterfaceExclude, &set.InterfaceExclude, def.InterfaceExclude, readExclude)
	word(r, "interfacePrefix", spec.InterfacePrefix, &set.WorkloadPrefixes, def.WorkloadPrefixes, readPrefixes)
	word(r, "logPrefix", spec.LogPrefix, &set.LogPrefix, def.LogPrefix, func(s string) (string, error) {
		if strings.EqualFold(s, noneWord) {
			return "", nil
		}
		return s, nil
	})
	now, before := rate{set.LogRate, set.LogRateUnit}, rate{def.LogRate, def.LogRateUnit}
	word(r, "logActionRateLimit", spec.LogActionRateLimit, &now, before, readRate)
	set.LogRate, set.LogRateUnit = now.packets, now.unit
	r.number("logActionRateLimitBurst", spec.LogActionRateLimitBurst, &set.LogBurst, def.LogBurst, 0, 9999)
	word(r, "chainInsertMode", spec.ChainInsertMode, &set.AppendChains, def.AppendChains, readInsertMode)
	r.number("maxIpsetSize", spec.MaxIpsetSize, &set.MaxSetSize, def.MaxSetSize, 1, 1<<31-1)
	r.readReporting(spec)
	r.readWorkloads(o)
}

// readWorkloads reads what is about workloads, their routes, and what allowed
// packets are allowed.
func (r *reader) readWorkloads(o *api.FelixConfiguration) {
	spec, set, def := &o.Spec, &r.settings, &r.defaults.Settings
	word(r, "defaultEndpointToHostAction", spec.DefaultEndpointToHostAction, &set.EndpointToHost, def.EndpointToHost, readToHost)
	word(r, "workloadSourceSpoofing", spec.WorkloadSourceSpoofing, &r.spoofing, false, either("Any", "Disabled"))
	flag(&set.AllowVXLANFromWorkloads, spec.AllowVXLANPacketsFromWorkloads)
	flag(&set.AllowIPIPFromWorkloads, spec.AllowIPIPPacketsFromWorkloads)
	port, before := int(set.VXLANPort), int(def.VXLANPort)
	r.number("vxlanPort", spec.VXLANPort, &port, before, 1, 65535)
	set.VXLANPort = uint16(port)
	flag(&set.RemoveExternalRoutes, spec.RemoveExternalRoutes)
	flag(&set.NoRoutes, spec.RouteSyncDisabled)
	word(r, "ipForwarding", spec.IPForwarding, &set.NoForwarding, def.NoForwarding, either("Disabled", "Enabled"))
	word(r, "deviceRouteSourceAddress", spec.DeviceRouteSourceAddress, &r.source4, netip.Addr{}, readSource(netip.Addr.Is4, "IPv4"))
	word(r, "deviceRouteSourceAddressIPv6", spec.DeviceRouteSourceAddressIPv6, &r.source6, netip.Addr{}, readSource(netip.Addr.Is6, "IPv6"))
	set.DeviceRouteSourceAddrs = nil
	for _, a := range []netip.Addr{r.source4, r.source6} {
		if a.IsValid() {
			set.DeviceRouteSourceAddrs = append(set.DeviceRouteSourceAddrs, a)
		}
	}
	word(r, "iptablesFilterAllowAction", spec.IptablesFilterAllowAction, &set.YieldFilter, def.YieldFilter, either("Return", "Accept"))
	word(r, "iptablesMangleAllowAction", spec.IptablesMangleAllowAction, &set.YieldMangle, def.YieldMangle, either("Return", "Accept"))
	var ignored bool // the same for nftables, where it makes no difference
	word(r, "nftablesFilterAllowAction", spec.NftablesFilterAllowAction, &ignored, false, either("Return", "Accept"))
	word(r, "nftablesMangleAllowAction", spec.NftablesMangleAllowAction, &ignored, false, either("Return", "Accept"))
	if text, ok := o.Annotations[api.AnnotationEstablishedFlows]; ok {
		keep, err := either(api.FlowsKeep, api.FlowsCut)(text)
		resultAt(r, "metadata.annotations["+api.AnnotationEstablishedFlows+"]", &set.KeepFlows, keep, def.KeepFlows, err)
	}
}

// flag reads a parameter that is set or not.
func flag(to *bool, v *bool) {
	if v != nil {
		*to = *v
	}
}

func (r *reader) readReporting(spec *api.FelixConfigurationSpec) {
	rep, def := &r.reporting, &r.defaults.Reporting
	if spec.EndpointReportingEnabled != nil {
		rep.Endpoints = *spec.EndpointReportingEnabled
	}
	r.duration("endpointReportingDelay", spec.EndpointReportingDelay, &rep.EndpointDelay, def.EndpointDelay)
	r.duration("reportingInterval", spec.ReportingInterval, &rep.Interval, def.Interval)
	r.duration("reportingTTL", spec.ReportingTTL, &rep.TTL, def.TTL)
}

// result settles a parameter that the object sets: the value, or the default
// and a fault.
func result[T any](r *reader, name string, to *T, v, def T, err error) {
	resultAt(r, "spec."+name, to, v, def, err)
}

// resultAt is result of what is not in spec too.
func resultAt[T any](r *reader, path string, to *T, v, def T, err error) {
	if err == nil {
		*to = v
		delete(r.bad, path)
		return
	}
	*to = def
	r.bad[path] = api.Fault{Object: r.object, Message: path + ": " + err.Error(), Effect: "the default holds"}
}

// word reads a parameter that is a text; an empty one is not set.
func word[T any](r *reader, name, text string, to *T, def T, read func(string) (T, error)) {
	if text == "" {
		return
	}
	v, err := read(text)
	result(r, name, to, v, def, err)
}

func (r *reader) number(name string, n *int, to *int, def, least, most int) {
	if n == nil {
		return
	}
	var err error
	if *n < least || *n > most {
		err = fmt.Errorf("%d is not %d to %d", *n, least, most)
	}
	result(r, name, to, *n, def, err)
}

func (r *reader) duration(name string, d *api.Duration, to *time.Duration, def time.Duration) {
	if d == nil {
		return
	}
	var err error
	if d.Duration < 0 {
		err = fmt.Errorf("%s is negative", d.Duration)
	}
	result(r, name, to, d.Duration, def, err)
}

// failsafes reads a list of failsafe ports. If an entry is bad, those that
// are not hold together with the defaults: nobody shall be locked out by a
// misprint.
func (r *reader) failsafes(name string, list *[]api.ProtoPort, to *[]intent.Failsafe, def []intent.Failsafe) {
	if list == nil {
		return
	}
	var out []intent.Failsafe
	add := func(f intent.Failsafe) {
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	path := "spec." + name
	delete(r.bad, path)
	for i, p := range *list {
		f, err := readFailsafe(p)
		if err == nil {
			add(f)
			continue
		}
		if _, known := r.bad[path]; !known {
			r.bad[path] = api.Fault{
				Object:  r.object,
				Message: fmt.Sprintf("%s[%d]: %v", path, i, err),
				Effect:  "the other entries hold, and so do the default failsafe ports",
			}
		}
	}
	if _, bad := r.bad[path]; bad {
		for _, f := range def {
			add(f)
		}
	}
	*to = out
}

func readFailsafe(p api.ProtoPort) (intent.Failsafe, error) {
	f := intent.Failsafe{Port: p.Port}
	switch strings.ToLower(p.Protocol) {
	case "tcp", "":
		f.Protocol = protoTCP
	case "udp":
		f.Protocol = protoUDP
	default:
		return f, fmt.Errorf("protocol %q is neither TCP nor UDP", p.Protocol)
	}
	if p.Net == "" {
		return f, nil
	}
	n, ok := parseNet(p.Net)
	if !ok {
		return f, fmt.Errorf("%q is not a network", p.Net)
	}
	f.Net = n
	return f, nil
}

// noneWord is how Calico writes an empty value that is meant.
const noneWord = "none"

var readDenyAction = either("Reject", "Drop")

var readInsertMode = either("Append", "Insert")

// either reads one of two words, in any case: true for the first.
func either(yes, no string) func(string) (bool, error) {
	return func(s string) (bool, error) {
		switch {
		case strings.EqualFold(s, yes):
			return true, nil
		case strings.EqualFold(s, no):
			return false, nil
		}
		return false, fmt.Errorf("%q is neither %s nor %s", s, no, yes)
	}
}

func readToHost(s string) (intent.ToHost, error) {
	for word, v := range map[string]intent.ToHost{"Drop": intent.ToHostDrop, "Return": intent.ToHostReturn, "Accept": intent.ToHostAccept} {
		if strings.EqualFold(s, word) {
			return v, nil
		}
	}
	return intent.ToHostDrop, fmt.Errorf("%q is none of Drop, Return and Accept", s)
}

// readSource reads an address of one family.
func readSource(ofFamily func(netip.Addr) bool, family string) func(string) (netip.Addr, error) {
	return func(s string) (netip.Addr, error) {
		if strings.EqualFold(s, noneWord) {
			return netip.Addr{}, nil
		}
		a, err := netip.ParseAddr(s)
		if err != nil || !ofFamily(a) || a.Zone() != "" || a.Is4In6() {
			return netip.Addr{}, fmt.Errorf("%q is not an %s address", s, family)
		}
		return a, nil
	}
}

var interfaceWord = regexp.MustCompile(`^[a-zA-Z0-9:._+-]{1,15}$`)

// readExclude reads names and regular expressions between slashes, separated
// by commas.
func readExclude(s string) ([]string, error) {
	if strings.EqualFold(s, noneWord) {
		return nil, nil
	}
	var list []string
	for _, w := range strings.Split(s, ",") {
		w = strings.TrimSpace(w)
		if len(w) > 2 && strings.HasPrefix(w, "/") && strings.HasSuffix(w, "/") {
			if _, err := regexp.Compile(w[1 : len(w)-1]); err != nil {
				return nil, err
			}
		} else if !interfaceWord.MatchString(w) {
			return nil, fmt.Errorf("%q is neither an interface nor a regular expression between slashes", w)
		}
		list = append(list, w)
	}
	return list, nil
}

// readPrefixes reads beginnings of interface names, separated by commas.
func readPrefixes(s string) ([]string, error) {
	var list []string
	for _, w := range strings.Split(s, ",") {
		w = strings.TrimSpace(w)
		if !interfaceWord.MatchString(w) || strings.EqualFold(w, noneWord) {
			return nil, fmt.Errorf("%q is not the beginning of an interface's name", w)
		}
		list = append(list, w)
	}
	return list, nil
}

// rate is packets per unit.
type rate struct {
	packets int
	unit    string
}

func readRate(s string) (rate, error) {
	if strings.EqualFold(s, noneWord) {
		return rate{}, nil
	}
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(strings.TrimSpace(count))
	unit = strings.ToLower(strings.TrimSpace(unit))
	if err == nil && n > 0 && n <= 1_000_000 && unit != "" {
		for _, u := range []string{"second", "minute", "hour", "day"} {
			if strings.HasPrefix(u, unit) {
				return rate{packets: n, unit: u}, nil
			}
		}
	}
	return rate{}, fmt.Errorf("%q is not a rate such as 10/minute", s)
}
