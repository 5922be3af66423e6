// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// Labels tells whether rules with Cut are in the kernel as they are meant:
// whether it has connection labels (CONFIG_NF_CONNTRACK_LABELS, kernel 4.7).
// It may be called from any goroutine.
func (f *Filter) Labels() bool { return f.labels }

// haveLabels asks the kernel whether it would take a rule with Cut: by a
// transaction without an end, which it checks and gives up.
func haveLabels() bool {
	w, err := openSocket()
	if err != nil {
		return false
	}
	c := newConn(w)
	defer c.w.close()
	l := lowerer{labels: true}
	low, err := l.rule(&ruleset.Rule{Match: ruleset.Match{Cut: true}, Action: ruleset.Action{Verb: ruleset.Drop}})
	if err != nil {
		return false
	}
	const name = "ripstop-asks"
	b := newBatch()
	b.msg(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, object{})
	b.str(unix.NFTA_TABLE_NAME, name)
	b.msg(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, object{})
	b.str(unix.NFTA_CHAIN_TABLE, name)
	b.str(unix.NFTA_CHAIN_NAME, name)
	for _, r := range low {
		b.msg(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, object{})
		b.str(unix.NFTA_RULE_TABLE, name)
		b.str(unix.NFTA_RULE_CHAIN, name)
		b.bytes(unix.NFTA_RULE_EXPRESSIONS|nlattr.Nested, r.exprs)
	}
	return c.try(b) == nil
}
