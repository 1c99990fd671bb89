package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/status"
	"github.com/tollgate-apim/tollgate/usage"
)

// TestStatusOfRunning reports to a running control plane, and asks it how it is.
func TestStatusOfRunning(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tokenFile, wrong := file("token", "a-token\n"), file("wrong", "another-token\n")
	p := startServe(t, "--manifests", file("weather.yaml", weatherManifests), "--listen", "127.0.0.1:0", "--log-format", "json",
		"--token-file", tokenFile, "--metrics-series", "1")
	endpoint := "http://" + p.await("listening")["address"].(string)
	revision := int64(p.await("table served")["revision"].(float64))

	report := &usage.Report{Instance: strings.Repeat("0", 32), Sequence: 1, Host: "gw-1", Revision: revision, TableAge: 1, Usage: []usage.Row{
		{API: "apps/weather-api", Application: "apps/one", Count: 5}, {API: "apps/weather-api", Application: "apps/two", Code: 429, Count: 6},
	}}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint+usage.Path, strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer a-token")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Fatalf("got %s", res.Status)
		}
	}

	show := func(args ...string) (string, error) {
		var out strings.Builder
		cmd := newCommand()
		cmd.SetArgs(append([]string{"status", "--endpoint", endpoint}, args...))
		cmd.SetOut(&out)
		err := cmd.ExecuteContext(t.Context())
		return out.String(), err
	}
	text, err := show("--token-file", tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		fmt.Sprintf("revision %d", revision), "memory, healthy", "1 accepted, 1 sent again",
		"11 in the last minute (6 refused), 11 since", strings.Repeat("0", 32) + "  gw-1  current ", "apps/weather-api",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("found no %q in\n%s", want, text)
		}
	}
	text, err = show("--token-file", tokenFile, "--format", "json")
	if err != nil {
		t.Fatal(err)
	}
	var d status.Document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.Requests.Total != 11 || len(d.Gateways) != 1 || d.Gateways[0].Lag != 0 {
		t.Errorf("got %s", text)
	}
	// --metrics-series has room for one.
	if got := d.Busiest.Applications; len(got) != 2 || got[0].Name != "other" || got[1].Name != "apps/one" {
		t.Errorf("the busiest are %+v", got)
	}
	if _, err := show("--token-file", wrong); err == nil || !strings.Contains(err.Error(), "check --token-file") {
		t.Errorf("with another token: got %v", err)
	}
	p.stop()
	if _, err := show("--token-file", tokenFile, "--watch"); err == nil {
		t.Error("asked one that has stopped, and it answered")
	}
	if strings.Contains(p.log.String(), "-token") {
		t.Errorf("the log tells a token: %s", p.log.String())
	}
}

// looks is a control plane that says one thing after the other.
func looks(answers ...any) watching {
	tick := make(chan time.Time, len(answers)+1)
	for range answers {
		tick <- time.Time{}
	}
	return watching{tick: tick, look: func(ctx context.Context) (*status.Document, error) {
		next := answers[0]
		answers = answers[1:]
		if err, ok := next.(error); ok {
			return nil, err
		}
		if stop, ok := next.(context.CancelFunc); ok {
			stop()
			return nil, ctx.Err()
		}
		return next.(*status.Document), nil
	}}
}

func document(revision int64) *status.Document {
	return &status.Document{Time: time.Date(2026, 11, 21, 17, 0, int(revision), 0, time.UTC), Revision: revision}
}

func TestWatchPlainly(t *testing.T) {
	for format, want := range map[string][]string{
		"text": {"2026-11-21T17:00:01Z\n", "revision 1\n", "\n\n2026-11-21T17:00:02Z\n", "revision 2\n"},
		"json": {`{"time":"2026-11-21T17:00:01Z","revision":1,`, "}\n" + `{"time":"2026-11-21T17:00:02Z","revision":2,`},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var out, stderr strings.Builder
		w := looks(errors.New("connection refused"), document(2), cancel)
		if err := w.plainly(ctx, &out, &stderr, format, document(1)); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		rest := out.String()
		for _, text := range want {
			_, after, ok := strings.Cut(rest, text)
			if !ok {
				t.Errorf("%s: found no %q in\n%s", format, text, out.String())
			}
			rest = after
		}
		if strings.Contains(out.String(), "\x1b") || stderr.String() != "tollgate: connection refused\n" {
			t.Errorf("%s: got %q and %q", format, out.String(), stderr.String())
		}
	}
}

func TestWatchOnScreen(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out strings.Builder
	screen := status.Screen{Out: &out, Size: func() (int, int) { return 80, 24 }}
	w := looks(errors.New("connection refused"), document(2), cancel)
	if err := w.onScreen(ctx, screen, "title", document(1)); err != nil {
		t.Fatal(err)
	}
	rest := out.String()
	for _, text := range []string{
		"\x1b[?1049h", "2026-11-21T17:00:01Z  title\x1b[K", "revision 1",
		"2026-11-21T17:00:01Z  title: connection refused\x1b[K", "revision 1",
		"2026-11-21T17:00:02Z  title\x1b[K", "revision 2", "\x1b[?1049l",
	} {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Fatalf("found no %q in %q", text, rest)
		}
		rest = after
	}
	if rest != "" {
		t.Errorf("wrote %q afterwards", rest)
	}
}
