// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"math"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/ripstop/ripstop/daemon/api"
)

// Limits bound what clients may take from a Server. A limit that is hit
// refuses the request or closes the connection; nothing is ever cut off and
// then used. The zero value of a field is its default, in parentheses.
type Limits struct {
	// HeaderTime is how long a client may take for the TLS handshake and for
	// a request's header (5 s), BodyTime for a body (15 s), AnswerTime for
	// reading the answer (30 s; a watch has as long for each event), IdleTime
	// between two requests (60 s).
	HeaderTime, BodyTime, AnswerTime, IdleTime time.Duration
	// Rate is how many requests a second one identity may make (50), with
	// Burst at once (300): what kubectl keeps to by itself. Whom the server
	// does not know is counted by address.
	Rate  float64
	Burst int
	// AdminRate (5,000) and AdminBurst (10,000) are those of admins on the
	// Unix socket.
	AdminRate  float64
	AdminBurst int
	// Requests is how many requests of one identity are worked on at once
	// (64), AllRequests how many of everybody together (400). Watches are not
	// counted.
	Requests, AllRequests int
	// Watches is how many watches one identity may have (64), AdminWatches
	// how many an admin on the Unix socket may have (4,096).
	Watches, AdminWatches int
	// Logins is how many times a minute an address may show a credential that
	// is not accepted and may be a guess (5). After that nothing is accepted from it for 12 s,
	// and for twice as long each time it happens again, up to 15 minutes.
	Logins int
	// Connections is how many TCP connections there may be (512), and
	// ConnectionsPerAddress how many of them from one address (32; of IPv6,
	// from one /64). Further ones are closed unread.
	Connections, ConnectionsPerAddress int
}

// Bounds of what a client sends.
const (
	maxBody   = 1 << 20
	maxHeader = 16 << 10
	maxURL    = 8 << 10
	// maxStreams is how many requests one HTTP/2 connection may have open.
	maxStreams = 100
)

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&l.HeaderTime, 5 * time.Second}, {&l.BodyTime, 15 * time.Second},
		{&l.AnswerTime, 30 * time.Second}, {&l.IdleTime, 60 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Burst, 300}, {&l.AdminBurst, 10_000}, {&l.Requests, 64}, {&l.AllRequests, 400}, {&l.Watches, 64},
		{&l.AdminWatches, 4096}, {&l.Logins, 5}, {&l.Connections, 512}, {&l.ConnectionsPerAddress, 32},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Rate == 0 {
		l.Rate = 50
	}
	if l.AdminRate == 0 {
		l.AdminRate = 5000
	}
	return l
}

// maxAccounts bounds the memory that strangers can make a limiter take. Who
// comes when it is full shares one account with all others who do.
const maxAccounts = 16 << 10

// limiter counts what identities and addresses take.
type limiter struct {
	limits Limits
	now    func() time.Time

	mu       sync.Mutex // guards what follows
	accounts map[string]*account
	running  int // requests of everybody, without watches
	failures map[string]*strikes
}

// account is what one identity has taken.
type account struct {
	bucket            *rate.Limiter
	requests, watches int
}

// strikes is how often an address has shown what was not accepted.
type strikes struct {
	bucket *rate.Limiter
	wait   time.Duration // how long the last time; zero: it did not happen
	until  time.Time
}

func newLimiter(l Limits, now func() time.Time) *limiter {
	return &limiter{limits: l, now: now, accounts: map[string]*account{}, failures: map[string]*strikes{}}
}

// isAdminOnSocket reports whether the limits of admins hold: on the Unix socket only,
// since a certificate or token can be stolen and used from anywhere.
func isAdminOnSocket(id Identity) bool {
	return id.Via == "unix" && slices.Contains(id.Groups, GroupAdmins)
}

