// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/classify"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// compiler is what a planner knows more if rules are compiled (package
// classify). Then an endpoint's chain ends, behind its head, in a program;
// each rule of a policy or profile has a chain of its own, which counts and
// does it; and a set is in the kernel only if a rule still asks for it there.
//
// Endpoints that judge by the same tiers, policies and profiles share one
// program. It is named for the first of them, and stays when others come.
type compiler struct {
	limits   classify.Limits
	units    map[string]*unit    // by the endpoint's chain
	dirty    map[string]bool     // units whose rules may have changed
	touched  map[string]bool     // programs whose members have changed
	plain    map[string]bool     // chains of endpoints that have nothing to compile
	programs map[string]*program // by the chain they are named for
	// oneByOne are policies and profiles of endpoints that could not be
	// compiled.
	oneByOne        map[api.Key]bool
	profileOneByOne map[string]bool
	// policies and profiles are their rules, as far as they were asked for.
	policies map[api.Key]*flattened
	profiles map[string]*flattened

	sets    map[string]*keptSet // by the ruleset's name
	refs    map[string]int      // how many matches of chains ask for a set
	asked   map[string][]string // chain → the sets it asks for
	moved   map[string]bool     // sets whose refs or definition have changed
	sizesOf int                 // the limit of members by which units were compiled
}

// keptSet is a set with its members, whether or not the kernel has it.
type keptSet struct {
	def     *ruleset.Set
	members map[ruleset.Element]struct{}
	wanted  *ruleset.Set // as it was passed on; nil: it was not
}

// unit is what an endpoint judges at a place, in one rendering.
type unit struct {
	endpoint string
	base     string
	s        *subject
	pl       *place
	v        variant
	key      string // what it judges by: equal keys, equal rules
}

// program is a compiled program; why: it could not be.
type program struct {
	key   string
	p     *classify.Program // nil: it could not be
	why   error
	rules int
}

// flattened are the rules of a policy or profile, by direction and rendering;
// nil: nobody has asked yet.
type flattened struct {
	sort   sort
	rules  [2][2][]classify.Rule
	passes [2]bool
}

// NewCompilingPlanner makes a planner that compiles rules into look-ups.
// What is too large for that is planned as by NewPlanner.
func NewCompilingPlanner(out Out) *Planner {
	p := NewPlanner(out)
	p.compiler = &compiler{
		limits: classify.DefaultLimits, units: map[string]*unit{}, dirty: map[string]bool{}, touched: map[string]bool{}, plain: map[string]bool{}, programs: map[string]*program{},
		oneByOne: map[api.Key]bool{}, profileOneByOne: map[string]bool{}, policies: map[api.Key]*flattened{}, profiles: map[string]*flattened{},
		sets: map[string]*keptSet{}, refs: map[string]int{}, asked: map[string][]string{}, moved: map[string]bool{},
	}
	return p
}

// setUnits notes the renderings of an endpoint at a place.
func (c *compiler) setUnits(base, endpoint string, s *subject, pl *place, vs []variant) {
	for _, suffix := range []string{"", natSuffix} {
		if !slices.ContainsFunc(vs, func(v variant) bool { return v.suffix == suffix }) && c.units[base+suffix] != nil {
			delete(c.units, base+suffix)
			c.dirty[base+suffix] = true
		}
	}
	for _, v := range vs {
		u := &unit{endpoint: endpoint, base: base, s: s, pl: pl, v: v}
		u.key = u.identity()
		c.units[base+v.suffix] = u
		c.dirty[base+v.suffix] = true
	}
}

// identity names what a unit judges by.
func (u *unit) identity() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d %v", u.pl.direction, u.pl.stage, u.v)
	tiers := u.s.tiers(u.pl.stage)
	for i := range tiers {
		t := &tiers[i]
		list := tierPolicies(t, u.pl.direction)
		if len(list) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%q %v", t.Name, t.DefaultPass)
		for i := range list {
			for _, part := range [...]string{" ", string(list[i].Kind), "/", list[i].Namespace, "/", list[i].Name} {
				b.WriteString(part)
			}
		}
	}
	if u.pl.stage == stageNormal {
		fmt.Fprintf(&b, "\n%q", u.s.profiles())
	}
	return b.String()
}

