// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// KeepsFlows reports whether a host keeps established flows that a change no
// longer allows: whether the last of its FelixConfigurations that has
// api.AnnotationEstablishedFlows says so. One that says neither Keep nor Cut
// says Cut.
func (w *World) KeepsFlows(host string) bool {
	var general, selected, own *api.FelixConfiguration
	for _, c := range w.felix { // as felixOf has them
		switch {
		case c.Name == "default":
			general = c
		case c.Name == "node."+host:
			own = c
		case strings.HasPrefix(c.Name, "node."):
		case selected == nil && w.nodeMatches(c.Spec.NodeSelector, host):
			selected = c
		}
	}
	keeps := false
	for _, c := range []*api.FelixConfiguration{general, selected, own} {
		if c == nil {
			continue
		}
		if text, said := c.Annotations[api.AnnotationEstablishedFlows]; said {
			keeps = strings.EqualFold(text, api.FlowsKeep)
		}
	}
	return keeps
}
