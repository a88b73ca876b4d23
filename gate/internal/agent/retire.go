package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Retire asks every node of the cluster to take enforcement off, and returns once all of
// them did. The error names those that did not within the time.
func Retire(ctx context.Context, api *API, within time.Duration, say func(string)) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	told := map[string]bool{}
	var left []string
	for {
		still, err := retire(ctx, api, told, say)
		switch {
		case err == nil && len(still) == 0:
			return nil
		case err == nil:
			left = still
		}
		if ctx.Err() == nil && err != nil {
			say(err.Error() + "; asked again")
		}
		if pause(ctx, time.Second); ctx.Err() != nil {
			return errors.Join(fmt.Errorf("still under enforcement after %s: %s", within, strings.Join(left, ", ")), err)
		}
	}
}

// retire asks those that were not asked, and names those that are not done.
func retire(ctx context.Context, api *API, told map[string]bool, say func(string)) (left []string, err error) {
	var list struct {
		Items []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
			Spec   struct{ Retire bool } `json:"spec"`
			Status State                 `json:"status"`
		} `json:"items"`
	}
	if err := api.get(ctx, nodes, &list); err != nil {
		return nil, err
	}
	for _, one := range list.Items {
		name := one.Metadata.Name
		if !one.Spec.Retire {
			body := map[string]any{"spec": map[string]any{"retire": true}}
			if err := api.do(ctx, http.MethodPatch, nodes+"/"+name, mergePatch, body, nil); err != nil {
				return nil, err
			}
		}
		if one.Status.Phase == Removed {
			if !told[name] {
				told[name] = true
				say(name + ": as it was before")
			}
			continue
		}
		left = append(left, name)
	}
	slices.Sort(left)
	return left, nil
}
