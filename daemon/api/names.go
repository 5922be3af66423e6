// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strconv"
	"strings"
)

// Limits of names, from DNS (RFC 1123).
const (
	maxLabel     = 63
	maxSubdomain = 253
)

// maxAnnotationBytes is how long all annotations of an object may be
// together.
const maxAnnotationBytes = 256 << 10

// isDNSLabel reports whether s is [a-z0-9]([-a-z0-9]*[a-z0-9])?, at most 63.
func isDNSLabel(s string) bool {
	if len(s) == 0 || len(s) > maxLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// isSubdomain reports whether s is parts like a DNS label, of any length,
// joined by dots; at most 253.
func isSubdomain(s string) bool {
	if len(s) == 0 || len(s) > maxSubdomain {
		return false
	}
	edge := true // at the start of a part
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			edge = false
		case edge:
			return false
		case c == '.':
			if s[i-1] == '-' {
				return false
			}
			edge = true
		case c != '-':
			return false
		}
	}
	return !edge && s[len(s)-1] != '-'
}

// isLabelText reports whether s is letters, digits, '-', '_' and '.' with a
// letter or digit at both ends; at most 63.
func isLabelText(s string) bool {
	return len(s) <= maxLabel && isWord(s, "-_.") && isWord(s[:1], "") && isWord(s[len(s)-1:], "")
}

// isQualifiedName reports whether s can be the key of a label: label text
// with an optional DNS subdomain and '/' before it.
func isQualifiedName(s string) bool {
	if domain, name, ok := strings.Cut(s, "/"); ok {
		return isSubdomain(domain) && isLabelText(name)
	}
	return isLabelText(s)
}

// Prefixes of names of policies that other systems copy into the store.
var copiedPolicies = []string{"knp.default.", "ossg.default."}

// nameFault is what is wrong with the name of an object of a kind, or "".
func nameFault(kind Kind, name string) string {
	switch kind {
	case KindTier, KindNamespace:
		if !isDNSLabel(name) {
			return "a " + strings.ToLower(string(kind)) + "'s name is 1 to 63 lower case letters, digits and '-', with a letter or digit at both ends"
		}
		return ""
	case KindNetworkPolicy, KindStagedNetworkPolicy:
		for _, prefix := range copiedPolicies {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				if isSubdomain(rest) && len(name) <= maxSubdomain {
					return ""
				}
			}
		}
		fallthrough
	case KindGlobalNetworkPolicy, KindStagedGlobalNetworkPolicy:
		first, second, two := strings.Cut(name, ".")
		if !isDNSLabel(first) || two && !isDNSLabel(second) {
			return "a policy's name is one or two parts joined by '.', each 1 to 63 lower case letters, digits and '-' with a letter or digit at both ends"
		}
		return ""
	}
	if !isSubdomain(name) {
		return "a name is at most 253 lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part"
	}
	return ""
}

// checkMeta checks the metadata of an object.
func checkMeta(f *faults, o Object) {
	kind, m := o.Key().Kind, o.Metadata()
	if m.Name == "" {
		f.add("metadata.name", "", "missing", "")
	} else if text := nameFault(kind, m.Name); text != "" {
		f.add("metadata.name", quoted(m.Name), text, lowerCased(m.Name, func(s string) bool { return nameFault(kind, s) == "" }))
	}
	d, _ := DescriptorOf(kind)
	switch {
	case d.Namespaced && m.Namespace == "":
		f.add("metadata.namespace", "", "missing", "a "+string(kind)+" is in a namespace")
	case !d.Namespaced && m.Namespace != "":
		f.add("metadata.namespace", quoted(m.Namespace), "a "+string(kind)+" is in no namespace", "remove it")
	case m.Namespace != "" && !isDNSLabel(m.Namespace):
		f.add("metadata.namespace", quoted(m.Namespace), "a namespace is 1 to 63 lower case letters, digits and '-', with a letter or digit at both ends", "")
	}
	checkLabels(f, "metadata.labels", m.Labels)
	total := 0
	for _, k := range sortedKeys(m.Annotations) {
		total += len(k) + len(m.Annotations[k])
		if !isQualifiedName(strings.ToLower(k)) {
			f.add(under("metadata.annotations", k), "", "not a name that an annotation can have", "")
		}
	}
	if total > maxAnnotationBytes {
		f.add("metadata.annotations", "", strconv.Itoa(total)+" bytes in all, more than "+strconv.Itoa(maxAnnotationBytes), "")
	}
}

// lowerCased is a fix if s in lower case is right.
func lowerCased(s string, right func(string) bool) string {
	if l := strings.ToLower(s); l != s && right(l) {
		return "write " + quoted(l)
	}
	return ""
}

// checkLabels checks keys and values of labels.
func checkLabels(f *faults, path string, labels map[string]string) {
	for _, k := range sortedKeys(labels) {
		if !isQualifiedName(k) {
			f.add(under(path, k), "", "not a name that a label can have", "")
		}
		if v := labels[k]; v != "" && !isLabelText(v) {
			f.add(under(path, k), quoted(v), "a label's value is at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends", "")
		}
	}
}

// checkReserved refuses labels by which an endpoint or set would claim a
// namespace, an orchestrator or a service account. own are those that are
// right: the system writes them.
func checkReserved(f *faults, m *Meta, own map[string]string) {
	for _, k := range sortedKeys(m.Labels) {
		if !IsReservedLabel(k) {
			continue
		}
		if v, ok := own[k]; !ok || v != m.Labels[k] {
			f.add(under("metadata.labels", k), quoted(m.Labels[k]), "reserved: only the system writes this label", "remove it")
		}
	}
}

// sortedKeys are the keys of a map in order.
func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
