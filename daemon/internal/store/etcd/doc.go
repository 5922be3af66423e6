// SPDX-License-Identifier: Apache-2.0

// Package etcd is the Store on etcd v3, in Calico's key layout and value
// format, so that Calico's own programs can share it:
//
//	/calico/resources/v3/projectcalico.org/<plural>/[<namespace>/]<name>
//	/ripstop/resources/v1/ripstop.io/<plural>/[<namespace>/]<name>   our own kinds
//	/ripstop/sum/<key>                                               see sum.go
//
// A resource version is etcd's ModRevision of the key, the revision of a list
// is that of the read, creation compares Version with zero, and update and
// delete compare ModRevision.
//
// It does not run a server (see the package embedded beside it), holds no
// cache and repeats no write whose outcome is unknown: after ErrUnavailable
// from Put or Delete the write may have happened.
//
// The daemons' assembly opens it; the status writer uses PutRaw beside the
// Store methods.
package etcd