// admit takes a request into account, or refuses it with a Status 429. done
// must be called when the request is answered.
func (l *limiter) admit(r *request) (done func(), err error) {
	origin := originOf(r.RemoteAddr)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	a := l.account(r.id, origin, now)
	if res := a.bucket.ReserveN(now, 1); !res.OK() || res.DelayFrom(now) > 0 {
		wait := res.DelayFrom(now)
		res.CancelAt(now)
		return nil, tooMany(wait, "%s makes more than %v requests a second", r.id, a.bucket.Limit())
	}
	watches := l.limits.Watches
	if isAdminOnSocket(r.id) {
		watches = l.limits.AdminWatches
	}
	switch {
	case r.watch && a.watches >= watches:
		return nil, tooMany(time.Second, "%s has %d watches, which is as many as one may have: end some", r.id, a.watches)
	case !r.watch && a.requests >= l.limits.Requests:
		return nil, tooMany(time.Second, "%s has %d requests under way, which is as many as one may have: wait for some", r.id, a.requests)
	case !r.watch && l.running >= l.limits.AllRequests:
		return nil, tooMany(time.Second, "the server works on %d requests, which is as many as it takes", l.running)
	}
	count := func(n int) {
		if r.watch {
			a.watches += n
		} else {
			a.requests += n
			l.running += n
		}
	}
	count(1)
	return func() { l.mu.Lock(); defer l.mu.Unlock(); count(-1) }, nil
}

// struck refuses to look at what somebody shows whose address has shown too
// often what was not accepted.
func (l *limiter) struck(r *request) error {
	if !shownCredential(r.Request) {
		return nil
	}
	origin := originOf(r.RemoteAddr)
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, now := l.failures[origin], l.now(); f != nil && now.Before(f.until) {
		return tooMany(f.until.Sub(now), "%d failed logins came from %s within a minute: none is looked at for a while", l.limits.Logins, origin)
	}
	return nil
}

// account is that of an identity, or of the address of somebody unknown. It
// wants mu.
func (l *limiter) account(id Identity, origin string, now time.Time) *account {
	name := "address " + origin
	if id.Known() {
		name = "user " + id.Via + " " + id.User
	}
	a := l.accounts[name]
	if a != nil {
		return a
	}
	if len(l.accounts) >= maxAccounts {
		for name, a := range l.accounts {
			if a.requests == 0 && a.watches == 0 && a.bucket.TokensAt(now) >= float64(a.bucket.Burst()) {
				delete(l.accounts, name)
			}
		}
	}
	if len(l.accounts) >= maxAccounts {
		name = "others"
		if a := l.accounts[name]; a != nil {
			return a
		}
	}
	a = &account{bucket: rate.NewLimiter(rate.Limit(l.limits.Rate), l.limits.Burst)}
	if isAdminOnSocket(id) {
		a.bucket = rate.NewLimiter(rate.Limit(l.limits.AdminRate), l.limits.AdminBurst)
	}
	l.accounts[name] = a
	return a
}

// longest is how long an address waits at most after failed logins.
const longest = 15 * time.Minute

// refused notes that a request showed a credential that anybody could have
// made up. A token that has expired does not count: a program that goes on with
// it would lock out everybody behind its address.
func (l *limiter) refused(r *request) {
	origin := originOf(r.RemoteAddr)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	f := l.failures[origin]
	if f == nil {
		if len(l.failures) >= maxAccounts {
			for name, f := range l.failures {
				if now.Sub(f.until) > longest {
					delete(l.failures, name)
				}
			}
		}
		if len(l.failures) >= maxAccounts {
			return // the account of the address still bounds it
		}
		f = &strikes{bucket: rate.NewLimiter(rate.Every(time.Minute/time.Duration(l.limits.Logins)), l.limits.Logins)}
		l.failures[origin] = f
	}
	if now.Sub(f.until) > longest {
		f.wait = 0
	}
	if !f.bucket.AllowN(now, 1) {
		f.wait = min(max(2*f.wait, 12*time.Second), longest)
		f.until = now.Add(f.wait)
	}
}

// shownCredential reports whether a request says who makes it, other than by
// where it comes from.
func shownCredential(hr *http.Request) bool {
	return hr.Header.Get("Authorization") != "" || hr.TLS != nil && len(hr.TLS.PeerCertificates) > 0
}

// tooMany is a Status 429 that says when to come again.
func tooMany(wait time.Duration, format string, args ...any) error {
	st := failure(http.StatusTooManyRequests, api.ReasonTooManyRequests, format, args...)
	st.Details = &api.StatusDetails{RetryAfterSeconds: max(1, int(math.Ceil(wait.Seconds())))}
	return st
}

// originOf is where a request comes from: the address without its port, of
// IPv6 the /64, which one machine has for itself. The Unix socket is "socket".
func originOf(remote string) string {
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return "socket"
	}
	addr := a.Addr().Unmap().WithZone("")
	if addr.Is6() && !addr.IsLoopback() {
		if p, err := addr.Prefix(64); err == nil {
			return p.String()
		}
	}
	return addr.String()
}
