// SPDX-License-Identifier: Apache-2.0

// Package conntrack is the Part that ends flows which a change of policy no
// longer allows. A packet filter lets the packets of an established flow pass
// without a look at policy; so what a new rule denies goes on for as long as
// the kernel remembers the flow. This Part makes it forget: it deletes the
// flow's entry in the connection tracking table, and the flow's next packet is
// judged as the first of a new one. It changes no rules and makes no entries.
//
//	Want/Unwant ──► noted ──► now ─┐
//	                               ├─ ruleset.Comparison ──► delete by tuple and id
//	     now with what was before ─┘        ▲
//	                                        │ flow, with its way and interfaces
//	          kernel ──► table, piece by piece ──► routes
//
// It stands behind the packet filter in the lane and is told the same. When
// the filter has put a change in force, one pass over the table begins: each
// entry is judged as if it began now, by the ruleset before the change and by
// the one after it. What before let in and now does not is deleted, and
// nothing else. So are the entries that came of it (RELATED: the data
// connections of FTP).
//
//  1. The rule comes first, the deletion after: a packet that comes in between
//     finds the old entry or the new rule, and never makes a new entry.
//  2. The first plan is what all later ones are compared with. Flows that it
//     would deny are older than it, and are left alone.
//  3. A goroutine reads the table, and a pass is done in slices of four
//     milliseconds, so that the lane is not held up. What is wanted meanwhile
//     waits until the pass has ended, and is one more pass. So a stream of
//     changes cannot keep it from getting to the end of a large table.
//     Behind a pass stands a pause of ten times as long, 100 ms at the most,
//     since each costs the kernel its whole hash table. Of changes that come in
//     the meantime the next pass judges each: a flow that any of the rulesets
//     since the last pass let in, and now does not, is deleted.
//  4. If only members of sets came or went, only flows from or to addresses
//     that these cover are judged.
//  5. Of flows that no rule tells apart one is judged, and the kernel is asked
//     for one route only of those addresses that no route tells apart.
//  6. Deletion names the entry's id, so that another flow with the same
//     addresses and ports, that came since, is not hit. (The kernel makes the
//     id of the tuple and the entry's place in memory, so it is hit if it was
//     put in the very same place; it is then judged once more, no worse.)
//
// # Interfaces
//
// The table does not say by which interfaces a flow came and goes. An end that
// is an address of this host (the kernel's table "local") is this host;
// another is behind the interface to which the route to it leads. That is
// right where answers take the way back on which questions came. Where there
// are several possible interfaces (routes with several next hops, addresses of
// a link, a source that no route leads to), a flow is cut only if none of them
// lets it in. A flow whose destination has no route is left alone. Policy
// routing by source address and input interface is followed, policy routing
// by packet mark is not.
//
// # Ends that begin again
//
// The kernel takes up a forgotten TCP connection with any of its packets
// (nf_conntrack_tcp_loose), from either end. So when the rules let the other
// end begin a flow the other way round, its next packet would bring the
// connection back. Therefore, if that is so and one end is a socket of this
// host, that socket is closed as well (SOCK_DESTROY, kernel 4.5). Of forwarded
// connections neither end is here, and UDP has no beginning that one could
// tell from the middle. Of these, the entry stays and gets a label
// (ruleset.CutLabel), and a rule drops what belongs to it; the label is taken
// away when the flow is allowed again. The kernel keeps such an entry as long
// as any other. Without room for labels, or where no rule can match them, it is
// deleted, and may come back.
//
// # Limits
//
// The default zone of connection tracking only. Untracked flows have no
// entries and need none cut. Entries that a flow table has offloaded cannot be
// deleted; they are counted in Summary.Failed.
package conntrack
