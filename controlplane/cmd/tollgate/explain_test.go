package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// explainRun runs explain with a key on standard input, and returns what it wrote
// and how it ended.
func explainRun(t *testing.T, key string, args ...string) (stdout string, err error) {
	t.Helper()
	var out strings.Builder
	cmd := newCommand()
	cmd.SetArgs(append([]string{"explain"}, args...))
	cmd.SetIn(strings.NewReader(key))
	cmd.SetOut(&out)
	err = cmd.ExecuteContext(t.Context())
	return out.String(), err
}

// TestExplainRunning explains by the table of a running control plane.
func TestExplainRunning(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, certKey, _ := newCertificate(t)
	manifests := file("weather.yaml", weatherManifests)
	tokenFile, ca := file("token", "a-token\n"), file("cert.pem", cert)
	p := startServe(t, "--manifests", manifests, "--listen", "127.0.0.1:0", "--log-format", "json",
		"--token-file", tokenFile, "--tls-cert", ca, "--tls-key", file("key.pem", certKey))
	endpoint := "https://" + p.await("listening")["address"].(string)
	p.await("table served")

	ask := []string{"--api", "apps/weather-api", "--key-stdin", "--endpoint", endpoint, "--token-file", tokenFile, "--ca", ca, "GET"}
	stdout, err := explainRun(t, "secret-api-key\n", append(ask, "/weather")...)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"by revision ", "subscribed by apps/weather-mobile-sub  plan apps/standard-plan", "answer   admitted", "which other subscriptions were candidates is not known here",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("found no %q in\n%s", want, stdout)
		}
	}
	if stdout, err = explainRun(t, "secret-api-key", append(ask, "/admin")...); !errors.Is(err, errNegative) || !strings.Contains(stdout, "403 operation_forbidden") {
		t.Errorf("got %v and\n%s", err, stdout)
	}

	_, err = explainRun(t, "", "--api", "apps/weather-api", "--endpoint", endpoint, "--ca", ca, "GET", "/")
	if err == nil || !strings.Contains(err.Error(), "401 Unauthorized (check --token-file)") {
		t.Errorf("without a token: got %v", err)
	}
	_, err = explainRun(t, "", "--api", "apps/weather-api", "--endpoint", endpoint, "--token-file", tokenFile, "GET", "/")
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without the authority: got %v", err)
	}
	p.stop()
	_, err = explainRun(t, "", append(ask[:2:2], append(ask[3:], "/")...)...)
	if err == nil || !strings.Contains(err.Error(), "fetching table") {
		t.Errorf("with nobody there: got %v", err)
	}
}

// TestExplainBadEndpoint checks what else than a table does.
func TestExplainBadEndpoint(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with the header %v", r.Header)
	}))
	defer elsewhere.Close()
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"a redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) }, "302 Found"},
		{"a page", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "decoding table"},
		{"no table", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }, "revision: 0"},
	} {
		s := httptest.NewServer(test.answer)
		_, err := explainRun(t, "", "--api", "apps/weather-api", "--endpoint", s.URL, "GET", "/")
		s.Close()
		if err == nil || errors.Is(err, errNegative) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q", test.name, err, test.want)
		}
	}
}

// weatherManifests are those of the readme, in short.
const weatherManifests = `apiVersion: hub.traefik.io/v1alpha1
kind: API
metadata: {name: weather-api, namespace: apps}
spec: {openApiSpec: {operationSets: [{name: read, matchers: [{pathPrefix: /weather, methods: [GET]}]}]}}
---
apiVersion: hub.traefik.io/v1alpha1
kind: APIPlan
metadata: {name: standard-plan, namespace: apps}
spec: {title: Standard}
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedApplication
metadata: {name: weather-mobile, namespace: apps}
spec:
  appId: weather-mobile
  owner: jane
  apiKeys:
    - value: 72bf16ddecb7a3ec04b5ce0296f85a0ab9d049105243b4b7924a340f26523e7d743e24126ced93e9dde63d1b4f73c242c5f0ed97cce394a5aee3ecdb3866d84f
---
apiVersion: hub.traefik.io/v1alpha1
kind: ManagedSubscription
metadata: {name: weather-mobile-sub, namespace: apps}
spec:
  apiPlan: {name: standard-plan}
  managedApplications: [{name: weather-mobile}]
  apis: [{name: weather-api}]
  operationFilter: {include: [read]}
`
