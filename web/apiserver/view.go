// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// view is how one client sees resources: as objects, as rows of a table, or
// by their metadata alone.
type view struct {
	shape shape
	kind  *kindInfo
	// whole and none say what a row of a table carries besides its cells;
	// else it is the metadata.
	whole, none bool
	stored      bool // see ParamStored
	now         time.Time
	// headed is set once a watch has sent the columns.
	headed *bool
}

// ParamStored is the query parameter with which a client asks for things as
// they are stored (?stored=true; daemon/client does): values that cannot be
// understood come with their bytes, built-in objects are left out, a watch
// takes resourceVersion=0 as the beginning of history, and a list takes
// after=[NAMESPACE/]NAME. Without it, values that cannot be understood are
// shown by their metadata and api.AnnotationUnreadable in lists and watches,
// and as an error on their own.
const ParamStored = "stored"

func (s *Server) newView(r *request) (view, error) {
	headed := false
	v := view{kind: r.desc, shape: negotiate(r.Header.Get("Accept")), now: s.cfg.Now(), headed: &headed, stored: r.flag(ParamStored)}
	if v.shape == shapeNone {
		return v, failure(http.StatusNotAcceptable, api.ReasonNotAcceptable,
			"Accept %q: the server writes application/json, also with as=Table or as=PartialObjectMetadata;g=meta.k8s.io;v=v1", r.Header.Get("Accept"))
	}
	switch o := r.query.Get("includeObject"); o {
	case "", "Metadata":
	case "Object":
		v.whole = true
	case "None":
		v.none = true
	default:
		return v, failure(http.StatusBadRequest, api.ReasonBadRequest, "includeObject %q: want Metadata, Object or None", o)
	}
	return v, nil
}

// The forms of meta.k8s.io/v1.
const metaVersion = "meta.k8s.io/v1"

type (
	table struct {
		Kind       string        `json:"kind"`
		APIVersion string        `json:"apiVersion"`
		Metadata   api.ListMeta  `json:"metadata"`
		Columns    []tableColumn `json:"columnDefinitions"`
		Rows       []tableRow    `json:"rows"`
	}
	tableColumn struct {
		Name        string `json:"name"`
		Type        string `json:"type"`
		Format      string `json:"format"`
		Description string `json:"description"`
		Priority    int    `json:"priority"`
	}
	tableRow struct {
		Cells  []string `json:"cells"`
		Object any      `json:"object,omitempty"`
	}
	partial struct {
		Kind       string   `json:"kind"`
		APIVersion string   `json:"apiVersion"`
		Metadata   api.Meta `json:"metadata"`
	}
)

// rawValue is a value that cannot be understood, for a client that wants it
// as it is stored.
type rawValue struct {
	api.TypeMeta
	Metadata api.Meta `json:"metadata"`
	Raw      []byte   `json:"raw"`
}

// one is a single object.
func (v view) one(o api.Object) any {
	switch v.shape {
	case shapeTable:
		t := v.table([]api.Object{o}, api.ListMeta{ResourceVersion: o.Metadata().ResourceVersion})
		if *v.headed {
			t.Columns = nil
		}
		*v.headed = true
		return t
	case shapePartial:
		return v.partial(o)
	case shapeObject:
		return v.object(o)
	default:
		panic(fmt.Sprintf("apiserver: view of shape %d", v.shape))
	}
}

// object is the object itself.
func (v view) object(o api.Object) any {
	u, bad := o.(*api.Unreadable)
	if !bad || !v.stored {
		return o
	}
	m := u.Meta
	m.Name, m.Namespace = u.K.Name, u.K.Namespace
	m.Annotations = map[string]string{api.AnnotationUnreadable: u.Err.Error()}
	return rawValue{TypeMeta: v.kind.head(), Metadata: m, Raw: u.Raw}
}

// plain reports whether o is shown as its own JSON.
func (v view) plain(o api.Object) bool {
	_, bad := o.(*api.Unreadable)
	return v.shape == shapeObject && !(bad && v.stored)
}

