package server

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/usage"
)

// TestReportsAtATime lets no more bytes in than there is room for.
func TestReportsAtATime(t *testing.T) {
	s := New(Options{Log: slog.New(slog.DiscardHandler)})
	s.bodies.most = 1000
	post := func(body io.Reader) int {
		r := httptest.NewRequest(http.MethodPost, usage.Path, body)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w.Code
	}
	r, w := io.Pipe()
	answered := make(chan int)
	go func() { answered <- post(r) }()
	write := func(text string) {
		t.Helper()
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Repeat(" ", 800))
	write(" ") // is read after the others were counted
	report := `{"instance": "` + strings.Repeat("0", 32) + `", "sequence": 1, "host": "` + strings.Repeat("h", 400) + `"}`
	if got := post(strings.NewReader(report)); got != http.StatusServiceUnavailable {
		t.Errorf("beside a large one: got %d", got)
	}
	w.CloseWithError(io.ErrUnexpectedEOF)
	if got := <-answered; got != http.StatusRequestTimeout {
		t.Errorf("the large one, which broke: got %d", got)
	}
	if got := post(strings.NewReader(report)); got != http.StatusOK {
		t.Errorf("afterwards: got %d", got)
	}
	if got := s.bodies.used.Load(); got != 0 {
		t.Errorf("%d bytes are not given back", got)
	}
}
