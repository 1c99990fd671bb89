// Command demo starts an upstream, the control plane and Traefik with the plugin
// on this machine, and prints commands to try until it is interrupted.
package main

import (
	"context"
	"embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// options are the command's flags.
type options struct {
	gateway, controlPlane, upstream string // addresses
	dir                             string
}

func main() {
	var o options
	flag.StringVar(&o.gateway, "gateway", "", "`address` of the gateway, such as 127.0.0.1:8080 (default a free port)")
	flag.StringVar(&o.controlPlane, "control-plane", "", "`address` of the control plane (default a free port)")
	flag.StringVar(&o.upstream, "upstream", "", "`address` of the upstream (default a free port)")
	flag.StringVar(&o.dir, "dir", "", "`folder` for manifests and configuration, kept at the end (default a temporary one)")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run starts everything, shows it, and ends it when ctx ends.
func run(ctx context.Context, o options) error {
	dir, cleanUp, err := makeDir(o.dir)
	if err != nil {
		return err
	}
	defer cleanUp()
	g := &gateway{}
	defer g.stop() // before the folder is cleaned up
	if err := g.start(ctx, dir, o); err != nil {
		return err
	}
	if err := g.check(ctx); err != nil {
		return fmt.Errorf("%w\n\nTraefik's last lines:\n%s\n\nThe control plane's last lines:\n%s",
			err, g.traefik.Log.Tail(20), g.plane.Log.Tail(20))
	}
	show(os.Stdout, g, dir)
	return g.wait(ctx)
}

// makeDir returns the folder to work in, with the manifests, and what cleans up
// at the end.
func makeDir(chosen string) (dir string, cleanUp func(), err error) {
	dir, cleanUp = chosen, func() {}
	if chosen == "" {
		if dir, err = os.MkdirTemp("", "tollgate-demo-"); err != nil {
			return "", nil, err
		}
		cleanUp = func() { _ = os.RemoveAll(dir) }
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	if err := copyManifests(dir); err != nil {
		cleanUp()
		return "", nil, err
	}
	return dir, cleanUp, nil
}

// copyManifests leaves manifests alone that are there already: they may be edited.
func copyManifests(dir string) error {
	to := filepath.Join(dir, "manifests")
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	files, err := fs.Glob(manifests, "manifests/*.yaml")
	if err != nil {
		return err
	}
	for _, file := range files {
		data, err := manifests.ReadFile(file)
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.Base(file))
		if _, err := os.Stat(target); err == nil {
			continue
		}
		if err := os.WriteFile(target, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// gateway is everything that runs.
type gateway struct {
	upstream *stack.Upstream
	plane    *stack.ControlPlane
	traefik  *stack.Traefik
	// tollgate is the control plane's binary.
	tollgate string
	// logs are the files that logs are kept in.
	logs []*logFile
}

func (g *gateway) start(ctx context.Context, dir string, o options) (err error) {
	say := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	binary, err := stack.FindTraefik(ctx, say)
	if err != nil {
		return err
	}
	say("building the control plane")
	if g.tollgate, err = stack.BuildTollgate(ctx); err != nil {
		return err
	}
	say("starting")
	if g.upstream, err = stack.StartUpstream(o.upstream); err != nil {
		return err
	}
	g.plane, err = stack.StartControlPlane(ctx, stack.ControlPlaneOptions{
		Binary: g.tollgate, Dir: dir, Manifests: filepath.Join(dir, "manifests"), Address: o.controlPlane,
	})
	if err != nil {
		return err
	}
	if err := g.keep(g.plane.Log, filepath.Join(dir, controlPlaneLog)); err != nil {
		return err
	}
	g.traefik, err = stack.StartTraefik(ctx, stack.TraefikOptions{
		Binary: binary, Dir: dir, Address: o.gateway,
		Dynamic: map[string]stack.Dynamic{"weather": g.weather()},
	})
	if err != nil {
		return err
	}
	return g.keep(g.traefik.Log, filepath.Join(dir, traefikLog))
}

// keep writes a log to a file from now on.
func (g *gateway) keep(log *stack.Log, path string) error {
	file, err := keepLog(log, path)
	if err != nil {
		return err
	}
	g.logs = append(g.logs, file)
	return nil
}

// weather is the dynamic configuration.
func (g *gateway) weather() stack.Dynamic {
	return stack.Dynamic{HTTP: stack.HTTP{
		Routers: map[string]stack.Router{"weather": {
			EntryPoints: []string{stack.Web},
			Rule:        "PathPrefix(`/weather`)",
			Middlewares: []string{"weather-api"},
			Service:     "weather",
		}},
		Middlewares: map[string]stack.Middleware{"weather-api": stack.Tollgate(stack.Config{
			API:  "apps/weather-api",
			Sync: stack.Sync{Endpoint: g.plane.URL, Token: g.plane.Token, Interval: "1s"},
		})},
		Services: map[string]stack.Service{"weather": stack.UpstreamService(g.upstream.URL)},
	}}
}

// check makes sure that the call that should be admitted is.
func (g *gateway) check(ctx context.Context) error {
	return stack.Until(ctx, "the gateway to admit a call", 30*time.Second, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.traefik.URL+"/weather", nil)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer secret-api-key")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it answers %s: %s", resp.Status, body)
		}
		return nil
	})
}

// wait returns when ctx ends, or when something ends by itself.
func (g *gateway) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		fmt.Println("\nending")
		return nil
	case <-g.traefik.Done():
		return fmt.Errorf("traefik has ended; its last lines:\n%s", g.traefik.Log.Tail(20))
	case <-g.plane.Done():
		return fmt.Errorf("the control plane has ended; its last lines:\n%s", g.plane.Log.Tail(20))
	}
}

// stop ends what was started, the way in first, and the logs last.
func (g *gateway) stop() {
	if g.traefik != nil {
		tell(g.traefik.Stop())
	}
	if g.plane != nil {
		tell(g.plane.Stop())
	}
	if g.upstream != nil {
		g.upstream.Stop()
	}
	for _, file := range g.logs {
		tell(file.stop())
	}
}

func tell(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
	}
}
