package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// status is what `tollgate status` tells, loosely.
type status struct {
	Revision int64
	Store    struct {
		Kind    string
		Healthy bool
	}
	Reports  struct{ Accepted, Duplicate, Failed, Lost int64 }
	Requests struct{ Total, Refused int64 }
	Busiest  struct {
		Applications, APIs []struct {
			Name              string
			Requests, Refused int64
		}
	}
	Gateways []struct {
		Host          string
		Revision, Lag int64
		TableAge      float64
	}
}

// of returns what was reported of an application, and of an API.
func (s status) of(application, api string) (requests, refused, refusedByAPI int64) {
	for _, b := range s.Busiest.Applications {
		if b.Name == application {
			requests, refused = b.Requests, b.Refused
		}
	}
	for _, b := range s.Busiest.APIs {
		if b.Name == api {
			refusedByAPI = b.Refused
		}
	}
	return requests, refused, refusedByAPI
}

// statusText runs `tollgate status` for a control plane.
func statusText(t *testing.T, plane *stack.ControlPlane, args ...string) (string, error) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(plane.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"status", "--endpoint", plane.URL, "--token-file", token}, args...)
	out, err := exec.CommandContext(t.Context(), tollgateBinary, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return string(out), err
}

func statusOf(t *testing.T, plane *stack.ControlPlane) (s status, err error) {
	t.Helper()
	text, err := statusText(t, plane, "--format", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(text), &s)
}

// reportManifests are of an API with a limited application and one without limits.
func reportManifests(ns namespace) []string {
	return append(syncManifests(ns),
		ns.plan("three", "rateLimit: {limit: 3, period: 1h}"), ns.app("limited", string(ns)+"-limited"),
		ns.sub("limited", "three", list("limited"), list("api")))
}

