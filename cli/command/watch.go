// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// follow is get -w: what is there, and then what changes, until it is
// interrupted, which is no error. When the server has forgotten the changes
// that would come next, or was away, it lists again and shows what is
// different.
func (a *app) follow(cmd *cobra.Command, c *client.Client, f getFlags, p printer, keys []api.Key, kinds []api.Descriptor) error {
	d := kinds[0]
	m := client.Match{Labels: f.labels, Fields: f.fields}
	if d.Namespaced && !f.all {
		m.Namespace = a.cfg.namespace()
	}
	if len(keys) == 1 {
		m.Fields, m.Namespace = "metadata.name="+keys[0].Name, keys[0].Namespace
	}
	t := &followed{p: p, f: f, d: d, known: map[api.Key]api.Object{}}
	if err := t.begin(); err != nil {
		return err
	}
	for {
		err := t.run(cmd.Context(), c, m)
		switch {
		case errors.Is(err, store.ErrCompacted):
		case errors.Is(err, store.ErrUnavailable) && t.begun:
			if !t.away {
				t.away = true
				fmt.Fprintf(a.Err, "%v; waiting for it\n", err)
			}
			select {
			case <-cmd.Context().Done():
				return nil
			case <-time.After(awayPause):
			}
		case errors.Is(err, context.Canceled) && cmd.Context().Err() != nil:
			return nil
		default:
			return fmt.Errorf("get %s: %w", d.Plural, err)
		}
	}
}

// awayPause is how long get -w waits before it asks again a server that is
// away.
const awayPause = 500 * time.Millisecond

// followed prints the resources of a kind as they change.
type followed struct {
	p      printer
	f      getFlags
	d      api.Descriptor
	known  map[api.Key]api.Object // as last printed
	cells  []func(api.Object) string
	head   []string
	widths []int
	begun  bool // something was printed
	away   bool // the server is away, and it was said
}

func (t *followed) begin() (err error) {
	switch t.p.form.name {
	case "jsonpath", "go-template", "name", "json", "yaml":
		return nil
	}
	t.head, t.cells, err = t.p.columns(t.d)
	return err
}

// run lists and watches once, until the watch ends.
func (t *followed) run(ctx context.Context, c *client.Client, m client.Match) error {
	objs, rev, err := c.ListMatching(ctx, t.d.Kind, m)
	if err != nil {
		return err
	}
	t.away = false
	there := map[api.Key]bool{}
	var news []api.Object
	for _, o := range objs {
		there[o.Key()] = true
		if old := t.known[o.Key()]; old == nil || old.Metadata().ResourceVersion != o.Metadata().ResourceVersion {
			news = append(news, o)
		}
	}
	for k, o := range t.known {
		if !there[k] {
			delete(t.known, k)
			news = append(news, o) // its last state, as kubectl shows it
		}
	}
	if err := t.print(news); err != nil {
		return err
	}
	for _, o := range objs {
		t.known[o.Key()] = o
	}
	w, err := c.WatchMatching(ctx, t.d.Kind, m, rev)
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			return err
		}
		var news []api.Object
		for _, ev := range evs {
			switch {
			case ev.Key.Name == "": // a bookmark
			case ev.Object != nil:
				t.known[ev.Key] = ev.Object
				news = append(news, ev.Object)
			case t.known[ev.Key] != nil:
				news = append(news, t.known[ev.Key])
				delete(t.known, ev.Key)
			}
		}
		if err := t.print(news); err != nil {
			return err
		}
	}
}

// print shows objects in the form that is asked for.
func (t *followed) print(objs []api.Object) error {
	if len(objs) == 0 {
		return nil
	}
	if err := t.f.arrange(t.d, objs); err != nil {
		return err
	}
	if t.cells == nil {
		for _, o := range objs {
			if t.begun && t.p.form.name == "yaml" {
				fmt.Fprintln(t.p.Out, "---")
			}
			t.begun = true
			p := t.p
			p.single = true
			p.add(t.d, []api.Object{o})
			if err := p.flush(); err != nil {
				return err
			}
		}
		return nil
	}
	var rows [][]string
	if !t.begun && !t.p.noHeaders {
		rows = append(rows, t.head)
	}
	t.begun = true
	for _, o := range objs {
		rows = append(rows, rowOf(t.cells, o))
	}
	return t.rows(rows)
}

// rows prints rows under those before them: columns get wider, never
// narrower.
func (t *followed) rows(rows [][]string) error {
	if t.widths == nil {
		t.widths = make([]int, len(t.head))
	}
	for _, row := range rows {
		for i := range row {
			row[i] = oneLine(row[i])
			t.widths[i] = max(t.widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell + strings.Repeat(" ", t.widths[i]-utf8.RuneCountInString(cell)+3))
		}
		if _, err := fmt.Fprintln(t.p.Out, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}
