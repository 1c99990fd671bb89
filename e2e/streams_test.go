package e2e

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
)

// TestStreams sends WebSockets and server-sent events through the middleware.
func TestStreams(t *testing.T) {
	const ns = namespace("streams")
	shared.apply(t, "streams",
		ns.api("api"), ns.plan("plan", "quota: {limit: 1000, period: 24h}"),
		ns.app("app", "streams-key"), ns.sub("sub", "plan", list("app"), list("api")),
	)
	shared.protect(t, "streams.test", byHeader(shared.config("streams/api")))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	t.Run("WebSocket", func(t *testing.T) {
		conn, resp, err := websocket.Dial(ctx, shared.traefik.URL+"/socket", &websocket.DialOptions{
			Host:       "streams.test",
			HTTPHeader: http.Header{"X-Api-Key": {"streams-key"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow() //nolint:errcheck // Closed below when all goes well.
		if got := resp.Header.Get("X-Quota-Remaining"); got != "999" {
			t.Errorf("X-Quota-Remaining is %q at the handshake", got)
		}
		conn.SetReadLimit(1 << 20)
		for _, message := range []string{"one", "two", strings.Repeat("three", 10_000)} {
			if err := conn.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
				t.Fatal(err)
			}
			if _, got, err := conn.Read(ctx); err != nil || string(got) != message {
				t.Fatalf("got %.20q… and %v, want %.20q…", got, err, message)
			}
		}
		if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Error(err)
		}
	})
	t.Run("WebSocket without key", func(t *testing.T) {
		_, resp, err := websocket.Dial(ctx, shared.traefik.URL+"/socket", &websocket.DialOptions{Host: "streams.test"})
		if err == nil || resp == nil || resp.StatusCode != 401 {
			t.Errorf("got %v, want status 401", err)
		}
	})
	t.Run("server-sent events", func(t *testing.T) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, shared.traefik.URL+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "streams.test"
		req.Header = http.Header{"X-Api-Key": {"streams-key"}, "Accept": {"text/event-stream"}, "X-Hold": {"events"}}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		events := bufio.NewReader(resp.Body)
		// The upstream does not end before it is told to, so whatever buffers
		// the answer would never let the first event through.
		if line, err := events.ReadString('\n'); err != nil || line != "data: first\n" {
			t.Fatalf("got %q and %v, want the first event", line, err)
		}
		shared.upstream.Release("events")
		rest, err := io.ReadAll(events)
		if err != nil || !strings.Contains(string(rest), "data: last") {
			t.Errorf("got %q and %v, want the last event", rest, err)
		}
	})
}
