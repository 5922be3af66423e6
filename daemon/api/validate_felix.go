// SPDX-License-Identifier: Apache-2.0

package api

import (
	"math/bits"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// NodeConfigurationPrefix, followed by a host's name, names the
// FelixConfiguration of that host.
const NodeConfigurationPrefix = "node."

// maxNodeSelector is how long the selector of a FelixConfiguration may be.
const maxNodeSelector = 1024

// maxNodePortRanges is how many ranges kubeNodePortRanges may have.
const maxNodePortRanges = 7

// Validate reports every fault of the configuration. It is stricter than
// Calico, which takes wrong failsafe ports and lets its agents stop on them.
func (f *FelixConfiguration) Validate() error {
	var found faults
	checkMeta(&found, f)
	if s := f.Spec.NodeSelector; s != "" {
		if f.Name == DefaultName || strings.HasPrefix(f.Name, NodeConfigurationPrefix) {
			found.add("spec.nodeSelector", quoted(s), "not for the configurations "+DefaultName+" and "+NodeConfigurationPrefix+"*, whose names say where they hold", "remove it")
		}
		if len(s) > maxNodeSelector {
			found.add("spec.nodeSelector", quoted(s), "longer than "+strconv.Itoa(maxNodeSelector), "")
		}
		checkSelector(&found, "spec.nodeSelector", s, false)
	}
	v := reflect.ValueOf(&f.Spec).Elem()
	for _, field := range felixFields() {
		value := v.FieldByIndex(field.index)
		if value.IsZero() {
			continue
		}
		checkFelix(&found, "spec."+field.name, felixByYAML[field.name], value.Interface())
	}
	return found.err()
}

// checkFelix checks the value of one parameter, which is set, by its type.
func checkFelix(f *faults, path string, p FelixParameter, value any) {
	switch x := value.(type) {
	case string:
		checkFelixText(f, path, p, x)
	case *int:
		checkFelixInt(f, path, p.Type, *x)
	case *uint32:
		if bits.OnesCount32(*x) < 2 {
			f.add(path, strconv.FormatUint(uint64(*x), 10), "a mark mask has at least two bits", "")
		}
	case *Duration:
		if x.Duration < 0 {
			f.add(path, quoted(x.String()), "a duration may not be negative", "")
		}
	case *Port:
		checkNumericPort(f, path, *x)
	case *[]Port:
		if len(*x) > maxNodePortRanges {
			f.add(path, "", "more than "+strconv.Itoa(maxNodePortRanges)+" ranges", "")
		}
		for i, port := range *x {
			checkNumericPort(f, at(path, i), port)
		}
	case *[]ProtoPort:
		for i, port := range *x {
			checkProtoPort(f, at(path, i), port)
		}
	case *[]string:
		checkFelixList(f, path, p.Type, *x)
	case []HealthTimeoutOverride:
		for i, o := range x {
			if !isWord(o.Name, "_ -") {
				f.add(at(path, i)+".name", quoted(o.Name), "letters, digits, '_', '-' and spaces are expected", "")
			}
			if o.Timeout.Duration < 0 {
				f.add(at(path, i)+".timeout", quoted(o.Timeout.String()), "a duration may not be negative", "")
			}
		}
	case *RouteTableRange:
		checkTableRange(f, path, *x)
	case *[]RouteTableRange:
		for i, r := range *x {
			checkTableRange(f, at(path, i), r)
		}
	case *BPFConntrackTimeouts:
		checkTimeouts(f, path, x)
	}
}

// caseless reports whether the values of a parameter may be in any case.
// Calico checks these by a pattern that does not look at the case.
func caseless(yaml string) bool {
	return yaml == "chainInsertMode" || strings.HasPrefix(yaml, "bpf") && yaml != "bpfLogLevel"
}

// rateLimit is the form of logActionRateLimit.
var rateLimit = regexp.MustCompile(`^[1-9][0-9]{0,3}/(second|minute|hour|day)$`)

func checkFelixText(f *faults, path string, p FelixParameter, s string) {
	words, isEnum := strings.CutPrefix(p.Type, "enum ")
	switch {
	case p.YAML == "logActionRateLimit":
		if !rateLimit.MatchString(s) {
			f.add(path, quoted(s), "not a rate", "write it as \"10/minute\"; the unit is second, minute, hour or day")
		}
	case p.YAML == "interfaceExclude":
		for _, entry := range strings.Split(s, ",") {
			if inner, ok := strings.CutPrefix(entry, "/"); ok {
				checkRegexp(f, path, strings.TrimSuffix(inner, "/"))
			}
		}
	case isEnum:
		known := strings.Fields(words)
		if caseless(p.YAML) && slices.ContainsFunc(known, func(w string) bool { return strings.EqualFold(w, s) }) {
			return
		}
		checkWord(f, path, s, known...)
	case p.Type == "regexp":
		checkRegexp(f, path, s)
	case p.Type == "IPv4", p.Type == "IPv6":
		checkGateway(f, path, s, p.Type == "IPv4")
	case p.Type == "DNS label":
		if !isDNSLabel(s) {
			f.add(path, quoted(s), "expected 1 to 63 lower case letters, digits and '-'", lowerCased(s, isDNSLabel))
		}
	case p.Type == "map k=v":
		for _, pair := range strings.Split(s, ",") {
			if name, _, ok := strings.Cut(pair, "="); !ok || strings.TrimSpace(name) == "" {
				f.add(path, quoted(s), "expected name=value, separated by commas", "")
				return
			}
		}
	}
}

func checkRegexp(f *faults, path, s string) {
	if _, err := regexp.Compile(s); err != nil {
		f.add(path, quoted(s), "not a regular expression: "+strings.TrimPrefix(err.Error(), "error parsing regexp: "), "")
	}
}

// checkFelixInt checks a number against "int", "int >=a" or "int a..b".
func checkFelixInt(f *faults, path, typ string, n int) {
	limits := strings.TrimPrefix(strings.TrimPrefix(typ, "int"), " ")
	if least, ok := strings.CutPrefix(limits, ">="); ok {
		if a, err := strconv.Atoi(least); err == nil && n < a {
			f.add(path, strconv.Itoa(n), "expected "+least+" or more", "")
		}
		return
	}
	low, high, ok := strings.Cut(limits, "..")
	if !ok {
		if n < 0 {
			f.add(path, strconv.Itoa(n), "may not be negative", "")
		}
		return
	}
	a, err1 := strconv.Atoi(low)
	b, err2 := strconv.Atoi(high)
	if err1 == nil && err2 == nil && (n < a || n > b) {
		f.add(path, strconv.Itoa(n), "expected "+low+" to "+high, "")
	}
}

func checkNumericPort(f *faults, path string, p Port) {
	if p.Name != "" {
		f.add(path, quoted(p.Name), "expected a port number or a range", "write it as \"20000:29999\"")
	} else if p.Min == 0 || p.Min > p.Max {
		f.add(path, quoted(p.String()), "ports are 1 to 65535", "")
	}
}

// checkProtoPort checks a failsafe port. A wrong one could lock the owner
// out, so that each must be right.
func checkProtoPort(f *faults, path string, p ProtoPort) {
	switch strings.ToLower(p.Protocol) {
	case "tcp", "udp":
	case "":
		f.add(path+".protocol", "", "missing", "write tcp or udp")
	default:
		f.add(path+".protocol", quoted(p.Protocol), "expected tcp or udp", "")
	}
	if p.Port == 0 {
		f.add(path+".port", "0", "ports are 1 to 65535", "")
	}
	if p.Net != "" {
		if err := laxCIDR(p.Net); err != nil {
			f.add(path+".net", quoted(p.Net), err.Error(), "")
		}
	}
}

func checkFelixList(f *faults, path, typ string, list []string) {
	for i, s := range list {
		path := at(path, i)
		if typ == "CIDR list" {
			if err := laxCIDR(s); err != nil {
				f.add(path, quoted(s), err.Error(), "")
			}
		} else if len(s) > maxInterfaceName || !isWord(s, ":._+-") {
			f.add(path, quoted(s), "not an interface's name; '+' at its end stands for the rest", "")
		}
	}
}

func checkTableRange(f *faults, path string, r RouteTableRange) {
	if r.Min < 1 || r.Max < r.Min || int64(r.Max) > 1<<32-1 {
		f.add(path, strconv.Itoa(r.Min)+"-"+strconv.Itoa(r.Max), "not a range of route tables: 1 or more, in order", "")
	}
}

// checkTimeouts checks that each is a duration or Auto.
func checkTimeouts(f *faults, path string, t *BPFConntrackTimeouts) {
	v := reflect.ValueOf(t).Elem()
	for _, field := range fields[v.Type()] {
		s := v.FieldByIndex(field.index).String()
		if s == "" || s == "Auto" {
			continue
		}
		if d, err := time.ParseDuration(s); err != nil || d < 0 {
			f.add(path+"."+field.name, quoted(s), "expected a duration such as \"20s\", or Auto", "")
		}
	}
}
