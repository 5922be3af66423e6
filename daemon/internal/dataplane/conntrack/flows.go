// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Flows visits what the kernel tracks in the network namespace of the calling
// thread, each flow with its way and its interfaces, as a Part sees them. Left
// out are those that a Part never judges by themselves: that came of others,
// that were cut and are only remembered, that are in a zone of their own, and
// that cannot pass through this host. It changes nothing. An error of visit
// ends it.
func Flows(ctx context.Context, visit func(*ruleset.Flow) error) error {
	if err := flows(ctx, visit); err != nil {
		return fmt.Errorf("conntrack: %w", err)
	}
	return nil
}

func flows(ctx context.Context, visit func(*ruleset.Flow) error) error {
	r, err := newRoutes()
	if err != nil {
		return err
	}
	defer r.close()
	if err := r.forget(); err != nil {
		return err
	}
	l, err := list(unix.AF_UNSPEC)
	if err != nil {
		return err
	}
	defer l.close()
	for {
		var p piece
		var more bool
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p, more = <-l.pieces:
		}
		if !more {
			return nil
		}
		if p.err != nil {
			return fmt.Errorf("listing connections: %w", p.err)
		}
		err := messages(p.b, func(m message) error {
			if m.seq != l.seq || m.typ == unix.NLMSG_DONE || !l.e.read(m.body) || l.e.zoned || l.e.hasMaster || l.e.labelled {
				return nil
			}
			f := l.e.flow()
			if ok, err := r.place(&f); err != nil || !ok {
				return err
			}
			return visit(&f)
		})
		if err != nil {
			return err
		}
		l.free <- p.buf
	}
}
