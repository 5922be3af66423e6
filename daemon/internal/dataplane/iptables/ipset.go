// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// ipsets speaks the kernel's ipset protocol (linux/netfilter/ipset/ip_set.h,
// version 6). The messages are written here because netlink.IpsetAdd takes one
// element a message, and netlink.IpsetList does not tell an element with the
// flag nomatch from one without.
type ipsets struct{ *netfilter }

// openIPSets opens a socket in the namespace of the calling thread.
func openIPSets() (*ipsets, error) {
	n, err := openNetfilter()
	return &ipsets{n}, err
}

// errBusy (IPSET_ERR_BUSY): the set is used by a rule.
const errBusy = syscall.Errno(nl.IPSET_ERR_BUSY)

const (
	flagListHeader = 1 << 2 // IPSET_FLAG_LIST_HEADER
	// maxMessage is how full a message of elements gets: the length of an
	// attribute is 16 bits.
	maxMessage = 48 << 10
)

// setSpec is what kind of set the kernel has or shall have.
type setSpec struct {
	typ    string // hash:net or hash:ip,port
	family ruleset.Family
	max    uint32
	// odd: it has extensions (time-outs, counters, comments) that we do not
	// use.
	odd bool
}

func specOf(s *ruleset.Set, max int) setSpec {
	spec := setSpec{typ: "hash:net", family: s.Family, max: uint32(min(max, 1<<30))}
	if s.Type == ruleset.TypeAddrPort {
		spec.typ = "hash:ip,port"
	}
	return spec
}

