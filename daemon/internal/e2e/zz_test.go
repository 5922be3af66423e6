package e2e
import ("testing";"time")
func TestZZ(t *testing.T) {
	g := newGuarded(t, false, "")
	for n := range 12 {
		b := time.Now()
		rev := g.srv.put(t, chaosPolicies(n))
		p := time.Since(b)
		g.agent.applied(t, rev)
		t.Log(n, p, time.Since(b)-p)
	}
	b := time.Now()
	g.agent.stop()
	t.Log("stop", time.Since(b))
	b = time.Now()
	g.srv.stop()
	t.Log("stop", time.Since(b))
}
