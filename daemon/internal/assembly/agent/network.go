// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/monitor"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/neigh"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/route"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/sysctl"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// network is what the host lane does for workloads beside the filter: the
// planner of routes, neighbours and sysctls, its parts, and the watch over
// what others do to them.
type network struct {
	planner *dataplane.KernelPlanner // the loop's goroutine only
	route   *route.Part
	sysctl  *sysctl.Part
	neigh   *neigh.Part
	watch   *monitor.Network
}

// newNetwork opens the parts in the network namespace of the calling thread.
func newNetwork(cfg config.Config, log *slog.Logger, board *status.Board) (*network, error) {
	drifted := func(what []string, by string) {
		board.AddDrift(api.Drift{What: strings.Join(what, "; "), By: by, Repaired: true})
	}
	n := &network{}
	var err error
	if n.route, err = route.New(route.Config{Log: log.With("part", "route"), OnDrift: drifted}); err != nil {
		return nil, err
	}
	if n.neigh, err = neigh.New(neigh.Config{OnDrift: drifted}); err != nil {
		n.route.Close()
		return nil, err
	}
	n.sysctl = sysctl.New(sysctl.Config{Dir: filepath.Join(cfg.StateDir, "agent"), Log: log.With("part", "sysctl"), OnDrift: drifted})
	n.planner = dataplane.NewKernelPlanner(n)
	n.watch = monitor.NewNetwork(monitor.NetworkConfig{Own: []uint32{n.route.Port(), n.neigh.Port()}, Log: log.With("part", "network")})
	return n, nil
}

// parts are in the order of the lane, behind the filter: nothing is forwarded
// before the rules stand, and the host answers for no address by proxy before
// the routes say where it is.
func (n *network) parts() []reconcile.Part { return []reconcile.Part{n.route, n.sysctl, n.neigh} }

// Want hands what is wanted to its part.
func (n *network) Want(id kernel.ID, o kernel.Object) { n.owner(id).Want(id, o) }

// Unwant hands what is no longer wanted to its part.
func (n *network) Unwant(id kernel.ID) { n.owner(id).Unwant(id) }

func (n *network) owner(id kernel.ID) dataplane.KernelOut {
	switch id.Kind {
	case kernel.KindRoute, kernel.KindLocal, kernel.KindGuard:
		return n.route
	case kernel.KindNeighbour:
		return n.neigh
	case kernel.KindSysctl:
		return n.sysctl
	}
	panic(fmt.Sprintf("agent: kernel object of kind %d", id.Kind))
}

// noticed tells the loop which parts a change in the kernel concerns.
func (n *network) noticed(loop *reconcile.Loop, e kernel.Notice) {
	if n.route.Noticed(e) {
		loop.ResyncPart(n.route.Name())
	}
	if n.neigh.Noticed(e) {
		loop.ResyncPart(n.neigh.Name())
	}
	if n.sysctl.Noticed(e) {
		loop.ResyncPart(n.sysctl.Name())
	}
}

func (n *network) close() {
	n.route.Close()
	n.neigh.Close()
}

// cleanup removes what Ripstop has made for workloads, puts sysctls back, and
// tells what it has done.
func (n *network) cleanup(stdout io.Writer) error {
	restored, err := n.sysctl.Cleanup()
	for _, s := range restored {
		fmt.Fprintf(stdout, "Restored sysctl %s.\n", s)
	}
	neighbours, e := n.neigh.Cleanup()
	err = errors.Join(err, e)
	routes, e := n.route.Cleanup()
	err = errors.Join(err, e)
	if routes > 0 || neighbours > 0 {
		fmt.Fprintf(stdout, "Removed %d routes and %d neighbour entries of Ripstop.\n", routes, neighbours)
	}
	return err
}
