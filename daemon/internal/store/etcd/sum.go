// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// etcd does not notice when a bit of its database file flips: it serves the
// wrong value. So, with Config.Checksums, every value written here has a
// digest beside it, under sumRoot and the value's own key, written in the same
// transaction.
//
// How does a reader know that a digest belongs to the value it has read, when
// Calico's programs write values and leave the digest alone? The two keys of
// one transaction have the same ModRevision, which etcd gives and nobody can
// choose. So:
//
//	digest's revision = value's   the digest must match, or the value is damaged
//	digest's revision < value's   somebody else wrote since; not checked
//	digest's revision > value's   cannot come about by writing: the value is
//	                              an older one that has come back; damaged
//	no digest                     never written by us; not checked
//
// What this cannot see is a value that is gone: a digest without a value is
// what a deletion by calicoctl leaves behind. The package embedded guards the
// database file as a whole against that.
const sumRoot = "/ripstop/sum"

// ErrDamaged is the cause in *api.Unreadable when a stored value is not what
// was written.
var ErrDamaged = errors.New("stored value is damaged")

// SumKey is the etcd key of the digest of the value under path.
func SumKey(path string) string { return sumRoot + path }

// Sum is the digest of a value under path, in hexadecimal.
func Sum(path string, value []byte) []byte {
	h := sha256.New()
	h.Write([]byte(path))
	h.Write([]byte{0})
	h.Write(value)
	return hex.AppendEncode(nil, h.Sum(nil))
}

// CheckSum compares a value with its digest; sum may be nil. Anything but nil
// wraps ErrDamaged.
func CheckSum(kv, sum *mvccpb.KeyValue) error {
	switch {
	case sum == nil || sum.ModRevision < kv.ModRevision:
		return nil
	case sum.ModRevision > kv.ModRevision:
		return fmt.Errorf("%w: it is of revision %d but was last written at revision %d", ErrDamaged, kv.ModRevision, sum.ModRevision)
	case !bytes.Equal(sum.Value, Sum(string(kv.Key), kv.Value)):
		return fmt.Errorf("%w: it does not match the checksum written with it at revision %d", ErrDamaged, kv.ModRevision)
	}
	return nil
}

// decode turns a stored value into an object.
func decode(k api.Key, kv, sum *mvccpb.KeyValue) api.Object {
	obj := store.Decode(k, kv.Value, api.Revision(kv.ModRevision))
	err := CheckSum(kv, sum)
	if err == nil {
		return obj
	}
	u, bad := obj.(*api.Unreadable)
	if !bad {
		u = &api.Unreadable{K: obj.Key(), Meta: *obj.Metadata(), Raw: kv.Value, Salvaged: harmless(obj)}
	}
	u.Err = errors.Join(err, u.Err)
	return u
}

// harmless is what to enforce in place of an object of which some bit is
// wrong, nobody knows which: a policy that denies what it says it selects, a
// tier or an endpoint as it is, nothing of anything else.
func harmless(obj api.Object) api.Object {
	switch obj.Key().Kind {
	case api.KindTier, api.KindHostEndpoint:
		return obj
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy:
	default:
		return nil
	}
	c := api.Clone(obj)
	spec := api.PolicySpecOf(c)
	deny := []api.Rule{{Action: api.Deny}}
	all := len(spec.Types) == 0
	spec.Ingress, spec.Egress = nil, nil
	if all || slices.Contains(spec.Types, api.Ingress) {
		spec.Ingress = deny
	}
	if all || slices.Contains(spec.Types, api.Egress) {
		spec.Egress = deny
	}
	return c
}
