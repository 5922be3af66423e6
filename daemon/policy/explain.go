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

// Explain answers a question: the rules of the source's host are asked, then
// those of the host that forwards, then those of the destination's host, as far
// as the question names them. It fails if the question cannot be understood with
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
	addresses := q.From.Addr.IsValid() && q.To.Addr.IsValid()
	for _, at := range []*Place{&q.From, &q.To} {
		of, known := w.owner(at.Addr, k)
		switch {
		case !known:
		case q.Through == "" && (addresses || of.Workload != "" || w.workloadsOwn(q, of)):
			notes = append(notes, at.Addr.String()+" is of "+of.name())
			of.Port = at.Port
			*at = of
		default:
			notes = append(notes, at.Addr.String()+" is of "+of.name()+", whose own rules are not asked; write "+of.name()+" at "+
				at.Addr.String()+" to ask them")
		}
	}
	if q.From.Addr.IsValid() && q.To.Addr.IsValid() && q.Through == "" {
		return nil, errors.New(q.From.Addr.String() + " and " + q.To.Addr.String() +
			" are of no known host or workload; write host/NAME or workload/NAMESPACE/NAME for one of them, or name the host that forwards: through host/NAME")
	}
	return notes, nil
}

// workloadsOwn tells whether the place is the host of the workload that the
// question is about: between the two there is no way but the workload's
// interface.
func (w *World) workloadsOwn(q *Query, host Place) bool {
	for _, at := range []Place{q.From, q.To} {
		if x, err := w.workloadNamed(at.Workload); at.Workload != "" && err == nil && x.spec.Node == host.Host {
			return true
		}
	}
	return false
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
	if len(pairs) > 0 {
		return pairs, nil
	}
	for _, at := range []Place{q.From, q.To} {
		if x, err := w.workloadNamed(at.Workload); at.Workload != "" && err == nil && len(x.sources) == 0 {
			return nil, errors.New(at.name() + " has no address")
		}
	}
	return nil, errors.New("the ends are not of the same IP version")
}

var families = [2]int{4, 6}

// possible tells whether a question can be about an IP version.
func possible(q Query, family int) bool {
	for _, a := range []struct{ valid, same bool }{
		{q.From.Addr.IsValid(), familyOf(q.From.Addr) == family},
		{q.To.Addr.IsValid(), familyOf(q.To.Addr) == family},
		{q.From.At.IsValid(), familyOf(q.From.At) == family},
		{q.To.At.IsValid(), familyOf(q.To.At) == family},
		{q.Dialled.IsValid(), familyOf(q.Dialled.Addr()) == family},
		{q.Protocol == protoICMP, family == 4},
		{q.Protocol == protoICMPv6, family == 6},
	} {
		if a.valid && !a.same {
			return false
		}
	}
	return true
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
