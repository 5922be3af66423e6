// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/ripstop/ripstop/daemon/api"
)

// countsHere asks the agent of this machine what its rules have counted; nil
// where none runs. Another reason not to know is told, and hides nothing else.
func (a *app) countsHere(ctx context.Context) map[string][]api.RuleCount {
	data, err := a.askAgent(ctx, "GET", "/counts")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	var c api.RuleCounts
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		fmt.Fprintf(a.Err, "warning: packets of rules are not shown: %v\n", err)
		return nil
	}
	return c.ByObject()
}

// wantsCounts reports whether a wide table of these kinds has counts.
func wantsCounts(f form, kinds []api.Descriptor) bool {
	return f.name == "wide" && slices.ContainsFunc(kinds, func(d api.Descriptor) bool { return api.Counted(d.Kind) })
}

// counted makes a cell of the counts of an object; one that no rule of this
// machine is of has none.
func (p *printer) counted(cell func([]api.RuleCount) string) func(api.Object) string {
	return func(o api.Object) string {
		list := p.counts[api.ObjectName(o.Key())]
		if len(list) == 0 {
			return "-"
		}
		return cell(list)
	}
}

func total(list []api.RuleCount, of func(api.RuleCount) uint64) string {
	var sum uint64
	for _, c := range list {
		sum += of(c)
	}
	return strconv.FormatUint(sum, 10)
}

// ruleHits is the packets of each rule that has some: "ingress 0: 12, egress 3: 1".
func ruleHits(list []api.RuleCount) string {
	var parts []string
	for _, c := range list {
		if c.Packets > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", c.Rule, c.Packets))
		}
	}
	return orNone(strings.Join(parts, ", "), "-")
}
