// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
)

// Change is a change of resources that goes back unless somebody confirms it.
// Group ripstop.io/v1. The server makes it out of a ChangeRequest and stores it
// before any of its objects is written; when it is confirmed it is deleted.
// Names sort by time.
type Change struct {
	TypeMeta
	Meta   `json:"metadata"`
	Spec   ChangeSpec   `json:"spec"`
	Status ChangeStatus `json:"status,omitzero"`
}

// ChangeSpec is the spec of a Change. It is never changed.
type ChangeSpec struct {
	// User is who made the change, as the server knows him, and From where from:
	// "unix" or an address with a port.
	User string `json:"user"`
	From string `json:"from,omitempty"`
	// At is when it was made, by the server's clock.
	At Time `json:"at"`
	// Timeout is how long after that it goes back unless it is confirmed: 10s to
	// 24h.
	Timeout Duration `json:"timeout"`
	// MustReach are what each host must reach with the change in force:
	// "tcp:ADDRESS:PORT", of IPv6 "tcp:[ADDRESS]:PORT".
	MustReach []string `json:"mustReach,omitempty"`
	// Operator is the connection by which the operator works, if it ends at a
	// host that the change may cut it off from.
	Operator *Operator `json:"operator,omitempty"`
	// Objects are what is changed, in the order of the writes.
	Objects []ChangedObject `json:"objects"`
}

// Operator is the TCP connection of somebody who works on a host.
type Operator struct {
	// Client and Server are its ends, as ADDRESS:PORT, of IPv6 [ADDRESS]:PORT.
	Client string `json:"client"`
	Server string `json:"server"`
	// Host is the node that Server is of, where the operator knows it.
	Host string `json:"host,omitempty"`
}

// ChangedObject is one object of a change.
type ChangedObject struct {
	// Kind is the object's kind.
	Kind Kind `json:"kind"`
	// Namespace is where the object stands; empty for kinds that are in none.
	Namespace string `json:"namespace,omitempty"`
	// Name is the object's name.
	Name string `json:"name"`
	// Before is what was stored, After what the change writes. Without a value
	// there was, or is to be, no such object.
	Before ChangedValue `json:"before,omitzero"`
	After  ChangedValue `json:"after,omitzero"`
}

// Key names the object.
func (o ChangedObject) Key() Key { return Key{o.Kind, o.Namespace, o.Name} }

// ChangedValue is an object as it is stored, or none. Either of the fields is
// set.
type ChangedValue struct {
	// Value is it as JSON.
	Value json.RawMessage `json:"value,omitempty"`
	// Packed is it as JSON, compressed (gzip, RFC 1952) and in base64.
	Packed string `json:"packed,omitempty"`
}

// Bounds of changes.
const (
	// MaxChange is the most bytes that a Change has as it is stored: what
	// datastores take as one value.
	MaxChange = 1 << 20
	// packFrom is from how many bytes on a value is packed.
	packFrom = 2 << 10
	// maxUnpacked bounds what is unpacked of one value, in bytes.
	maxUnpacked = 16 << 20
)

// NewChangedValue is an object, nil for none, as it is stored.
func NewChangedValue(o Object) (ChangedValue, error) {
	if o == nil {
		return ChangedValue{}, nil
	}
	if _, bad := o.(*Unreadable); bad {
		return ChangedValue{}, fmt.Errorf("%s: a value that cannot be understood cannot be written again", o.Key())
	}
	o = Clone(o)
	o.Metadata().ResourceVersion = ""
	data, err := EncodeStored(o)
	if err != nil || len(data) < packFrom {
		return ChangedValue{Value: data}, err
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err = z.Write(data); err == nil {
		err = z.Close()
	}
	return ChangedValue{Packed: base64.StdEncoding.EncodeToString(b.Bytes())}, err
}

// Absent reports whether there is no object.
func (v ChangedValue) Absent() bool { return len(v.Value) == 0 && v.Packed == "" }

// JSON is the object as it is stored; nil if there is none.
func (v ChangedValue) JSON() ([]byte, error) {
	if v.Packed == "" {
		return v.Value, nil
	}
	packed, err := base64.StdEncoding.DecodeString(v.Packed)
	if err != nil {
		return nil, fmt.Errorf("packed: %w", err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("packed: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("packed: %w", err)
	}
	if len(data) > maxUnpacked {
		return nil, fmt.Errorf("packed: more than %d bytes", maxUnpacked)
	}
	return data, nil
}

// Object is the object that a value of the key is; nil if there is none. Its
// ResourceVersion is empty. A value that cannot be understood is an error.
func (v ChangedValue) Object(k Key) (Object, error) {
	if v.Absent() {
		return nil, nil
	}
	data, err := v.JSON()
	if err != nil {
		return nil, err
	}
	o := DecodeStored(k, data, 0)
	if u, bad := o.(*Unreadable); bad {
		return nil, u.Err
	}
	return o, nil
}

// ChangePhase says how far a change is.
type ChangePhase string

// The phases. One that is confirmed is deleted.
const (
	// ChangePending: it waits for its confirmation.
	ChangePending ChangePhase = "Pending"
	// ChangeRollingBack: it goes back; this cannot be stopped.
	ChangeRollingBack ChangePhase = "RollingBack"
	// ChangeRolledBack: its objects are as they were, but for those that
	// somebody else wrote since.
	ChangeRolledBack ChangePhase = "RolledBack"
)

// ChangeStatus is how far a change is.
type ChangeStatus struct {
	// Phase is Pending, RollingBack or RolledBack.
	Phase ChangePhase `json:"phase,omitempty"`
	// Reason is why it goes back: nobody confirmed it, who wanted it, or which
	// host found what.
	Reason string `json:"reason,omitempty"`
	// Objects say how each object of the spec, in the same order, was restored;
	// set with RolledBack.
	Objects []ChangeResult `json:"objects,omitempty"`
}

// ChangeResult is how one object was restored.
type ChangeResult struct {
	// Revision is the revision at which it was written with its old value, or
	// found so; zero: it is gone again, or it was left.
	Revision Revision `json:"revision,omitempty"`
	// Left says why the object was left as it is; empty: it was restored.
	Left string `json:"left,omitempty"`
}

// Changeable reports whether a Change may be of a kind, and the history is of
// it: what says which packets may pass, and who may do what. Credentials are
// not: what is secret is in no other object.
func Changeable(k Kind) bool {
	switch k {
	case KindFelixConfiguration, KindTier, KindProfile, KindGlobalNetworkSet, KindNetworkSet,
		KindGlobalNetworkPolicy, KindNetworkPolicy, KindStagedGlobalNetworkPolicy, KindStagedNetworkPolicy,
		KindHostEndpoint, KindRole, KindRoleBinding, KindPolicyTest:
		return true
	}
	return false
}

// Testable reports whether a ChangeRequest that asks for a test and is a dry run
// may write a kind: beside those of a Change, what says which endpoints and
// addresses there are.
func Testable(k Kind) bool {
	return Changeable(k) || k == KindNode || k == KindWorkloadEndpoint
}

// Key names the change.
func (c *Change) Key() Key { return Key{Kind: KindChange, Name: c.Name} }

// Default changes nothing.
func (c *Change) Default() {}
