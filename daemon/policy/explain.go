// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Answer is what becomes of the flow that a Query asks for.
type Answer struct {
	// Query is the question as it was understood.
	Query string `json:"query"`
	// Verdict is a Verdict's name, or "Depends" if the cases differ.
	Verdict string `json:"verdict"`
	// Cases are the ways to understand the question: a host may have several
	// addresses, and what is not known is assumed.
	Cases []Case `json:"cases"`
	// Omitted counts cases beyond the first 64, which are not judged.
	Omitted int `json:"omitted,omitempty"`
}

// Case is one way to understand a question, from one end to the other.
type Case struct {
	// Assumed says in words what the question left open and was assumed.
	Assumed []string `json:"assumed,omitempty"`
	Verdict Verdict  `json:"verdict"`
	// Hops are the hosts on the way whose policy is asked.
	Hops []Hop `json:"hops"`
}

// Hop is one host's judgement.
type Hop struct {
	Flow     Flow     `json:"flow"`
	Decision Decision `json:"decision"`
}

const (
	maxCases          = 64
	anyEphemeralPort  = 49152
	echoRequest       = 8
	echoRequestICMPv6 = 128
	verdictDepends    = "Depends"
)

// Explain answers a question: the source host's rules are asked, then those of
// the host that forwards, then those of the destination host, as far as the
// question names them. It fails if the question cannot be understood with
// what is known.
func (w *World) Explain(q Query, k Known) (Answer, error) {
	answer := Answer{Query: q.String()}
	if q.Through != "" {
		if _, _, _, err := w.who(Place{Host: q.Through}, k); err != nil {
			return Answer{}, err
		}
	}
	notes, err := w.adopt(&q, k)
	if err != nil {
		return Answer{}, err
	}
	pairs, err := w.pairs(q, k)
	if err != nil {
		return Answer{}, err
	}
	for _, p := range pairs {
		for _, c := range w.routes(q, p, k) {
			if len(answer.Cases) == maxCases {
				answer.Omitted++
				continue
			}
			c.Assumed = append(slices.Clone(notes), c.Assumed...)
			for i := range c.Hops {
				c.Hops[i].Decision = w.Evaluate(c.Hops[i].Flow)
				c.Verdict = worse(c.Verdict, c.Hops[i].Decision.Verdict)
			}
			answer.Cases = append(answer.Cases, c)
		}
	}
	answer.Verdict = answer.Cases[0].Verdict.String()
	for _, c := range answer.Cases {
		if c.Verdict.String() != answer.Verdict {
			answer.Verdict = verdictDepends
		}
	}
	return answer, nil
}

// worse is the verdict of two hops: each may deny.
func worse(a, b Verdict) Verdict { return max(a, b) }

// adopt fills in what the question leaves open, says so, and makes hosts of
// addresses if no end is a host otherwise.
func (w *World) adopt(q *Query, k Known) (notes []string, err error) {
	switch {
	case hasPorts(q.Protocol) && q.SourcePort == 0:
		q.SourcePort = anyEphemeralPort
		if w.asksSourcePorts() {
			notes = append(notes, "the source port is taken to be "+strconv.Itoa(anyEphemeralPort)+"; say which with: sport PORT")
		}
	case isICMP(q.Protocol) && q.ICMPType == nil:
		t, code := uint8(echoRequest), uint8(0)
		if q.Protocol == protoICMPv6 {
			t = echoRequestICMPv6
		}
		q.ICMPType, q.ICMPCode = &t, &code
		notes = append(notes, "the packet is taken to be an echo request (type "+strconv.Itoa(int(t))+" code 0)")
	case isICMP(q.Protocol) && q.ICMPCode == nil:
		code := uint8(0)
		q.ICMPCode = &code
	}
	if !q.From.Addr.IsValid() || !q.To.Addr.IsValid() || q.Through != "" {
		for _, at := range []Place{q.From, q.To} {
			if name := w.hostWith(at.Addr, k); at.Addr.IsValid() && name != "" {
				notes = append(notes, at.Addr.String()+" is of host/"+name+", whose own rules are not asked; write host/"+name+" at "+
					at.Addr.String()+" to ask them")
			}
		}
		return notes, nil
	}
	found := false
	for _, at := range []*Place{&q.From, &q.To} {
		if name := w.hostWith(at.Addr, k); name != "" {
			found = true
			notes = append(notes, at.Addr.String()+" is of host/"+name)
			*at = Place{Host: name, At: at.Addr, Port: at.Port}
		}
	}
	if !found {
		return nil, errors.New(q.From.Addr.String() + " and " + q.To.Addr.String() +
			" are of no known host; write host/NAME for one of them, or name the host that forwards: through host/NAME")
	}
	return notes, nil
}

// asksSourcePorts tells whether any rule does.
func (w *World) asksSourcePorts() bool {
	asks := func(rules map[api.PolicyType][]*rule) bool {
		return slices.ContainsFunc(slices.Concat(rules[api.Ingress], rules[api.Egress]), func(r *rule) bool { return r.sourcePorts })
	}
	for _, p := range w.profiles {
		if asks(p.rules) {
			return true
		}
	}
	return slices.ContainsFunc(w.tiers, func(t *tier) bool {
		return slices.ContainsFunc(t.policies, func(p *policy) bool { return asks(p.rules) })
	})
}

// pair is both ends of one case.
type pair struct{ from, to end }

