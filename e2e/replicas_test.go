package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestTwoControlPlanes has two control planes, each with a clone of the manifests,
// and kills one of them: nobody notices, and a change arrives afterwards. What
// lags behind brings no key back.
func TestTwoControlPlanes(t *testing.T) {
	const ns = namespace("replicas")
	dir := t.TempDir()
	origin := &repository{t: t, dir: filepath.Join(dir, "origin")}
	origin.git("init", "-q", "-b", "main")
	origin.commit(syncManifests(ns)...)
	clone := func(name string) *repository {
		r := &repository{t: t, dir: filepath.Join(dir, name, "clone")}
		r.git("clone", "-q", origin.dir, ".")
		return r
	}
	clones := []*repository{clone("one"), clone("two")}
	var planes []*stack.ControlPlane
	var proxies []*stack.SyncProxy
	start := func(i int, address string) *stack.ControlPlane {
		return startPlane(t, stack.ControlPlaneOptions{
			Binary: tollgateBinary, Dir: filepath.Dir(clones[i].dir), Manifests: filepath.Join(clones[i].dir, "manifests"),
			Revision: "git", Address: address, Token: shared.plane.Token,
		})
	}
	for i := range clones {
		planes = append(planes, start(i, ""))
		proxies = append(proxies, ownSync(t, planes[i].URL))
		up(t, proxies[i])
	}
	sameTables(t, planes)

	config := byHeader(shared.config("replicas/api"))
	config.Sync.Endpoint = proxies[0].URL + "," + proxies[1].URL
	config.Sync.Wait = "30s"
	shared.protect(t, "replicas.test", config)
	call := func(key string) answer {
		t.Helper()
		return shared.send(t, "replicas.test", "GET /", apiKeyHeader+key)
	}
	// steady sends requests until what is awaited has come.
	steady := func(what string, look func() error) {
		t.Helper()
		shared.await(t, what, func() error {
			admitted(t, call("replicas-key"))
			refused(t, call("revoked-key"), 401, "key_invalid")
			return look()
		})
	}
	lines := shared.traefik.Log.Len()

	if err := planes[0].Kill(); err != nil {
		t.Fatal(err)
	}
	steady("the second control plane", func() error {
		polls := proxies[1].Polls()
		if len(polls) < 2 {
			return fmt.Errorf("it was asked %d times", len(polls))
		}
		// It has the table that the gateway has, to the byte.
		if first := polls[0]; first.Status != 304 {
			t.Fatalf("it answered with status %d, want 304: the table is the same", first.Status)
		}
		return nil
	})

	key := ns.app("app", "revoked-key")
	origin.commit(append(syncManifests(ns), ns.app("second", "second-key"))...)
	clones[1].git("pull", "-q")
	steady("a change", func() error { return wantStatus(call("second-key"), 403) })
	origin.commit(ns.api("api"), ns.unlimited("plan"), key, ns.sub("sub", "plan", list("app"), list("api")))
	clones[1].git("pull", "-q")
	shared.await(t, "another key", func() error { return wantStatus(call("revoked-key"), 200) })
	refused(t, call("replicas-key"), 401, "key_invalid")
	for _, problem := range []string{"came after revision", "came again with other content"} {
		if line, found := shared.traefik.Log.Find(lines, problem, "replicas"); found {
			t.Errorf("the gateway refused a table: %s", line)
		}
	}

	// The first comes back as it was, and the second goes.
	planes[0] = start(0, strings.TrimPrefix(planes[0].URL, "http://"))
	if err := planes[1].Kill(); err != nil {
		t.Fatal(err)
	}
	shared.awaitLine(t, lines, proxies[0].URL, "came after revision")
	refused(t, call("replicas-key"), 401, "key_invalid")
	admitted(t, call("revoked-key"))
	clones[0].git("pull", "-q")
	shared.awaitLine(t, lines, proxies[0].URL, "answers")
	planes[1] = start(1, strings.TrimPrefix(planes[1].URL, "http://"))
	sameTables(t, planes)
	admitted(t, call("revoked-key"))
}

// sameTables waits until control planes serve the same table, to the byte.
func sameTables(t *testing.T, planes []*stack.ControlPlane) {
	t.Helper()
	shared.await(t, "the same table from both", func() error {
		var tags []string
		for _, p := range planes {
			table, err := p.Table(t.Context())
			if err != nil {
				return err
			}
			tags = append(tags, table.ETag)
		}
		if tags[0] != tags[1] {
			return fmt.Errorf("tags are %v", tags)
		}
		return nil
	})
}

// repository is a Git repository with manifests.
type repository struct {
	t   *testing.T
	dir string
}

func (r *repository) git(args ...string) {
	r.t.Helper()
	if err := os.MkdirAll(r.dir, 0o750); err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.CommandContext(r.t.Context(), "git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=x", "GIT_AUTHOR_EMAIL=x@example.com", "GIT_COMMITTER_NAME=x", "GIT_COMMITTER_EMAIL=x@example.com")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %v: %v: %s", args, err, out)
	}
}

// commit commits manifests in place of those before.
func (r *repository) commit(manifests ...string) {
	r.t.Helper()
	plane := &stack.ControlPlane{Manifests: filepath.Join(r.dir, "manifests")}
	if err := os.MkdirAll(plane.Manifests, 0o750); err != nil {
		r.t.Fatal(err)
	}
	write(r.t, plane, manifests...)
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "x")
}