// list is a list of objects.
func (v view) list(objs []api.Object, meta api.ListMeta) any {
	if v.shape == shapeTable {
		return v.table(objs, meta)
	}
	l := api.List[any]{Kind: string(v.kind.Kind) + "List", APIVersion: v.kind.APIVersion(), Metadata: meta, Items: []any{}}
	if v.shape == shapePartial {
		l.Kind, l.APIVersion = "PartialObjectMetadataList", metaVersion
	}
	for _, o := range objs {
		l.Items = append(l.Items, v.one(o))
	}
	return l
}

func (v view) partial(o api.Object) partial {
	m := *o.Metadata()
	k := o.Key()
	m.Name, m.Namespace = k.Name, k.Namespace
	if u, bad := o.(*api.Unreadable); bad {
		m.Annotations = map[string]string{api.AnnotationUnreadable: u.Err.Error()}
	}
	return partial{Kind: "PartialObjectMetadata", APIVersion: metaVersion, Metadata: m}
}

// table is objects as rows: the columns of their kind and their age.
func (v view) table(objs []api.Object, meta api.ListMeta) *table {
	t := &table{Kind: "Table", APIVersion: metaVersion, Metadata: meta, Rows: []tableRow{}}
	for _, c := range v.kind.Columns {
		tc := tableColumn{Name: c.Name, Type: "string"}
		if c.Name == "NAME" {
			tc.Format = "name"
		}
		if c.Wide {
			tc.Priority = 1
		}
		t.Columns = append(t.Columns, tc)
	}
	t.Columns = append(t.Columns, tableColumn{Name: "AGE", Type: "string", Description: "Time since the object was created."})
	for _, o := range objs {
		row := tableRow{}
		for _, c := range v.kind.Columns {
			row.Cells = append(row.Cells, c.Value(o))
		}
		row.Cells = append(row.Cells, age(o.Metadata().CreationTimestamp, v.now))
		switch {
		case v.whole:
			row.Object = v.object(o)
		case !v.none:
			row.Object = v.partial(o)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// bookmark is the object of a BOOKMARK event.
func (v view) bookmark(rev api.Revision, initialEnd bool) any {
	m := api.Meta{ResourceVersion: revisionText(rev)}
	if initialEnd {
		m.Annotations = map[string]string{"k8s.io/initial-events-end": "true"}
	}
	head := v.kind.head()
	switch v.shape {
	case shapeTable:
		// The row carries the annotations, as clients look for them there.
		return &table{Kind: "Table", APIVersion: metaVersion, Metadata: api.ListMeta{ResourceVersion: m.ResourceVersion},
			Rows: []tableRow{{Cells: []string{}, Object: partial{Kind: "PartialObjectMetadata", APIVersion: metaVersion, Metadata: m}}}}
	case shapePartial:
		return partial{Kind: "PartialObjectMetadata", APIVersion: metaVersion, Metadata: m}
	default:
		data, err := json.Marshal(struct {
			api.TypeMeta
			Metadata api.Meta `json:"metadata"`
		}{head, m})
		if err != nil {
			panic(fmt.Sprintf("apiserver: bookmark: %v", err))
		}
		return json.RawMessage(data)
	}
}

// age is the time since, in one or two units, as people read it: 45s, 12m,
// 3h20m, 5d4h, 400d.
func age(since api.Time, now time.Time) string {
	if since.IsZero() {
		return "<unknown>"
	}
	d := max(now.Sub(since.Time), 0)
	two := func(big int64, bigUnit string, small int64, smallUnit string, until int64) string {
		if big >= until || small == 0 {
			return fmt.Sprintf("%d%s", big, bigUnit)
		}
		return fmt.Sprintf("%d%s%d%s", big, bigUnit, small, smallUnit)
	}
	s := int64(d / time.Second)
	switch {
	case s < 120:
		return fmt.Sprintf("%ds", s)
	case s < 3*3600:
		return two(s/60, "m", s%60, "s", 10)
	case s < 48*3600:
		return two(s/3600, "h", s/60%60, "m", 8)
	case s < 365*24*3600:
		return two(s/86400, "d", s/3600%24, "h", 8)
	default:
		return two(s/86400/365, "y", s/86400%365, "d", 8)
	}
}
