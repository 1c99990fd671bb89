package faults

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// world is a control plane, the gateways that ask it, and what is between them.
// One goroutine at a time may use it.
type world struct {
	name     string
	dir      string
	options  stack.ControlPlaneOptions
	plane    *stack.ControlPlane
	front    *front
	wires    [2]*stack.Wire
	gateways []*member

	mu      sync.Mutex
	edits   int          // the newest version
	nobody  map[int]bool // versions that have no applications
	calm    time.Time    // when nothing was wrong any more
	unsound bool         // something went wrong since then
}

// member is a gateway of a world.
type member struct {
	*gateway
	world *world
	setup setup
	// unkept says that its table may not be in its file, because that could not be
	// written some time.
	unkept bool
}

// setup is how the gateways of a world differ.
type setup struct {
	// Wait is for how long requests may be held; empty is not at all.
	Wait string
	// Cached gateways keep their table in a file.
	Cached bool
	// Signed gateways expect a signature, and the others none.
	Signed bool
	// Wires are the ones over which it asks.
	Wires []int
	// Stale gateways refuse when their table is too old.
	Stale bool
}

// plan is what a world is made of.
type plan struct {
	// Parts makes the control plane serve tables in parts.
	Parts bool
	// Revision is how the control plane numbers tables.
	Revision string
	// SmallDisk puts the cache files on a disk of their own.
	SmallDisk bool
	Gateways  []setup
}

const (
	pollInterval = 200 * time.Millisecond
	pollTimeout  = time.Second
	// tooOld is the least that may be configured for these, and some seconds.
	tooOld = 2*(pollInterval+holdTime) + pollTimeout + 2*time.Second
	// holdTime is the shortest time for which requests may be held.
	holdTime = 2 * time.Second
)

// newWorld starts a control plane in dir with a first version, and gateways in h
// that are yet to be configured.
func newWorld(t *testing.T, h host, dir, name string, p plan) (*world, error) {
	t.Helper()
	w := &world{name: name, dir: dir, nobody: map[int]bool{}, unsound: true}
	for _, folder := range []string{filepath.Join(dir, "manifests"), filepath.Join(dir, "plane"), w.cacheFolder()} {
		if err := os.MkdirAll(folder, 0o700); err != nil {
			return nil, err
		}
	}
	if p.SmallDisk {
		if err := smallDisk(t, w.cacheFolder()); err != nil {
			return nil, err
		}
	}
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	keyFile := filepath.Join(dir, "signing.key")
	if err := writeKey(keyFile, signer); err != nil {
		return nil, err
	}
	address, err := stack.FreeAddress()
	if err != nil {
		return nil, err
	}
	w.options = stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: filepath.Join(dir, "plane"), Manifests: filepath.Join(dir, "manifests"),
		Address: address, Token: "token-of-" + name, Revision: p.Revision, Args: []string{"--signing-key", keyFile},
	}
	if p.Parts {
		w.options.Args = append(w.options.Args, "--parts-above", "1")
	}
	if err := w.edit(false); err != nil {
		return nil, err
	}
	if err := w.start(t); err != nil {
		return nil, err
	}
	target, err := url.Parse("http://" + address)
	if err != nil {
		return nil, err
	}
	w.front = newFront(t, &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:    &http.Transport{DisableKeepAlives: true},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}, signer)
	for i := range w.wires {
		w.wires[i] = newWire(t, w.front.address)
	}
	for i, s := range p.Gateways {
		w.add(h, fmt.Sprintf("%s-%d", name, i), s, publicText(public))
	}
	return w, nil
}

// writeKey writes a private key as tollgate keygen does.
func writeKey(path string, key ed25519.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// add adds a gateway.
func (w *world) add(h host, name string, s setup, public string) {
	sync := stack.Sync{Token: w.options.Token, Interval: pollInterval.String(), Timeout: pollTimeout.String(), Wait: "0s"}
	var endpoints []string
	for _, wire := range s.Wires {
		endpoints = append(endpoints, "http://"+w.wires[wire].Address+"/"+name)
	}
	sync.Endpoint = strings.Join(endpoints, ",")
	if s.Wait != "" {
		sync.Wait = s.Wait
	}
	if s.Signed {
		sync.PublicKey = public
	}
	if s.Cached {
		sync.CacheFile = filepath.Join(w.cacheFolder(), name)
	}
	if s.Stale {
		sync.MaxStaleness = tooOld.String()
	}
	m := &member{gateway: newGateway(h, name, sync, w.front.served), world: w, setup: s}
	m.rest = rest
	m.versionOf = w.version
	m.mayBeStale = m.stale
	w.front.add(name, s.Signed)
	w.gateways = append(w.gateways, m)
}

// stale says whether the table may be older than it may be: only after some time
// without calm, and at once after a restart, because the file tells the age to a
// minute.
func (m *member) stale() bool {
	w := m.world
	w.mu.Lock()
	defer w.mu.Unlock()
	const confirmed = holdTime + pollTimeout + pollInterval // at the latest, before it was calm no more
	return m.setup.Stale && w.unsound && time.Since(w.calm) > (tooOld-confirmed)/2
}

func (w *world) version(n int) version {
	w.mu.Lock()
	defer w.mu.Unlock()
	return version{number: n, nobody: w.nobody[n]}
}

// newest returns the number of the newest version.
func (w *world) newest() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.edits
}