// markUnits marks the units whose rules have changed.
func (p *Planner) markUnits() {
	c := p.compiler
	endpoints := map[string]bool{}
	for k := range p.dirtyPolicies {
		delete(c.policies, k)
		for ep := range p.usedBy[k] {
			endpoints[ep] = true
		}
	}
	for name := range p.dirtyProfiles {
		delete(c.profiles, name)
	}
	if len(endpoints)+len(p.dirtyProfiles) == 0 {
		return
	}
	for chain, u := range c.units {
		if endpoints[u.endpoint] || slices.ContainsFunc(u.s.profiles(), func(name string) bool { return p.dirtyProfiles[name] }) {
			c.dirty[chain] = true
		}
	}
}

// planPrograms compiles what has changed, and plans the endpoints' chains.
func (p *Planner) planPrograms() {
	c := p.compiler
	if c.sizesOf != p.settings.MaxSetSize {
		c.sizesOf = p.settings.MaxSetSize
		for chain := range c.units {
			c.dirty[chain] = true
		}
	}
	for owner := range c.touched {
		if prog := c.programs[owner]; prog != nil && prog.p != nil && c.units[owner] != nil && !c.dirty[owner] {
			if prog.why = prog.p.Flush(); prog.why != nil {
				prog.p.Remove()
				prog.p = nil
				c.dirty[owner] = true
			}
		}
	}
	clear(c.touched)
	if len(c.dirty) == 0 {
		return
	}
	groups := map[string][]string{}
	for chain, u := range c.units {
		groups[u.key] = append(groups[u.key], chain)
	}
	owners := map[string]bool{}
	for _, chains := range groups {
		slices.Sort(chains)
		owners[chains[0]] = true
	}
	for owner, old := range c.programs { // before others come: chains of one name are not made twice
		if !owners[owner] {
			if old.p != nil {
				old.p.Remove()
			}
			p.setChains(owner+"//d", nil)
			delete(c.programs, owner)
		}
	}
	for key, chains := range groups {
		owner := chains[0]
		old := c.programs[owner]
		again := old == nil || old.key != key || slices.ContainsFunc(chains, func(chain string) bool { return c.dirty[chain] })
		if again {
			p.compile(owner, c.units[owner])
		}
		now := c.programs[owner]
		for _, chain := range chains {
			if again || c.dirty[chain] {
				p.planUnit(chain, c.units[chain], now)
			}
		}
	}
	for chain := range c.dirty {
		if c.units[chain] == nil && !c.plain[chain] {
			p.setChains(chain, nil)
		}
	}
	clear(c.dirty)
	p.noteOneByOne()
}

// compile brings the program that is named for an endpoint's chain up to date.
func (p *Planner) compile(owner string, u *unit) {
	c := p.compiler
	rules, ends := p.flat(owner, u)
	now := &program{key: u.key, rules: len(rules)}
	if was := c.programs[owner]; was != nil {
		now.p = was.p
	}
	c.programs[owner] = now
	if now.p == nil {
		now.p = classify.New(classify.Input{
			Base: owner, Egress: u.pl.direction == api.Egress,
			Members: func(set string) map[ruleset.Element]struct{} {
				if s := c.sets[set]; s != nil {
					return s.members
				}
				return nil
			},
		}, c.limits, programOut{p})
	}
	now.p.Update(rules)
	now.p.Sets(func(set string) {
		if s := c.sets[set]; s != nil && c.tooLarge(p, s) {
			now.why = fmt.Errorf("set %s has more members than allowed: %w", set, classify.ErrTooLarge)
		}
	})
	if now.why == nil {
		now.why = now.p.Flush()
	}
	if now.why != nil {
		now.p.Remove()
		now.p = nil
		p.setChains(owner+"//d", nil)
		return
	}
	p.setChains(owner+"//d", ends)
}

// planUnit plans an endpoint's chain.
func (p *Planner) planUnit(chain string, u *unit, prog *program) {
	if prog.p == nil {
		p.setChains(chain, p.endpointChains(u.base, u.s, u.pl, u.v))
		return
	}
	rules := append(p.head(u.s, u.pl),
		ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4}, Action: ruleset.Action{Verb: ruleset.Goto, Target: prog.p.Entry(ruleset.IPv4)}},
		ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: prog.p.Entry(ruleset.IPv6)}})
	p.setChains(chain, map[string]*ruleset.Chain{chain: {Rules: rules}})
}

// programOut passes a program's objects on.
type programOut struct{ p *Planner }

// Want and Unwant implement classify.Out.
func (o programOut) Want(id ruleset.ID, v ruleset.Object) {
	o.p.out.Want(id, v)
	o.p.compiler.refer(id, v)
}

