package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// maxBytes is how large a document may be: that of ten thousand gateways is a few
// megabytes.
const maxBytes = 64 << 20

// Fetch returns what the control plane at the base URL endpoint says. The client's
// redirects are not followed: the token must not go elsewhere.
func Fetch(ctx context.Context, client *http.Client, endpoint, token string) (*Document, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(endpoint, "/")+Path, http.NoBody)
	if err != nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" || r.URL.User != nil {
		// The URL is not repeated: it may hold a password.
		return nil, errors.New("--endpoint: must be an absolute http or https URL without a user name, such as http://127.0.0.1:7070")
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	stay := *client
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := stay.Do(r)
	if err != nil {
		return nil, fmt.Errorf("fetching status: %w", err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("fetching status: %s (check --token-file)", res.Status)
	case http.StatusForbidden:
		return nil, fmt.Errorf("fetching status: %s (check --token-file, --client-cert and --client-key)", res.Status)
	case http.StatusNotFound:
		return nil, fmt.Errorf("fetching status: %s (no control plane there, or an old one)", res.Status)
	default:
		return nil, fmt.Errorf("fetching status: %s", res.Status)
	}
	d := &Document{}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxBytes)).Decode(d); err != nil {
		return nil, fmt.Errorf("fetching status: decoding: %w", err)
	}
	return d, nil
}
