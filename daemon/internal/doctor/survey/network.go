// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// interfaces lists links and their addresses.
func (l *looker) interfaces() {
	links, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		l.unseen("interfaces: %v", err)
		return
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		l.unseen("addresses: %v", err)
	}
	for _, link := range links {
		a := link.Attrs()
		i := doctor.Interface{Name: a.Name, Up: a.RawFlags&unix.IFF_UP != 0, Loopback: a.RawFlags&unix.IFF_LOOPBACK != 0,
			Bridge: link.Type() == "bridge", Port: a.MasterIndex != 0}
		for _, x := range addrs {
			ip, ok := netip.AddrFromSlice(x.IP)
			if bits, _ := x.Mask.Size(); ok && x.LinkIndex == a.Index {
				i.Addrs = append(i.Addrs, netip.PrefixFrom(ip.Unmap(), bits))
			}
		}
		l.facts.Interfaces = append(l.facts.Interfaces, i)
	}
	slices.SortFunc(l.facts.Interfaces, func(a, b doctor.Interface) int { return strings.Compare(a.Name, b.Name) })
}

// names of the sysctls that matter, below /proc/sys; "*" is any interface.
var sysctlFiles = []string{
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/*/route_localnet", "net/ipv4/conf/*/rp_filter",
	"net/netfilter/nf_conntrack_count", "net/netfilter/nf_conntrack_max", "net/bridge/bridge-nf-call-iptables",
	"net/bridge/bridge-nf-call-ip6tables", "user/max_user_namespaces", "kernel/unprivileged_userns_clone",
	"kernel/apparmor_restrict_unprivileged_userns",
}

// sysctls reads what matters; one that is not there is left out.
func (l *looker) sysctls() {
	top := filepath.Join(l.Root, "proc/sys")
	for _, pattern := range sysctlFiles {
		files, _ := filepath.Glob(filepath.Join(top, pattern))
		for _, f := range files {
			b, err := os.ReadFile(f)
			name, inside := strings.CutPrefix(f, top+"/")
			if err != nil || !inside {
				continue
			}
			// An interface's name may have dots: they are told by a slash.
			name = strings.ReplaceAll(strings.ReplaceAll(name, ".", "\x00"), "/", ".")
			l.facts.Sysctls[strings.ReplaceAll(name, "\x00", "/")] = strings.TrimSpace(string(b))
		}
	}
}

// Numbers of linux/netfilter/ipset/ip_set.h that the library does not have or
// does not send.
const ipsetListHeader = 1 << 2 // IPSET_FLAG_LIST_HEADER: without members

// ipsets lists the sets without their members.
func (l *looker) ipsets() {
	req := nl.NewNetlinkRequest(nl.IPSET_CMD_LIST|unix.NFNL_SUBSYS_IPSET<<8, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET})
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	flags := binary.BigEndian.AppendUint32(nil, ipsetListHeader)
	req.AddData(nl.NewRtAttr(nl.IPSET_ATTR_FLAGS|unix.NLA_F_NET_BYTEORDER, flags))
	messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		l.unseen("ipsets: the kernel shows them to root only; run it as root")
		return
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return // the kernel has no ipsets
	case err != nil:
		l.unseen("ipsets: %v", err)
		return
	}
	for _, m := range messages {
		if len(m) < nl.SizeofNfgenmsg {
			continue
		}
		s := doctor.IPSet{}
		nlattr.Each(m[nl.SizeofNfgenmsg:], func(typ uint16, v []byte) {
			switch typ {
			case nl.IPSET_ATTR_SETNAME:
				s.Name = nl.BytesToString(v)
			case nl.IPSET_ATTR_TYPENAME:
				s.Type = nl.BytesToString(v)
			case nl.IPSET_ATTR_DATA:
				nlattr.Each(v, func(typ uint16, v []byte) {
					switch {
					case typ == nl.IPSET_ATTR_ELEMENTS && len(v) == 4:
						s.Members = int(binary.BigEndian.Uint32(v))
					case typ == nl.IPSET_ATTR_REFERENCES && len(v) == 4:
						s.References = int(binary.BigEndian.Uint32(v))
					}
				})
			}
		})
		l.facts.Sets = append(l.facts.Sets, s)
	}
	slices.SortFunc(l.facts.Sets, func(a, b doctor.IPSet) int { return strings.Compare(a.Name, b.Name) })
}
