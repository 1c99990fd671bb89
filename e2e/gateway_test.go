package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const (
	// syncInterval is the time between two polls of the plugin.
	syncInterval = 200 * time.Millisecond
	// patience is how long anything may take that happens by itself: an edit of
	// a manifest, a reload. It is far more than it takes.
	patience = 20 * time.Second
)

// gateway is everything that runs for a test.
type gateway struct {
	traefik  *stack.Traefik
	plane    *stack.ControlPlane
	sync     *stack.SyncProxy
	upstream *stack.Upstream
	// owners has the test that owns a file of manifests, or a host.
	owners map[string]string
}

// startGateway starts a gateway with files in dir. Its Traefik is as o says.
func startGateway(ctx context.Context, dir string, o stack.TraefikOptions) (*gateway, error) {
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o750); err != nil {
		return nil, err
	}
	g := &gateway{owners: map[string]string{}}
	o.Binary, o.Dir = traefikBinary, dir
	err := g.start(ctx, manifests, o)
	if err != nil {
		return nil, errors.Join(err, g.stop())
	}
	return g, nil
}

func (g *gateway) start(ctx context.Context, manifests string, o stack.TraefikOptions) (err error) {
	if g.upstream, err = stack.StartUpstream(""); err != nil {
		return err
	}
	g.plane, err = stack.StartControlPlane(ctx, stack.ControlPlaneOptions{Binary: tollgateBinary, Dir: o.Dir, Manifests: manifests})
	if err != nil {
		return err
	}
	if g.sync, err = stack.NewSyncProxy(g.plane.URL); err != nil {
		return err
	}
	if err = g.sync.Up(); err != nil {
		return err
	}
	g.traefik, err = stack.StartTraefik(ctx, o)
	return err
}

// stop ends what runs.
func (g *gateway) stop() error {
	var errs []error
	if g.traefik != nil {
		errs = append(errs, g.traefik.Stop())
	}
	if g.sync != nil {
		g.sync.Down()
	}
	if g.plane != nil {
		errs = append(errs, g.plane.Stop())
	}
	if g.upstream != nil {
		g.upstream.Stop()
	}
	return errors.Join(errs...)
}

