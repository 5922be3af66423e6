// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/policytest"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// maxTestQuestions bounds what the tests of one change ask: some seconds, in
// which no other change is made, with 1,000 policies that look at each packet.
const maxTestQuestions = 2000

// maxToldCases is how many failed cases a refusal tells.
const maxToldCases = 20

// judgeTests refuses a change after which a case of a PolicyTest fails, of
// those that are there then. What it says tells what policies do, so it is for
// those who may read all that is judged.
func (s *Server) judgeTests(ctx context.Context, r *request, req *api.ChangeRequest, st *staged) error {
	rights := s.cfg.Rights.Of(r.id)
	for _, k := range append(policy.Kinds(), api.KindPolicyTest) {
		if !rights.Grant(authz.Query{Verb: "list", Kind: k}).All() {
			return failure(http.StatusForbidden, api.ReasonForbidden,
				"spec.test: policy tests are judged by all resources, and user %q may not list all of kind %s", r.id.String(), k)
		}
	}
	objs, _, err := st.List(ctx, api.KindPolicyTest, store.ListOptions{})
	if err != nil {
		return err
	}
	var tests []*api.PolicyTest
	for _, o := range objs {
		t, is := o.(*api.PolicyTest)
		if !is {
			return failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "spec.test: %s cannot be read: write it anew, or delete it", o.Key())
		}
		tests = append(tests, t)
	}
	w, err := world(ctx, st)
	if err != nil {
		return err
	}
	results := policytest.Run(tests, w, maxTestQuestions)
	req.Status.Tested = len(results)
	for _, c := range results {
		req.Status.Unjudged += c.Unjudged
	}
	return refusal(results)
}

// refusal says which cases failed; nil: none did.
func refusal(results []policytest.Result) error {
	var failed []string
	n := 0
	for _, c := range results {
		if c.Passed {
			continue
		}
		if n++; n <= maxToldCases {
			text := c.String()
			if c.Why != "" {
				text += " (why: " + strings.Join(strings.Fields(c.Why), " ") + ")"
			}
			failed = append(failed, text)
		}
	}
	if n == 0 {
		return nil
	}
	head := fmt.Sprintf("%d of %d cases of policy tests would fail:", n, len(results))
	if n > maxToldCases {
		failed = append(failed, fmt.Sprintf("and %d more", n-maxToldCases))
	}
	return failure(http.StatusUnprocessableEntity, api.ReasonInvalid, "%s\n  %s", head, strings.Join(failed, "\n  "))
}
