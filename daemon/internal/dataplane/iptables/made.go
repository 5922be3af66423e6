// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// With nf_tables, iptables-restore makes tables and the kernel's chains in
// them when they are first needed. So that Cleanup leaves none behind that was
// not there before, empty chains of ours say which have been made for us: they
// outlive the process, as the rules do. Legacy tables cannot be unmade.
const (
	chainMade     = prefixOurs + "MADE" // the table
	chainMadeHook = chainMade + "-"     // one of the kernel's chains
)

func isMade(name string) bool { return name == chainMade || strings.HasPrefix(name, chainMadeHook) }

// madeFor are the notes to leave when a table is changed: it calls ours from
// these of the kernel's chains.
func (f *Filter) madeFor(at place, k *ktable, hooks []string) ([]string, error) {
	if f.prog.variant != NFT {
		return nil, nil
	}
	chains, err := f.eyes.chainsOf(at)
	if err != nil {
		return nil, err
	}
	var out []string
	if len(chains) == 0 {
		out = append(out, chainMade)
	}
	for _, h := range hooks {
		if !slices.Contains(chains, h) {
			out = append(out, chainMadeHook+h)
		}
	}
	return slices.DeleteFunc(out, func(name string) bool {
		_, there := k.chains[name]
		return there
	}), nil
}

// chainsOf lists all chains of a table of nf_tables.
func (e *eyes) chainsOf(at place) ([]string, error) {
	var out []string
	err := e.nft.do(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, nfproto(at.family), func(*message) {}, func(b []byte) {
		table, name := "", ""
		nlattr.Each(b, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				table = nlattr.Text(v)
			case unix.NFTA_CHAIN_NAME:
				name = nlattr.Text(v)
			}
		})
		if table == at.table.String() {
			out = append(out, name)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("table %s: listing chains: %w", at, err)
	}
	return out, nil
}

// unmake deletes what was made for us and holds nothing of others. notes are
// the chains that said so. If anybody has changed nf_tables since the look at
// what is there, the kernel does nothing of it (NFNL_BATCH_GENID), and it is
// looked at again.
func (f *Filter) unmake(at place, notes []string, look func() (*ktable, error)) error {
	for range 20 {
		gen, err := f.eyes.generation()
		if err != nil {
			return err
		}
		k, err := look()
		if err != nil {
			return err
		}
		chains, err := f.eyes.chainsOf(at)
		if err != nil || len(chains) == 0 && !slices.Contains(notes, chainMade) {
			return err
		}
		var gone []string
		for _, note := range notes {
			hook := strings.TrimPrefix(note, chainMadeHook)
			if k != nil && k.policies[hook] == "ACCEPT" && len(k.hooks[hook]) == 0 && slices.Contains(chains, hook) {
				gone = append(gone, hook)
			}
		}
		whole := slices.Contains(notes, chainMade) && len(gone) == len(chains)
		if len(gone) == 0 && !whole {
			return nil
		}
		err = f.eyes.deleteAt(at, gen, gone, whole)
		if err != unix.ERESTART {
			return err
		}
	}
	return fmt.Errorf("table %s: is being changed all the time", at)
}

// deleteAt deletes chains, and the table if whole, if gen is the generation.
func (e *eyes) deleteAt(at place, gen uint32, chains []string, whole bool) error {
	const genID = 1 // NFNL_BATCH_GENID
	e.nft.seq++
	var m message
	put := func(typ, flags int, family byte, res uint16, body func()) {
		m.begin(typ, flags, family, res, e.nft.seq)
		body()
		m.finish()
	}
	family, acks := nfproto(at.family), len(chains)
	put(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, func() { m.u32(genID, gen) })
	for _, name := range chains {
		put(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELCHAIN, unix.NLM_F_ACK, family, 0, func() {
			m.text(unix.NFTA_CHAIN_TABLE, at.table.String())
			m.text(unix.NFTA_CHAIN_NAME, name)
		})
	}
	if whole {
		acks++
		put(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK, family, 0, func() {
			m.text(unix.NFTA_TABLE_NAME, at.table.String())
		})
	}
	put(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, func() {})
	return e.nft.exchange(m.b, acks, nil)
}

// notesIn are the chains of ours that say what was made.
func notesIn(k *ktable) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(k.chains)), func(name string) bool { return !isMade(name) })
}
