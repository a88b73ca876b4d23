package agent

import (
	"context"
	"net/http"

	"countersign/gate/internal/relay"
)

// MayScrape asks the API server whether whoever has this token may read metrics, as its own
// are guarded: a TokenReview, and a SubjectAccessReview of GET /metrics (kubernetes.io,
// "Authorization": non-resource requests). The error is relay.ErrNobody, relay.ErrForbidden,
// or why it could not be asked.
func (a *API) MayScrape(ctx context.Context, token string) error {
	var authenticated struct {
		Status struct {
			Authenticated bool `json:"authenticated"`
			User          struct {
				Username string              `json:"username"`
				UID      string              `json:"uid,omitempty"`
				Groups   []string            `json:"groups,omitempty"`
				Extra    map[string][]string `json:"extra,omitempty"`
			} `json:"user"`
		} `json:"status"`
	}
	review := map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": map[string]any{"token": token}}
	if err := a.do(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", "application/json", review, &authenticated); err != nil {
		return err
	}
	user := authenticated.Status.User
	if !authenticated.Status.Authenticated || user.Username == "" {
		return relay.ErrNobody
	}
	var access struct {
		Status struct {
			Allowed bool `json:"allowed"`
			Denied  bool `json:"denied"`
		} `json:"status"`
	}
	asked := map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": map[string]any{
			"user": user.Username, "uid": user.UID, "groups": user.Groups, "extra": user.Extra,
			"nonResourceAttributes": map[string]any{"path": "/metrics", "verb": "get"},
		},
	}
	if err := a.do(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", "application/json", asked, &access); err != nil {
		return err
	}
	if !access.Status.Allowed || access.Status.Denied {
		return relay.ErrForbidden
	}
	return nil
}
