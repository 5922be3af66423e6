// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"
	"sort"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
)

// hookNames are the names of hook numbers, by family (linux/netfilter.h,
// linux/netfilter_arp.h); those of inet, ip, ip6 and bridge are the same.
var hookNames = map[string][]string{
	"arp":    {"input", "output", "forward"},
	"netdev": {"ingress", "egress"},
	"":       {"prerouting", "input", "forward", "output", "postrouting", "ingress"},
}

// Survey reads the tables of everybody in the network namespace of the calling
// thread: chains, and rules as far as they are understood. It changes nothing.
// Members of a set are known up to mostMembers. Without CAP_NET_ADMIN:
// unix.EPERM.
func Survey() ([]doctor.Table, error) {
	w, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	defer w.close()
	for range 10 {
		s := &surveyor{c: newConn(w), tables: map[string]*doctor.Table{}, chains: map[string]int{}, sets: map[string]content{}}
		if err = s.read(); err == nil {
			return s.result(), nil
		}
		if !errors.Is(err, errInterrupted) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOENT) {
			break
		}
	}
	return nil, fmt.Errorf("nftables: reading all tables: %w", err)
}

// surveyor reads all tables once.
type surveyor struct {
	c      *conn
	tables map[string]*doctor.Table
	chains map[string]int     // place in its table, by table and name
	sets   map[string]content // by table and name
}

// mostMembers is how many members of one set are kept: a rule that asks a
// larger set is not understood.
const mostMembers = 4096

// content is what a set or a map of verdicts holds.
type content struct {
	spec     setSpec
	lo, hi   [][]byte
	verdicts []verdict
	// known: what it holds is understood.
	known bool
}

func (s *surveyor) read() error {
	for _, step := range []struct {
		what  string
		typ   uint16
		visit func(message) error
	}{
		{"tables", unix.NFT_MSG_GETTABLE, s.table},
		{"chains", unix.NFT_MSG_GETCHAIN, s.chain},
		{"sets", unix.NFT_MSG_GETSET, s.set},
	} {
		if err := s.c.get(step.typ, unix.NLM_F_DUMP, anyFamily, step.visit); err != nil {
			return fmt.Errorf("listing %s: %w", step.what, err)
		}
	}
	if err := s.elements(); err != nil {
		return err
	}
	if err := s.c.get(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, anyFamily, s.rule); err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	return nil
}

// anyFamily asks for the objects of all families.
func anyFamily(e *enc) { e.b[nlmsgHeaderLen] = unix.NFPROTO_UNSPEC }

// result is all tables in order of family and name.
func (s *surveyor) result() []doctor.Table {
	var out []doctor.Table
	for _, t := range s.tables {
		out = append(out, *t)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ID() < out[j].ID() })
	return out
}

func familyName(m message) string {
	if len(m.data) == 0 {
		return ""
	}
	return families[m.data[0]]
}

func (s *surveyor) table(m message) error {
	t := &doctor.Table{Family: familyName(m)}
	err := m.attrs(func(typ uint16, v []byte) error {
		switch typ {
		case unix.NFTA_TABLE_NAME:
			t.Name = toStr(v)
		case unix.NFTA_TABLE_FLAGS:
			f := toU32(v)
			t.Dormant, t.Owned, t.Persist = f&flagDormant != 0, f&flagOwner != 0, f&flagPersist != 0
		}
		return nil
	})
	s.tables[t.Family+" "+t.Name] = t
	return err
}

