// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// More numbers of <linux/netfilter/nfnetlink_conntrack.h>.
const (
	msgNew = subsystem // IPCTNL_MSG_CT_NEW is 0

	attrHelp       = 5
	attrLabels     = 22
	attrLabelsMask = 23
)

// labels are the 128 labels of a connection as the kernel has them, an array
// of long integers.
type labels [16]byte

// cutLabel is the one that our rules drop by.
var cutLabel = func() (l labels) {
	binary.NativeEndian.PutUint64(l[ruleset.CutLabel/64*8:], 1<<(ruleset.CutLabel%64))
	return l
}()

// hasCutLabel reads CTA_LABELS.
func hasCutLabel(v []byte) bool {
	at := ruleset.CutLabel / 64 * 8
	return len(v) >= at+8 && binary.NativeEndian.Uint64(v[at:])&(1<<(ruleset.CutLabel%64)) != 0
}

// label sets the cut label of entries, or takes it away, and leaves their
// other labels. It returns how many have it so now, and which the kernel keeps
// as they are: it gives an entry room for labels when the entry is made, and
// only if rules need them then. An entry that is gone is neither.
//
// The kernel finds the entry by its addresses and ports alone. So each is
// looked at afterwards; one that is another's by now gets its label back as it
// was.
func (c *conn) label(list []doomed, on bool) (done int, left []doomed, err error) {
	for len(list) > 0 && err == nil {
		n := min(len(list), atOnce)
		var d int
		var l []doomed
		d, l, err = c.labelSome(list[:n], on)
		done, left, list = done+d, append(left, l...), list[n:]
	}
	if err != nil {
		err = fmt.Errorf("labelling connections: %w", err)
	}
	return done, left, err
}

func (c *conn) labelSome(list []doomed, on bool) (done int, left []doomed, err error) {
	var set []doomed
	err = c.each(list, msgNew, unix.NLM_F_ACK, labelling(on), func(i int, m message) {
		switch err := m.errno(); {
		case err == nil:
			set = append(set, list[i])
		case errors.Is(err, unix.ENOENT):
		default:
			left = append(left, list[i])
		}
	})
	if err != nil || len(set) == 0 {
		return 0, left, err
	}
	var others []doomed
	err = c.each(set, msgGet, 0, nil, func(i int, m message) {
		var e entry
		switch {
		case m.typ == unix.NLMSG_ERROR || !e.read(m.body): // gone by now
		case [4]byte(e.id) == set[i].id:
			done++
		default:
			others = append(others, set[i])
		}
	})
	if err == nil && len(others) > 0 {
		err = c.each(others, msgNew, unix.NLM_F_ACK, labelling(!on), func(int, message) {})
	}
	return done, left, err
}

// labelling are the attributes that set the cut label, or take it away.
func labelling(on bool) func(body []byte, d *doomed) []byte {
	var to labels
	if on {
		to = cutLabel
	}
	return func(body []byte, _ *doomed) []byte {
		body = nlattr.Append(body, attrLabels, to[:])
		return nlattr.Append(body, attrLabelsMask, cutLabel[:])
	}
}