// edit writes another version of the manifests.
func (w *world) edit(nobody bool) error {
	w.mu.Lock()
	w.edits++
	w.nobody[w.edits] = nobody
	n := w.edits
	w.mu.Unlock()
	text, err := w.version(n).manifests()
	if err != nil {
		return err
	}
	plane := &stack.ControlPlane{Manifests: w.options.Manifests}
	return plane.Apply("all.yaml", text)
}

// start starts the control plane.
func (w *world) start(t *testing.T) (err error) {
	t.Helper()
	if w.plane, err = stack.StartControlPlane(t.Context(), w.options); err != nil {
		return err
	}
	plane := w.plane
	t.Cleanup(func() { _ = plane.Kill() })
	return nil
}

// probe sends requests to all gateways.
func (w *world) probe() error {
	for _, g := range w.gateways {
		if err := g.probe(); err != nil && !errors.Is(err, errStarting) {
			return fmt.Errorf("%w\nit said\n%s", err, g.said())
		}
	}
	return nil
}

// probeFor sends requests for a while.
func (w *world) probeFor(d time.Duration) error {
	for end := time.Now().Add(d); ; time.Sleep(rest) {
		if err := w.probe(); err != nil || time.Now().After(end) {
			return err
		}
	}
}

// disturb notes that things are no longer as they should be.
func (w *world) disturb() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.unsound {
		w.unsound, w.calm = true, time.Now()
	}
}

// settle waits until all gateways have the newest version, and keep it.
func (w *world) settle() error {
	newest := w.newest()
	for _, g := range w.gateways {
		if err := g.untilAt(newest); err != nil {
			return fmt.Errorf("%w\nthe control plane's last lines:\n%s", err, w.plane.Log.Tail(5))
		}
		if !g.setup.Cached || g.unkept {
			continue
		}
		err := g.until("the table to be kept", func() error {
			if kept := g.kept(); kept != newest {
				return fmt.Errorf("the file has version %d, want %d", kept, newest)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsound = false
	return nil
}

// settleSpared waits until the gateways that a fault spares have the newest
// version.
func (w *world) settleSpared(f fault) error {
	for _, g := range w.gateways {
		if f.spares == nil || !f.spares(g.setup) {
			continue
		}
		if err := g.untilAt(w.newest()); err != nil {
			return err
		}
	}
	return nil
}

// kept returns the number of the version in the file of a gateway, 0 if there is
// none.
func (m *member) kept() int {
	if m.sync.CacheFile == "" {
		return 0
	}
	content, err := os.ReadFile(m.sync.CacheFile)
	if err != nil {
		return 0
	}
	return versionIn(content)
}

// forget is for a host that has ended: its gateways know nothing any more but what
// is in their files, and by that they have to decide from the first request.
func (w *world) forget() {
	w.mu.Lock()
	w.unsound, w.calm = true, time.Time{}
	w.mu.Unlock()
	for _, g := range w.gateways {
		w.front.forget(g.name)
		g.lo = g.kept()
		g.decided, g.starting, g.unkept = g.lo > 0, true, false
	}
}

// cacheFolder is where the gateways keep their tables.
func (w *world) cacheFolder() string { return filepath.Join(w.dir, "cache") }

// unkeep notes that tables cannot be kept, nor for a minute afterwards: then it is
// tried again.
func (w *world) unkeep() {
	for _, g := range w.gateways {
		g.unkept = g.setup.Cached
	}
}

// lose takes the folder of all files away, so that nothing can be written there.
func (w *world) lose() error {
	w.unkeep()
	folder := w.cacheFolder()
	if err := os.Rename(folder, folder+".lost"); err != nil {
		return err
	}
	return os.WriteFile(folder, []byte("no folder"), 0o600)
}

// find brings the folder back, as it was.
func (w *world) find() error {
	w.unkeep()
	folder := w.cacheFolder()
	if err := os.Remove(folder); err != nil {
		return err
	}
	return os.Rename(folder+".lost", folder)
}
