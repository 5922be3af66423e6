// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
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
	m := &message{}
	m.text(unix.NFTA_CHAIN_TABLE, at.table.String())
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP)
	req.Sockets = e.nft
	req.AddRawData([]byte{nfproto(at.family), nl.NFNETLINK_V0, 0, 0})
	req.AddRawData(m.b)
	msgs, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		return nil, fmt.Errorf("table %s: listing chains: %w", at, err)
	}
	var out []string
	for _, b := range msgs {
		if len(b) < 4 {
			continue
		}
		table, name := "", ""
		eachAttr(b[4:], func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				table = nl.BytesToString(v)
			case unix.NFTA_CHAIN_NAME:
				name = nl.BytesToString(v)
			}
		})
		if table == at.table.String() { // kernels before 5.10 list those of all tables
			out = append(out, name)
		}
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
	const begin, end, genID = 0x10, 0x11, 1 // NFNL_MSG_BATCH_BEGIN, _END, NFNL_BATCH_GENID
	var b message
	put := func(typ, flags int, family byte, res uint16, body func()) {
		at := len(b.b)
		b.b = append(b.b, make([]byte, unix.SizeofNlMsghdr)...)
		b.b = append(b.b, family, nl.NFNETLINK_V0, byte(res>>8), byte(res))
		body()
		nl.NativeEndian().PutUint32(b.b[at:], uint32(len(b.b)-at))
		nl.NativeEndian().PutUint16(b.b[at+4:], uint16(typ))
		nl.NativeEndian().PutUint16(b.b[at+6:], uint16(unix.NLM_F_REQUEST|flags))
		nl.NativeEndian().PutUint32(b.b[at+8:], 1)
	}
	family := nfproto(at.family)
	for _, name := range chains {
		put(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELCHAIN, unix.NLM_F_ACK, family, 0, func() {
			b.text(unix.NFTA_CHAIN_TABLE, at.table.String())
			b.text(unix.NFTA_CHAIN_NAME, name)
		})
	}
	if whole {
		put(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE, unix.NLM_F_ACK, family, 0, func() {
			b.text(unix.NFTA_TABLE_NAME, at.table.String())
		})
	}
	body := b.b
	b.b = nil
	put(begin, 0, 0, unix.NFNL_SUBSYS_NFTABLES, func() { b.u32(genID, gen) })
	head := b.b
	b.b = nil
	put(end, 0, 0, unix.NFNL_SUBSYS_NFTABLES, func() {})
	return e.batch(slices.Concat(head, body, b.b), len(chains)+map[bool]int{true: 1}[whole])
}

// batch sends a transaction on a socket of its own and reads so many answers;
// the first error is returned.
func (e *eyes) batch(b []byte, answers int) error {
	s := e.nft[unix.NETLINK_NETFILTER].Socket
	fd := s.GetFd()
	if err := unix.Sendto(fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for range answers {
		msgs, _, err := s.Receive()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Header.Type == unix.NLMSG_ERROR && len(m.Data) >= 4 {
				if code := int32(nl.NativeEndian().Uint32(m.Data)); code != 0 {
					return unix.Errno(-code)
				}
			}
		}
	}
	return nil
}

// notesIn are the chains of ours that say what was made.
func notesIn(k *ktable) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(k.chains)), func(name string) bool { return !isMade(name) })
}
