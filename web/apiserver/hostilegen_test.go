// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// hostile makes requests that nobody in his right mind makes, along the
// published schemas, so that they get as far into the server as they can.
type hostile struct {
	r       *rand.Rand
	schemas map[string]map[string]any
	kinds   []api.Descriptor
	samples map[api.Kind]string // a good object of each kind
}

func newHostile(t testing.TB, r *rand.Rand) *hostile {
	h := &hostile{r: r, kinds: api.Kinds(), samples: map[api.Kind]string{}}
	for _, d := range h.kinds {
		data, err := json.Marshal(sample(t, d.Kind))
		if err != nil {
			t.Fatal(err)
		}
		h.samples[d.Kind] = string(data)
	}
	if err := json.Unmarshal(schemaJSON, &h.schemas); err != nil {
		t.Fatal(err)
	}
	return h
}

func pick[T any](h *hostile, from ...T) T { return from[h.r.IntN(len(from))] }

// chance is true once in n.
func (h *hostile) chance(n int) bool { return h.r.IntN(n) == 0 }

// junk are texts that end up in names, labels, selectors and parameters.
var junk = []string{
	"", " ", "a", "..", "../..", "%2e%2e", "a%2fb", "a/b", "a\\b", "\x00", "a\x00b", "\xff\xfe", "\u202e", "ünïcödé", "-", "a.", ".a", "A",
	"🔥", "all()", "!has(a", "a == 'b", "a in {", "((((((((", "a in (b,", "!,,", "=", "a=b,a!=b", "metadata.name=x", "metadata.name in (x)",
	"0", "-1", "1", "9223372036854775807", "9223372036854775808", "1e309", "0x10", "NaN", "null", "true", "All", "Strict", "Warn", "Ignore",
	"10.0.0.0/33", "::/129", "10.0.0.1", "fe80::1%eth0", "default", "x", "kubectl", "<script>", "${jndi:x}", "'; DROP", "\r\nX-A: b", "\n",
	strings.Repeat("a", 64), strings.Repeat("a", 254), strings.Repeat("(", 3000), strings.Repeat("a,", 2000), strings.Repeat("!", 5000),
}

// number is a number that some reader gets wrong.
func (h *hostile) number() string {
	return pick(h, "0", "-0", "1", "-1", "65535", "65536", "4294967296", "1e3", "1e999", "-1e999", "0.1", "1.0", "01", "+1", ".5", "1.", "0x1",
		"9007199254740993", "9223372036854775808", "18446744073709551616", "NaN", "Infinity", strings.Repeat("9", 400))
}

