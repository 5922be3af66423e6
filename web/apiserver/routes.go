// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net/http"

	"github.com/gorilla/mux"

	"github.com/ripstop/ripstop/daemon/api"
)

// access says who may take a route. The zero value is nobody: a route that
// says nothing is refused.
type access uint8

const (
	nobody access = iota
	// anybody, known or not.
	anybody
	// known identities.
	known
	// asked: who has a right to the route's verb on the resource that the
	// path names.
	asked
)

// route is one line of the API.
type route struct {
	method string
	path   string
	access access
	// verb is what the right is to; a list with watch=true is a watch. Empty
	// is the method.
	verb   string
	handle func(*Server, *request) response
}

// routes is the whole API: path, access, handler. What is not here is 404 or
// 405, what has no access is 403.
var routes = []route{
	{"GET", "/healthz", anybody, "", (*Server).getHealth},
	{"GET", "/livez", anybody, "", (*Server).getHealth},
	{"GET", "/readyz", anybody, "", (*Server).getReady},
	{"GET", "/version", known, "", (*Server).getVersion},
	{"GET", "/openapi/v2", known, "", (*Server).getOpenAPI2},
	{"GET", "/openapi/v3", known, "", (*Server).getOpenAPI3},
	{"GET", "/openapi/v3/api/{version}", known, "", (*Server).getOpenAPI3Of},
	{"GET", "/openapi/v3/apis/{group}/{version}", known, "", (*Server).getOpenAPI3Of},

	{"GET", "/api", known, "", (*Server).getCoreVersions},
	{"GET", "/api/{version}", known, "", (*Server).getResources},
	{"GET", "/apis", known, "", (*Server).getGroups},
	{"GET", "/apis/{group}", known, "", (*Server).getGroup},
	{"GET", "/apis/{group}/{version}", known, "", (*Server).getResources},

	{"POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", known, "create", (*Server).reviewAccess},
	{"POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", known, "create", (*Server).reviewRules},
	{"POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", known, "create", (*Server).reviewSelf},

	{"POST", api.ChangeRequestPath, known, "create", (*Server).requestChange},
	{"POST", "/apis/" + api.VersionOurs + "/changes/{name}/confirm", known, "update", (*Server).confirmChange},
	{"POST", "/apis/" + api.VersionOurs + "/changes/{name}/rollback", known, "update", (*Server).refuseChange},

	{"GET", "/api/{version}/{plural}", asked, "list", (*Server).listOrWatch},
	{"POST", "/api/{version}/{plural}", asked, "create", (*Server).create},
	{"DELETE", "/api/{version}/{plural}", asked, "deletecollection", (*Server).deleteCollection},
	{"GET", "/api/{version}/{plural}/{name}", asked, "get", (*Server).get},
	{"PUT", "/api/{version}/{plural}/{name}", asked, "update", (*Server).update},
	{"PATCH", "/api/{version}/{plural}/{name}", asked, "patch", (*Server).patch},
	{"DELETE", "/api/{version}/{plural}/{name}", asked, "delete", (*Server).delete},
	{"GET", "/api/{version}/{plural}/{name}/{subresource:status}", asked, "get", (*Server).get},
	{"PUT", "/api/{version}/{plural}/{name}/{subresource:status}", asked, "update", (*Server).update},
	{"PATCH", "/api/{version}/{plural}/{name}/{subresource:status}", asked, "patch", (*Server).patch},

	{"GET", "/apis/{group}/{version}/namespaces/{namespace}/{plural}", asked, "list", (*Server).listOrWatch},
	{"POST", "/apis/{group}/{version}/namespaces/{namespace}/{plural}", asked, "create", (*Server).create},
	{"DELETE", "/apis/{group}/{version}/namespaces/{namespace}/{plural}", asked, "deletecollection", (*Server).deleteCollection},
	{"GET", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", asked, "get", (*Server).get},
	{"PUT", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", asked, "update", (*Server).update},
	{"PATCH", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", asked, "patch", (*Server).patch},
	{"DELETE", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}", asked, "delete", (*Server).delete},

	{"GET", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/{subresource:status}", asked, "get", (*Server).get},
	{"PUT", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/{subresource:status}", asked, "update", (*Server).update},
	{"PATCH", "/apis/{group}/{version}/namespaces/{namespace}/{plural}/{name}/{subresource:status}", asked, "patch", (*Server).patch},

	{"GET", "/apis/{group}/{version}/{plural}", asked, "list", (*Server).listOrWatch},
	{"POST", "/apis/{group}/{version}/{plural}", asked, "create", (*Server).create},
	{"DELETE", "/apis/{group}/{version}/{plural}", asked, "deletecollection", (*Server).deleteCollection},
	{"GET", "/apis/{group}/{version}/{plural}/{name}", asked, "get", (*Server).get},
	{"PUT", "/apis/{group}/{version}/{plural}/{name}", asked, "update", (*Server).update},
	{"PATCH", "/apis/{group}/{version}/{plural}/{name}", asked, "patch", (*Server).patch},
	{"DELETE", "/apis/{group}/{version}/{plural}/{name}", asked, "delete", (*Server).delete},
	{"GET", "/apis/{group}/{version}/{plural}/{name}/{subresource:status}", asked, "get", (*Server).get},
	{"PUT", "/apis/{group}/{version}/{plural}/{name}/{subresource:status}", asked, "update", (*Server).update},
	{"PATCH", "/apis/{group}/{version}/{plural}/{name}/{subresource:status}", asked, "patch", (*Server).patch},
}

// newRouter puts the table into a mux. Paths are matched as they were sent,
// still escaped and not cleaned: "..", "//" and "%2f" never become another
// path; newRequest unescapes and checks each part by itself.
func (s *Server) newRouter() *mux.Router {
	m := mux.NewRouter().UseEncodedPath().SkipClean(true)
	for _, rt := range routes {
		m.Handle(rt.path, s.enter(rt)).Methods(rt.method)
	}
	m.NotFoundHandler = s.enter(route{access: asked, handle: (*Server).noSuchPath})
	m.MethodNotAllowedHandler = s.enter(route{access: asked, handle: (*Server).noSuchMethod})
	return m
}

// enter is the one way into a handler: who, how much, may they, do it, answer.
func (s *Server) enter(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		began := s.cfg.Now()
		r, perr := s.newRequest(hr, rt)
		defer func() {
			if p := recover(); p != nil { // guard answers it
				s.record(r, rt, response{code: http.StatusInternalServerError})
				panic(p)
			}
		}()
		err := s.authenticate(r)
		if done, full := s.limiter.admit(r); full != nil {
			err = full
		} else {
			defer done()
		}
		if err == nil {
			err = s.identify(r, rt)
		}
		if err == nil {
			err = perr
		}
		if err == nil {
			err = s.admit(r, rt)
		}
		if err == nil && rt.access == asked && rt.verb != "" {
			err = s.resolve(r)
		}
		var resp response
		if err != nil {
			resp = s.failed(r, err)
		} else {
			resp = rt.handle(s, r)
		}
		if resp.code == http.StatusUnauthorized {
			if r.guess {
				s.limiter.refused(r)
			}
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
		s.record(r, rt, resp)
		s.answer(w, r, resp)
		s.log.Debug("Request done", "request_id", requestIDOf(r.Context()), "user", r.id.String(), "method", r.Method,
			"path", r.URL.Path, "code", resp.code, "took", s.cfg.Now().Sub(began))
	})
}
