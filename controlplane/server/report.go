package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/usage"
)

// maxBodies is how many bytes the bodies of all reports that are being read may
// have together, after decompression. Most reports have some kilobytes.
const maxBodies = 4 * usage.MaxBytes

// reportTimeout is how long a report takes at most once it was read, whatever becomes
// of it: less than the 5 seconds that gateways wait unless they are told otherwise.
const reportTimeout = 4 * time.Second

// errReport says that a report is wrong, in words that its sender may read.
var errReport = errors.New("the report is wrong")

// reportError is why a report is not read. Its connection is closed, because the
// rest of its body is not read either.
type reportError struct {
	status int
	detail string
	header map[string]string
}

// Error returns the detail.
func (e *reportError) Error() string { return e.detail }

// describe sets the header fields of the answer.
func (e *reportError) describe(h http.Header) {
	h.Set("Connection", "close")
	for name, value := range e.header {
		h.Set(name, value)
	}
}

var (
	errPost         = &reportError{http.StatusMethodNotAllowed, "only POST is allowed", map[string]string{"Allow": "POST"}}
	errReportType   = &reportError{http.StatusUnsupportedMediaType, "a report must have Content-Type: " + typeOfTable, map[string]string{"Accept": typeOfTable}}
	errReportCoding = &reportError{http.StatusUnsupportedMediaType, "a report must have Content-Encoding: gzip, or none", map[string]string{"Accept-Encoding": "gzip"}}
	errReportSize   = &reportError{http.StatusRequestEntityTooLarge, fmt.Sprintf("a report must have at most %d bytes, after decompression", usage.MaxBytes), nil}
	errReportBusy   = &reportError{http.StatusServiceUnavailable, "too many large reports at a time", map[string]string{"Retry-After": "1"}}
	errReportBroken = &reportError{http.StatusRequestTimeout, "the report did not arrive as a whole and in time", nil}
)

// serveReport takes a report in.
func (s *Server) serveReport(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return errPost
	}
	if err := s.access.check(r); err != nil {
		return err
	}
	body, release, err := s.readReport(w, r)
	defer release()
	if err != nil {
		if errors.Is(err, errReport) {
			s.ledger.Refuse()
		}
		return err
	}
	report, err := usage.Decode(body)
	if err != nil {
		s.ledger.Refuse()
		return fmt.Errorf("%w: %w", errReport, err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), reportTimeout)
	defer cancel()
	answer, err := s.ledger.Take(ctx, report)
	if err != nil {
		return err
	}
	s.share(ctx, report, answer)
	w.Header().Set("Cache-Control", "no-store")
	s.writeJSON(w, http.StatusOK, typeOfTable, answer)
	return nil
}

// share adds to the answer what the report asks for of limits that gateways share. The
// report has been taken, so it is answered whatever comes of that: a gateway goes on
// with the shares that it has, and asks again.
func (s *Server) share(ctx context.Context, r *usage.Report, answer *usage.Answer) {
	if s.sharing == nil {
		return
	}
	tenure, shares, err := s.sharing.Settle(ctx, r)
	answer.Tenure, answer.Shares = tenure, shares
	if tenure != nil || err != nil {
		answer.Next = min(answer.Next, sharing.Next.Seconds())
	}
}

// readReport returns the body of a report, decompressed. The caller must call
// release, whatever happens, when he does not need the body any more.
func (s *Server) readReport(w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	release = func() {}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != typeOfTable {
		return nil, release, errReportType
	}
	coding := strings.ToLower(r.Header.Get("Content-Encoding"))
	if coding != "" && coding != "identity" && coding != "gzip" {
		return nil, release, errReportCoding
	}
	if r.ContentLength > usage.MaxBytes {
		return nil, release, errReportSize
	}
	sent := &watched{Reader: http.MaxBytesReader(w, r.Body, usage.MaxBytes)}
	var plain io.Reader = sent
	if coding == "gzip" {
		z, err := gzip.NewReader(sent)
		if err != nil {
			return nil, release, sent.explain(err)
		}
		plain = z
	}
	allowed := &allowed{Reader: io.LimitReader(plain, usage.MaxBytes+1), of: &s.bodies}
	var buffer bytes.Buffer
	if _, err := buffer.ReadFrom(allowed); err != nil {
		return nil, allowed.release, sent.explain(err)
	}
	if buffer.Len() > usage.MaxBytes {
		return nil, allowed.release, errReportSize
	}
	return buffer.Bytes(), allowed.release, nil
}

// watched remembers why a body could not be read to its end.
type watched struct {
	io.Reader
	failure error
}

// Read reads on.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		w.failure = err
	}
	return n, err
}

// explain returns the error that is to be told where reading ended with err.
func (w *watched) explain(err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.Is(err, errReportBusy):
		return errReportBusy
	case errors.As(w.failure, &large):
		return errReportSize
	case w.failure != nil:
		return errReportBroken
	}
	return fmt.Errorf("%w: its body is not in the format of gzip", errReport)
}

// allowance is what may be read at a time.
type allowance struct {
	most int64
	used atomic.Int64
}

// allowed reads as long as the allowance lasts.
type allowed struct {
	io.Reader
	of   *allowance
	used int64
}

// Read reads on, and fails with errReportBusy if that is too much.
func (a *allowed) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.used += int64(n)
	if a.of.used.Add(int64(n)) > a.of.most {
		return n, errReportBusy
	}
	return n, err
}

// release gives back what was read.
func (a *allowed) release() {
	a.of.used.Add(-a.used)
	a.used = 0
}
