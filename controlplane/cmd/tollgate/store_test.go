package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
)

// startWithStore starts a control plane and returns what posts a report with a
// number to it, and tells the status.
func startWithStore(t *testing.T, args ...string) (p *process, report func(sequence int) int) {
	t.Helper()
	p = startServe(t, append([]string{"--manifests", t.TempDir(), "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)...)
	address := p.await("listening")["address"].(string)
	return p, func(sequence int) int {
		t.Helper()
		body := fmt.Sprintf(`{"instance":"0123456789abcdef0123456789abcdef","sequence":%d,"host":"gw","revision":1,"tableAge":1,"usage":[]}`, sequence)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/v1/report", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
}

// expect posts reports. One that comes after a later one is refused, by whoever
// knows of that one.
func expect(t *testing.T, what string, report func(int) int, sequence, want int) {
	t.Helper()
	if got := report(sequence); got != want {
		t.Errorf("%s: report %d: got %d, want %d", what, sequence, got, want)
	}
}

// TestServeState remembers reports across restarts.
func TestServeState(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	p, report := startWithStore(t, "--state", state)
	expect(t, "at first", report, 5, 200)
	expect(t, "at first", report, 4, 409)
	other := startServe(t, "--manifests", t.TempDir(), "--listen", "127.0.0.1:0", "--state", state)
	if err := <-other.ended; err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("a second one: got %v", err)
	}
	p.stop()
	p, report = startWithStore(t, "--state", state)
	expect(t, "started again", report, 4, 409)
	expect(t, "started again", report, 6, 200)
	p.stop()
	p, report = startWithStore(t)
	expect(t, "without the file", report, 4, 200)
	p.stop()
}

// TestServeRedis has two control planes with one store, which is away for a while.
func TestServeRedis(t *testing.T) {
	const secret = "not/to/be/told"
	redis := redistest.Start(t, "--requirepass", secret)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--store", "redis://" + redis.Address + "?timeout=1500ms", "--store-password-file", password}
	p, one := startWithStore(t, args...)
	q, two := startWithStore(t, args...)
	expect(t, "one", one, 5, 200)
	expect(t, "two", two, 4, 409)
	expect(t, "two", two, 6, 200)
	expect(t, "one", one, 5, 409)
	redis.Kill()
	expect(t, "without the store", one, 7, 503)
	redis.Restart()
	expect(t, "with the store", one, 7, 200)
	p.stop()
	p, one = startWithStore(t, args...)
	expect(t, "started again", one, 6, 409)
	for _, p := range []*process{p, q} {
		p.stop()
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log tells the password: %s", &p.log)
		}
	}
}

// TestServeSentinel tells sentinels the password of the file.
func TestServeSentinel(t *testing.T) {
	const secret = "secret"
	server := redistest.Start(t, "--requirepass", secret)
	sentinel := redistest.StartSentinel(t, "limits", server)
	if err := sentinel.Client().Do(t.Context(), "acl", "setuser", "default", "resetpass", ">"+secret).Err(); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	address := "redis-sentinel://" + sentinel.Address + "/limits?sentinel-auth=true"
	p, report := startWithStore(t, "--store", address, "--store-password-file", password)
	expect(t, "by a sentinel", report, 1, 200)
	p.stop()
	missing := startServe(t, "--manifests", t.TempDir(), "--listen", "127.0.0.1:0", "--store", address, "--store-password-file", password+"s")
	if err := <-missing.ended; err == nil || !strings.Contains(err.Error(), "--store-password-file: ") {
		t.Errorf("without the file: got %v", err)
	}
}