// TestStatus looks at what a control plane knows of a gateway, which is killed and
// started again while requests go on.
func TestStatus(t *testing.T) {
	const ns = namespace("status")
	dir := t.TempDir()
	start := func(address string) *stack.ControlPlane {
		return startPlane(t, stack.ControlPlaneOptions{
			Binary: tollgateBinary, Dir: dir, Manifests: filepath.Join(dir, "manifests"), Address: address, Token: shared.plane.Token,
		})
	}
	plane := start("")
	write(t, plane, reportManifests(ns)...)
	config := byHeader(shared.config("status/api"))
	config.Sync.Endpoint = plane.URL
	shared.protect(t, "status.test", config)
	call := func(key string) answer { return shared.send(t, "status.test", "GET /", apiKeyHeader+key) }
	shared.await(t, "the manifests", func() error { return wantStatus(call("status-limited"), 200) })

	for range 2 {
		admitted(t, call("status-limited"))
	}
	for range 4 {
		refused(t, call("status-limited"), 429, "rate_limited")
	}
	table, err := plane.Table(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var s status
	shared.await(t, "the report", func() error {
		if s, err = statusOf(t, plane); err != nil {
			return err
		}
		// While the manifests were awaited the key may have been refused as unknown;
		// that is nobody's.
		if requests, refused, ofAPI := s.of("status/limited", "status/api"); requests != 7 || refused != 4 || ofAPI < 4 {
			return fmt.Errorf("%d requests and %d refused, %d of the API; want 7, 4, and 4 or more", requests, refused, ofAPI)
		}
		if len(s.Gateways) != 1 || s.Gateways[0].Revision != table.Revision {
			return fmt.Errorf("got the gateways %+v, want one with revision %d", s.Gateways, table.Revision)
		}
		return nil
	})
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if g := s.Gateways[0]; g.Host != host || g.Lag != 0 || g.TableAge < 0 || g.TableAge > patience.Seconds() {
		t.Errorf("got %+v", g)
	}
	if s.Revision != table.Revision || s.Store.Kind != "memory" || !s.Store.Healthy {
		t.Errorf("got %+v", s)
	}
	text, err := statusText(t, plane)
	if err != nil || !strings.Contains(text, "  current  ") || !strings.Contains(text, "status/limited ") {
		t.Errorf("got %v and\n%s", err, text)
	}

	if err := plane.Kill(); err != nil {
		t.Fatal(err)
	}
	for range 7 {
		admitted(t, call("status-key"))
	}
	refused(t, call("no-key-of-anybody"), 401, "key_invalid")
	plane = start(strings.TrimPrefix(plane.URL, "http://"))
	shared.await(t, "what happened meanwhile", func() error {
		s, err := statusOf(t, plane)
		if err != nil {
			return err
		}
		if requests, refused, ofAPI := s.of("status/app", "status/api"); requests != 7 || refused != 0 || ofAPI < 1 {
			return fmt.Errorf("%d requests and %d refused, %d of the API; want 7, 0, and 1 or more", requests, refused, ofAPI)
		}
		return nil
	})
}

// TestStatusOfTwoControlPlanes has two control planes on one Redis. Answers to
// reports are lost, control planes cannot be reached, and Redis stops to answer: in
// the end each request has been counted once, at one of the two.
func TestStatusOfTwoControlPlanes(t *testing.T) {
	const ns = namespace("ledgers")
	dir := t.TempDir()
	redis, address := startRedis(t)
	var planes []*stack.ControlPlane
	var fronts []*front
	for range 2 {
		plane := startPlane(t, stack.ControlPlaneOptions{
			Binary: tollgateBinary, Dir: dir, Manifests: filepath.Join(dir, "manifests"), Revision: "mtime", Token: shared.plane.Token,
			Args: []string{"--store", "redis://" + address},
		})
		planes, fronts = append(planes, plane), append(fronts, newFront(t, plane.URL))
	}
	write(t, planes[0], reportManifests(ns)...)
	sameTables(t, planes)
	config := byHeader(shared.config("ledgers/api"))
	config.Sync.Endpoint = fronts[0].url + "," + fronts[1].url
	shared.protect(t, "ledgers.test", config)
	var sent int64
	send := func(n int64) {
		t.Helper()
		for range n {
			admitted(t, shared.send(t, "ledgers.test", "GET /", apiKeyHeader+"ledgers-key"))
		}
		sent += n
	}
	all := func() error {
		var counts [2]int64
		for i, p := range planes {
			s, err := statusOf(t, p)
			if err != nil {
				return err
			}
			counts[i] = s.Requests.Total - s.Requests.Refused
		}
		if counts[0]+counts[1] != sent {
			return fmt.Errorf("%v were counted, want %d", counts, sent)
		}
		return nil
	}
	send(5)
	shared.await(t, "the first report", all)
	for round := range 3 {
		from, to := round%2, (round+1)%2
		fronts[from].does.Store(loses)
		lost := fronts[from].lost.Load()
		send(20)
		shared.await(t, "a report whose answer is lost", func() error {
			if fronts[from].lost.Load() == lost {
				return errors.New("none yet")
			}
			return nil
		})
		fronts[to].does.Store(forwards)
		fronts[from].does.Store(nothing)
		send(20)
		shared.await(t, "the same report at the other one", func() error {
			s, err := statusOf(t, planes[to])
			if err == nil && s.Reports.Duplicate == 0 {
				err = fmt.Errorf("got %+v", s.Reports)
			}
			return err
		})
		shared.await(t, "all reports", all)
	}

	if err := redis.Pause(); err != nil {
		t.Fatal(err)
	}
	send(10)
	shared.await(t, "a report that cannot be taken", func() error {
		s, err := statusOf(t, planes[1]) // where the last round has led to
		if err == nil && (s.Reports.Failed == 0 || s.Store.Healthy || s.Store.Kind != "redis") {
			err = fmt.Errorf("got %+v, %+v", s.Reports, s.Store)
		}
		return err
	})
	send(10)
	if err := redis.Resume(); err != nil {
		t.Fatal(err)
	}
	shared.await(t, "all reports, now that Redis answers", all)
	for _, p := range planes {
		if s, err := statusOf(t, p); err != nil || s.Reports.Lost != 0 {
			t.Errorf("got %+v, %v", s.Reports, err)
		}
	}
}

// front stands before a control plane.
type front struct {
	url     string
	forward http.Handler
	does    atomic.Int32
	lost    atomic.Int64 // reports that were taken and whose answer was lost
}

// What a front does.
const (
	forwards int32 = iota
	loses          // the answers to reports
	nothing        // but close connections
)

func newFront(t *testing.T, target string) *front {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{forward: &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog: log.New(io.Discard, "", 0),
	}}
	web := httptest.NewServer(f)
	t.Cleanup(func() {
		web.CloseClientConnections()
		web.Close()
	})
	f.url = web.URL
	return f
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	does := f.does.Load()
	switch {
	case does == nothing:
		panic(http.ErrAbortHandler)
	case does == loses && r.Method == http.MethodPost:
		answer := httptest.NewRecorder()
		f.forward.ServeHTTP(answer, r)
		if answer.Code == http.StatusOK {
			f.lost.Add(1)
		}
		panic(http.ErrAbortHandler)
	}
	f.forward.ServeHTTP(w, r)
}

// startRedis starts a Redis of one test, and returns it and its address.
func startRedis(t *testing.T) (*stack.Process, string) {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatalf("%v: install Debian's package redis-server", err)
	}
	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	redis, err := stack.Start("redis-server", t.TempDir(), program, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = redis.Resume()
		_ = redis.Stop()
	})
	err = stack.Until(t.Context(), "Redis", patience, func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return redis, address
}
