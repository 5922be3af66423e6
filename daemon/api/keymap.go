// SPDX-License-Identifier: Apache-2.0

package api

import (
	"iter"
	"strings"
)

// KeyMap is a map from keys, for fleets: it takes half the memory of
// map[Key]V, because objects of a kind share the kind, and most are in no
// namespace. It is not safe for concurrent use. The zero value is empty, and
// can be read and written.
type KeyMap[V any] struct {
	kinds map[Kind]map[string]V
	len   int
}

// rest is a key without its kind. It is not that of another key of the kind:
// no namespace holds a slash, and a name that does and is in none is marked.
func (k Key) rest() string {
	if k.Namespace == "" && strings.IndexByte(k.Name, '/') < 0 {
		return k.Name
	}
	return k.Namespace + "/" + k.Name
}

// Get is the value of a key, and whether there is one.
func (m *KeyMap[V]) Get(k Key) (V, bool) {
	v, ok := m.kinds[k.Kind][k.rest()]
	return v, ok
}

// Set gives a key a value. The key's strings are kept.
func (m *KeyMap[V]) Set(k Key, v V) {
	of := m.kinds[k.Kind]
	if of == nil {
		if m.kinds == nil {
			m.kinds = map[Kind]map[string]V{}
		}
		of = map[string]V{}
		m.kinds[k.Kind] = of
	}
	m.len -= len(of)
	of[k.rest()] = v
	m.len += len(of)
}

// Delete takes a key out; of one that is not there: no change.
func (m *KeyMap[V]) Delete(k Key) {
	of := m.kinds[k.Kind]
	m.len -= len(of)
	delete(of, k.rest())
	m.len += len(of)
	if len(of) == 0 {
		delete(m.kinds, k.Kind)
	}
}

// Len is the number of keys.
func (m *KeyMap[V]) Len() int { return m.len }

// Count is the number of keys of a kind.
func (m *KeyMap[V]) Count(kind Kind) int { return len(m.kinds[kind]) }

// All yields keys and values in no particular order. Nothing may be set
// meanwhile; the key that is visited may be deleted.
func (m *KeyMap[V]) All() iter.Seq2[Key, V] {
	return func(yield func(Key, V) bool) {
		for kind, of := range m.kinds {
			for rest, v := range of {
				k := Key{Kind: kind, Name: rest}
				if ns, name, ok := strings.Cut(rest, "/"); ok {
					k.Namespace, k.Name = ns, name
				}
				if !yield(k, v) {
					return
				}
			}
		}
	}
}
