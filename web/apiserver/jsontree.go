// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxDepth is how deeply a JSON document may be nested.
const maxDepth = 32

// jsonTree decodes exactly one JSON document into maps, slices, strings,
// booleans, nil and json.Number. Unlike encoding/json it refuses a member that
// is given twice, so that no two readers see different documents, and more
// than maxDepth levels.
func jsonTree(data []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	v, err := jsonValue(d, 0, "")
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("document is empty or ends early")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the end of the document")
	}
	return v, nil
}

func jsonValue(d *json.Decoder, depth int, path string) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("%s: nested deeper than %d levels", path, maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return jsonObject(d, depth, path)
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := jsonValue(d, depth+1, fmt.Sprintf("%s[%d]", path, len(list)))
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	default:
		return t, nil
	}
}

func jsonObject(d *json.Decoder, depth int, path string) (any, error) {
	m := map[string]any{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("%s: member name %v is not a string", path, t)
		}
		at := name
		if path != "" {
			at = path + "." + name
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("%s: given twice", at)
		}
		if m[name], err = jsonValue(d, depth+1, at); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

// mergePatch applies a JSON merge patch (RFC 7396): null removes a member,
// objects merge, everything else replaces. target is changed.
func mergePatch(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, v := range p {
		if v == nil {
			delete(t, name)
			continue
		}
		t[name] = mergePatch(t[name], v)
	}
	return t
}
