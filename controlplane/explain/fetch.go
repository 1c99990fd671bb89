package explain

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tollgate-apim/tollgate/table"
)

// Fetch returns the table that a control plane serves at the base URL endpoint.
// The client's redirects are not followed: the token must not go elsewhere.
func Fetch(ctx context.Context, client *http.Client, endpoint, token string) (*table.Table, error) {
	stay := *client
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(endpoint, "/")+table.Path, http.NoBody)
	if err != nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" || r.URL.User != nil {
		// The URL is not repeated: it may hold a password.
		return nil, errors.New("--endpoint: must be an absolute http or https URL without a user name, such as http://127.0.0.1:7070")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := stay.Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetching table: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		hint := ""
		if res.StatusCode == http.StatusUnauthorized || res.StatusCode == http.StatusForbidden {
			hint = " (check --token-file)"
		}
		return nil, fmt.Errorf("fetching table: %s%s", res.Status, hint)
	}
	data, err := table.Read(res.Body, table.DefaultMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("fetching table: %w", err)
	}
	t, err := table.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("fetching table: %w", err)
	}
	return t, nil
}
