// Package e2e tests the gateway from outside: a real Traefik that interprets the
// plugin, the control plane, and an upstream, as processes on this machine.
//
// Most tests share one gateway. Each has a namespace for its manifests and hosts
// for its routers, so none sees the others.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// Binaries that all tests start.
var traefikBinary, tollgateBinary string

// shared is the gateway that tests use unless they need one of their own.
var shared *gateway

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	version := stack.TraefikVersion
	if v := os.Getenv("TRAEFIK_VERSION"); v != "" {
		version = v
	}
	logf := func(format string, args ...any) { fmt.Printf(format+"\n", args...) }
	if traefikBinary, err = stack.BuildTraefik(ctx, version, logf); err != nil {
		return 0, err
	}
	if tollgateBinary, err = stack.BuildTollgate(ctx); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "tollgate-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if shared, err = startGateway(ctx, dir, stack.TraefikOptions{}); err != nil {
		return 0, err
	}
	code = m.Run()
	return code, errors.Join(shared.stop(), shared.checkLogs())
}

// checkLogs looks for what must not be in any log, whatever was tested.
func (g *gateway) checkLogs() error {
	if line, found := g.plane.Log.Find(0, g.plane.Token); found {
		return fmt.Errorf("the control plane logs its token: %s", line)
	}
	// Traefik logs the whole configuration by itself, so only the plugin's lines.
	if line, found := g.traefik.Log.Find(0, `"plugin":"plugin-`, g.plane.Token); found {
		return fmt.Errorf("the plugin logs its token: %s", line)
	}
	if line, found := g.traefik.Log.Find(0, "panic"); found {
		return fmt.Errorf("something panicked in Traefik: %s", line)
	}
	return nil
}
