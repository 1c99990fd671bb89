package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gopkg.in/yaml.v3"
)

// traefikStart is how long Traefik may take to start and load the plugin.
const traefikStart = 60 * time.Second

// The entry points. Raw leaves paths as clients send them, where Web cleans
// them as Traefik does by default.
const (
	Web = "web"
	Raw = "raw"
)

// TraefikOptions says how to start a Traefik. The zero value of everything but
// Binary and Dir will do.
type TraefikOptions struct {
	// Binary is the program.
	Binary string
	// Dir is the working directory, for its files.
	Dir string
	// Address is where it serves; empty means a free port.
	Address string
	// Patch replaces files of the plugin, see CopyPlugin.
	Patch Patch
	// Dynamic are the first dynamic configurations, by name.
	Dynamic map[string]Dynamic
	// Static, if set, changes the static configuration before it is written.
	Static func(static map[string]any)
}

// Traefik is a running Traefik that has loaded the plugin.
type Traefik struct {
	*Process
	// URL is the base URL of the Web entry point.
	URL string
	// RawAddress is the host and port of the Raw entry point.
	RawAddress string
	// AccessLog is the file with one JSON object a request.
	AccessLog string
	// AdminURL is the base URL of Traefik's own API.
	AdminURL string

	dynamicDir string
}

// StartTraefik starts a Traefik and returns once it serves.
func StartTraefik(ctx context.Context, o TraefikOptions) (*Traefik, error) {
	if _, err := CopyPlugin(filepath.Join(o.Dir, "plugins-local"), false, o.Patch); err != nil {
		return nil, err
	}
	web, err := addressOr(o.Address)
	if err != nil {
		return nil, err
	}
	raw, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	admin, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	t := &Traefik{
		URL:        "http://" + web,
		RawAddress: raw,
		AccessLog:  filepath.Join(o.Dir, "access.log"),
		AdminURL:   "http://" + admin,
		dynamicDir: filepath.Join(o.Dir, "dynamic"),
	}
	if err := os.MkdirAll(t.dynamicDir, 0o750); err != nil {
		return nil, err
	}
	for name, dynamic := range o.Dynamic {
		if err := t.Configure(name, dynamic); err != nil {
			return nil, err
		}
	}
	static := t.static(web, raw, admin)
	if o.Static != nil {
		o.Static(static)
	}
	file := filepath.Join(o.Dir, "traefik.yml")
	if err := writeYAML(file, static); err != nil {
		return nil, err
	}
	if t.Process, err = Start("traefik", o.Dir, o.Binary, "--configFile="+file); err != nil {
		return nil, err
	}
	if err := t.awaitServing(ctx); err != nil {
		_ = t.Stop()
		return nil, err
	}
	return t, nil
}

// static is the static configuration.
func (t *Traefik) static(web, raw, admin string) map[string]any {
	type object = map[string]any
	return object{
		"global": object{"checkNewVersion": false, "sendAnonymousUsage": false},
		"log":    object{"level": "DEBUG", "format": "json", "noColor": true},
		"accessLog": object{
			"filePath": t.AccessLog,
			"format":   "json",
			"fields":   object{"headers": object{"defaultMode": "keep"}},
		},
		"api": object{"insecure": true, "debug": true, "dashboard": false},
		"entryPoints": object{
			Web: object{"address": web},
			Raw: object{"address": raw, "http": object{"sanitizePath": false}},
			// The name under which Traefik looks for a place for its API.
			"traefik": object{"address": admin},
		},
		"providers": object{
			"file": object{"directory": t.dynamicDir, "watch": true},
			// Two seconds by default, which would only make tests wait.
			"providersThrottleDuration": "10ms",
		},
		"experimental": object{
			"abortOnPluginFailure": true,
			"localPlugins":         object{PluginName: object{"moduleName": pluginModule}},
		},
	}
}

// awaitServing waits until Traefik has loaded the plugin and its API answers.
func (t *Traefik) awaitServing(ctx context.Context) error {
	ctx, cancel := t.whileAlive(ctx)
	defer cancel()
	err := Until(ctx, "Traefik", traefikStart, func() error {
		_, err := t.Admin(ctx, "/api/version")
		return err
	})
	if ended := t.ended(); ended != nil {
		return ended
	}
	return err
}

// Configure writes one dynamic configuration at a stroke. Traefik takes it a
// moment later.
func (t *Traefik) Configure(name string, d Dynamic) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(t.dynamicDir, name+".yml"), data)
}

// Unconfigure removes a dynamic configuration.
func (t *Traefik) Unconfigure(name string) error {
	return os.Remove(filepath.Join(t.dynamicDir, name+".yml"))
}

// Goroutines returns how many goroutines Traefik has.
func (t *Traefik) Goroutines(ctx context.Context) (int, error) {
	body, err := t.Admin(ctx, "/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, err
	}
	var n int
	if _, err := fmt.Sscanf(string(body), "goroutine profile: total %d", &n); err != nil {
		return 0, fmt.Errorf("reading the goroutine profile: %w", err)
	}
	return n, nil
}

// Stacks returns all of Traefik's goroutines as text.
func (t *Traefik) Stacks(ctx context.Context) (string, error) {
	body, err := t.Admin(ctx, "/debug/pprof/goroutine?debug=1")
	return string(body), err
}

// RouterStatus returns the status of a router of the file provider, such as
// "enabled", and "" while Traefik does not know it.
func (t *Traefik) RouterStatus(ctx context.Context, name string) (string, error) {
	body, err := t.Admin(ctx, "/api/rawdata")
	if err != nil {
		return "", err
	}
	var raw struct {
		Routers map[string]struct {
			Status string `json:"status"`
		} `json:"routers"`
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return "", err
	}
	return raw.Routers[name+"@file"].Status, nil
}

// Memory is the part of Traefik's runtime.MemStats that somebody looks at.
type Memory struct {
	Mallocs    uint64
	TotalAlloc uint64
	HeapAlloc  uint64
}

// Memory returns what Traefik tells of its memory: at once, or after a collection.
func (t *Traefik) Memory(ctx context.Context, collected bool) (Memory, error) {
	if collected {
		for range 2 { // What is finalized in the first is gone after the second.
			if _, err := t.Admin(ctx, "/debug/pprof/heap?gc=1"); err != nil {
				return Memory{}, err
			}
		}
	}
	body, err := t.Admin(ctx, "/debug/vars")
	if err != nil {
		return Memory{}, err
	}
	var vars struct {
		Memory Memory `json:"memstats"`
	}
	err = json.Unmarshal(body, &vars)
	return vars.Memory, err
}

// Admin returns what Traefik's own API answers.
func (t *Traefik) Admin(ctx context.Context, path string) ([]byte, error) {
	body, _, err := get(ctx, t.AdminURL+path, nil)
	return body, err
}

func writeYAML(path string, value any) error {
	data, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// replaceFile changes a file at a stroke: a watcher never reads half of it.
func replaceFile(path string, data []byte) error {
	fresh := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.WriteFile(fresh, data, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