func (o programOut) Unwant(id ruleset.ID) {
	o.p.out.Unwant(id)
	o.p.compiler.refer(id, nil)
}

// all is the matcher of the ends of tiers.
type all struct{ match ruleset.Match }

var anything = &all{}

// Match implements classify.Matcher.
func (a *all) Match(ruleset.Family, int) ruleset.Match { return a.match }

// of is the matcher of a rule: what it matches may take several matches.
type of intent.Rule

// Match implements classify.Matcher.
func (r *of) Match(f ruleset.Family, nth int) ruleset.Match {
	return matchesIn((*intent.Rule)(r), f)[nth]
}

// flat are the rules of a unit in order, and the chains that end them.
func (p *Planner) flat(owner string, u *unit) (rules []classify.Rule, ends map[string]*ruleset.Chain) {
	if was := p.compiler.programs[owner]; was != nil {
		rules = make([]classify.Rule, 0, was.rules+16)
	}
	ends = map[string]*ruleset.Chain{}
	end := func(name string, r ruleset.Rule) {
		name = owner + "//d/" + name
		ends[name] = &ruleset.Chain{Rules: one(r)}
		rules = append(rules, classify.Rule{Of: anything, Chain: name, Ends: true})
	}
	tiers := u.s.tiers(u.pl.stage)
	var said []api.Key // policies of this direction so far
	for i := range tiers {
		t := &tiers[i]
		list := tierPolicies(t, u.pl.direction)
		if len(list) == 0 {
			continue
		}
		said = append(said, list...)
		first, passes := len(rules), false
		for _, k := range list {
			f := p.flatPolicy(k)
			if f == nil || f.sort != u.v.sort {
				continue
			}
			d, v := way(u.pl.direction), u.v.nat()
			if f.rules[d][v] == nil {
				f.rules[d][v] = flattenRules(policyChain(k, u.pl.direction, u.v), directed(p.policies[k], u.pl.direction))
			}
			rules = withRules(rules, f.rules[d][v])
			passes = passes || f.passes[d]
		}
		last := u.pl.stage.denies() && !t.DefaultPass
		if last {
			end(t.Name, keeping(deny(u.v, "tier "+t.Name+" default"), p.keeps(list...)))
		}
		passTo(rules[first:], len(rules))
		if last && !passes {
			return rules, ends
		}
	}
	if u.pl.stage != stageNormal {
		end("accept", yield(ruleset.Match{})) // nobody has said anything
		return rules, ends
	}
	for _, name := range u.s.profiles() {
		if pro := p.profiles[name]; pro != nil {
			f := p.compiler.profiles[name]
			if f == nil {
				f = &flattened{}
				p.compiler.profiles[name] = f
			}
			own := pro.Ingress
			if u.pl.direction == api.Egress {
				own = pro.Egress
			}
			list := &f.rules[way(u.pl.direction)][u.v.nat()]
			if *list == nil {
				*list = flattenRules(profileChain(name, u.pl.direction)+u.v.suffix, own)
			}
			first := len(rules)
			rules = withRules(rules, *list)
			passTo(rules[first:], len(rules))
		}
	}
	end("deny", keeping(deny(u.v, "no policy or profile allows it"), p.keeps(said...)))
	return rules, ends
}

// goOn marks a Log, passLater a Pass, until it is known where they lead.
const (
	goOn      = -2
	passLater = -1
)

// way is the index of a direction.
func way(d api.PolicyType) int {
	if d == api.Egress {
		return 1
	}
	return 0
}

// nat is the index of a rendering.
func (v variant) nat() int {
	if v.suffix == natSuffix {
		return 1
	}
	return 0
}

// flatPolicy is what is known of a policy's rules; nil: there is no policy.
func (p *Planner) flatPolicy(k api.Key) *flattened {
	f := p.compiler.policies[k]
	if f == nil && p.policies[k] != nil {
		pol := p.policies[k]
		f = &flattened{sort: sortOf(pol), passes: [2]bool{hasPass(pol.Ingress), hasPass(pol.Egress)}}
		p.compiler.policies[k] = f
	}
	return f
}

func directed(pol *intent.Policy, d api.PolicyType) []intent.Rule {
	if d == api.Egress {
		return pol.Egress
	}
	return pol.Ingress
}

// withRules appends the rules of a policy or profile.
func withRules(out, rules []classify.Rule) []classify.Rule {
	first := len(out)
	out = append(out, rules...)
	for i := first; i < len(out); i++ {
		if out[i].Next == goOn {
			out[i].Next = i + 1
		}
	}
	return out
}