func (s *surveyor) chain(m message) error {
	ch := doctor.Chain{}
	table := familyName(m)
	family := table
	err := m.attrs(func(typ uint16, v []byte) error {
		switch typ {
		case unix.NFTA_CHAIN_TABLE:
			table += " " + toStr(v)
		case unix.NFTA_CHAIN_NAME:
			ch.Name = toStr(v)
		case unix.NFTA_CHAIN_TYPE:
			ch.Type = toStr(v)
		case unix.NFTA_CHAIN_POLICY:
			ch.Drop = toU32(v) == nfDrop
		case unix.NFTA_CHAIN_HOOK:
			return attrs(v, func(typ uint16, v []byte) error {
				switch typ {
				case unix.NFTA_HOOK_HOOKNUM:
					ch.Hook = hookName(family, toU32(v))
				case unix.NFTA_HOOK_PRIORITY:
					ch.Priority = int(int32(toU32(v)))
				case unix.NFTA_HOOK_DEV:
					ch.Device = toStr(v)
				}
				return nil
			})
		}
		return nil
	})
	if t := s.tables[table]; t != nil {
		s.chains[table+" "+ch.Name] = len(t.Chains)
		t.Chains = append(t.Chains, ch)
	}
	return err
}

func hookName(family string, number uint32) string {
	names, ok := hookNames[family]
	if !ok {
		names = hookNames[""]
	}
	if int(number) < len(names) {
		return names[number]
	}
	return fmt.Sprintf("hook %d", number)
}

func (s *surveyor) set(m message) error {
	var a content
	var name string
	table := familyName(m)
	err := m.attrs(func(typ uint16, v []byte) error {
		switch typ {
		case unix.NFTA_SET_TABLE:
			table += " " + toStr(v)
		case unix.NFTA_SET_NAME:
			name = toStr(v)
		case unix.NFTA_SET_FLAGS:
			a.spec.flags = toU32(v)
		case unix.NFTA_SET_KEY_LEN:
			a.spec.keyLen = toU32(v)
		}
		return nil
	})
	if t := s.tables[table]; t != nil && a.spec.flags&unix.NFT_SET_ANONYMOUS == 0 {
		t.Sets++
	}
	if table != "inet "+Default().Table { // we know our own
		s.sets[table+" "+name] = a
	}
	return err
}

// elements reads what the sets hold.
func (s *surveyor) elements() error {
	for id, a := range s.sets {
		var family, table, name string
		if _, err := fmt.Sscan(id, &family, &table, &name); err != nil || a.spec.keyLen == 0 || a.spec.keyLen > 62 {
			continue
		}
		r, large := &records{keyLen: int(a.spec.keyLen), isMap: a.spec.flags&unix.NFT_SET_MAP != 0}, false
		err := s.c.get(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(e *enc) {
			for number, n := range families {
				if n == family {
					e.b[nlmsgHeaderLen] = number
				}
			}
			e.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			e.str(unix.NFTA_SET_ELEM_LIST_SET, name)
		}, func(m message) error {
			if large = large || r.Len() > mostMembers; large {
				r.b, r.verdicts = nil, nil
				return nil
			}
			return r.add(m)
		})
		if err != nil {
			return fmt.Errorf("listing set %s: %w", id, err)
		}
		if a.known = !r.tainted && !large; a.known {
			r.each(a.spec, func(i int, lo, hi []byte) {
				a.lo, a.hi = append(a.lo, append([]byte(nil), lo...)), append(a.hi, append([]byte(nil), hi...))
				var v verdict
				if r.isMap {
					v = r.verdicts[i]
				}
				a.verdicts = append(a.verdicts, v)
			})
		}
		s.sets[id] = a
	}
	return nil
}

func (s *surveyor) rule(m message) error {
	var name, text string
	var expressions []byte
	family := familyName(m)
	table := family
	err := m.attrs(func(typ uint16, v []byte) error {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table += " " + toStr(v)
		case unix.NFTA_RULE_CHAIN:
			name = toStr(v)
		case unix.NFTA_RULE_USERDATA:
			text = comment(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			expressions = v
		}
		return nil
	})
	i, known := s.chains[table+" "+name]
	if err != nil || !known {
		return err
	}
	r := &reader{s: s, table: table, regs: map[uint32]source{}, rule: doctor.Rule{Comment: text}}
	r.rule.Match.Family = map[string]int{"ip": 4, "ip6": 6}[family]
	rules, err := r.read(expressions)
	ch := &s.tables[table].Chains[i]
	ch.Rules = append(ch.Rules, rules...)
	return err
}
