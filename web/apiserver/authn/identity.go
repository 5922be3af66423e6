// SPDX-License-Identifier: Apache-2.0

package authn

import "time"

// Groups that the server itself gives to identities, or that only who may do
// everything can put into a Credential. They carry a colon, so no group of a
// machine can be mistaken for one.
const (
	// GroupAdmins may do everything.
	GroupAdmins = "ripstop:admins"
	// GroupAuthenticated is everybody whose name the server knows.
	GroupAuthenticated = "ripstop:authenticated"
	// GroupNodes are the agents of hosts; the user of one is UserNodePrefix and
	// the host's name.
	GroupNodes = "ripstop:nodes"
)

// Prefixes of names. What stands behind one is named by somebody else.
const (
	// UserNodePrefix begins the user of a host's agent.
	UserNodePrefix = "node:"
	// GroupUnixPrefix begins the groups of a peer on a Unix socket, as this
	// machine names them.
	GroupUnixPrefix = "unix:"
	// OIDCPrefix begins users and groups that an OpenID Connect issuer names.
	OIDCPrefix = "oidc:"
)

// Identity is who makes a request.
type Identity struct {
	// User is the name; empty for somebody unknown.
	User string
	// Groups are what rights go by besides the name.
	Groups []string
	// Via is "unix" or "tcp".
	Via string
	// Method is how the server knows: one of the Methods; empty for somebody
	// unknown.
	Method Method
	// Credential names what was shown, without giving it away: the name of a
	// Credential, the subject and id of an issuer's token, the process at the
	// other end of a socket ("pid:1234"). It is for the record only.
	Credential string
	// Until is when it is no longer good; zero for a peer.
	Until time.Time
}

// Method is a way in which somebody shows who he is.
type Method string

// The ways there are.
const (
	// MethodSocket: the kernel names the peer of a Unix socket.
	MethodSocket Method = "socket"
	// MethodCertificate: a client certificate of the server's CA.
	MethodCertificate Method = "certificate"
	// MethodToken: a bearer token that a Credential stands for.
	MethodToken Method = "token"
	// MethodOIDC: a token of an OpenID Connect issuer.
	MethodOIDC Method = "oidc"
)

// Known reports whether the server knows who this is.
func (i Identity) Known() bool { return i.User != "" }

// String is the name and the way, for logs and errors.
func (i Identity) String() string {
	if !i.Known() {
		return "anonymous (" + i.Via + ")"
	}
	return i.User + " (" + i.Via + ")"
}
