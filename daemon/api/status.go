// SPDX-License-Identifier: Apache-2.0

package api

import "fmt"

// Status is the answer of the REST API when there is no object to give:
// Kubernetes' metav1.Status, kind "Status", apiVersion "v1". It is shared by
// the server and the client. As an error it reads as its Message.
type Status struct {
	Kind       string         `json:"kind"`
	APIVersion string         `json:"apiVersion"`
	Metadata   ListMeta       `json:"metadata"`
	Status     string         `json:"status,omitempty"` // StatusSuccess or StatusFailure
	Message    string         `json:"message,omitempty"`
	Reason     string         `json:"reason,omitempty"` // one of the Reasons below
	Details    *StatusDetails `json:"details,omitempty"`
	Code       int            `json:"code,omitempty"` // the HTTP status code
}

// StatusDetails says what a Status is about: details of metav1.Status.
type StatusDetails struct {
	Name  string `json:"name,omitempty"`
	Group string `json:"group,omitempty"`
	// Kind is the plural, as in the URL.
	Kind   string        `json:"kind,omitempty"`
	UID    string        `json:"uid,omitempty"`
	Causes []StatusCause `json:"causes,omitempty"`
	// RetryAfterSeconds is when to try again; 0: not said.
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty"`
}

// StatusCause is one fault of several.
type StatusCause struct {
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Field is the JSON path of the fault.
	Field string `json:"field,omitempty"`
}

// Outcomes of a request.
const (
	StatusSuccess = "Success"
	StatusFailure = "Failure"
)

// Reasons of a Status, as in Kubernetes.
const (
	ReasonBadRequest       = "BadRequest"
	ReasonUnauthorized     = "Unauthorized"
	ReasonForbidden        = "Forbidden"
	ReasonNotFound         = "NotFound"
	ReasonMethodNotAllowed = "MethodNotAllowed"
	ReasonNotAcceptable    = "NotAcceptable"
	ReasonAlreadyExists    = "AlreadyExists"
	ReasonConflict         = "Conflict"
	ReasonExpired          = "Expired"
	ReasonTooLarge         = "RequestEntityTooLarge"
	ReasonMediaType        = "UnsupportedMediaType"
	ReasonInvalid          = "Invalid"
	ReasonTooManyRequests  = "TooManyRequests"
	ReasonInternalError    = "InternalError"
	ReasonUnavailable      = "ServiceUnavailable"
	ReasonTimeout          = "Timeout"
)

// Failure is a Status of a failed request with HTTP status code.
func Failure(code int, reason, message string) *Status {
	return &Status{Kind: "Status", APIVersion: "v1", Status: StatusFailure, Message: message, Reason: reason, Code: code}
}

// Error is the message, or reason and code when there is none.
func (s *Status) Error() string {
	if s.Message != "" {
		return s.Message
	}
	return fmt.Sprintf("%s (%d)", s.Reason, s.Code)
}

// Causes are the faults in err as causes of a Status, in order.
func Causes(err error) []StatusCause {
	var causes []StatusCause
	for _, f := range Faults(err) {
		causes = append(causes, StatusCause{Reason: "FieldValueInvalid", Message: f.text(), Field: f.Path})
	}
	return causes
}

// ListMeta is the metadata of a list.
type ListMeta struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// Continue is a token with which the next part of the list is asked for;
	// empty: this is the end.
	Continue string `json:"continue,omitempty"`
	// RemainingItemCount is how many items come after this part.
	RemainingItemCount *int64 `json:"remainingItemCount,omitempty"`
}

// List is a list of objects as it is written: kind "<Kind>List", items never
// null.
type List[T any] struct {
	Kind       string   `json:"kind"`
	APIVersion string   `json:"apiVersion"`
	Metadata   ListMeta `json:"metadata"`
	Items      []T      `json:"items"`
}
