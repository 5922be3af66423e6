package nftables
import ("testing";"log/slog";"math/rand/v2";"net/netip";"github.com/ripstop/ripstop/daemon/internal/netnstest";"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset")
func TestDbz(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	cfg := Default(); cfg.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	f := open(t, inj.NS, cfg)
	f.Want(set("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	f.Want(chain("in"), &ruleset.Chain{Hook:ruleset.HookInput, Rules: []ruleset.Rule{{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"s"}}, Action: ruleset.Action{Verb:ruleset.Accept}},{Action: ruleset.Action{Verb:ruleset.Drop}}}})
	nets := []string{"0.0.0.0/0","10.0.0.0/8","10.1.0.0/16","10.1.0.0/25","10.1.0.128/25","10.1.0.2/32","128.0.0.0/1","255.255.255.255/32"}
	r := rand.New(rand.NewPCG(5,5))
	for i:= range 40 {
		n := nets[r.IntN(len(nets))]
		op := "want"
		if r.IntN(2)==0 { f.Want(member("s",n),ruleset.Member{}) } else { op="unwant"; f.Unwant(member("s",n)) }
		reconcile(t,f)
		in := false
		f.sets["s"].m.each(func(e ruleset.Element){ in = in || e.Net.Contains(netip.MustParseAddr("10.1.0.2"))})
		got := inj.In("rstun0", netnstest.Packet{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: 17})
		t.Log(i, op, n, in, got)
		if got != in {
			kn := f.sets["s"].kname; t.Log(inj.NS.Run("nft","list","ruleset")); rr, _ := f.readElements(kn, f.k.sets[kn].spec)
			for i := range rr.Len() { t.Logf("%v end=%v", rr.key(i), rr.end(i)) }
			t.Log(f.sets["s"].kname)
		 	t.Fatal("x") }
	}
}
