// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// Stamp gives a copy of o as a store writes it: with the uid and creation
// time of what is stored there already, or, where that is nil or lacks them,
// with the ones o brings, or else with new ones. The resource version is
// cleared: the store knows it only after the write. o is not changed.
func Stamp(o api.Object, stored *api.Meta, now time.Time) api.Object {
	c := api.Clone(o)
	m := c.Metadata()
	m.ResourceVersion = ""
	if stored != nil && stored.UID != "" {
		m.UID = stored.UID
	}
	if m.UID == "" {
		m.UID = newUID()
	}
	if stored != nil && !stored.CreationTimestamp.IsZero() {
		m.CreationTimestamp = stored.CreationTimestamp
	}
	if m.CreationTimestamp.IsZero() {
		m.CreationTimestamp = api.Time{Time: now.UTC().Truncate(time.Second)}
	}
	return c
}

// newUID is a random version 4 UUID.
func newUID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, as documented by crypto/rand
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// newGUID is a random version 4 UUID without dashes, as ClusterInformation
// holds it.
func newGUID() string { return strings.ReplaceAll(newUID(), "-", "") }