// text is a JSON string, well formed or not.
func (h *hostile) text() string {
	s := pick(h, junk...)
	switch h.r.IntN(6) {
	case 0:
		return `"` + s + `"` // raw: quotes, controls and bad UTF-8 as they are
	case 1:
		return `"` + s + pick(h, `\ud800`, `\u0000`, `\x41`, `\`, `\udc00\ud800`, `\/`) + `"`
	default:
		data, _ := json.Marshal(s)
		return string(data)
	}
}

// wrong is a value of any type.
func (h *hostile) wrong(depth int) string {
	switch h.r.IntN(8) {
	case 0:
		return pick(h, "null", "true", "false", "nul", "True", "{}", "[]", "[[]]", "{", "]", "")
	case 1:
		return h.number()
	case 2:
		n := pick(h, 2, 30, 40, 1000, 20_000)
		open, end := "[", "]"
		if h.chance(2) {
			open, end = `{"a":`, "}"
		}
		return strings.Repeat(open, n) + "1" + strings.Repeat(end, n)
	case 3:
		var b strings.Builder
		b.WriteByte('[')
		for i := range h.r.IntN(200) {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(h.text())
		}
		return b.String() + "]"
	default:
		return h.text()
	}
}

// value is a value for a schema: mostly of its type, so that what is wrong
// stands deep inside.
func (h *hostile) value(schema map[string]any, depth int) string {
	if h.chance(12) || depth > 14 {
		return h.wrong(depth)
	}
	if all, ok := schema["allOf"].([]any); ok && len(all) == 1 {
		return h.value(all[0].(map[string]any), depth)
	}
	if ref, ok := schema["$ref"].(string); ok {
		return h.value(h.schemas[strings.TrimPrefix(ref, refs3)], depth)
	}
	if enum, ok := schema["enum"].([]any); ok {
		data, _ := json.Marshal(pick(h, enum...))
		return string(data)
	}
	switch schema["type"] {
	case "object":
		return h.object(schema, depth)
	case "array":
		items, _ := schema["items"].(map[string]any)
		var parts []string
		for range h.r.IntN(4) {
			parts = append(parts, h.value(items, depth+1))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case "integer", "number":
		return h.number()
	case "boolean":
		return pick(h, "true", "false", `"true"`, "1")
	}
	return h.text()
}

func (h *hostile) object(schema map[string]any, depth int) string {
	var parts []string
	add := func(name, value string) {
		data, _ := json.Marshal(name)
		parts = append(parts, string(data)+":"+value)
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, s := range properties { // in any order, as maps have
		if !h.chance(3) {
			continue
		}
		v := h.value(s.(map[string]any), depth+1)
		add(name, v)
		if h.chance(20) {
			add(name, h.value(s.(map[string]any), depth+1)) // twice
		}
		if h.chance(20) {
			add(strings.ToUpper(name), v)
		}
	}
	if extra, ok := schema["additionalProperties"].(map[string]any); ok {
		for range h.r.IntN(3) {
			add(pick(h, junk...), h.value(extra, depth+1))
		}
	}
	if h.chance(15) {
		add(pick(h, append([]string{"unknown", "__proto__", "$ref"}, junk...)...), h.wrong(depth))
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// document is the body of a write of a kind.
func (h *hostile) document(d api.Descriptor, name string) string {
	if h.chance(20) {
		return h.wrong(0)
	}
	if h.chance(2) {
		return h.damaged(d, name)
	}
	spec := "{}"
	if s, ok := h.schemas[definitionPrefix(d)+string(d.Kind)]["properties"].(map[string]any)["spec"].(map[string]any); ok {
		spec = h.value(s, 0)
	}
	meta := h.value(h.schemas[metaPrefix+"ObjectMeta"], 0)
	quoted, _ := json.Marshal(name)
	if inner, ok := strings.CutPrefix(meta, "{"); ok && !h.chance(10) {
		comma := ","
		if inner == "}" {
			comma = ""
		}
		meta = `{"name":` + string(quoted) + comma + inner
	}
	return fmt.Sprintf(`{"apiVersion":%q,"kind":%q,"metadata":%s,"spec":%s%s`, d.APIVersion(), d.Kind, meta, spec, pick(h, "}", "}", "}", "}", "", "}}", "} x", "}{"))
}

// damaged is a good object in which a value or none is replaced.
func (h *hostile) damaged(d api.Descriptor, name string) string {
	var tree map[string]any
	_ = json.Unmarshal([]byte(h.samples[d.Kind]), &tree)
	meta := tree["metadata"].(map[string]any)
	meta["name"] = name
	delete(meta, "namespace")
	delete(tree, "status")
	const mark = "replace-me"
	if !h.chance(3) {
		place(h.r, tree, mark)
	}
	data, _ := json.Marshal(tree)
	return strings.Replace(string(data), `"`+mark+`"`, h.wrong(0), 1)
}

// place puts a mark somewhere into a tree.
func place(r *rand.Rand, tree any, mark string) {
	switch t := tree.(type) {
	case map[string]any:
		for name, v := range t {
			if r.IntN(len(t)) > 0 && len(t) > 1 {
				continue
			}
			switch v.(type) {
			case map[string]any, []any:
				place(r, v, mark)
			default:
				t[name] = mark
			}
			return
		}
	case []any:
		if len(t) > 0 {
			i := r.IntN(len(t))
			switch t[i].(type) {
			case map[string]any, []any:
				place(r, t[i], mark)
			default:
				t[i] = mark
			}
		}
	}
}

// jsonPatch is a body of JSON patch operations.
func (h *hostile) jsonPatch() string {
	var ops []string
	for range 1 + h.r.IntN(4) {
		ops = append(ops, fmt.Sprintf(`{"op":%q,"path":%q,"from":%q,"value":%s}`, pick(h, "add", "remove", "replace", "move", "copy", "test", "x"),
			pick(h, "", "/", "/spec", "/spec/nets", "/spec/nets/-", "/spec/nets/-1", "/spec/nets/99999999999", "/metadata/name", "/metadata/labels/a~1b", "/metadata/labels/~", "/kind"),
			pick(h, "", "/spec", "/spec/nets", "/metadata"), h.wrong(0)))
	}
	text := strings.Join(ops, ",")
	if h.chance(30) {
		text = strings.Repeat(`{"op":"copy","from":"/spec","path":"/spec/a"},`, 2000) + text
	}
	return "[" + text + "]"
}

// query is a query string.
func (h *hostile) query() string {
	if !h.chance(3) {
		return ""
	}
	var parts []string
	for range 1 + h.r.IntN(4) {
		name := pick(h, "labelSelector", "fieldSelector", "limit", "continue", "resourceVersion", "resourceVersionMatch", "watch", "allowWatchBookmarks",
			"sendInitialEvents", "dryRun", "fieldManager", "fieldValidation", "force", "propagationPolicy", "after", "stored", "pretty", "x")
		v := pick(h, junk...)
		if h.chance(4) {
			parts = append(parts, name+"="+strings.NewReplacer("\r", "", "\n", "", " ", "+", "\x00", "%00").Replace(v)) // badly escaped
		} else {
			parts = append(parts, name+"="+url.QueryEscape(v))
		}
	}
	return "?" + strings.Join(parts, "&") + "&timeoutSeconds=1"
}

// name is a name of a resource, mostly one of a few.
func (h *hostile) name() string {
	if h.chance(6) {
		return pick(h, junk...)
	}
	return fmt.Sprintf("h%d", h.r.IntN(20))
}
