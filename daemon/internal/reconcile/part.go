// SPDX-License-Identifier: Apache-2.0

// Package reconcile holds the contract of everything that touches the host
// (Part) and the one Loop that moves Parts until the host is as wanted.
package reconcile

import (
	"context"
	"time"
)

// Wanter is told what is wanted, keyed. It is called by one goroutine: the
// lane's. It only takes note; Reconcile acts.
type Wanter[K comparable, V any] interface {
	// Want says that k shall be v. v is not changed afterwards.
	Want(k K, v V)
	// Unwant says that k shall not be. Of what was never wanted: no effect.
	Unwant(k K)
}

// Part owns one piece of the host. All methods are called by the lane's
// goroutine only.
type Part interface {
	Name() string
	// Reconcile is one idempotent pass nearer to what is wanted. again says
	// after what time it wants another pass even if nothing is wanted anew
	// (zero: no need). An error means that the piece may not be as wanted;
	// the Loop calls again after a back-off.
	Reconcile(ctx context.Context) (again time.Duration, err error)
	// Resync forgets what is believed to be there, so that the next
	// Reconcile reads the host.
	Resync()
}
