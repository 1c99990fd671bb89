package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// maxReply is how many bytes of the answer to a post are read, after
// decompression.
const maxReply = 1 << 20

// maxWords is how many bytes an error tells of what an endpoint said to explain
// itself.
const maxWords = 300

// Reply is what comes of a post.
type Reply struct {
	// Endpoint is the one that it went to, as a log may show it.
	Endpoint string
	// Status is that of the answer; 0 if there was none, or not all of it.
	Status int
	// Body is at most 1 MiB.
	Body []byte
	// RetryAfter is for how long the endpoint wants to be left alone; 0 if it
	// does not say.
	RetryAfter time.Duration
	// Err says why this is no complete answer with status 200. It is fit for a
	// log.
	Err error
}

// Post sends a body of JSON to a path of the endpoint that f asks for tables at
// present, by the same connections, and returns what that answers within the
// same timeout. It may be called while a poll is under way, and also after Stop.
// Several goroutines may use it at once.
func Post(f *Feed, path string, body []byte) Reply {
	f.mu.Lock()
	e := f.endpoints[f.at]
	client := f.client
	f.mu.Unlock()
	if client == nil {
		return Reply{Endpoint: e.shown, Err: errors.New("it was not asked for a table yet")}
	}
	d := newDeadline(context.Background(), f.cfg.Timeout, 0)
	defer d.stop()
	r := post(f, d, client, e.url+path, body)
	r.Endpoint = e.shown
	late := r.Err != nil && d.late.Load()
	if late {
		r.Err = fmt.Errorf("no complete answer within %s", f.cfg.Timeout)
	}
	if r.Err != nil {
		r.Err = errors.New(f.readable(r.Err))
	}
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	if late || stopped {
		// See ask; and nobody else comes to use them.
		client.CloseIdleConnections()
	}
	return r
}

// PostsTo returns the endpoint to which Post would send now, as a Reply names it.
func PostsTo(f *Feed) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.endpoints[f.at].shown
}

// post makes the exchange of a Post.
func post(f *Feed, d *deadline, client *http.Client, to string, body []byte) Reply {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return Reply{Err: errors.New("cannot be asked: expected a URL such as https://sync.example.com:7070")}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "tollgate")
	if f.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.cfg.Token)
	}
	// This sends nothing. It tells net/http that what was written to a connection
	// that its server had just closed may be written to another one.
	req.Header["Idempotency-Key"] = []string{}

	resp, err := client.Do(req)
	if err != nil {
		return Reply{Err: noAnswer(err)}
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		_ = resp.Body.Close()
	}()

	r := Reply{RetryAfter: retryAfter(resp.Header, time.Now())}
	r.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if resp.StatusCode != http.StatusOK {
		r.Status = resp.StatusCode
		r.Err = unexpectedStatus(resp, "an answer")
		if r.Status == http.StatusBadRequest && len(r.Body) > 0 {
			words := r.Body
			if len(words) > maxWords {
				words = words[:maxWords]
			}
			r.Err = fmt.Errorf("%w: it says %q", r.Err, words)
		}
		return r
	}
	if err != nil {
		r.Err = fmt.Errorf("reading the answer: %w", err)
	} else if len(r.Body) > maxReply {
		r.Body = nil
		r.Err = fmt.Errorf("the answer has more than %d bytes", maxReply)
	} else {
		r.Status = resp.StatusCode
	}
	return r
}

// retryAfter returns what a Retry-After header asks for at the time now; 0 if
// there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
