// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Place is one end of a Query: an address, a host, a host endpoint or a
// workload. Exactly one of Addr, Host, Endpoint, Workload and ThisHost is set.
type Place struct {
	Addr     netip.Addr
	Host     string
	Endpoint string
	// Workload is the namespace and the name, with a slash between.
	Workload string
	ThisHost bool
	// Port is 0 if the question does not say.
	Port uint16
	// At and Via choose an address and an interface of a host; of a workload,
	// the interface between its host and the other end.
	At  netip.Addr
	Via string
}

// String is the place as it stands in a question.
func (at Place) String() string {
	s := at.name()
	if at.Port != 0 {
		s += ":" + strconv.Itoa(int(at.Port))
	}
	if at.At.IsValid() {
		s += " at " + at.At.String()
	}
	if at.Via != "" {
		s += " via " + at.Via
	}
	return s
}

// name is who the place is.
func (at Place) name() string {
	switch {
	case at.Addr.IsValid() && at.Addr.Is6():
		return "[" + at.Addr.String() + "]"
	case at.Addr.IsValid():
		return at.Addr.String()
	case at.Host != "":
		return "host/" + at.Host
	case at.Endpoint != "":
		return "hep/" + at.Endpoint
	case at.Workload != "":
		return "workload/" + at.Workload
	}
	return "this-host"
}

func (at *Place) parse(w string) error {
	who, portText, hasPort := w, "", false
	switch {
	case strings.HasPrefix(w, "["):
		end := strings.IndexByte(w, ']')
		if end < 0 {
			return fmt.Errorf("%q: the closing ] is missing", w)
		}
		rest := w[end+1:]
		who = w[1:end]
		if _, err := address(who); err != nil {
			return err
		}
		if rest != "" {
			portText, hasPort = strings.CutPrefix(rest, ":")
			if !hasPort {
				return fmt.Errorf("%q: only a port, as in ]:443, may follow the ]", w)
			}
		}
	case strings.Count(w, ":") <= 1:
		who, portText, hasPort = strings.Cut(w, ":")
	}
	if hasPort {
		n, err := port(portText)
		if err != nil {
			return fmt.Errorf("%q: %w", w, err)
		}
		at.Port = n
	}
	return at.who(who)
}

func (at *Place) who(who string) error {
	kind, name, slash := strings.Cut(who, "/")
	switch {
	case who == "" || who == "this-host":
		at.ThisHost = true
		return nil
	case slash && (kind == "workload" || kind == "wep"):
		namespace, name, _ := strings.Cut(name, "/")
		if !nameForm.MatchString(namespace) || !nameForm.MatchString(name) {
			return fmt.Errorf("%q: write workload/NAMESPACE/NAME", who)
		}
		at.Workload = namespace + "/" + name
		return nil
	case slash && (kind == "host" || kind == "hep"):
		if !nameForm.MatchString(name) {
			return fmt.Errorf("%q: a name is missing or has a character that no name has", who)
		}
		if kind == "host" {
			at.Host = name
		} else {
			at.Endpoint = name
		}
		return nil
	}
	a, err := address(who)
	at.Addr = a
	return err
}

func address(text string) (netip.Addr, error) {
	if _, err := netip.ParsePrefix(text); err == nil {
		return netip.Addr{}, fmt.Errorf("%q is a net; write one address of it", text)
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q is neither an address nor host/NAME, hep/NAME or workload/NAMESPACE/NAME", text)
	}
	return a.Unmap(), nil
}

// lend gives what is said of a host but stands behind an address to the other
// end, if that is a host.
func (at *Place) lend(other *Place) error {
	if !at.Addr.IsValid() || !at.At.IsValid() && at.Via == "" {
		return nil
	}
	if other.Addr.IsValid() {
		return errors.New("at and via are of a host or a workload, and neither end is one; write host/NAME or workload/NAMESPACE/NAME")
	}
	if other.At.IsValid() && at.At.IsValid() || other.Via != "" && at.Via != "" {
		return errors.New("at or via is given twice for the same host")
	}
	if at.At.IsValid() {
		other.At = at.At
	}
	if at.Via != "" {
		other.Via = at.Via
	}
	at.At, at.Via = netip.Addr{}, ""
	return nil
}
