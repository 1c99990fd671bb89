package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// maxDrain is how much of an unwanted body is read so that its connection can
// be used again. A longer one costs the connection.
const maxDrain = 64 << 10

// errNotModified says that a server took for known what it never sent.
var errNotModified = errors.New("status 304 Not Modified without a table that came with that ETag, expected status 200 with a table")

// answer is what the server said, taken off the network.
type answer struct {
	// notModified stands for a 304, which has no body.
	notModified bool
	etag        string
	contentType string
	body        []byte
}

// ask makes one exchange. It returns an error for everything but a 304 and a
// complete body with status 200.
func (f *Feed) ask(etag string) (answer, error) {
	ctx, cancel := context.WithTimeout(f.ctx, f.cfg.Timeout)
	defer cancel()
	a, err := f.exchange(ctx, etag)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return answer{}, fmt.Errorf("no complete answer within %s", f.cfg.Timeout)
	}
	return a, err
}

func (f *Feed) exchange(ctx context.Context, etag string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.cfg.Endpoint+table.Path, nil)
	if err != nil {
		return answer{}, errors.New("cannot be asked: expected a URL such as https://sync.example.com:7070")
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "tollgate")
	if f.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.cfg.Token)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}

	resp, err := f.client.Do(req)
	if err != nil {
		// A url.Error tells the URL again, user name included.
		if wrapped, ok := err.(*url.Error); ok { //nolint:errorlint // Do returns no other type
			err = wrapped.Err
		}
		return answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		_ = resp.Body.Close()
	}()

	a := answer{etag: resp.Header.Get("ETag"), contentType: resp.Header.Get("Content-Type")}
	if resp.StatusCode == http.StatusNotModified {
		a.notModified = true
		return a, nil
	}
	if resp.StatusCode != http.StatusOK {
		return answer{}, unexpectedStatus(resp)
	}
	a.body, err = table.Read(resp.Body, f.cfg.MaxBytes)
	return a, err
}

func unexpectedStatus(resp *http.Response) error {
	got := fmt.Sprintf("status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		got += " to " + to.Scheme + "://" + to.Host + " (redirects are not followed)"
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		got += " (check the token)"
	}
	return fmt.Errorf("%s, expected status 200 with a table", got)
}

// successor returns the snapshot that follows held, which may be nil, after an
// answer to a poll that began at now; or an error that says why held stays.
func successor(held *Snapshot, a answer, now time.Time) (*Snapshot, error) {
	if a.notModified {
		if held == nil || !sameTag(held.etag, a.etag) {
			return nil, errNotModified
		}
		return &Snapshot{Table: held.Table, Confirmed: now, etag: held.etag, sum: held.sum}, nil
	}

	hash := sha256.Sum256(a.body)
	sum := string(hash[:])
	if held != nil && held.sum == sum {
		return &Snapshot{Table: held.Table, Confirmed: now, etag: a.etag, sum: sum}, nil
	}
	t, err := table.Decode(a.body)
	if err != nil {
		return nil, fmt.Errorf("the body (%d bytes, Content-Type %q) is no valid table: %w", len(a.body), a.contentType, err)
	}
	if held != nil && t.Revision < held.Table.Revision {
		return nil, fmt.Errorf("revision %d came after revision %d, expected a higher one: tables are not rolled back",
			t.Revision, held.Table.Revision)
	}
	if held != nil && t.Revision == held.Table.Revision && held.sum != "" {
		return nil, fmt.Errorf("revision %d came again with other content, expected a higher revision with it", t.Revision)
	}
	return &Snapshot{Table: t, Confirmed: now, etag: a.etag, sum: sum}, nil
}

// sameTag says whether a 304 confirms the table that came with the tag held. The
// answer may leave its tag out, and servers that compress drop the mark of a
// weak one.
func sameTag(held, got string) bool {
	if held == "" {
		return false
	}
	return got == "" || strings.TrimPrefix(held, "W/") == strings.TrimPrefix(got, "W/")
}
