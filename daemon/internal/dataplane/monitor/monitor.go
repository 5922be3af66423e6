// SPDX-License-Identifier: Apache-2.0

// Package monitor watches the kernel: Monitor tells of changes that others
// make to the tables of nf_tables that hold our rules, Links of interfaces and their addresses. It
// changes nothing and decides nothing; the agent's assembly runs both and
// hands what they say to the host lane.
package monitor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// Numbers of linux/netfilter/nfnetlink.h and nf_tables.h.
const (
	groupNFTables  = 7  // NFNLGRP_NFTABLES
	subsysNFTables = 10 // NFNL_SUBSYS_NFTABLES
	msgNewGen      = 15 // NFT_MSG_NEWGEN
	attrTable      = 1  // the table's name, in every kind of message
	attrGenID      = 1  // NFTA_GEN_ID
	attrGenPID     = 2  // NFTA_GEN_PROC_PID
	attrGenName    = 3  // NFTA_GEN_PROC_NAME
	headerLen      = 16 // struct nlmsghdr
	familyLen      = 4  // struct nfgenmsg
)

// listenBuffer holds the notices of a burst: another program that loads
// 10,000 rules.
const listenBuffer = 8 << 20

// Event is one transaction of somebody else.
type Event struct {
	// Generation is the ruleset's generation after it; 0 if not known.
	Generation uint32
	// Touched: our table was part of it.
	Touched bool
	// By is who did it, as "nft[4711]"; empty if the kernel did not tell.
	By string
	// Lost: notices were lost, so anything may have happened.
	Lost bool
}

// Table is a table of nf_tables.
type Table struct {
	// Family is the kernel's number (NFPROTO_…).
	Family byte
	Name   string
}

// Config says what to watch.
type Config struct {
	// Tables are those that hold rules of ours.
	Tables []Table
	// Own is the netlink port of the socket by which we change it ourselves;
	// its transactions are not told.
	Own uint32
	// Log is told when the listening socket had to be opened anew.
	Log *slog.Logger
}

// Monitor tells of changes to nftables.
type Monitor struct{ cfg Config }

// New gives a Monitor that does nothing before Run.
func New(cfg Config) *Monitor {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Monitor{cfg}
}

// Run tells tell of each transaction of others in the network namespace of
// the calling process, from Run's goroutine, until ctx ends; then it returns
// nil. The first Event says Lost: what happened before Run is not known. If
// the socket breaks, a new one is opened.
func (m *Monitor) Run(ctx context.Context, tell func(Event)) error {
	for {
		err := m.listen(ctx, tell)
		if ctx.Err() != nil {
			return nil
		}
		m.cfg.Log.Warn("Listening to nftables broke, beginning anew", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (m *Monitor) listen(ctx context.Context, tell func(Event)) error {
	f, err := openListener()
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })
	defer stop()
	tell(Event{Touched: true, Lost: true})
	buf := make([]byte, 1<<16)
	var t transaction
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			t = transaction{}
			tell(Event{Touched: true, Lost: true})
			continue
		case errors.Is(err, io.EOF) || err != nil:
			return fmt.Errorf("nftables notices: %w", err)
		}
		for _, e := range t.take(buf[:n], m.cfg.Tables, m.cfg.Own) {
			tell(e)
		}
	}
}

func openListener() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, groupNFTables)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: listening to nftables: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer) != nil {
		// Without the right to it the limit is the sysctl's; losses are told.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer)
	}
	return os.NewFile(uintptr(fd), "nftables-notices"), nil
}

// transaction gathers the notices of one transaction: its changes, then the
// new generation, which ends it.
type transaction struct{ touched bool }

// take reads the notices in b and returns the transactions of others that end
// in it. What cannot be read counts as a change of our table.
func (t *transaction) take(b []byte, tables []Table, own uint32) []Event {
	var out []Event
	for len(b) >= headerLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < headerLen || length > len(b) {
			return append(out, Event{Touched: true, Lost: true})
		}
		typ := binary.NativeEndian.Uint16(b[4:])
		port := binary.NativeEndian.Uint32(b[12:])
		msg := b[headerLen:length]
		b = b[min((length+3)&^3, len(b)):]
		if typ>>8 != subsysNFTables || len(msg) < familyLen {
			continue
		}
		family, attrs := msg[0], msg[familyLen:]
		if typ&0xff != msgNewGen {
			if port != own && slices.Contains(tables, Table{family, nlattr.Text(nlattr.Find(attrs, attrTable))}) {
				t.touched = true
			}
			continue
		}
		e := Event{Touched: t.touched}
		t.touched = false
		if id := nlattr.Find(attrs, attrGenID); len(id) == 4 {
			e.Generation = binary.BigEndian.Uint32(id)
		}
		e.By = nlattr.Text(nlattr.Find(attrs, attrGenName))
		if pid := nlattr.Find(attrs, attrGenPID); len(pid) == 4 && e.By != "" {
			e.By = fmt.Sprintf("%s[%d]", e.By, binary.BigEndian.Uint32(pid))
		}
		if port != own {
			out = append(out, e)
		}
	}
	return out
}
