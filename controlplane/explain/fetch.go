package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"

	"github.com/tollgate-apim/tollgate/table"
)

// typeOfIndex is the media type of a table in parts.
const typeOfIndex = "application/vnd.tollgate.index+json"

// attempts is how often a table is fetched whose parts go away meanwhile.
const attempts = 3

// errGone says that something is not there, or not any more.
var errGone = errors.New("nothing is there")

// Fetch returns the table that a control plane serves at the base URL endpoint,
// as one document, even if it comes in parts. The client's redirects are not
// followed: the token must not go elsewhere.
func Fetch(ctx context.Context, client *http.Client, endpoint, token string) (*table.Table, error) {
	stay := *client
	stay.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	f := fetcher{client: &stay, endpoint: strings.TrimRight(endpoint, "/"), token: token}
	for attempt := 1; ; attempt++ {
		t, err := f.table(ctx)
		if err == nil || attempt == attempts || !errors.Is(err, errGone) {
			return t, err
		}
	}
}

// fetcher knows where to ask, and how.
type fetcher struct {
	client          *http.Client
	endpoint, token string
}

func (f fetcher) table(ctx context.Context) (*table.Table, error) {
	data, err := f.get(ctx, table.Path, table.DefaultMaxBytes)
	if err != nil {
		return nil, fmt.Errorf("fetching table: %w", err)
	}
	t, err := table.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("fetching table: %w", err)
	}
	if len(t.Parts) == 0 {
		return t, nil
	}
	whole := &table.Table{
		Revision: t.Revision, IssuedAt: t.IssuedAt, Plans: t.Plans, APIs: t.APIs,
		Subscriptions: map[string]table.Subscription{}, Applications: map[string]table.Application{}, Keys: map[string][]table.Holder{},
	}
	for i, sum := range t.Parts {
		if err := f.part(ctx, sum, whole); err != nil {
			return nil, fmt.Errorf("fetching part %d of %d: %w", i+1, len(t.Parts), err)
		}
	}
	return whole, nil
}

// part adds the rows of a part to whole.
func (f fetcher) part(ctx context.Context, sum string, whole *table.Table) error {
	data, err := f.get(ctx, table.PartPath(sum), table.MaxPartBytes)
	if err != nil {
		return err
	}
	if _, err := table.ParsePart(sum, data); err != nil {
		return err
	}
	var rows table.Table
	if err := json.Unmarshal(data, &rows); err != nil {
		return err
	}
	maps.Copy(whole.Subscriptions, rows.Subscriptions)
	maps.Copy(whole.Applications, rows.Applications)
	maps.Copy(whole.Keys, rows.Keys)
	return nil
}

// get returns what a path is answered with.
func (f fetcher) get(ctx context.Context, path string, maxBytes int64) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, f.endpoint+path, http.NoBody)
	if err != nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" || r.URL.User != nil {
		// The URL is not repeated: it may hold a password.
		return nil, errors.New("--endpoint: must be an absolute http or https URL without a user name, such as http://127.0.0.1:7070")
	}
	r.Header.Set("Accept", typeOfIndex+", application/json")
	if f.token != "" {
		r.Header.Set("Authorization", "Bearer "+f.token)
	}
	res, err := f.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusOK:
		return table.Read(res.Body, maxBytes)
	case http.StatusUnauthorized:
		return nil, fmt.Errorf("%s (check --token-file)", res.Status)
	case http.StatusForbidden:
		return nil, fmt.Errorf("%s (check --token-file, --client-cert and --client-key)", res.Status)
	case http.StatusNotFound:
		return nil, fmt.Errorf("%w: %s", errGone, res.Status)
	default:
		return nil, errors.New(res.Status)
	}
}