// pairs are all combinations of a source and a destination of one IP version.
func (w *World) pairs(q Query, k Known) ([]pair, error) {
	var from, to [2][]end
	var err error
	for i, family := range families {
		if !possible(q, family) {
			continue
		}
		if from[i], err = w.ends(q.From, family, k); err != nil {
			return nil, err
		}
		if to[i], err = w.ends(q.To, family, k); err != nil {
			return nil, err
		}
	}
	var pairs []pair
	for i := range families {
		for _, a := range from[i] {
			for _, b := range to[i] {
				pairs = append(pairs, pair{a, b})
			}
		}
	}
	if len(pairs) > 0 {
		return pairs, nil
	}
	// An address is missing. Any stands for it, in each version there can be.
	for i, family := range families {
		if !possible(q, family) {
			continue
		}
		if len(from[i]) == 0 {
			if from[i], err = w.stranger(q.From, family, k); err != nil {
				return nil, err
			}
		}
		if len(to[i]) == 0 {
			if to[i], err = w.stranger(q.To, family, k); err != nil {
				return nil, err
			}
		}
		for _, a := range from[i] {
			for _, b := range to[i] {
				pairs = append(pairs, pair{a, b})
			}
		}
	}
	if len(pairs) == 0 {
		return nil, errors.New("the ends are not of the same IP version")
	}
	return pairs, nil
}

var families = [2]int{4, 6}

// possible tells whether a question can be about an IP version.
func possible(q Query, family int) bool {
	for _, a := range []struct{ valid, same bool }{
		{q.From.Addr.IsValid(), familyOf(q.From.Addr) == family},
		{q.To.Addr.IsValid(), familyOf(q.To.Addr) == family},
		{q.From.At.IsValid(), familyOf(q.From.At) == family},
		{q.To.At.IsValid(), familyOf(q.To.At) == family},
		{q.Protocol == protoICMP, family == 4},
		{q.Protocol == protoICMPv6, family == 6},
	} {
		if a.valid && !a.same {
			return false
		}
	}
	return true
}

// routes are the hops between two ends, in each way the question leaves open.
func (w *World) routes(q Query, p pair, k Known) []Case {
	base := Flow{
		Source: p.from.addr, Destination: p.to.addr, Protocol: q.Protocol, SourcePort: q.SourcePort,
		DestinationPort: q.To.Port, State: q.State,
	}
	if isICMP(q.Protocol) {
		base.ICMPType, base.ICMPCode = *q.ICMPType, *q.ICMPCode
	}
	assumed := append(slices.Clone(p.from.assumed), p.to.assumed...)
	out, in := base, base
	out.Host, out.Direction, out.OutInterface = p.from.host, Outbound, p.from.iface
	in.Host, in.Direction, in.InInterface = p.to.host, Inbound, p.to.iface
	if self := p.from.host.Name; self != "" && q.Through == "" && (p.to.host.Name == self || p.to.addr.IsLoopback() ||
		interfaceWith(p.from.host, p.to.addr) != "") {
		// A host reaches itself over the loopback interface.
		in.Host = out.Host
		in.InInterface, out.OutInterface = loopback, loopback
		return []Case{{Assumed: []string{"host/" + self + " reaches its own address over " + loopback}, Hops: []Hop{{Flow: out}, {Flow: in}}}}
	}
	var before, after []Hop
	if out.Host.Name != "" {
		before = []Hop{{Flow: out}}
	}
	if in.Host.Name != "" {
		after = []Hop{{Flow: in}}
	}
	if q.Through == "" {
		return []Case{{Assumed: assumed, Hops: append(before, after...)}}
	}
	var cases []Case
	host, _ := w.picture(q.Through, k)
	for _, i := range w.side(host, q.In, "the interface it comes in by") {
		for _, o := range w.side(host, q.Out, "the interface it goes out by") {
			via := base
			via.Host, via.Direction, via.InInterface, via.OutInterface = host, Forwarded, i.iface, o.iface
			cases = append(cases, Case{
				Assumed: slices.Concat(assumed, i.assumed, o.assumed),
				Hops:    slices.Concat(before, []Hop{{Flow: via}}, after),
			})
		}
	}
	return cases
}

// side is one interface of a host that forwards, or all it may be.
func (w *World) side(host Host, iface, what string) []end {
	if iface != "" {
		return []end{{host: host, iface: iface}}
	}
	return w.anyInterface(end{host: host}, what)
}

// Sentences tell the answer in plain English, a step a line.
func (a Answer) Sentences() []string {
	lines := []string{a.Query}
	for i, c := range a.Cases {
		indent := ""
		if len(a.Cases) > 1 {
			lines = append(lines, "case "+strconv.Itoa(i+1)+" of "+strconv.Itoa(len(a.Cases)+a.Omitted)+": "+c.Verdict.words())
			indent = "  "
		}
		for _, s := range c.Assumed {
			lines = append(lines, indent+"assumed: "+s)
		}
		for _, h := range c.Hops {
			lines = append(lines, indent+h.Flow.String())
			for _, s := range h.Decision.Sentences() {
				lines = append(lines, indent+"  "+s)
			}
		}
	}
	if a.Omitted > 0 {
		lines = append(lines, strconv.Itoa(a.Omitted)+" more cases are not judged; say more with at, via, in and out")
	}
	last := "answer: it depends on the case"
	if a.Verdict != verdictDepends {
		last = "answer: " + a.Cases[0].Verdict.words()
	}
	return append(lines, last)
}

// words is the verdict as it stands in a sentence.
func (v Verdict) words() string {
	switch v {
	case Allow:
		return "allowed"
	case Deny:
		return "denied"
	case NotGoverned:
	}
	return "passes, not governed"
}

// String is the answer's sentences, one a line.
func (a Answer) String() string { return strings.Join(a.Sentences(), "\n") + "\n" }