func nfproto(f ruleset.Family) byte {
	if f == ruleset.IPv4 {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// send sends a request of ipset's.
func (s *ipsets) send(cmd int, flags int, write func(*message), visit func(attrs []byte)) error {
	return s.do(unix.NFNL_SUBSYS_IPSET<<8|cmd, flags, unix.AF_INET, func(m *message) {
		m.attr(nl.IPSET_ATTR_PROTOCOL, []byte{nl.IPSET_PROTOCOL})
		write(m)
	}, visit)
}

// ipsetError is the error with ipset's own words, where the number is ipset's.
func ipsetError(name string, err error) error {
	var n syscall.Errno
	if errors.As(err, &n) && n >= nl.IPSET_ERR_PRIVATE {
		switch n {
		case nl.IPSET_ERR_TYPE_SPECIFIC: // IPSET_ERR_HASH_FULL
			return fmt.Errorf("ipset %s: full", name)
		}
		return fmt.Errorf("ipset %s: %w", name, nl.IPSetError(n))
	}
	return fmt.Errorf("ipset %s: %w", name, err)
}

// create makes a set; one of that name there already is an error.
func (s *ipsets) create(name string, spec setSpec) error {
	revision := byte(0)
	if spec.typ == "hash:ip,port" {
		revision = 1 // the first with SCTP and UDPLite (kernel 2.6.39)
	}
	return s.send(nl.IPSET_CMD_CREATE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, func(m *message) {
		m.text(nl.IPSET_ATTR_SETNAME, name)
		m.text(nl.IPSET_ATTR_TYPENAME, spec.typ)
		m.attr(nl.IPSET_ATTR_REVISION, []byte{revision})
		m.attr(nl.IPSET_ATTR_FAMILY, []byte{nfproto(spec.family)})
		d := m.nest(nl.IPSET_ATTR_DATA)
		m.u32(nl.IPSET_ATTR_MAXELEM, spec.max)
		m.end(d)
	}, nil)
}

// destroy removes a set; one that is not there is no error, one in use is.
func (s *ipsets) destroy(name string) error {
	err := s.send(nl.IPSET_CMD_DESTROY, 0, func(m *message) { m.text(nl.IPSET_ATTR_SETNAME, name) }, nil)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// swap exchanges the contents of two sets in one step.
func (s *ipsets) swap(a, b string) error {
	return s.send(nl.IPSET_CMD_SWAP, 0, func(m *message) {
		m.text(nl.IPSET_ATTR_SETNAME, a)
		m.text(nl.IPSET_ATTR_SETNAME2, b)
	}, nil)
}

// add and del change elements. What is there, or not there, already is no
// error.
func (s *ipsets) add(name string, list []ruleset.Element) error {
	return s.elements(nl.IPSET_CMD_ADD, name, list)
}
func (s *ipsets) del(name string, list []ruleset.Element) error {
	return s.elements(nl.IPSET_CMD_DEL, name, list)
}

func (s *ipsets) elements(cmd int, name string, list []ruleset.Element) error {
	for len(list) > 0 {
		n := 0
		err := s.send(cmd, 0, func(m *message) {
			m.text(nl.IPSET_ATTR_SETNAME, name)
			m.u32(nl.IPSET_ATTR_LINENO, 1)
			adt := m.nest(nl.IPSET_ATTR_ADT)
			for n < len(list) && len(m.b) < maxMessage {
				m.element(list[n], uint32(n+1))
				n++
			}
			m.end(adt)
		}, nil)
		if err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (m *message) element(e ruleset.Element, line uint32) {
	d := m.nest(nl.IPSET_ATTR_DATA)
	ip := m.nest(nl.IPSET_ATTR_IP)
	typ := nl.IPSET_ATTR_IPADDR_IPV6
	if e.Net.Addr().Is4() {
		typ = nl.IPSET_ATTR_IPADDR_IPV4
	}
	m.attr(typ|nlattr.NetByteOrder, e.Net.Addr().AsSlice())
	m.end(ip)
	if e.Proto == 0 {
		m.attr(nl.IPSET_ATTR_CIDR, []byte{byte(e.Net.Bits())})
	} else {
		m.attr(nl.IPSET_ATTR_PROTO, []byte{e.Proto})
		m.attr(nl.IPSET_ATTR_PORT|nlattr.NetByteOrder, binary.BigEndian.AppendUint16(nil, e.Port))
	}
	m.u32(nl.IPSET_ATTR_CADT_LINENO, line)
	m.end(d)
}

// kset is a set in the kernel whose name bears our mark.
type kset struct {
	spec     setSpec
	elements int
	// altered, of a constant set: it does not hold what its name says.
	altered bool
}

// made reports whether it is of a type that we make; else it is another
// program's, which happens to use such a name, and stays.
func (k *kset) made() bool { return k.spec.typ == "hash:net" || k.spec.typ == "hash:ip,port" }

// list reads what sets of ours there are, without their elements.
func (s *ipsets) list() (map[string]*kset, error) {
	sets, _, err := s.headers()
	return sets, err
}

// headers is list that also counts the elements of all sets, everybody's.
func (s *ipsets) headers() (sets map[string]*kset, elements int, err error) {
	sets = map[string]*kset{}
	err = s.send(nl.IPSET_CMD_LIST, unix.NLM_F_DUMP, func(m *message) { m.u32(nl.IPSET_ATTR_FLAGS, flagListHeader) }, func(b []byte) {
		name, k := readHeader(b)
		if k == nil {
			return
		}
		elements += k.elements
		if ours(name) {
			sets[name] = k
		}
	})
	if err != nil {
		return nil, 0, fmt.Errorf("listing ipsets: %w", err)
	}
	return sets, elements, nil
}

// dump visits the elements, as the kernel writes them, of one set, or of all
// if name is empty.
func (s *ipsets) dump(name string, visit func(set string, element []byte)) error {
	err := s.send(nl.IPSET_CMD_LIST, unix.NLM_F_DUMP, func(m *message) {
		if name != "" {
			m.text(nl.IPSET_ATTR_SETNAME, name)
		}
	}, func(b []byte) {
		set := ""
		nlattr.Each(b, func(typ uint16, v []byte) {
			switch typ {
			case nl.IPSET_ATTR_SETNAME:
				set = nlattr.Text(v)
			case nl.IPSET_ATTR_ADT:
				nlattr.Each(v, func(_ uint16, v []byte) { visit(set, v) })
			}
		})
	})
	if err != nil {
		return fmt.Errorf("listing ipsets: %w", err)
	}
	return nil
}

// members visits the elements of a set; odd: it has some that we never make.
func (s *ipsets) members(name string, f ruleset.Family, visit func(ruleset.Element)) (odd bool, err error) {
	err = s.dump(name, func(_ string, b []byte) {
		e, ok := readElement(b, f)
		if !ok {
			odd = true
			return
		}
		visit(e)
	})
	if err != nil {
		return odd, fmt.Errorf("ipset %s: %w", name, err)
	}
	return odd, nil
}

func readHeader(b []byte) (name string, k *kset) {
	nlattr.Each(b, func(typ uint16, v []byte) {
		switch typ {
		case nl.IPSET_ATTR_SETNAME:
			name = nlattr.Text(v)
		case nl.IPSET_ATTR_TYPENAME:
			if k == nil {
				k = &kset{}
			}
			k.spec.typ = nlattr.Text(v)
		case nl.IPSET_ATTR_FAMILY:
			if k != nil && len(v) == 1 && v[0] == unix.NFPROTO_IPV4 {
				k.spec.family = ruleset.IPv4
			} else if k != nil && len(v) == 1 && v[0] == unix.NFPROTO_IPV6 {
				k.spec.family = ruleset.IPv6
			}
		case nl.IPSET_ATTR_DATA:
			if k == nil {
				return
			}
			nlattr.Each(v, func(typ uint16, v []byte) {
				switch typ {
				case nl.IPSET_ATTR_MAXELEM:
					k.spec.max = be32(v)
				case nl.IPSET_ATTR_ELEMENTS:
					k.elements = int(be32(v))
				case nl.IPSET_ATTR_TIMEOUT, nl.IPSET_ATTR_NETMASK, nl.IPSET_ATTR_CADT_FLAGS:
					k.spec.odd = true
				}
			})
		}
	})
	return name, k
}

// readElement reads an element; ok is false if it says more than ours do.
func readElement(b []byte, f ruleset.Family) (e ruleset.Element, ok bool) {
	var addr netip.Addr
	bits := -1
	ok = true
	nlattr.Each(b, func(typ uint16, v []byte) {
		switch typ {
		case nl.IPSET_ATTR_IP:
			nlattr.Each(v, func(_ uint16, v []byte) { addr, _ = netip.AddrFromSlice(v) })
		case nl.IPSET_ATTR_CIDR:
			if len(v) == 1 {
				bits = int(v[0])
			}
		case nl.IPSET_ATTR_PROTO:
			if len(v) == 1 {
				e.Proto = v[0]
			}
		case nl.IPSET_ATTR_PORT:
			if len(v) == 2 {
				e.Port = binary.BigEndian.Uint16(v)
			}
		default:
			ok = false
		}
	})
	if !addr.IsValid() || addr.Is4() != (f == ruleset.IPv4) {
		return e, false
	}
	if bits < 0 {
		bits = addr.BitLen()
	}
	e.Net = netip.PrefixFrom(addr, bits)
	return e, ok && e.Net.IsValid()
}

// sortElements sorts elements for messages, so that equal wishes give equal
// messages.
func sortElements(list []ruleset.Element) {
	slices.SortFunc(list, ruleset.CompareElements)
}
