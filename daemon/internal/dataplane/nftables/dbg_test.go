package nftables
import ("testing";"math/rand/v2";"net/netip";"github.com/ripstop/ripstop/daemon/internal/netnstest";"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset";"time")
func TestDbg(t *testing.T) {
  seed := uint64(time.Now().UnixNano())
  r := rand.New(rand.NewPCG(seed,5))
  for k := range 60 {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	f := open(t, inj.NS, Default())
	f.Want(set("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	f.Want(chain("in"), &ruleset.Chain{Hook:ruleset.HookInput, Rules: []ruleset.Rule{{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"s"}}, Action: ruleset.Action{Verb:ruleset.Accept}},{Action: ruleset.Action{Verb:ruleset.Drop}}}})
	nets := []string{"0.0.0.0/0","10.0.0.0/8","10.1.0.0/16","10.1.0.0/25","10.1.0.128/25","10.1.0.2/32","128.0.0.0/1","255.255.255.255/32"}
	for i:= range 2000 {
		n := nets[r.IntN(len(nets))]
		op := "want"
		if r.IntN(2)==0 { f.Want(member("s",n),ruleset.Member{}) } else { op="unwant"; f.Unwant(member("s",n)) }
		reconcile(t,f)
		in := false
		f.sets["s"].m.each(func(e ruleset.Element){ in = in || e.Net.Contains(netip.MustParseAddr("10.1.0.2"))})
		got := inj.In("rstun0", netnstest.Packet{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: 17})
		if got != in {
			t.Log(k, i, op, n, in, got)
			var e error
			sc := setChange{kname: f.sets["s"].kname}
			for range 3 {
			t.Log("0", f.hasElement(sc, []byte{0,0,0,0}, false, &e), e)
			t.Log("255", f.hasElement(sc, []byte{255,255,255,255}, false, &e), e)
			t.Log(inj.NS.Run("nft","--debug=netlink","list","set","inet","ripstop",sc.kname))
			t.Log(inj.NS.Run("nft","add","table","x"))
			}
		 	t.Fatal("x") }
	}
	}
}