// flattenRules are rules of a list that has, or would have, a chain of that
// name.
func flattenRules(chain string, list []intent.Rule) []classify.Rule {
	out := []classify.Rule{}
	for i := range list {
		r := &list[i]
		if r.Never {
			continue
		}
		for _, family := range families(r) {
			for nth := range matchesIn(r, family) {
				f := classify.Rule{Of: (*of)(r), Family: family, Nth: nth, Chain: ruleChain(chain, r.Index), Ends: true}
				switch r.Action {
				case api.Log:
					f.Ends, f.Next = false, goOn
				case api.Pass:
					f.Ends, f.Next = false, passLater
				case api.Allow, api.Deny:
				}
				out = append(out, f)
			}
		}
	}
	return out
}

func passTo(rules []classify.Rule, next int) {
	for i := range rules {
		if rules[i].Next == passLater {
			rules[i].Next = next
		}
	}
}

// ruleChain is the name of the chain of one rule: "pi-gnp/web//3".
func ruleChain(chain string, index int) string { return fmt.Sprintf("%s//%d", chain, index) }

// wantRuleChains plans the chains of single rules.
func (p *Planner) wantRuleChains(chain string, list []intent.Rule, o origin, v variant) {
	chains := map[string]*ruleset.Chain{}
	keep := p.keeps(o.key())
	for i := range list {
		r := &list[i]
		if r.Never {
			continue
		}
		o.rule = r.Index
		a := p.action(r.Action, o, v)
		if r.Action == api.Pass { // where to is the program's business
			a = ruleset.Action{Verb: ruleset.Return}
		}
		chains[ruleChain(chain, r.Index)] = &ruleset.Chain{Rules: one(ruleset.Rule{
			Action: a, Counter: true, Comment: shorten(fmt.Sprintf("%s %d", o, r.Index), 100), KeepFlows: keep && r.Action == api.Deny,
		})}
	}
	p.setChains(chain+"//", chains)
}

// noteOneByOne finds the policies and profiles that need chains of their own,
// because an endpoint that could not be compiled jumps to them.
func (p *Planner) noteOneByOne() {
	c := p.compiler
	policies, profiles := map[api.Key]bool{}, map[string]bool{}
	keys := map[string]bool{}
	for _, prog := range c.programs {
		if prog.p == nil {
			keys[prog.key] = true
		}
	}
	for _, u := range c.units {
		if !keys[u.key] {
			continue
		}
		for _, t := range u.s.tiers(u.pl.stage) {
			for _, k := range append(slices.Clone(t.Ingress), t.Egress...) {
				policies[k] = true
			}
		}
		for _, name := range u.s.profiles() {
			profiles[name] = true
		}
	}
	if !maps.Equal(policies, c.oneByOne) {
		for k := range p.policies {
			if policies[k] != c.oneByOne[k] {
				p.dirtyPolicies[k] = true
			}
		}
	}
	for name := range p.profiles {
		if profiles[name] != c.profileOneByOne[name] {
			p.dirtyProfiles[name] = true
		}
	}
	c.oneByOne, c.profileOneByOne = policies, profiles
}

// Unit says how what an endpoint judges at one place is enforced.
type Unit struct {
	// Endpoint is the endpoint's name, Chain that of its chain.
	Endpoint, Chain string
	// Program is the chain that the program is named for, shared by all units
	// that name it; empty: the rules are enforced one after the other, for
	// the reason Why.
	Program string
	Why     string
	// Rules are those that were compiled; the rest is classify.Stats.
	classify.Stats
}

// Units lists how endpoints are enforced, in order of their chains; nothing
// if the planner does not compile.
func (p *Planner) Units() []Unit {
	if p.compiler == nil {
		return nil
	}
	c := p.compiler
	byKey := map[string]string{}
	for owner, prog := range c.programs {
		byKey[prog.key] = owner
	}
	var out []Unit
	for _, chain := range slices.Sorted(maps.Keys(c.units)) {
		u := c.units[chain]
		owner := byKey[u.key]
		prog := c.programs[owner]
		if prog == nil {
			continue
		}
		x := Unit{Endpoint: u.endpoint, Chain: chain}
		if prog.p != nil {
			x.Program, x.Stats = owner, prog.p.Stats()
		} else {
			x.Why, x.Stats.Rules = prog.why.Error(), prog.rules
		}
		out = append(out, x)
	}
	return out
}
