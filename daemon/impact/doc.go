// SPDX-License-Identifier: Apache-2.0

// Package impact says in words what a change of the resources means before it
// is made: who gains and who loses access, which policies select nothing, and
// which of a host's connections would be cut.
//
//	objects before ─► what differs ─► endpoints it can matter to ─► classes of them
//	objects after  ─┘                                                     │
//	                     sentences ◄─ grouped ◄─ judged before and after ◄┘
//	                                             by package policy
//
// It does not judge by itself. Of each class of endpoints that the same
// policies select it takes one, and all that its rules tell apart, before or
// after: addresses at the borders of nets and of what selectors stand for,
// protocols, ports, ICMP types. Of what no rule tells apart one flow is judged
// in both worlds; what passes in one and not in the other is a gain or a loss
// of all of it. So what is said is exact as far as is looked, and Report.Limits
// says where it was not looked any further.
//
// A flow is judged as the first of its connection, not rewritten, at one
// endpoint: the other end's host may have a say of its own. Of an endpoint
// without known addresses, one that is in no net and no set stands for them.
//
// It is pure: no I/O, no clock. The CLI's apply and diff ask it.
package impact
