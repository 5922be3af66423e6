// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// ErrKey: a key that no store can hold.
var ErrKey = errors.New("bad key")

// CheckKey reports whether k can name a stored resource: its kind is known,
// it has a namespace exactly if its kind has one, and neither namespace nor
// name is empty, holds a slash, or holds a control character. Every
// implementation refuses other keys with ErrKey before anything else.
func CheckKey(k api.Key) error {
	d, ok := api.DescriptorOf(k.Kind)
	if !ok {
		return fmt.Errorf("%s: %w: kind %q is unknown", k, ErrKey, k.Kind)
	}
	if err := checkSegment(k.Name); err != nil {
		return fmt.Errorf("%s: %w: name %w", k, ErrKey, err)
	}
	if !d.Namespaced {
		if k.Namespace != "" {
			return fmt.Errorf("%s: %w: kind %s has no namespace", k, ErrKey, k.Kind)
		}
		return nil
	}
	if err := checkSegment(k.Namespace); err != nil {
		return fmt.Errorf("%s: %w: namespace %w", k, ErrKey, err)
	}
	return nil
}

func checkSegment(s string) error {
	if s == "" {
		return errors.New("is empty")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }); i >= 0 {
		return fmt.Errorf("%q has %q in it", s, s[i])
	}
	return nil
}

// LegacyKey is the second key under which the object k may be stored, if there
// is one. Policies written by Calico up to v3.31 are stored as default.<name>
// and read back as <name> (they lack the annotation that holds the name). So
// whoever looks for k and finds nothing has to look there, and has found it if
// what is stored there decodes to an object whose Key is k.
func LegacyKey(k api.Key) (api.Key, bool) {
	if !HasLegacyKeys(k.Kind) {
		return api.Key{}, false
	}
	k.Name = "default." + k.Name
	return k, true
}

// HasLegacyKeys tells for which kinds LegacyKey gives a second key.
func HasLegacyKeys(k api.Kind) bool {
	switch k {
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy,
		api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy:
		return true
	}
	return false
}

// Decode is api.DecodeStored as implementations use it: the object's Key is
// the one it goes by, also for a value that cannot be understood, and what is
// stored under a key that CheckKey refuses is not understood.
func Decode(at api.Key, value []byte, rev api.Revision) api.Object {
	obj := api.DecodeStored(at, value, rev)
	u, bad := obj.(*api.Unreadable)
	if err := CheckKey(at); err != nil && !bad {
		u, bad = &api.Unreadable{K: at, Meta: *obj.Metadata(), Raw: value, Err: err}, true
		u.Name, u.Namespace = at.Name, at.Namespace
	}
	if !bad {
		return obj
	}
	if u.Meta.Name != "" && HasLegacyKeys(at.Kind) {
		u.K.Name = u.Meta.Name
	}
	return u
}
