package reload_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/reload"
)

// pair is a source of two files, a and b, in a bubble of synctest. What is in
// force is their text; "bad" is refused.
type pair struct {
	t   *testing.T
	dir string

	mu      sync.Mutex
	inForce string
	uses    int
	log     bytes.Buffer
}

// Write is for the log.
func (p *pair) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(line)
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, dir: t.TempDir()}
	p.write("a", "1")
	p.write("b", "1")
	return p
}

func (p *pair) path(name string) string { return filepath.Join(p.dir, name) }

func (p *pair) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(p.path(name), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) start() (*reload.Follower, error) {
	log := slog.New(slog.NewTextHandler(p, nil))
	return reload.Start(log, reload.Source{
		Name: "--pair", Files: []string{p.path("a"), p.path("b")},
		Use: func(contents [][]byte) error {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.uses++
			text := string(contents[0]) + "," + string(contents[1])
			if strings.Contains(text, "bad") {
				return errors.New("is bad")
			}
			p.inForce = text
			return nil
		},
	})
}

// run follows in the background.
func (p *pair) run() {
	p.t.Helper()
	f, err := p.start()
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		if err := f.Run(ctx); err != nil {
			p.t.Errorf("Run: %v", err)
		}
		close(ended)
	}()
	p.t.Cleanup(func() {
		cancel()
		<-ended
	})
	time.Sleep(reload.Interval / 2) // from now on between looks
}

// pass lets so many looks pass.
func (p *pair) pass(looks int) {
	time.Sleep(time.Duration(looks) * reload.Interval)
	synctest.Wait()
}

func (p *pair) expectUses(want int) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.uses != want {
		p.t.Errorf("used %d times, want %d", p.uses, want)
	}
}

func (p *pair) expect(inForce string, logged ...string) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inForce != inForce {
		p.t.Errorf("in force is %s, want %s", p.inForce, inForce)
	}
	if got := strings.Count(p.log.String(), "\n"); got != len(logged) {
		p.t.Errorf("logged %d lines, want %d: %s", got, len(logged), &p.log)
	}
	for _, want := range logged {
		if !strings.Contains(p.log.String(), want) {
			p.t.Errorf("logged %s, want %q in it", &p.log, want)
		}
	}
	p.log.Reset()
}

func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.run()
		p.pass(100)
		p.expect("1,1")
		p.expectUses(1)
		p.write("a", "2")
		p.pass(1)
		p.expect("1,1") // it may not be complete
		p.write("b", "2")
		p.pass(1)
		p.expect("1,1")
		p.pass(1)
		p.expect("2,2", `level=INFO msg="changed files read again" source=--pair`)
		p.expectUses(2)
	})
}

// TestBack changes a file back before the change is used.
func TestBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		p.run()
		p.write("a", "2")
		p.pass(1)
		p.write("a", "1")
		p.pass(5)
		p.expect("1,1")
		p.expectUses(1)
	})
}

func TestBad(t *testing.T) {
	const kept = "changed files cannot be used: what was read before stays in force"
	for _, test := range []struct {
		name  string
		spoil func(p *pair)
		want  string
	}{
		{"refused", func(p *pair) { p.write("b", "bad") }, "is bad"},
		{"gone", func(p *pair) {
			if err := os.Remove(p.path("b")); err != nil {
				p.t.Fatal(err)
			}
		}, "no such file"},
		{"too large", func(p *pair) { p.write("b", strings.Repeat("x", reload.MaxBytes+1)) }, "has more than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPair(t)
				p.run()
				test.spoil(p)
				p.pass(10)
				p.expect("1,1", kept) // once
				p.write("b", "3")
				p.pass(2)
				p.expect("1,3", "read again")
			})
		})
	}
}

// TestReplaced replaces the folder that a link points to, as Kubernetes does.
func TestReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPair(t)
		for folder, text := range map[string]string{"old": "1", "new": "2"} {
			if err := os.Mkdir(p.path(folder), 0o700); err != nil {
				t.Fatal(err)
			}
			p.write(folder+"/a", text)
			p.write(folder+"/b", text)
		}
		link := func(to string) {
			t.Helper()
			if err := os.Symlink(to, p.path("link.new")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(p.path("link.new"), p.path("link")); err != nil {
				t.Fatal(err)
			}
		}
		link("old")
		p.dir = p.path("link")
		p.run()
		p.dir = filepath.Dir(p.dir)
		link("new")
		p.pass(2)
		p.expect("2,2", "read again")
	})
}

func TestStartFails(t *testing.T) {
	p := newPair(t)
	p.write("b", "bad")
	if _, err := p.start(); err == nil || err.Error() != "--pair: is bad" {
		t.Errorf("got %v, want that --pair is bad", err)
	}
	_, err := reload.Start(slog.New(slog.DiscardHandler),
		reload.Source{Name: "--one", Files: []string{p.path("one")}},
		reload.Source{Name: "--two", Files: []string{p.path("two")}})
	if err == nil || !strings.Contains(err.Error(), "--one: ") || !strings.Contains(err.Error(), "--two: ") {
		t.Errorf("got %v, want both", err)
	}
}
