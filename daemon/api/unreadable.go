// SPDX-License-Identifier: Apache-2.0

package api

import "encoding/json"

// AnnotationUnreadable is on the JSON of an Unreadable: why it cannot be
// understood.
const AnnotationUnreadable = "ripstop.io/unreadable"

// Unreadable stands for a stored value that cannot be understood, or not
// safely. It is never stored.
type Unreadable struct {
	// K is the key the value is stored under.
	K Key
	// Meta is what could be read of the metadata; ResourceVersion is set.
	Meta
	// Raw is the value as stored.
	Raw []byte
	// Err says all that is wrong with it.
	Err error
	// Salvaged is what is to be enforced instead, or nil if nothing could be
	// made of it. See DecodeStored.
	Salvaged Object
}

// Key is the key the value is stored under.
func (u *Unreadable) Key() Key { return u.K }

// Default changes nothing.
func (u *Unreadable) Default() {}

// Validate is what is wrong with the value.
func (u *Unreadable) Validate() error { return u.Err }

// MarshalJSON writes kind, apiVersion and metadata, with what is wrong in the
// annotation AnnotationUnreadable; the value itself is not in it.
func (u *Unreadable) MarshalJSON() ([]byte, error) {
	m := u.Meta
	m.Name, m.Namespace = u.K.Name, u.K.Namespace
	m.Annotations = map[string]string{AnnotationUnreadable: u.Err.Error()}
	t := TypeMeta{Kind: u.K.Kind}
	if d, ok := DescriptorOf(u.K.Kind); ok {
		t.APIVersion = d.APIVersion()
	}
	return json.Marshal(struct {
		TypeMeta
		Meta `json:"metadata"`
	}{t, m})
}
