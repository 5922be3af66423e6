package impact
import ("testing";"math/rand/v2";"maps";"slices";"github.com/ripstop/ripstop/daemon/api";"encoding/json")
func TestDbg(t *testing.T) {
	g := &generator{rand.New(rand.NewPCG(*seedFlag, 0))}
	objs := g.objects()
	then := maps.Clone(objs)
	for range 1 + g.IntN(2) {
		keys := slices.SortedFunc(maps.Keys(objs), api.Key.Compare)
		switch k := pick(g, keys...); g.IntN(3) {
		case 0: delete(then, k); t.Log("delete", k)
		default: o := g.object(g.IntN(14)); t.Log("put", o.Key()); then[o.Key()] = o
		}
	}
	for _, m := range []map[api.Key]api.Object{objs, then} {
		t.Log("-----")
		for k, o := range m { if k.Kind==api.KindWorkloadEndpoint || k.Kind==api.KindHostEndpoint || k.Kind==api.KindProfile { b,_ := json.Marshal(o); t.Log(k, string(b)) } }
	}
	s := newStudy(pictureFrom(objs), pictureFrom(then))
	for _, c := range s.affected() { for _, e := range c.endpoints { t.Log("class", c.whole, s.rulesOnly(c), e.key, e.place) } }
}