// newGateway starts a gateway for one test.
func newGateway(t *testing.T, o stack.TraefikOptions) *gateway {
	t.Helper()
	g, err := startGateway(t.Context(), t.TempDir(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// config is the plugin's configuration for an API, with nothing set that has a
// default but where to sync, and how often. It does not wait, because a test that
// makes an endpoint answer in another way wants to be asked.
func (g *gateway) config(api string) stack.Config {
	return stack.Config{
		API:  api,
		Sync: stack.Sync{Endpoint: g.sync.URL, Token: g.plane.Token, Interval: syncInterval.String(), Wait: "0s"},
	}
}

// route makes Traefik send a host's requests through the plugin to the upstream.
func (g *gateway) route(host string, config stack.Config) stack.Dynamic {
	return stack.Dynamic{HTTP: stack.HTTP{
		Routers: map[string]stack.Router{host: {
			EntryPoints: []string{stack.Web, stack.Raw},
			Rule:        "Host(`" + host + "`)",
			Middlewares: []string{host},
			Service:     host,
		}},
		Middlewares: map[string]stack.Middleware{host: stack.Tollgate(config)},
		Services:    map[string]stack.Service{host: stack.UpstreamService(g.upstream.URL)},
	}}
}

// protect puts the plugin in front of a host and waits until it has a table: it
// misses the key, then.
func (g *gateway) protect(t *testing.T, host string, config stack.Config) {
	t.Helper()
	g.serve(t, host, config, http.StatusUnauthorized)
}

// protectWithoutTable is protect for a plugin that gets no table.
func (g *gateway) protectWithoutTable(t *testing.T, host string, config stack.Config) {
	t.Helper()
	g.serve(t, host, config, http.StatusServiceUnavailable)
}

// serve adds a router and waits until it answers a request without a key by the
// given status.
func (g *gateway) serve(t *testing.T, host string, config stack.Config, status int) {
	t.Helper()
	g.own(t, "host "+host)
	lines := g.traefik.Log.Len()
	if err := g.traefik.Configure(host, g.route(host, config)); err != nil {
		t.Fatal(err)
	}
	err := stack.Until(t.Context(), "the router of "+host, patience, func() error {
		return wantStatus(g.send(t, host, "GET /"), status)
	})
	if err != nil {
		line, _ := g.traefik.Log.Find(lines, `"level":"error"`, host)
		t.Fatalf("%v\nTraefik says: %s", err, line)
	}
}

// own makes a name one of the test's alone. What two tests had in common would mix
// what is counted of it, depending on which of them runs first, and how fast.
func (g *gateway) own(t *testing.T, name string) {
	t.Helper()
	test, _, _ := strings.Cut(t.Name(), "/")
	if owner := g.owners[name]; owner != "" && owner != test {
		t.Fatalf("%s has the %s too", owner, name)
	}
	g.owners[name] = test
}

// apply writes manifests and waits until they are in force in the gateway.
func (g *gateway) apply(t *testing.T, name string, manifests ...string) {
	t.Helper()
	g.own(t, "manifests "+name)
	before, err := g.plane.Table(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := g.plane.Apply(name+".yaml", strings.Join(manifests, "---\n")); err != nil {
		t.Fatal(err)
	}
	g.awaitChange(t, before)
}

// awaitChange waits until the control plane serves another table than before,
// and the gateway has activated it.
func (g *gateway) awaitChange(t *testing.T, before stack.Table) {
	t.Helper()
	var table stack.Table
	g.await(t, "another table", func() (err error) {
		table, err = g.plane.Table(t.Context())
		if err == nil && table.ETag == before.ETag {
			err = fmt.Errorf("still revision %d; the control plane's last lines:\n%s", table.Revision, g.plane.Log.Tail(5))
		}
		return err
	})
	if len(g.sync.Polls()) == 0 {
		return // No router syncs yet; the first one will get this table.
	}
	if err := g.sync.AwaitActive(t.Context(), table.ETag, patience); err != nil {
		t.Fatal(err)
	}
}

// await waits for what happens by itself.
func (g *gateway) await(t *testing.T, what string, look func() error) {
	t.Helper()
	if err := stack.Until(t.Context(), what, patience, look); err != nil {
		t.Fatal(err)
	}
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   []byte
	// echo is what the upstream received, when the request got there.
	echo *stack.Echo
}

// send sends a request, such as "GET /weather", with header lines such as
// "X-API-Key: k", byte for byte as given, over a connection of its own.
func (g *gateway) send(t *testing.T, host, request string, header ...string) answer {
	t.Helper()
	return sendTo(t, strings.TrimPrefix(g.traefik.URL, "http://"), host, request, header...)
}

// sendRaw is send for the entry point that leaves paths alone.
func (g *gateway) sendRaw(t *testing.T, host, request string, header ...string) answer {
	t.Helper()
	return sendTo(t, g.traefik.RawAddress, host, request, header...)
}

func sendTo(t *testing.T, address, host, request string, header ...string) answer {
	t.Helper()
	dialer := net.Dialer{Timeout: patience}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	lines := append([]string{request + " HTTP/1.1", "Host: " + host}, header...)
	if !slices.ContainsFunc(header, func(line string) bool { return strings.HasPrefix(line, "Connection:") }) {
		lines = append(lines, "Connection: close")
	}
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	return readAnswer(t, resp)
}

func readAnswer(t *testing.T, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, body: body}
	if resp.StatusCode == http.StatusOK && len(body) > 0 {
		a.echo = &stack.Echo{}
		if err := json.Unmarshal(body, a.echo); err != nil {
			t.Fatalf("not from the upstream: %v\n%s", err, body)
		}
	}
	return a
}

// remaining returns the number in a header such as X-Quota-Remaining, or -1
// without one.
func (a answer) remaining(name string) int {
	n, err := strconv.Atoi(a.header.Get(name))
	if err != nil {
		return -1
	}
	return n
}

// admitted checks that a request reached the upstream.
func admitted(t *testing.T, a answer) {
	t.Helper()
	if a.status != http.StatusOK || a.echo == nil {
		t.Fatalf("got status %d, want 200 from the upstream:\n%s", a.status, a.body)
	}
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Reason string `json:"reason"`
}

// refused checks that a request was refused, for the right reason and in the
// right form.
func refused(t *testing.T, a answer, status int, reason string) {
	t.Helper()
	if a.status != status {
		t.Fatalf("got status %d, want %d:\n%s", a.status, status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %q", got)
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("the body is no problem: %v\n%s", err, a.body)
	}
	if p.Reason != reason || p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		t.Errorf("got %+v, want reason %q and status %d, with title and detail", p, reason, status)
	}
	if wants, has := status == http.StatusUnauthorized, a.header.Get("WWW-Authenticate") != ""; wants != has {
		t.Errorf("WWW-Authenticate is %q with status %d", a.header.Get("WWW-Authenticate"), status)
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		if n := a.remaining("Retry-After"); n < 1 {
			t.Errorf("Retry-After is %q, want whole seconds", a.header.Get("Retry-After"))
		}
	}
	for name := range a.header {
		if strings.HasPrefix(name, "X-App") || strings.HasPrefix(name, "X-Api") || name == "X-Subscription" {
			t.Errorf("the refusal tells %s", name)
		}
	}
}

// wantStatus is for await: an error until an answer has the status.
func wantStatus(a answer, status int) error {
	if a.status != status {
		return fmt.Errorf("got status %d, want %d:\n%s", a.status, status, a.body)
	}
	return nil
}

// lineWith returns the first line of a text that has a part.
func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// linesWith returns the lines that have a part.
func linesWith(lines []string, part string) []string {
	return slices.DeleteFunc(lines, func(line string) bool { return !strings.Contains(line, part) })
}

// mustContain is for await: an error unless a text has all the parts.
func mustContain(text string, parts ...string) error {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return fmt.Errorf("found no %q in %q", part, text)
		}
	}
	return nil
}
