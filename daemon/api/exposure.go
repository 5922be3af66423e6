// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// KindExposureReport is the kind of an ExposureReport. It is not a resource:
// it is never stored, and no Descriptor is of it.
const KindExposureReport Kind = "ExposureReport"

// ExposureReport is who can reach the sockets and published ports of one host,
// as ripstop exposure shows it. Group ripstop.io/v1.
type ExposureReport struct {
	TypeMeta
	Host    string `json:"host"`
	Version string `json:"version,omitempty"`
	At      Time   `json:"at,omitzero"`
	// Source says where the resources are from that it was judged by.
	Source string `json:"source,omitempty"`
	// Exposed are sorted: the most dangerous first.
	Exposed []Exposed `json:"exposed"`
	// Unseen says what could not be read, and why.
	Unseen []string `json:"unseen,omitempty"`
}

// Danger is how bad it is that somebody reaches a port.
type Danger string

// Dangers. Critical: everyone reaches a service that hands out data or control
// (a database, the Docker API). High: everyone reaches a port that is not known
// as a public service. Medium: everyone reaches a public service, or a group a
// dangerous one. Low: a group reaches another one. None: nobody from outside.
const (
	DangerCritical Danger = "Critical"
	DangerHigh     Danger = "High"
	DangerMedium   Danger = "Medium"
	DangerLow      Danger = "Low"
	DangerNone     Danger = "None"
)

// Exposed is one listening socket or published port.
type Exposed struct {
	Danger   Danger `json:"danger"`
	Protocol string `json:"protocol"` // tcp or udp
	// Address is what is listened on or dialled; empty: every address of the
	// host of both families, "0.0.0.0" or "::": of one.
	Address string `json:"address,omitempty"`
	Port    uint16 `json:"port"`
	// LastPort ends a range of published ports; 0: it is one port.
	LastPort uint16 `json:"lastPort,omitempty"`
	// Service is what usually is at the port, if it is well known.
	Service string `json:"service,omitempty"`
	Process string `json:"process,omitempty"`
	PID     int    `json:"pid,omitempty"`
	// Unit is the systemd unit of the process.
	Unit string `json:"unit,omitempty"`
	// Published is set if a rule sends what is dialled elsewhere.
	Published *PublishedTo `json:"published,omitempty"`
	Reach     []Reach      `json:"reach"`
	Notes     []string     `json:"notes,omitempty"`
}

// PublishedTo is where a published port leads.
type PublishedTo struct {
	// To is ADDRESS:PORT, or "@MAP" if a map decides.
	To string `json:"to"`
	// By is the likely owner of the rule, Rule where it is.
	By   string `json:"by"`
	Rule string `json:"rule"`
}

// Reach is who reaches a port over some interfaces.
type Reach struct {
	Interfaces []string `json:"interfaces,omitempty"`
	// Families are 4 and 6.
	Families []int `json:"families,omitempty"`
	// Who is "everyone", "nobody", "this host", or a group: what a rule
	// selects, with how many addresses or nets that is.
	Who string `json:"who"`
	// Everyone: anybody who reaches the interface.
	Everyone bool `json:"everyone,omitempty"`
	// Addresses and Nets count a group's.
	Addresses int `json:"addresses,omitempty"`
	Nets      int `json:"nets,omitempty"`
	// By is what decides: a rule, a failsafe, the lack of an endpoint, or a
	// rule of somebody else.
	By string `json:"by"`
	// Unless is a rule of somebody else that may still drop it.
	Unless string `json:"unless,omitempty"`
}

// Endpoint is "tcp *:80" or "udp 192.0.2.1:53".
func (e *Exposed) Endpoint() string {
	port := strconv.Itoa(int(e.Port))
	if e.LastPort != 0 {
		port += "-" + strconv.Itoa(int(e.LastPort))
	}
	a := e.Address
	switch {
	case a == "":
		a = "*"
	case strings.Contains(a, ":"):
		a = "[" + a + "]"
	}
	return e.Protocol + " " + a + ":" + port
}

// String is "everyone on eth0 (IPv4)".
func (r Reach) String() string {
	s := r.Who
	if len(r.Interfaces) > 0 {
		const most = 4
		names := r.Interfaces
		more := ""
		if len(names) > most {
			more = fmt.Sprintf(" and %d more", len(names)-most)
			names = names[:most]
		}
		s += " on " + strings.Join(names, ", ") + more
	}
	if len(r.Families) == 1 {
		s += " (IPv" + strconv.Itoa(r.Families[0]) + ")"
	}
	return s
}

// brief joins what differs only in what decides, and leaves nobody out beside
// somebody.
func brief(reach []Reach) []Reach {
	var out []Reach
	some := slices.ContainsFunc(reach, func(r Reach) bool { return r.Who != "nobody" })
	for _, r := range reach {
		if some && r.Who == "nobody" {
			continue
		}
		i := slices.IndexFunc(out, func(o Reach) bool {
			return o.Who == r.Who && slices.Equal(o.Families, r.Families) && (o.Unless == "") == (r.Unless == "")
		})
		if i < 0 {
			out = append(out, r)
			continue
		}
		out[i].Interfaces = append(slices.Clone(out[i].Interfaces), r.Interfaces...)
	}
	return out
}

// String is the report as a table.
func (r *ExposureReport) String() string { return r.Text(false) }

// Text is the report as a table; wide: with processes, and what decides.
func (r *ExposureReport) Text(wide bool) string {
	t := &report{}
	if len(r.Exposed) == 0 {
		t.line("No socket listens on %s, and no port is published.", r.Host)
	}
	head := []string{"DANGER", "PORT", "SERVICE", "PROCESS", "WHO"}
	if wide {
		head = []string{"DANGER", "PORT", "SERVICE", "PROCESS", "PID", "UNIT", "WHO", "BECAUSE"}
	}
	rows := [][]string{head}
	for i := range r.Exposed {
		e := &r.Exposed[i]
		what := e.Process
		if e.Published != nil {
			what = e.Published.By + ", to " + e.Published.To
		}
		cells := []string{string(e.Danger), e.Endpoint(), e.Service, what}
		if wide {
			pid := ""
			if e.PID != 0 {
				pid = strconv.Itoa(e.PID)
			}
			cells = append(cells, pid, e.Unit)
		}
		if len(e.Reach) == 0 {
			rows = append(rows, append(cells, "nobody"))
		}
		reach := e.Reach
		if !wide {
			reach = brief(reach)
		}
		for n, x := range reach {
			who := x.String()
			if x.Unless != "" {
				who += ", unless dropped by others"
			}
			if n > 0 {
				cells = make([]string, len(cells))
			}
			row := append(slices.Clone(cells), who)
			if wide {
				by := x.By
				if x.Unless != "" {
					by += "; may be dropped by " + x.Unless
				}
				row = append(row, by)
			}
			rows = append(rows, row)
		}
		for _, n := range e.Notes {
			rows = append(rows, append(make([]string, len(cells)), "note: "+n))
		}
	}
	if len(r.Exposed) > 0 {
		t.table(rows)
	}
	if len(r.Unseen) > 0 {
		t.head("Not seen")
		for _, u := range r.Unseen {
			t.line("  %s", u)
		}
	}
	return t.Builder.String()
}
